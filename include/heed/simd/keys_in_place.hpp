/// \file
/// Scores with keys that are read where they lie: for few rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/key_block.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Scores of encoded keys, on the vector type `V`.
template <class V>
struct KeysInPlaceLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// s[r][k] = scale * (q[r] . key k) for rows r in [0, rows), reading the encoded keys where they lie. They must be
  /// readable up to whole vectors.
  template <class C>
  static void score_rows(const float* q, Index q_stride, Index rows, const KeyRows& keys, Index width, float scale,
                         float* s) {
    // The keys of a block stay in L1 for the second tile of rows and those after it.
    const Index block = rows <= 8 ? keys.count : panel_keys;
    for (Index first = 0; first < keys.count; first += block) {
      KeyRows part = keys.from(first, std::min(block, keys.count - first));
      detail::for_key_rows(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        score_rows_tile<C, R>(q + r * q_stride, q_stride, part, width, scale, s + r * chunk_keys + first);
        part.ahead = part.far_ahead = nullptr;
      });
    }
  }

 private:
  // The factors of number `number` of the rows of keys first, first + 1, ...; the last key is repeated.
  template <class C>
  [[gnu::always_inline]] static Reg lane_factors(const KeyRows& keys, Index first, Index number) {
    float of_key[std::size_t(W)];
    for (int j = 0; j < W; ++j) {
      const Index k = std::min(first + j, keys.count - 1);
      of_key[j] = C::factor(keys.row[k], keys.factors_of(k), detail::factor_of<C::factors>(number));
    }
    return V::load(of_key);
  }

  // Scores of R rows and all keys, read where they lie, W keys at once. The last key is repeated.
  template <class C, int R>
  static void score_rows_tile(const float* q, Index q_stride, const KeyRows& keys, Index width, float scale, float* s) {
    using Step = KeyBlock<V, C>;
    constexpr int lines_per_group = std::max(W * Step::words * 4 / 64, 1);  // of W rows, in one block
    constexpr int numbers_per_line = Step::numbers / lines_per_group;
    const Index first_byte = C::offset_bytes(keys.offset);
    const Index end_byte = first_byte + round_up(detail::view_bytes<C>(keys.offset, width), 4);
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = 0; first < keys.count; first += W) {
      const std::byte* row[std::size_t(W)];
      for (int j = 0; j < W; ++j) row[j] = keys.row[std::min(first + j, keys.count - 1)];
      detail::LineCursor ahead(keys, first, first_byte, end_byte);
      Reg sum[std::size_t(R)], acc[std::size_t(R)];
      HEED_UNROLL
      for (int r = 0; r < R; ++r) sum[r] = V::set1(0);
      for (Index begin = 0; begin < width; begin += score_dims) {
        HEED_UNROLL
        for (int r = 0; r < R; ++r) acc[r] = V::set1(0);
        const Index byte = C::offset_bytes(keys.offset + begin);
        // Counted in words, which address numbers and q alike.
        const Index words = std::min(score_dims, whole - begin) / Step::numbers * Step::words;
        for (Index word = 0; word < words; word += Step::words) {
          Reg t[std::size_t(Step::words)];
          V::template load_block<Step::words>(row, byte + word * 4, t);
          const float* x = q + begin + word * Step::numbers / Step::words;
          HEED_UNROLL
          for (int i = 0; i < Step::numbers; ++i) {
            if (i % numbers_per_line == 0) ahead.next();
            const Reg k = Step::number(t, i);
            HEED_UNROLL
            for (int r = 0; r < R; ++r) acc[r] = V::fma(V::set1(x[r * q_stride + i]), k, acc[r]);
          }
        }
        if (whole < width && begin + score_dims >= width) {
          Reg t[std::size_t(Step::words)];
          V::template load_block<Step::words>(row, byte + words * 4, t);
          for (Index d = whole; d < width; ++d) {
            const Reg k = Step::number(t, int(d - whole));
            HEED_UNROLL
            for (int r = 0; r < R; ++r) acc[r] = V::fma(V::set1(q[r * q_stride + d]), k, acc[r]);
          }
        }
        [[maybe_unused]] Reg of_block;
        if constexpr (C::factors == Factors::per_block) of_block = lane_factors<C>(keys, first, keys.offset + begin);
        HEED_UNROLL
        for (int r = 0; r < R; ++r) {
          if constexpr (C::factors == Factors::per_block) {
            sum[r] = V::fma(of_block, acc[r], sum[r]);
          } else {
            sum[r] = V::add(sum[r], acc[r]);
          }
        }
      }
      Reg factor = V::set1(scale);
      if constexpr (C::factors == Factors::per_row) factor = V::mul(lane_factors<C>(keys, first, 0), factor);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) V::store(s + r * chunk_keys + first, V::mul(sum[r], factor));
    }
  }
};

}  // namespace heed::inline HEED_ABI
