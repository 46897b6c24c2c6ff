/// \file
/// Scores with keys that are read where they lie and rotated on the way: for few rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/key_block.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/tile.hpp>
#include <heed/turns.hpp>

namespace heed::inline HEED_ABI {

/// Scores of encoded keys that are rotated in registers, on the vector type `V`. The bits are those of keys that were
/// rotated before, which costs a copy of each key in memory.
template <class V>
struct KeysTurnedLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// Most rows for which turning keys in registers pays: every tile of 4 rows turns them again.
  static constexpr Index most_turned_rows = 8;

  /// true if score_turned_rows() knows this rotation: blocks of 32 numbers turn whole, by themselves or with another one.
  template <class C>
  [[nodiscard]] static bool can_turn(const KeyTurns& turns, Index width) noexcept {
    static_assert(C::factors == Factors::none, "numbers are codes");
    if (turns.angles == nullptr) return false;
    const Index step = turns.interleaved ? score_dims / 2 : score_dims;
    return width % score_dims == 0 && turns.first % score_dims == 0 && turns.pairs % step == 0 &&
           turns.pairs <= most_blocks * score_dims;
  }

  /// s[r][k] = scale * (q[r] . turned key k) for rows r in [0, rows), as KeysInPlaceLoops::score_rows(). Key k has the
  /// position `position` + k; `position` is a multiple of 16, and all lie in the table.
  template <class C>
  static void score_turned_rows(const float* q, Index q_stride, Index rows, const KeyRows& keys, Index width,
                                const KeyTurns& turns, Index position, float scale, float* s) {
    // The keys of a block stay in L1 for the second tile of rows.
    const Index block = rows <= 4 ? keys.count : panel_keys;
    for (Index begin = 0; begin < keys.count; begin += block) {
      KeyRows part = keys.from(begin, std::min(block, keys.count - begin));
      detail::for_key_rows<4>(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        float* const to = s + r * chunk_keys + begin;
        for (Index first = 0; first < part.count; first += W) {
          Tile<C, R>(q + r * q_stride, q_stride, part, first, width).score(turns, position + begin, scale, to);
        }
        part.ahead = part.far_ahead = nullptr;
      });
    }
  }

 private:
  static constexpr Index most_blocks = 8;  // of the first numbers of pairs

  // R rows and W keys.
  template <class C, int R>
  struct Tile {
    using Step = KeyBlock<V, C>;
    static constexpr int words = Step::words, numbers = Step::numbers;
    static constexpr int lines = std::max(W * words * 4 / 64, 1);  // of a block

    [[gnu::always_inline]] Tile(const float* queries, Index stride, const KeyRows& rows, Index first_key, Index dims)
        : q(queries),
          q_stride(stride),
          first(first_key),
          width(dims),
          offset(rows.offset),
          ahead(rows, first_key, C::offset_bytes(rows.offset),
                C::offset_bytes(rows.offset) + detail::view_bytes<C>(rows.offset, dims)) {
      for (int j = 0; j < W; ++j) row[j] = rows.row[std::min(first + j, rows.count - 1)];
    }

    [[gnu::always_inline]] void score(const KeyTurns& turns, Index position, float scale, float* s) {
      const Index at = position + first, end = turns.first + 2 * turns.pairs;
      const float* const angles =
          turns.angles + at / KeyTurns::group * turns.pairs * 2 * KeyTurns::group + at % KeyTurns::group;
      Reg sum[std::size_t(R)], held[std::size_t(most_blocks)][std::size_t(R)];
      for (int r = 0; r < R; ++r) sum[r] = V::set1(0);
      for (Index begin = 0; begin < width; begin += score_dims) {
        const Index pair = begin - turns.first;
        if (pair < 0 || begin >= end) {
          add<false>(begin, nullptr, sum);
        } else if (turns.interleaved) {
          add<true>(begin, angles + pair / 2 * 2 * KeyTurns::group, sum);
        } else if (pair < turns.pairs) {
          add_two(begin, turns.pairs, angles + pair * 2 * KeyTurns::group, sum, held[pair / score_dims]);
        } else {
          HEED_UNROLL
          for (int r = 0; r < R; ++r) sum[r] = V::add(sum[r], held[(pair - turns.pairs) / score_dims][r]);
        }
      }
      const Reg factor = V::set1(scale);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) V::store(s + r * chunk_keys + first, V::mul(sum[r], factor));
    }

    // Adds 32 numbers from `begin` on to sum. Turned: they are pairs of neighbours, which turn first.
    template <bool Turned>
    [[gnu::always_inline]] void add(Index begin, [[maybe_unused]] const float* angles, Reg* sum) {
      Reg acc[std::size_t(R)];
      for (int r = 0; r < R; ++r) acc[r] = V::set1(0);
      for (Index d = begin; d < begin + score_dims; d += numbers) {
        Reg block[std::size_t(words)];
        load(d, block);
        HEED_UNROLL
        for (int i = 0; i < numbers; i += 2) {
          if (i % std::max(numbers / lines, 2) == 0) prefetch(std::max(2 * lines / numbers, 1));
          Reg x = Step::number(block, i), y = Step::number(block, i + 1);
          if constexpr (Turned) {
            turn(angles, x, y);
            angles += 2 * KeyTurns::group;
          }
          HEED_UNROLL
          for (int r = 0; r < R; ++r) {
            acc[r] = V::fma(V::set1(q[r * q_stride + d + i]), x, acc[r]);
            acc[r] = V::fma(V::set1(q[r * q_stride + d + i + 1]), y, acc[r]);
          }
        }
      }
      HEED_UNROLL
      for (int r = 0; r < R; ++r) sum[r] = V::add(sum[r], acc[r]);
    }
    // Adds the first numbers of 32 pairs, from `begin` on, to sum. Leaves the sum of the second ones in `held`.
    [[gnu::always_inline]] void add_two(Index begin, Index distance, const float* angles, Reg* sum, Reg* held) {
      Reg acc[std::size_t(R)], second[std::size_t(R)];
      HEED_UNROLL
      for (int r = 0; r < R; ++r) acc[r] = second[r] = V::set1(0);
      for (Index d = begin; d < begin + score_dims; d += numbers) {
        Reg block[std::size_t(words)], other[std::size_t(words)];
        load(d, block);
        load(d + distance, other);
        const float* const x_of = q + d;
        const float* const y_of = q + d + distance;
        HEED_UNROLL
        for (int i = 0; i < numbers; ++i) {
          if (i % std::max(numbers / (2 * lines), 1) == 0) prefetch(std::max(2 * lines / numbers, 1));
          Reg x = Step::number(block, i), y = Step::number(other, i);
          turn(angles + i * 2 * KeyTurns::group, x, y);
          HEED_UNROLL
          for (int r = 0; r < R; ++r) acc[r] = V::fma(V::set1(x_of[r * q_stride + i]), x, acc[r]);
          HEED_UNROLL
          for (int r = 0; r < R; ++r) second[r] = V::fma(V::set1(y_of[r * q_stride + i]), y, second[r]);
        }
        angles += numbers * 2 * KeyTurns::group;
      }
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        sum[r] = V::add(sum[r], acc[r]);
        held[r] = second[r];
      }
    }

    [[gnu::always_inline]] static void turn(const float* angles, Reg& x, Reg& y) {
      const Reg cos = V::load(angles), sin = V::load(angles + KeyTurns::group);
      const Reg turned = V::fma(x, cos, -V::mul(y, sin));
      y = V::fma(x, sin, V::mul(y, cos));
      x = turned;
    }
    [[gnu::always_inline]] void load(Index d, Reg* block) const {
      V::template load_block<words>(row, C::offset_bytes(offset + d), block);
    }
    // Prefetches for `count` lines that are read.
    [[gnu::always_inline]] void prefetch(int count) {
      for (int n = 0; n < count; ++n) ahead.next();
    }

    const float* q;
    Index q_stride, first, width, offset;
    const std::byte* row[std::size_t(W)];
    detail::LineCursor ahead;
  };
};

}  // namespace heed::inline HEED_ABI
