/// \file
/// Which function runs the cases of which mechanism. A new mechanism is one new file in handlers/ that ends in
///     const Register mla{{"mla"}, run_mla};
#pragma once

#include <initializer_list>
#include <map>
#include <string>

#include "golden/case.hpp"
#include "golden/report.hpp"

namespace heed_golden {

/// What the command line chose.
struct Setup {
  std::string backend;  ///< a name of heed::Backends
  std::string codec;    ///< a name of heed::Codecs
};

/// Runs a case and reports every comparison; throws Unusable if the case asks for what the handler does not know.
using Handler = void (*)(Case&, const Setup&, Report&);

inline std::map<std::string, Handler>& handlers() {
  static std::map<std::string, Handler> all;
  return all;
}

struct Register {
  Register(std::initializer_list<const char*> mechanisms, Handler handler) {
    for (const char* mechanism : mechanisms) handlers()[mechanism] = handler;
  }
};

}  // namespace heed_golden
