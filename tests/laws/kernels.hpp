/// \file
/// The kernels that tests use without going through Kernel: compiled in the generated files, not again here.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f32.hpp>
#include <heed/simd/scalar.hpp>
#if defined(HEED_LAWS_XSIMD)
#include <heed/simd/xsimd.hpp>
#endif

namespace heed_test {
#if defined(HEED_LAWS_XSIMD)
using TestBackend = heed::Xsimd<>;
#else
using TestBackend = heed::Scalar;
#endif
}  // namespace heed_test

extern template void heed::detail::run<heed_test::TestBackend, heed::F32, heed::F32>(
    const heed::AttentionLayout&, const heed::detail::PreparationRef&, const heed::AttendOptions&,
    std::span<const heed::detail::Job>, const heed::detail::Plan&, const heed::detail::CallScratch&,
    heed::detail::ExecutorRef);
extern template void heed::detail::run<heed_test::TestBackend, heed::Bf16, heed::Bf16>(
    const heed::AttentionLayout&, const heed::detail::PreparationRef&, const heed::AttendOptions&,
    std::span<const heed::detail::Job>, const heed::detail::Plan&, const heed::detail::CallScratch&,
    heed::detail::ExecutorRef);
