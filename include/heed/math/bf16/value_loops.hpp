/// \file
/// Weighted sums of values of math::Bf16 on a vector type.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/math/bf16/pairs.hpp>
#include <heed/math/bf16/value_pairs.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/output_tile.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// The loops over values, on the vector type `V`. A value that is not stored in bf16 is decoded, and its numbers are
/// rounded.
template <class V>
struct Bf16ValueLoops {
  using Reg = typename V::Reg;        ///< W sums
  using Words = typename V::Words;    ///< W pairs
  using Dots = detail::PairDots<V>;   ///< sums of products
  static constexpr int W = V::width;  ///< lanes of a register

  /// panel[i][d] = number first_dim + d of the values 2 i and 2 i + 1, for d in [0, dims); zeros up to a multiple of 16.
  /// panel [ceil(count / 2)][64], dims <= 64. A value that is missing in the last pair is -0.
  template <class C>
  static void pack_values(const KeyRows& rows, Index first_dim, Index dims, Bf16Pair* panel) {
    const Index whole = dims / W * W;
    for (Index k = 0; k < rows.count; k += 2) {
      Bf16Pair* const out = panel + k / 2 * panel_dims;
      const bool alone = k + 1 == rows.count;
      for (Index d = 0; d < whole; d += W) {
        const Words pairs = alone ? detail::first_of_pairs<V, C>(rows, k, first_dim + d)
                                  : detail::value_pairs<V, C>(rows, k, first_dim + d);
        __builtin_memcpy(out + d, &pairs, sizeof pairs);
      }
      for (Index d = whole; d < round_up(dims, state_align); ++d) {
        out[d] = d < dims ? detail::value_pair<C>(rows, k, alone ? k : k + 1, first_dim + d) : Bf16Pair{0};
        if (alone && d < dims) out[d].bits = (out[d].bits & 0xffff0000u) | detail::negative_zero_bf16;
      }
    }
  }

  /// targets[r].out[first_dim + d] = sum over k in `keys` of p[r][k] * (number d of value k of the panel), as
  /// ValuePanelLoops::accumulate_panel() does. Numbers in the panel have no factors.
  template <Factors F = Factors::none>
  static void accumulate_panel(const Bf16Weight* p, Index rows, const Bf16Pair* panel, Interval keys, Index first_dim,
                               Index dims, RowTarget* targets, Accumulate phase, const Ahead& ahead,
                               PanelFactors<F> = {}) {
    const detail::PanelPairs<V> load{panel};
    Index loop = 0;
    detail::for_dims<W, tile_vectors<V>>(dims, [&]<int N>(std::integral_constant<int, N>, Index d) {
      detail::for_row_tiles(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        accumulate_tile<R, N>(p + r * chunk_keys, keys, d, first_dim + d, targets + r, phase, load,
                              ahead.begin(loop++, detail::bf16_pairs(keys.size())));
      });
    });
  }

  /// The same with value k where it lies. Values must be readable up to whole vectors. Keys are taken in blocks, so that each
  /// value is fetched from memory once for all rows.
  template <class C>
  static void accumulate_rows(const Bf16Weight* p, Index rows, const KeyRows& values, Interval keys, Index first_dim,
                              Index dims, RowTarget* targets, Accumulate phase) {
    const Index block = rows <= 1 ? chunk_keys : 64;
    Index begin = keys.begin;
    do {
      const Interval part{begin, std::min(begin / block * block + block, keys.end)};
      const Accumulate here{phase.resume || begin > keys.begin, phase.finish && part.end == keys.end};
      detail::for_value_rows<tile_rows<V>>(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        // Only the first rows find the values in memory; for the others they are in L1.
        const detail::StoredPairs<V, C> load{values, first_dim, r == 0};
        constexpr int most = V::registers >= 32 ? 16 : 8;  // sums
        constexpr int vectors = most / (R <= 2 ? 2 : R <= 4 ? 4 : 8);
        detail::for_dims<W, vectors>(dims, [&]<int N>(std::integral_constant<int, N>, Index d) {
          accumulate_tile<R, N>(p + r * chunk_keys, part, d, first_dim + d, targets + r, here, load, nullptr);
        });
      });
      begin = part.end;
    } while (begin < keys.end);  // at least once: an empty range still starts, parks or finishes
  }

 private:
  // Sums of R rows and N vectors of value dims from `d` on, which go to the targets' dims from `out_dim` on. load.pairs(k, d)
  // are those of values k and k + 1. Prefetches one line per pair from `fetch` on, unless it is null.
  template <int R, int N, class Load>
  static void accumulate_tile(const Bf16Weight* p, Interval keys, Index d, Index out_dim, RowTarget* targets,
                              Accumulate phase, const Load& load, const std::byte* fetch) {
    const Index fetch_step = fetch == nullptr ? 0 : 64;
    using Order = typename Load::template Order<N>;
    RegisterTile<V, R, N> tile;
    tile.clear();
    if (phase.resume) {
      HEED_UNROLL
      for (int r = 0; r < R; ++r) Order::load(targets[r].out + out_dim, tile.sum[r]);
    }
    Index k = keys.begin;
    if (k < keys.end && k % 2 != 0) {  // only the second value of a pair
      Words v[std::size_t(N)];
      load.template second<N>(k, d, v);
      add_part<R, N>(p + k - 1, 0x0000ffffu, v, tile);
      ++k;
    }
    for (; k + 2 <= keys.end; k += 2) {
      if constexpr (!Load::in_place) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += fetch_step;
      }
      Words v[std::size_t(N)];
      load.template pairs<N>(k, d, v);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        if constexpr (N <= 2) {
          HEED_UNROLL
          for (int n = 0; n < N; ++n) tile.sum[r][n] = Dots::dot_at(tile.sum[r][n], word(p + r * chunk_keys + k), v[n]);
        } else {
          const Words weights = Dots::all(word(p + r * chunk_keys + k));
          HEED_UNROLL
          for (int n = 0; n < N; ++n) tile.sum[r][n] = Dots::dot(tile.sum[r][n], weights, v[n]);
        }
      }
    }
    if (k < keys.end) {  // only the first
      Words v[std::size_t(N)];
      load.template first<N>(k, d, v);
      add_part<R, N>(p + k, 0xffff0000u, v, tile);
    }
    HEED_UNROLL
    for (int r = 0; r < R; ++r) Order::store(tile.sum[r], targets[r].out + out_dim);
    if (phase.finish) OutputLoops<V>::finish(targets, R, out_dim, N * W);
  }
  // Adds one value of a pair. The other value is hidden. Its weight is left out: it may be that of another key.
  template <int R, int N>
  [[gnu::always_inline]] static void add_part(const Bf16Weight* p, std::uint32_t kept, const Words* v,
                                              RegisterTile<V, R, N>& tile) {
    HEED_UNROLL
    for (int r = 0; r < R; ++r) {
      const Words weights = Dots::all(word(p + r * chunk_keys)) & kept;
      HEED_UNROLL
      for (int n = 0; n < N; ++n) tile.sum[r][n] = Dots::dot(tile.sum[r][n], weights, v[n]);
    }
  }
  [[gnu::always_inline]] static const detail::PairWord* word(const Bf16Weight* p) {
    return reinterpret_cast<const detail::PairWord*>(p);
  }
};

}  // namespace heed::inline HEED_ABI
