/// \file
/// The kernels that the command line can choose from, all of heed::kernels.
#pragma once

#include <string>
#include <utility>

#include <heed/compiled.hpp>

#include "golden/registry.hpp"

namespace heed_golden {

/// Calls f.template operator()<Backend, Codec>() for what the command line chose; throws Unusable if that is not in
/// this program.
template <class F>
void with_kernel(const Setup& setup, F&& f) {
  const auto with_codec = [&]<class Backend>() {
    if (setup.codec == "f32") return f.template operator()<Backend, heed::F32>();
    if (setup.codec == "bf16") return f.template operator()<Backend, heed::Bf16>();
    if (setup.codec == "f16") return f.template operator()<Backend, heed::F16>();
    throw Unusable("codec '" + setup.codec + "' is not in this program");
  };
  if (setup.backend == "scalar") return with_codec.template operator()<heed::Scalar>();
#if HEED_HAS_XSIMD
  if (setup.backend == "xsimd") return with_codec.template operator()<heed::Xsimd<>>();
#endif
#if HEED_HAS_EIGEN
  if (setup.backend == "eigen" && setup.codec == "f32") return f.template operator()<heed::EigenPackets, heed::F32>();
#endif
  throw Unusable("backend '" + setup.backend + "' with codec '" + setup.codec + "' is not in this program");
}

}  // namespace heed_golden
