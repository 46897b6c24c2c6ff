/// \file
/// The backends this program was built with. Each is compiled in a file of its own, so that they build side by side.
#pragma once

#include <string>
#include <vector>

#include "model/mechanisms.hpp"

namespace heed_examples {

struct DemoBackend {
  std::string name;
  MakeNetwork make;
  AttachMtp attach_mtp;
  std::vector<std::string> mechanisms;
};

template <heed::SimdBackend B>
[[nodiscard]] DemoBackend demo_backend(const char* name) {
  DemoBackend backend{name, make_network<B>, attach_mtp<B>, {}};
  for (const Mechanism& mechanism : mechanisms<heed::F32, B>) backend.mechanisms.emplace_back(mechanism.name);
  return backend;
}

#if __has_include(<xsimd/xsimd.hpp>)
[[nodiscard]] DemoBackend xsimd_backend();
#endif
[[nodiscard]] DemoBackend eigen_backend();
[[nodiscard]] DemoBackend scalar_backend();

/// The fastest first.
[[nodiscard]] inline std::vector<DemoBackend> demo_backends() {
  std::vector<DemoBackend> backends;
#if __has_include(<xsimd/xsimd.hpp>)
  backends.push_back(xsimd_backend());
#endif
  backends.push_back(eigen_backend());
  backends.push_back(scalar_backend());
  return backends;
}

}  // namespace heed_examples
