/// \file
/// Scores of math::Bf16 on a vector type.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/math/bf16/pairs.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/key_block.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// The loops over keys, on the vector type `V`. A key that is not stored in bf16 is decoded, and its numbers are rounded.
template <class V>
struct Bf16KeyLoops {
  using Reg = typename V::Reg;        ///< W sums
  using Words = typename V::Words;    ///< W pairs
  using Dots = detail::PairDots<V>;   ///< sums of products
  static constexpr int W = V::width;  ///< lanes of a register
  static_assert(panel_keys % W == 0);

  /// panel[i][k] = pair i of key k. panel [ceil(width / 2)][64], at most 64 keys. The panel is filled to whole tiles: the
  /// last key is repeated. Reads no byte beyond `width` numbers of a row.
  template <class C>
  static void pack_keys(const KeyRows& rows, Index width, Bf16Pair* panel) {
    using Step = KeyBlock<V, C>;
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = 0; first < round_up(rows.count, tile_vectors<V> * W); first += W) {
      Keys<C> keys;
      keys.start(rows, first, rows.count);
      for (Index d = 0; d < whole; d += Step::numbers) {
        Words pair[std::size_t(Step::numbers / 2)];
        keys.load(d, pair);
        HEED_UNROLL
        for (int i = 0; i < Step::numbers / 2; ++i) store(panel + (d / 2 + i) * panel_keys + first, pair[i]);
      }
      if (whole < width) keys.copy_rest(whole, width, panel + whole / 2 * panel_keys + first);
    }
  }

  /// s[r][k] = scale * (q[r] . key k) for keys [0, count) of a packed panel, as KeyPanelLoops::score_panel() does. Numbers in
  /// the panel have no factors.
  template <Factors F = Factors::none>
  static void score_panel(const Bf16Pair* q, Index q_stride, Index rows, const Bf16Pair* panel, Index width,
                          Index count, float scale, float* s, const Ahead& ahead, PanelFactors<F> = {}) {
    const Index pairs = detail::bf16_pairs(width);
    Index loop = 0;
    for (Index key = 0; key < count; key += tile_vectors<V> * W) {
      detail::for_row_tiles(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        score_panel_tile<R>(q + r * q_stride, q_stride, panel + key, pairs, scale, s + r * chunk_keys + key,
                            ahead.begin(loop++, pairs));
      });
    }
  }

  /// s[r][k] = scale * (q[r] . key k) for rows r in [0, rows), reading the encoded keys where they lie. They must be
  /// readable up to whole vectors.
  template <class C>
  static void score_rows(const Bf16Pair* q, Index q_stride, Index rows, const KeyRows& keys, Index width, float scale,
                         float* s) {
    // The keys of a block stay in L1 for the second tile of rows and those after it.
    const Index block = rows <= tile_rows<V> ? keys.count : panel_keys;
    for (Index first = 0; first < keys.count; first += block) {
      KeyRows part = keys.from(first, std::min(block, keys.count - first));
      detail::for_key_rows<tile_rows<V>>(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        score_rows_tile<C, R>(q + r * q_stride, q_stride, part, width, scale, s + r * chunk_keys + first);
        part.ahead = part.far_ahead = nullptr;
      });
    }
  }

 private:
  // W keys from number `first` on, as pairs. The last key is repeated.
  template <class C>
  class Keys {
    using Step = KeyBlock<V, C>;

   public:
    [[gnu::always_inline]] void start(const KeyRows& rows, Index first, Index end) {
      offset_ = rows.offset;
      for (int j = 0; j < W; ++j) {
        const Index k = std::min(first + j, end - 1);
        row_[j] = rows.row[k];
        if constexpr (C::factors != Factors::none) entry_[j] = rows.factors_of(k);
      }
    }
    // The pairs of numbers [d, d + Step::numbers).
    [[gnu::always_inline]] void load(Index d, Words* pair) const {
      Reg t[std::size_t(Step::words)];
      // In words, which are not cut.
      V::template load_block<Step::words>(
          row_,
          C::offset_bytes(offset_ + d / score_dims * score_dims) + d % score_dims / Step::numbers * Step::words * 4, t);
      HEED_UNROLL
      for (int i = 0; i < Step::numbers / 2; ++i) {
        if constexpr (std::is_same_v<C, heed::Bf16>) {
          pair[i] = V::words(t[i]);
        } else {
          Reg lower = Step::number(t, 2 * i), upper = Step::number(t, 2 * i + 1);
          if constexpr (C::factors != Factors::none) {
            const Reg factor = factors(d + 2 * i);  // of both: blocks have an even number of dims
            lower = V::mul(factor, lower);
            upper = V::mul(factor, upper);
          }
          pair[i] = detail::PairMaker<V>::pairs(lower, upper);
        }
      }
    }
    // Writes the pairs of numbers [first, width) to out[i][lane], and reads nothing beyond them. The pair of the last number
    // has zero if the width is odd.
    void copy_rest(Index first, Index width, Bf16Pair* out) const {
      for (int j = 0; j < W; ++j) {
        float number[std::size_t(Step::numbers) + 1] = {};
        const std::byte* entry = nullptr;
        if constexpr (C::factors != Factors::none) entry = entry_[j];
        detail::decode_row<C>(row_[j], entry, offset_ + first, width - first, number);
        for (Index i = 0; i < detail::bf16_pairs(width - first); ++i) {
          out[i * panel_keys + j] = detail::bf16_pair(number[2 * i], number[2 * i + 1]);
        }
      }
    }

   private:
    [[gnu::always_inline]] Reg factors(Index number) const {
      float factor[std::size_t(W)];
      for (int j = 0; j < W; ++j) {
        factor[j] = C::factor(row_[j], entry_[j], detail::factor_of<C::factors>(offset_ + number));
      }
      return V::load(factor);
    }

    const std::byte* row_[std::size_t(W)];
    const std::byte* entry_[C::factors != Factors::none ? std::size_t(W) : 1];
    Index offset_ = 0;
  };

  [[gnu::always_inline]] static void store(Bf16Pair* to, Words pairs) { __builtin_memcpy(to, &pairs, sizeof pairs); }
  [[gnu::always_inline]] static Words load(const Bf16Pair* from) {
    Words pairs;
    __builtin_memcpy(&pairs, from, sizeof pairs);
    return pairs;
  }
  [[gnu::always_inline]] static const detail::PairWord* words(const Bf16Pair* q) {
    return reinterpret_cast<const detail::PairWord*>(q);
  }

  // Scores of R rows and tile_vectors<V> vectors of keys of a packed panel. Prefetches one line per pair from `fetch` on.
  // Not inlined, as that of KeyPanelLoops.
  template <int R>
  [[gnu::noinline]] static void score_panel_tile(const Bf16Pair* q, Index q_stride, const Bf16Pair* panel, Index pairs,
                                                 float scale, float* s, const std::byte* fetch) {
    constexpr int N = tile_vectors<V>;
    const Index fetch_step = fetch == nullptr ? 0 : 64;
    RegisterTile<V, R, N> tile;
    tile.clear();
    for (Index i = 0; i < pairs; ++i) {
      __builtin_prefetch(fetch, 0, 2);
      fetch += fetch_step;
      Words key[std::size_t(N)];
      HEED_UNROLL
      for (int n = 0; n < N; ++n) key[n] = load(panel + i * panel_keys + n * W);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        const Words pair = Dots::all(words(q + r * q_stride + i));
        HEED_UNROLL
        for (int n = 0; n < N; ++n) tile.sum[r][n] = Dots::dot(tile.sum[r][n], pair, key[n]);
      }
    }
    const Reg factor = V::set1(scale);
    HEED_UNROLL
    for (int r = 0; r < R; ++r) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) V::store(s + r * chunk_keys + n * W, V::mul(tile.sum[r][n], factor));
    }
  }

  // Scores of R rows and all keys, which are read where they lie, W keys at once.
  template <class C, int R>
  static void score_rows_tile(const Bf16Pair* q, Index q_stride, const KeyRows& rows, Index width, float scale,
                              float* s) {
    using Step = KeyBlock<V, C>;
    constexpr int pairs = Step::numbers / 2;
    constexpr int lines = std::max(W * Step::words * 4 / 64, 1);  // of W rows, in one block
    const Index first_byte = C::offset_bytes(rows.offset);
    const Index end_byte = first_byte + round_up(detail::view_bytes<C>(rows.offset, width), 4);
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = 0; first < rows.count; first += W) {
      Keys<C> keys;
      keys.start(rows, first, rows.count);
      detail::LineCursor ahead(rows, first, first_byte, end_byte);
      Reg sum[std::size_t(R)];
      HEED_UNROLL
      for (int r = 0; r < R; ++r) sum[r] = V::set1(0);
      for (Index d = 0; d < whole; d += Step::numbers) {
        Words pair[std::size_t(pairs)];
        keys.load(d, pair);
        const Bf16Pair* x = q + d / 2;
        HEED_UNROLL
        for (int i = 0; i < pairs; ++i) {
          for (int line = i * lines / pairs; line < (i + 1) * lines / pairs; ++line) ahead.next();
          HEED_UNROLL
          for (int r = 0; r < R; ++r) sum[r] = Dots::dot_at(sum[r], words(x + r * q_stride + i), pair[i]);
        }
      }
      if (whole < width) {
        Bf16Pair rest[std::size_t(pairs)][std::size_t(panel_keys)];
        keys.copy_rest(whole, width, rest[0]);
        for (Index i = 0; i < detail::bf16_pairs(width - whole); ++i) {
          HEED_UNROLL
          for (int r = 0; r < R; ++r) {
            sum[r] = Dots::dot_at(sum[r], words(q + r * q_stride + whole / 2 + i), load(rest[i]));
          }
        }
      }
      const Reg factor = V::set1(scale);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) V::store(s + r * chunk_keys + first, V::mul(sum[r], factor));
    }
  }
};

}  // namespace heed::inline HEED_ABI
