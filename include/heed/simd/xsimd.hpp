/// \file
/// The xsimd backend: every instruction set xsimd knows.
#pragma once

#include <heed/simd/loops.hpp>
#include <heed/simd/vector_xsimd.hpp>

namespace heed::inline HEED_ABI {

/// Inner loops on xsimd batches of architecture `Arch`; the default is what the compiler's flags allow.
template <class Arch = xsimd::default_arch>
struct Xsimd : Loops<XsimdVector<Arch>> {};

}  // namespace heed::inline HEED_ABI
