/// \file
/// The xsimd backend: every instruction set xsimd knows.
#pragma once

#include <heed/simd/loops.hpp>
#include <heed/simd/vector_xsimd.hpp>

namespace heed::inline HEED_ABI {

/// SimdBackend on xsimd batches of architecture `Arch`. The default is the widest that the compiler's flags allow.
template <class Arch = detail::XsimdArch>
struct Xsimd : Loops<XsimdVector<Arch>> {};

}  // namespace heed::inline HEED_ABI
