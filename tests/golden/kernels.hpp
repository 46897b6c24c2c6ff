/// \file
/// The kernel's instances, each compiled once for the whole program and in a file of its own: one takes longer than a
/// handler. CMakeLists.txt makes those files and defines HEED_GOLDEN_XSIMD and HEED_GOLDEN_EIGEN.
#pragma once

#include <string>
#include <utility>

#include <heed/attend.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/codec/f32.hpp>
#include <heed/simd/scalar.hpp>
#if defined(HEED_GOLDEN_XSIMD)
#include <heed/simd/xsimd.hpp>
#endif
#if defined(HEED_GOLDEN_EIGEN)
#include <heed/simd/eigen.hpp>
#endif

#include "golden/registry.hpp"

#define HEED_GOLDEN_KERNEL(Backend, Codec)                                                             \
  template void heed::detail::run<Backend, Codec, Codec>(                                              \
      const heed::AttentionLayout&, const heed::detail::PreparationRef&, const heed::AttendOptions&,   \
      std::span<const heed::detail::Job>, const heed::detail::Plan&, const heed::detail::CallScratch&, \
      heed::detail::ExecutorRef)

#if !defined(HEED_GOLDEN_INSTANCE)
extern HEED_GOLDEN_KERNEL(heed::Scalar, heed::F32);
extern HEED_GOLDEN_KERNEL(heed::Scalar, heed::Bf16);
extern HEED_GOLDEN_KERNEL(heed::Scalar, heed::F16);
#if defined(HEED_GOLDEN_XSIMD)
extern HEED_GOLDEN_KERNEL(heed::Xsimd<>, heed::F32);
extern HEED_GOLDEN_KERNEL(heed::Xsimd<>, heed::Bf16);
extern HEED_GOLDEN_KERNEL(heed::Xsimd<>, heed::F16);
#endif
#if defined(HEED_GOLDEN_EIGEN)
extern HEED_GOLDEN_KERNEL(heed::EigenPackets, heed::F32);
#endif
#endif

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
#if defined(HEED_GOLDEN_XSIMD)
  if (setup.backend == "xsimd") return with_codec.template operator()<heed::Xsimd<>>();
#endif
#if defined(HEED_GOLDEN_EIGEN)
  if (setup.backend == "eigen" && setup.codec == "f32") return f.template operator()<heed::EigenPackets, heed::F32>();
#endif
  throw Unusable("backend '" + setup.backend + "' with codec '" + setup.codec + "' is not in this program");
}

}  // namespace heed_golden
