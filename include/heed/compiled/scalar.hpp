/// \file
/// The kernels of the scalar backend, compiled elsewhere: see compiled.hpp. Written by tests/lists/check.py.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/simd/scalar.hpp>

namespace heed::inline HEED_ABI {

extern template const Kernel& kernel<Scalar, F32, F32>() noexcept;
extern template const Kernel& kernel<Scalar, F32, Bf16>() noexcept;
extern template const Kernel& kernel<Scalar, F32, F16>() noexcept;
extern template const Kernel& kernel<Scalar, Bf16, F32>() noexcept;
extern template const Kernel& kernel<Scalar, Bf16, Bf16>() noexcept;
extern template const Kernel& kernel<Scalar, Bf16, F16>() noexcept;
extern template const Kernel& kernel<Scalar, F16, F32>() noexcept;
extern template const Kernel& kernel<Scalar, F16, Bf16>() noexcept;
extern template const Kernel& kernel<Scalar, F16, F16>() noexcept;

}  // namespace heed::inline HEED_ABI
