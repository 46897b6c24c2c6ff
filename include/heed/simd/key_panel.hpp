/// \file
/// Scores with keys that are packed first: each panel is read by many rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/key_block.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Packs keys into panels, and scores them, on the vector type `V`.
template <class V>
struct KeyPanelLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// panel[d][k] = code d of key k, for d in [0, width). panel [width][64] floats, at most 64 keys. The panel is filled
  /// to whole tiles: the last key is repeated. Reads no byte beyond `width` numbers of a row.
  template <class C>
  static void pack_keys(const KeyRows& rows, Index width, float* panel) {
    using Step = KeyBlock<V, C>;
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = 0; first < round_up(rows.count, tile_vectors<V> * W); first += W) {
      const std::byte* row[std::size_t(W)];
      for (int j = 0; j < W; ++j) row[j] = rows.row[std::min(first + j, rows.count - 1)];
      for (Index begin = 0; begin < whole; begin += score_dims) {
        Index byte = C::offset_bytes(rows.offset + begin);
        for (Index d = begin; d < std::min(begin + score_dims, whole); d += Step::numbers, byte += Step::words * 4) {
          Reg t[std::size_t(Step::words)];
          V::template load_block<Step::words>(row, byte, t);
          float* out = panel + d * panel_keys + first;
          HEED_UNROLL
          for (int i = 0; i < Step::numbers; ++i) V::store(out + i * panel_keys, Step::number(t, i));
        }
      }
      for (int j = 0; j < W; ++j) {  // the rest of each row, without reading beyond it
        float tail[std::size_t(Step::numbers)];
        C::codes(row[j], rows.offset + whole, width - whole, tail);
        for (Index d = whole; d < width; ++d) panel[d * panel_keys + first + j] = tail[d - whole];
      }
    }
  }

  /// s[r][k] = scale * (q[r] . key k) for keys [0, count) of a packed panel. Rows of s are 256 floats apart. Writes
  /// whole vectors: up to tile_vectors<V> * W - 1 more floats of a row. Prefetches `ahead`. Factors of whole
  /// tiles are read.
  template <Factors F = Factors::none>
  static void score_panel(const float* q, Index q_stride, Index rows, const float* panel, Index width, Index count,
                          float scale, float* s, const Ahead& ahead, PanelFactors<F> factors = {}) {
    Index loop = 0;
    for (Index key = 0; key < count; key += tile_vectors<V> * W) {
      PanelFactors<F> of_tile = factors;
      if constexpr (F != Factors::none) of_tile.at += key;
      detail::for_row_tiles(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        score_panel_tile<R, F>(q + r * q_stride, q_stride, panel + key, width, scale, s + r * chunk_keys + key,
                               ahead.begin(loop++, width), of_tile);
      });
    }
  }

 private:
  // Scores of R rows and tile_vectors<V> vectors of keys of a packed panel. Prefetches one line per dim from `fetch`
  // on. Never inlined: in a large function GCC 12 spills accumulators, which costs a tenth of a prefill.
  template <int R, Factors F>
  [[gnu::noinline]] static void score_panel_tile(const float* q, Index q_stride, const float* panel, Index width,
                                                 float scale, float* s, const std::byte* fetch,
                                                 [[maybe_unused]] PanelFactors<F> factors) {
    constexpr int N = tile_vectors<V>;
    const Index fetch_step = fetch == nullptr ? 0 : 64;
    const Reg zero = V::set1(0);
    for (Index begin = 0; begin < width; begin += score_dims) {
      const Index end = std::min(begin + score_dims, width);
      RegisterTile<V, R, N> tile;
      tile.clear();
      for (Index d = begin; d < end; ++d) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += fetch_step;
        tile.add(q + d, q_stride, panel + d * panel_keys);
      }
      const Reg factor = V::set1(end == width ? scale : 1);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) {
          float* at = s + r * chunk_keys + n * W;
          if constexpr (F == Factors::per_block) {
            const Reg of_block = V::load(factors.at + begin / score_dims * panel_keys + n * W);
            V::store(at, V::mul(V::fma(of_block, tile.sum[r][n], begin == 0 ? zero : V::load(at)), factor));
            continue;
          }
          const Reg sum = begin == 0 ? tile.sum[r][n] : V::add(V::load(at), tile.sum[r][n]);
          if constexpr (F == Factors::per_row) {
            V::store(at, end < width ? sum : V::mul(V::mul(V::load(factors.at + n * W), factor), sum));
            continue;
          }
          V::store(at, V::mul(sum, factor));
        }
      }
    }
  }
};

}  // namespace heed::inline HEED_ABI
