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
    const auto tile = [&]<int R>(std::integral_constant<int, R>, Index r) {
      score_rows_tile<C, R>(q + r * q_stride, q_stride, keys, width, scale, s + r * chunk_keys);
    };
    Index r = 0;
    for (; r + 8 <= rows; r += 8) tile(std::integral_constant<int, 8>{}, r);
    detail::for_few_rows(rows, r, tile);
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

  // Scores of R rows and all keys, read where they lie. With 2 or 4 rows of 16-bit numbers two groups of W keys are
  // scored at once. The two numbers of a word are added to the same accumulator one after the other. One group has too
  // few accumulators to hide the wait. A single row waits for memory instead. Three rows with two groups spill: one
  // group was 10 % faster at 512 keys.
  template <class C, int R>
  static void score_rows_tile(const float* q, Index q_stride, const KeyRows& keys, Index width, float scale, float* s) {
    using Step = KeyBlock<V, C>;
    constexpr int groups = W == 16 && Step::numbers == 2 * Step::words && (R == 2 || R == 4) ? 2 : 1;
    const Index rest = keys.count % (groups * W);
    const Index last = groups > 1 && rest > 0 && rest <= W ? keys.count - rest : keys.count;
    score_key_groups<C, R, groups>(q, q_stride, keys, {0, last}, width, scale, s);
    if (last < keys.count) score_key_groups<C, R, 1>(q, q_stride, keys, {last, keys.count}, width, scale, s);
  }

  // The same for the keys of `range`, G groups of W keys at once. The last key is repeated up to whole groups.
  template <class C, int R, int G>
  static void score_key_groups(const float* q, Index q_stride, const KeyRows& keys, Interval range, Index width,
                               float scale, float* s) {
    using Step = KeyBlock<V, C>;
    constexpr int lines_per_group = std::max(W * Step::words * 4 / 64, 1);  // of W rows, in one block
    constexpr int numbers_per_line = Step::numbers / lines_per_group;
    const Index first_byte = C::offset_bytes(keys.offset);
    const Index end_byte = first_byte + round_up(detail::view_bytes<C>(keys.offset, width), 4);
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = range.begin; first < range.end; first += G * W) {
      const std::byte* row[std::size_t(G * W)];
      for (int j = 0; j < G * W; ++j) row[j] = keys.row[std::min(first + j, range.end - 1)];
      detail::LineCursor ahead(keys, first, first_byte, end_byte);
      Reg sum[std::size_t(G)][std::size_t(R)], acc[std::size_t(G)][std::size_t(R)];
      HEED_UNROLL
      for (int g = 0; g < G; ++g) {
        HEED_UNROLL
        for (int r = 0; r < R; ++r) sum[g][r] = V::set1(0);
      }
      for (Index begin = 0; begin < width; begin += score_dims) {
        HEED_UNROLL
        for (int g = 0; g < G; ++g) {
          HEED_UNROLL
          for (int r = 0; r < R; ++r) acc[g][r] = V::set1(0);
        }
        const Index byte = C::offset_bytes(keys.offset + begin);
        // Counted in words, which address numbers and q alike.
        const Index words = std::min(score_dims, whole - begin) / Step::numbers * Step::words;
        for (Index word = 0; word < words; word += Step::words) {
          Reg t[std::size_t(G)][std::size_t(Step::words)];
          HEED_UNROLL
          for (int g = 0; g < G; ++g) V::template load_block<Step::words>(row + g * W, byte + word * 4, t[g]);
          const float* x = q + begin + word * Step::numbers / Step::words;
          HEED_UNROLL
          for (int i = 0; i < Step::numbers; ++i) {
            HEED_UNROLL
            for (int g = 0; g < G; ++g) {
              if (i % numbers_per_line == 0) ahead.next();
            }
            HEED_UNROLL
            for (int r = 0; r < R; ++r) {
              const Reg b = V::set1(x[r * q_stride + i]);
              HEED_UNROLL
              for (int g = 0; g < G; ++g) acc[g][r] = V::fma(b, Step::number(t[g], i), acc[g][r]);
            }
          }
        }
        if (whole < width && begin + score_dims >= width) {
          Reg t[std::size_t(G)][std::size_t(Step::words)];
          for (int g = 0; g < G; ++g) V::template load_block<Step::words>(row + g * W, byte + words * 4, t[g]);
          for (Index d = whole; d < width; ++d) {
            HEED_UNROLL
            for (int g = 0; g < G; ++g) {
              const Reg k = Step::number(t[g], int(d - whole));
              HEED_UNROLL
              for (int r = 0; r < R; ++r) acc[g][r] = V::fma(V::set1(q[r * q_stride + d]), k, acc[g][r]);
            }
          }
        }
        [[maybe_unused]] Reg of_block[std::size_t(G)];
        if constexpr (C::factors == Factors::per_block) {
          for (int g = 0; g < G; ++g) of_block[g] = lane_factors<C>(keys, first + g * W, keys.offset + begin);
        }
        HEED_UNROLL
        for (int g = 0; g < G; ++g) {
          HEED_UNROLL
          for (int r = 0; r < R; ++r) {
            if constexpr (C::factors == Factors::per_block) {
              sum[g][r] = V::fma(of_block[g], acc[g][r], sum[g][r]);
            } else {
              sum[g][r] = V::add(sum[g][r], acc[g][r]);
            }
          }
        }
      }
      HEED_UNROLL
      for (int g = 0; g < G; ++g) {
        Reg factor = V::set1(scale);
        if constexpr (C::factors == Factors::per_row) factor = V::mul(lane_factors<C>(keys, first + g * W, 0), factor);
        HEED_UNROLL
        for (int r = 0; r < R; ++r) V::store(s + r * chunk_keys + first + g * W, V::mul(sum[g][r], factor));
      }
    }
  }
};

}  // namespace heed::inline HEED_ABI
