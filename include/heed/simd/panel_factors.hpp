/// \file
/// Factors of the rows whose codes a packed panel holds.
#pragma once

#include <heed/factors.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Factors of the rows of a packed panel, as floats. Not owned. Factor i of row k is at[i * 64 + k] for a panel of
/// keys, and at[i * 256 + k] for a panel of values. Nothing is passed for codecs without factors.
template <Factors F>
struct PanelFactors {
  const float* at = nullptr;  ///< factor 0 of row 0
};
template <>
struct PanelFactors<Factors::none> {};

namespace detail {

/// out[i * stride + k] = factor i, from number `first` of the view on, of key k, for all factors of `numbers` numbers and
/// k in [0, count). The last key is repeated.
template <class C>
void read_factors(const KeyRows& rows, Index first, Index numbers, Index count, Index stride, float* out) {
  const Index begin = factor_of<C::factors>(rows.offset + first);
  for (Index i = 0; i < num_factors<C::factors>(numbers); ++i) {
    for (Index k = 0; k < count; ++k) {
      const Index row = k < rows.count ? k : rows.count - 1;
      out[i * stride + k] = C::factor(rows.row[row], rows.factors_of(row), begin + i);
    }
  }
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
