/// \file
/// The kernels of the eigen backend, compiled elsewhere: see compiled.hpp. Written by tests/lists/check.py.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/simd/eigen.hpp>

namespace heed::inline HEED_ABI {

extern template const Kernel& kernel<EigenPackets, F32, F32>() noexcept;
extern template const Kernel& kernel<EigenPackets, F32, Bf16>() noexcept;
extern template const Kernel& kernel<EigenPackets, F32, F16>() noexcept;
extern template const Kernel& kernel<EigenPackets, Bf16, F32>() noexcept;
extern template const Kernel& kernel<EigenPackets, Bf16, Bf16>() noexcept;
extern template const Kernel& kernel<EigenPackets, Bf16, F16>() noexcept;
extern template const Kernel& kernel<EigenPackets, F16, F32>() noexcept;
extern template const Kernel& kernel<EigenPackets, F16, Bf16>() noexcept;
extern template const Kernel& kernel<EigenPackets, F16, F16>() noexcept;

}  // namespace heed::inline HEED_ABI
