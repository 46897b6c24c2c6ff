/// \file
/// The kernels of the eigen backend, compiled elsewhere: see compiled.hpp. Written by tests/lists/check.py.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/math/maths.hpp>
#include <heed/simd/eigen.hpp>

namespace heed::inline HEED_ABI {

extern template struct detail::Kernels<EigenPackets, F32, F32>;
extern template struct detail::Kernels<EigenPackets, F32, Bf16>;
extern template struct detail::Kernels<EigenPackets, F32, F16>;
extern template struct detail::Kernels<EigenPackets, Bf16, F32>;
extern template struct detail::Kernels<EigenPackets, Bf16, Bf16>;
extern template struct detail::Kernels<EigenPackets, Bf16, F16>;
extern template struct detail::Kernels<EigenPackets, F16, F32>;
extern template struct detail::Kernels<EigenPackets, F16, Bf16>;
extern template struct detail::Kernels<EigenPackets, F16, F16>;
extern template struct detail::Kernels<EigenPackets, F32, F32, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, F32, Bf16, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, F32, F16, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, Bf16, F32, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, Bf16, Bf16, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, Bf16, F16, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, F16, F32, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, F16, Bf16, math::Bf16>;
extern template struct detail::Kernels<EigenPackets, F16, F16, math::Bf16>;

}  // namespace heed::inline HEED_ABI
