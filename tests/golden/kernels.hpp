/// \file
/// The kernels that the command line can choose from, all of heed::kernels.
#pragma once

#include <string>
#include <type_traits>

#include <heed/codec/codecs.hpp>
#include <heed/compiled.hpp>
#include <heed/simd/backends.hpp>

#include "golden/registry.hpp"

namespace heed_golden {

/// Calls f.template operator()<Backend, Codec>() for what the command line chose; throws Unusable if that is not in
/// this program. The fastest backend has every codec. The others have the exact one, whose results the references of the
/// cases are for: a pair more is every handler compiled once more.
template <class F>
void with_kernel(const Setup& setup, F&& f) {
  bool found = false;
  heed::Backends::with_name(setup.backend, [&]<class Backend>() {
    heed::Codecs::with_name(setup.codec, [&]<class Codec>() {
      if constexpr (std::is_same_v<Backend, heed::Backends::First> || std::is_same_v<Codec, heed::Codecs::First>) {
        found = true;
        f.template operator()<Backend, Codec>();
      }
    });
  });
  if (!found) {
    throw Unusable("backend '" + setup.backend + "' with codec '" + setup.codec + "' is not in this program");
  }
}

}  // namespace heed_golden
