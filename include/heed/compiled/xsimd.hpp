/// \file
/// The kernels of the xsimd backend, compiled elsewhere: see compiled.hpp. Written by tests/lists/check.py.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/simd/xsimd.hpp>

namespace heed::inline HEED_ABI {

extern template const Kernel& kernel<Xsimd<>, F32, F32>() noexcept;
extern template const Kernel& kernel<Xsimd<>, F32, Bf16>() noexcept;
extern template const Kernel& kernel<Xsimd<>, F32, F16>() noexcept;
extern template const Kernel& kernel<Xsimd<>, Bf16, F32>() noexcept;
extern template const Kernel& kernel<Xsimd<>, Bf16, Bf16>() noexcept;
extern template const Kernel& kernel<Xsimd<>, Bf16, F16>() noexcept;
extern template const Kernel& kernel<Xsimd<>, F16, F32>() noexcept;
extern template const Kernel& kernel<Xsimd<>, F16, Bf16>() noexcept;
extern template const Kernel& kernel<Xsimd<>, F16, F16>() noexcept;

}  // namespace heed::inline HEED_ABI
