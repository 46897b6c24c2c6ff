/// \file
/// Stored rows as floats.
#pragma once

#include <heed/factors.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Decodes whole rows, on the vector type `V`.
template <class V>
struct DecodingLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// Writes the first `width` numbers of every row, factors included, to out[k][width].
  template <class C>
  static void decode_rows(const KeyRows& rows, Index width, float* out) {
    using Read = typename C::template Reader<V>;
    const Index whole = width / W * W;
    for (Index k = 0; k < rows.count; ++k, out += width) {
      const std::byte* const row = rows.row[k];
      for (Index d = 0; d < whole; d += W) {
        Reg x = Read::load(row, d);
        if constexpr (C::factors != Factors::none) {
          x = V::mul(V::set1(C::factor(row, rows.factors_of(k), detail::factor_of<C::factors>(d))), x);
        }
        V::store(out + d, x);
      }
      if (whole < width) detail::decode_row<C>(row, rows.factors_of(k), whole, width - whole, out + whole);
    }
  }
};

}  // namespace heed::inline HEED_ABI
