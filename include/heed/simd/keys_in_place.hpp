/// \file
/// Scores with keys that are read where they lie: for few rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/key_block.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/register_tile.hpp>
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

  // Vectors of keys that are scored at once. With 16 registers a vector has few keys, and its sums wait for each other.
  static constexpr int groups = V::registers >= 32 ? 1 : 2;

  // The numbers of a block from byte `byte` of each row on: rest [groups][numbers][W]. Compiled once for all tiles: few widths
  // have such a rest.
  template <class C>
  [[gnu::noinline]] static void load_rest(const std::byte* const* row, Index byte, float* rest) {
    using Step = KeyBlock<V, C>;
    for (int g = 0; g < groups; ++g) {
      Reg t[std::size_t(Step::words)];
      V::template load_block<Step::words>(row + g * W, byte, t);
      HEED_UNROLL
      for (int i = 0; i < Step::numbers; ++i) V::store(rest + (g * Step::numbers + i) * W, Step::number(t, i));
    }
  }

  // Scores of R rows and all keys, read where they lie. The last key is repeated.
  template <class C, int R>
  static void score_rows_tile(const float* q, Index q_stride, const KeyRows& keys, Index width, float scale, float* s) {
    using Step = KeyBlock<V, C>;
    constexpr int G = groups;
    constexpr int lines_per_group = std::max(W * Step::words * 4 / 64, 1);  // of W rows, in one block
    constexpr int numbers_per_line = Step::numbers / lines_per_group;
    const Index first_byte = C::offset_bytes(keys.offset);
    const Index end_byte = first_byte + round_up(detail::view_bytes<C>(keys.offset, width), 4);
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = 0; first < keys.count; first += G * W) {
      const std::byte* row[std::size_t(G * W)];
      for (int j = 0; j < G * W; ++j) row[j] = keys.row[std::min(first + j, keys.count - 1)];
      detail::LineCursor ahead(keys, first, first_byte, end_byte);
      Reg sum[std::size_t(R)][std::size_t(G)], acc[std::size_t(R)][std::size_t(G)];
      const auto each = [](const auto& body) __attribute__((always_inline)) {
        HEED_UNROLL
        for (int r = 0; r < R; ++r) {
          HEED_UNROLL
          for (int g = 0; g < G; ++g) body(r, g);
        }
      };
      each([&](int r, int g) __attribute__((always_inline)) { sum[r][g] = V::set1(0); });
      for (Index begin = 0; begin < width; begin += score_dims) {
        each([&](int r, int g) __attribute__((always_inline)) { acc[r][g] = V::set1(0); });
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
            Reg k[std::size_t(G)];
            HEED_UNROLL
            for (int g = 0; g < G; ++g) {
              if (i % numbers_per_line == 0) ahead.next();
              k[g] = Step::number(t[g], i);
            }
            HEED_UNROLL
            for (int r = 0; r < R; ++r) {
              const Reg factor = V::set1(x[r * q_stride + i]);
              HEED_UNROLL
              for (int g = 0; g < G; ++g) acc[r][g] = V::fma(factor, k[g], acc[r][g]);
            }
          }
        }
        if (whole < width && begin + score_dims >= width) {
          float rest[std::size_t(G * Step::numbers * W)];
          load_rest<C>(row, byte + words * 4, rest);
          for (Index d = whole; d < width; ++d) {
            each([&](int r, int g) __attribute__((always_inline)) {
              const Reg k = V::load(rest + (g * Step::numbers + d - whole) * W);
              acc[r][g] = V::fma(V::set1(q[r * q_stride + d]), k, acc[r][g]);
            });
          }
        }
        if constexpr (C::factors == Factors::per_block) {
          Reg of_block[std::size_t(G)];
          for (int g = 0; g < G; ++g) of_block[g] = lane_factors<C>(keys, first + g * W, keys.offset + begin);
          each([&](int r, int g) __attribute__((always_inline)) {
            sum[r][g] = V::fma(of_block[g], acc[r][g], sum[r][g]);
          });
        } else {
          each([&](int r, int g) __attribute__((always_inline)) { sum[r][g] = V::add(sum[r][g], acc[r][g]); });
        }
      }
      Reg factor[std::size_t(G)];
      HEED_UNROLL
      for (int g = 0; g < G; ++g) {
        factor[g] = V::set1(scale);
        if constexpr (C::factors == Factors::per_row) {
          factor[g] = V::mul(lane_factors<C>(keys, first + g * W, 0), factor[g]);
        }
      }
      each([&](int r, int g) __attribute__((always_inline)) {
        V::store(s + r * chunk_keys + first + g * W, V::mul(sum[r][g], factor[g]));
      });
    }
  }
};

}  // namespace heed::inline HEED_ABI
