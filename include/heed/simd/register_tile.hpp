/// \file
/// The tile of sums that stays in registers while scores, outputs and linear maps are computed.
#pragma once

#include <cstddef>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Vectors of a row of the widest tile of 6 rows, on the vector type `V`. Accumulators, one row of operands and one
/// broadcast fill the registers: 6 x 4 + 4 + 1 = 29 of 32, or 6 x 2 + 2 + 1 = 15 of 16.
template <class V>
inline constexpr int tile_vectors = V::registers >= 32 ? 4 : 2;

/// Most rows of a tile that reads in place.
template <class V>
inline constexpr int tile_rows = V::registers >= 32 ? 8 : 4;

/// R rows of N vectors of sums. What is stored of them, and where a factor joins, is the business of its users.
template <class V, int R, int N>
struct RegisterTile {
  using Reg = typename V::Reg;  ///< W floats

  Reg sum[std::size_t(R)][std::size_t(N)];  ///< uninitialised before clear()

  /// All sums are 0.
  [[gnu::always_inline]] void clear() {
    HEED_UNROLL
    for (int r = 0; r < R; ++r) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) sum[r][n] = V::set1(0);
    }
  }
  /// sum[r][n] = fma(x[r * stride], y[n], sum[r][n]).
  [[gnu::always_inline]] void add(const float* x, Index stride, const Reg* y) {
    HEED_UNROLL
    for (int r = 0; r < R; ++r) {
      const Reg factor = V::set1(x[r * stride]);
      HEED_UNROLL
      for (int n = 0; n < N; ++n) sum[r][n] = V::fma(factor, y[n], sum[r][n]);
    }
  }
  /// The same with the vectors that begin at `y`.
  [[gnu::always_inline]] void add(const float* x, Index stride, const float* y) {
    Reg loaded[std::size_t(N)];
    HEED_UNROLL
    for (int n = 0; n < N; ++n) loaded[n] = V::load(y + n * V::width);
    add(x, stride, static_cast<const Reg*>(loaded));
  }
};

}  // namespace heed::inline HEED_ABI
