/// \file
/// The angles by which stored keys are rotated while they are read.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A rotation of keys that the kernel can do itself: pairs (x, y) of a key's numbers become
///
///     fma(x, cos, -(y sin))    fma(x, sin, y cos)
///
/// Pair i is numbers (first + i, first + pairs + i) of the key, or (first + 2 i, first + 2 i + 1) if it is interleaved.
/// Nothing is owned.
struct KeyTurns {
  /// [positions / 16][pairs][32]: 16 cosines of a pair at consecutive positions, then its 16 sines. Null: no table.
  const float* angles = nullptr;
  Index positions = 0;       ///< positions 0 ... positions - 1 have angles; a multiple of 16
  Index pairs = 0;           ///< pairs of numbers
  Index first = 0;           ///< number of the key at which they begin
  bool interleaved = false;  ///< which two numbers are a pair

  static constexpr Index group = 16;  ///< positions whose angles lie together
};

}  // namespace heed::inline HEED_ABI
