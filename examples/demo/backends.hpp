/// \file
/// The backends this program was built with. Each is compiled in a file of its own, so that they build side by side.
#pragma once

#include <string>
#include <vector>

#include <heed/simd/backends.hpp>

#include "model/decoder.hpp"

namespace heed_examples {

/// The models on one backend.
struct DemoBackend {
  std::string name;
  MakeNetwork make;
  AttachMtp attach_mtp;
  std::vector<std::string> mechanisms;
};

/// Defined in demo/backend_of.hpp, which the file of the backend includes. CMakeLists.txt makes these files.
template <class B>
[[nodiscard]] DemoBackend demo_backend();

/// The fastest first.
[[nodiscard]] inline std::vector<DemoBackend> demo_backends() {
  std::vector<DemoBackend> backends;
  heed::Backends::for_each([&]<class B>() { backends.push_back(demo_backend<B>()); });
  return backends;
}

}  // namespace heed_examples
