/// \file
/// The Eigen backend: the inner loops on Eigen's packets.
#pragma once

#include <heed/simd/loops.hpp>
#include <heed/simd/vector_eigen.hpp>

namespace heed::inline HEED_ABI {

/// SimdBackend on the widest packet that Eigen enables under the compiler's flags.
struct EigenPackets : Loops<EigenVector> {};

}  // namespace heed::inline HEED_ABI
