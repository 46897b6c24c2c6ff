/// \file
/// Factors of stored rows: number = factor * code.
#pragma once

#include <cstddef>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Which factors belong to a stored row. A codec without factors stores the numbers themselves as codes.
enum class Factors {
  none,       ///< number = code
  per_row,    ///< one factor for all numbers of a row
  per_block,  ///< one factor for every factor_dims numbers, counted from the start of the row
};

/// Numbers of a row that share a factor under Factors::per_block. It equals score_dims, the dims of one accumulator of a
/// score.
inline constexpr Index factor_dims = 32;
/// Rows of plain elements begin at multiples of this many bytes in a page, so that few words and short vectors straddle
/// two cache lines. With 64, a row of 16 bf16 numbers (32 bytes) would take twice its size.
inline constexpr Index row_alignment = 16;

namespace detail {

/// How many factors rows of `width` numbers have.
template <Factors F>
[[nodiscard]] constexpr Index num_factors(Index width) noexcept {
  if constexpr (F == Factors::none) return 0;
  if constexpr (F == Factors::per_row) return 1;
  return (width + factor_dims - 1) / factor_dims;
}
/// The index of the factor of number `n` of a row.
template <Factors F>
[[nodiscard]] constexpr Index factor_of(Index n) noexcept {
  return F == Factors::per_block ? n / factor_dims : 0;
}
/// Bytes from number `first` of a row to the end of number first + n - 1.
template <class C>
[[nodiscard]] constexpr Index view_bytes(Index first, Index n) noexcept {
  return C::row_bytes(first + n) - C::offset_bytes(first);
}

/// out[i] = number first + i of a row, for i in [0, n): factor * code, rounded once. `factors` is the row's entry in the
/// plane; null if there is none.
template <class C>
void decode_row(const std::byte* row, const std::byte* factors, Index first, Index n, float* out) {
  C::codes(row, first, n, out);
  if constexpr (C::factors != Factors::none) {
    for (Index i = 0; i < n; ++i) out[i] *= C::factor(row, factors, factor_of<C::factors>(first + i));
  }
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
