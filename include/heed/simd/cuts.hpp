/// \file
/// How rows and dims are cut into register tiles.
#pragma once

#include <type_traits>

#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI::detail {

/// Cuts `rows` into tiles of 6, then of 4 and 1. 8 rows are two tiles of 4, not 6 + 1 + 1: a small tile has few
/// accumulators, and each waits for its own last addition.
template <class Tile>
[[gnu::always_inline]] inline void for_row_tiles(Index rows, const Tile& tile) {
  Index r = 0;
  const Index left = rows % 6, sixes = (left == 2 || left == 3) && rows > 6 ? rows / 6 - 1 : rows / 6;
  for (; r < 6 * sixes; r += 6) tile(std::integral_constant<int, 6>{}, r);
  for (; rows - r >= 4; r += 4) tile(std::integral_constant<int, 4>{}, r);
  for (; r < rows; ++r) tile(std::integral_constant<int, 1>{}, r);
}

/// Cuts `rows` into tiles of Most (8, or 4 where registers are few), then of 4 and of the rest, for values: each tile loads
/// all values of a block once.
template <int Most, class Tile>
[[gnu::always_inline]] inline void for_value_rows(Index rows, const Tile& tile) {
  Index r = 0;
  if constexpr (Most == 8) {
    for (; r + 8 <= rows; r += 8) tile(std::integral_constant<int, 8>{}, r);
  }
  for (; r + 4 <= rows; r += 4) tile(std::integral_constant<int, 4>{}, r);
  switch (rows - r) {
    case 1: return tile(std::integral_constant<int, 1>{}, r);
    case 2: return tile(std::integral_constant<int, 2>{}, r);
    case 3: return tile(std::integral_constant<int, 3>{}, r);
    default: return;
  }
}
/// Cuts `rows` into tiles of Most and of the rest, for keys: each tile transposes all keys of a block once, which costs more
/// than the small tiles of a second cut would save.
template <int Most, class Tile>
[[gnu::always_inline]] inline void for_key_rows(Index rows, const Tile& tile) {
  Index r = 0;
  for (; r + Most <= rows; r += Most) tile(std::integral_constant<int, Most>{}, r);
  switch (rows - r) {
    case 1: return tile(std::integral_constant<int, 1>{}, r);
    case 2: return tile(std::integral_constant<int, 2>{}, r);
    case 3: return tile(std::integral_constant<int, 3>{}, r);
    default: break;
  }
  if constexpr (Most == 8) {
    switch (rows - r) {
      case 4: return tile(std::integral_constant<int, 4>{}, r);
      case 5: return tile(std::integral_constant<int, 5>{}, r);
      case 6: return tile(std::integral_constant<int, 6>{}, r);
      case 7: return tile(std::integral_constant<int, 7>{}, r);
      default: break;
    }
  }
}

/// Cuts [0, dims), rounded up to a multiple of 16, into blocks of N vectors of W floats, of 64 numbers and of 16.
template <int W, int N, class Body>
inline void for_dims(Index dims, const Body& body) {
  Index d = 0;
  dims = round_up(dims, state_align);
  for (; d + N * W <= dims; d += N * W) body(std::integral_constant<int, N>{}, d);
  if constexpr (N * W > 64) {
    for (; d + 64 <= dims; d += 64) body(std::integral_constant<int, 64 / W>{}, d);
  }
  if constexpr (N * W > 16) {
    for (; d + 16 <= dims; d += 16) body(std::integral_constant<int, 16 / W>{}, d);
  }
}

}  // namespace heed::inline HEED_ABI::detail
