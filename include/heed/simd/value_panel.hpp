/// \file
/// Outputs from values that are packed first: each panel is read by many rows.
#pragma once

#include <type_traits>

#include <heed/factors.hpp>
#include <heed/floats.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/output_tile.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Packs values into panels, and accumulates them, on the vector type `V`.
template <class V>
struct ValuePanelLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// panel[k][d] = code first_dim + d of value k, for d in [0, dims); zeros up to a multiple of 16. panel [count][64]
  /// floats, dims <= 64.
  template <class C>
  static void pack_values(const KeyRows& rows, Index first_dim, Index dims, float* panel) {
    using Read = typename C::template Reader<V>;
    const Index whole = dims / W * W, first = rows.offset + first_dim;
    for (Index k = 0; k < rows.count; ++k) {
      float* out = panel + k * panel_dims;
      for (Index d = 0; d < whole; d += W) V::store(out + d, Read::load(rows.row[k], first + d));
      if (whole < dims) C::codes(rows.row[k], first + whole, dims - whole, out + whole);
      detail::fill(out + dims, out + round_up(dims, state_align), 0.0f);
    }
  }

  /// targets[r].out[first_dim + d] = sum over k in `keys` of p[r][k] * panel[k][d], k ascending, one accumulator per
  /// element; then normalised and merged if phase.finish. `dims` is rounded up to a multiple of 16. Rows of p are 256
  /// floats apart. Prefetches `ahead`.
  template <Factors F = Factors::none>
  static void accumulate_panel(const float* p, Index rows, const float* panel, Interval keys, Index first_dim,
                               Index dims, RowTarget* targets, Accumulate phase, const Ahead& ahead,
                               PanelFactors<F> of_panel = {}) {
    const Panel<F> load{panel, of_panel};
    Index loop = 0;
    detail::for_dims<W, tile_vectors<V>>(dims, [&]<int N>(std::integral_constant<int, N>, Index d) {
      detail::for_row_tiles(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        OutputLoops<V>::template accumulate_tile<R, N>(p + r * chunk_keys, keys, d, first_dim + d, targets + r, phase,
                                                       load, ahead.begin(loop++, keys.size()));
      });
    });
  }

 private:
  // Values of a packed panel.
  template <Factors F>
  struct Panel {
    static constexpr bool in_place = false;
    static constexpr Factors factors = F;
    const float* panel;
    [[no_unique_address]] PanelFactors<F> of_panel;
    template <int N>
    using Order = detail::PlainOrder<V, N>;
    template <int N>
    [[gnu::always_inline]] void values(Index k, Index d, Reg* v) const {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) v[n] = V::load(panel + k * panel_dims + d + n * W);
    }
    // The factor of code d of key k.
    [[gnu::always_inline]] float factor(Index k, Index d) const {
      return of_panel.at[detail::factor_of<F>(d) * chunk_keys + k];
    }
  };
};

}  // namespace heed::inline HEED_ABI
