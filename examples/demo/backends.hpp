/// \file
/// The backends this program was built with. Each is compiled in a file of its own, so that they build side by side.
#pragma once

#include <vector>

#include <heed/simd/backends.hpp>

#include "model/backend.hpp"

namespace heed_examples {

/// Defined in demo/backend_of.hpp, which the file of the backend includes. CMakeLists.txt makes these files.
template <class B>
[[nodiscard]] ModelBackend model_backend();

/// The fastest first.
[[nodiscard]] inline std::vector<ModelBackend> demo_backends() {
  std::vector<ModelBackend> backends;
  heed::Backends::for_each([&]<class B>() { backends.push_back(model_backend<B>()); });
  return backends;
}

}  // namespace heed_examples
