/// \file
/// The kernels of the xsimd backend, compiled elsewhere: see compiled.hpp. Written by tests/lists/check.py.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/math/maths.hpp>
#include <heed/simd/xsimd.hpp>

namespace heed::inline HEED_ABI {

extern template struct detail::Kernels<Xsimd<>, F32, F32>;
extern template struct detail::Kernels<Xsimd<>, F32, Bf16>;
extern template struct detail::Kernels<Xsimd<>, F32, F16>;
extern template struct detail::Kernels<Xsimd<>, Bf16, F32>;
extern template struct detail::Kernels<Xsimd<>, Bf16, Bf16>;
extern template struct detail::Kernels<Xsimd<>, Bf16, F16>;
extern template struct detail::Kernels<Xsimd<>, F16, F32>;
extern template struct detail::Kernels<Xsimd<>, F16, Bf16>;
extern template struct detail::Kernels<Xsimd<>, F16, F16>;
extern template struct detail::Kernels<Xsimd<>, F32, F32, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, F32, Bf16, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, F32, F16, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, Bf16, F32, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, Bf16, Bf16, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, Bf16, F16, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, F16, F32, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, F16, Bf16, math::Bf16>;
extern template struct detail::Kernels<Xsimd<>, F16, F16, math::Bf16>;

}  // namespace heed::inline HEED_ABI
