/// \file
/// Sums of weighted values, and how they become outputs.
#pragma once

#include <algorithm>

#include <heed/factors.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/sum_order.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Tiles of outputs, on the vector type `V`.
template <class V>
struct OutputLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// Normalises and merges the sums that accumulate_rows() or accumulate_panel() left with finish = false.
  static void finish(RowTarget* targets, Index rows, Index dims) { finish(targets, rows, 0, dims); }

  /// The same for dims [first, first + dims). It is compiled once for all tiles. The sums are reloaded from L1: keeping them
  /// in registers would spill accumulators and gained nothing.
  [[gnu::noinline]] static void finish(RowTarget* targets, Index rows, Index first, Index dims) {
    for (Index r = 0; r < rows; ++r) {
      const RowTarget& target = targets[r];
      for (Index d = first; d < first + dims; d += W) {
        Reg x = V::mul(V::set1(target.normalise), V::load(target.out + d));
        for (int j = 0; j < target.merges; ++j) {
          const Merge& m = target.merge[j];
          x = V::fma(V::set1(m.left_weight), V::load(m.left + d), V::mul(V::set1(m.right_weight), x));
        }
        V::store(target.out + d, x);
      }
    }
  }

  /// out[d] = fma(left_weight, left[d], right_weight * right[d]) for d in [0, n). Writes whole vectors.
  static void merge(float left_weight, const float* left, float right_weight, const float* right, Index n, float* out) {
    const Reg a = V::set1(left_weight), b = V::set1(right_weight);
    for (Index d = 0; d < n; d += W) {
      V::store(out + d, V::fma(a, V::load(left + d), V::mul(b, V::load(right + d))));
    }
  }

  /// Sums of R rows and N vectors of value dims from `d` on, which go to the targets' dims from `out_dim` on.
  /// load.values(k, d, v) fills N vectors with dims of value k, in the order Load::Order<N>. Prefetches one line per key from
  /// `fetch` on, unless it is null.
  template <int R, int N, class Load>
  static void accumulate_tile(const float* p, Interval keys, Index d, Index out_dim, RowTarget* targets,
                              Accumulate phase, const Load& load, const std::byte* fetch) {
    const Index fetch_step = fetch == nullptr ? 0 : 64;
    using Order = typename Load::template Order<N>;
    RegisterTile<V, R, N> tile;
    tile.clear();
    if (phase.resume) {
      HEED_UNROLL
      for (int r = 0; r < R; ++r) Order::load(targets[r].out + out_dim, tile.sum[r]);
    }
    for (Index k = keys.begin; k < keys.end; ++k) {
      if constexpr (!Load::in_place) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += fetch_step;
      }
      Reg v[std::size_t(N)];
      load.template values<N>(k, d, v);
      if constexpr (Load::factors == Factors::none) {
        tile.add(p + k, chunk_keys, static_cast<const Reg*>(v));
      } else {
        // A tile of fewer dims than a block lies in one block: it begins at a multiple of its own size.
        constexpr int same = Load::factors == Factors::per_row ? N : std::min(N, int(factor_dims) / W);
        Reg factor[std::size_t(N / same)];
        HEED_UNROLL
        for (int n = 0; n < N; n += same) factor[n / same] = V::set1(load.factor(k, d + n * W));
        HEED_UNROLL
        for (int r = 0; r < R; ++r) {
          HEED_UNROLL
          for (int n = 0; n < N; n += same) {
            const Reg x = V::mul(V::set1(p[r * chunk_keys + k]), factor[n / same]);
            HEED_UNROLL
            for (int i = n; i < n + same; ++i) tile.sum[r][i] = V::fma(x, v[i], tile.sum[r][i]);
          }
        }
      }
    }
    HEED_UNROLL
    for (int r = 0; r < R; ++r) Order::store(tile.sum[r], targets[r].out + out_dim);
    if (phase.finish) finish(targets, R, out_dim, N * W);
  }
};

}  // namespace heed::inline HEED_ABI
