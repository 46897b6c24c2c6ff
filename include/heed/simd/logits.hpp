/// \file
/// What happens to the logits of one row: cap, bias, softmax.
#pragma once

#include <heed/floats.hpp>
#include <heed/simd/functions.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Loops over the logits `s` of a row, on the vector type `V`.
template <class V>
struct LogitLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// s[k] = cap * tanh(s[k] / cap) for k in [0, count), rounded up to whole vectors.
  static void soft_cap(float* s, Index count, float cap) {
    const Reg c = V::set1(cap);
    for (Index k = 0; k < count; k += W) V::store(s + k, V::mul(c, Functions<V>::tanh(V::div(V::load(s + k), c))));
  }

  /// s[k] -= slope * |position[k] + shift| for k in [0, count), rounded up to whole vectors.
  static void add_bias(float* s, Index count, float slope, const float* position, float shift) {
    const Reg a = V::set1(-slope), b = V::set1(shift), zero = V::set1(0);
    for (Index k = 0; k < count; k += W) {
      const Reg distance = V::add(V::load(position + k), b);
      V::store(s + k, V::fma(a, V::max(distance, V::sub(zero, distance)), V::load(s + k)));
    }
  }

  /// Replaces s[k] by 2^-8 exp(s[k] - max) for k in [0, count) and returns max and sum. -inf becomes exactly 0, and so
  /// do the floats from `count` to the next multiple of 16. The sum has 16 parts, which become 8, 4, 2, 1.
  static ChunkSum softmax(float* s, Index count) {
    constexpr int parts = 16 / W;
    const Index padded = round_up(count, 16);
    if (count < padded) hide_rest<16>(s, count);
    const float max = largest(s, padded);
    if (max == -detail::infinity) {  // nothing visible, unless a NaN hides behind the maximum
      float sum = 0;
      for (Index k = 0; k < padded; ++k) {
        sum += s[k] == max ? 0.0f : s[k];
        s[k] = 0;
      }
      return {sum != sum ? sum : max, sum};
    }
    const Reg m = V::set1(max);
    Reg total[std::size_t(parts)];
    HEED_UNROLL
    for (int i = 0; i < parts; ++i) total[i] = V::set1(0);
    for (Index k = 0; k < padded; k += 16) {
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) {
        const Reg x = V::sub(V::load(s + k + i * W), m);
        using namespace detail::exponential;
        const Reg p = Functions<V>::template exp<softmax_bias>(x, softmax_floor);
        V::store(s + k + i * W, p);
        total[i] = V::add(total[i], p);
      }
    }
    const float sum = fold_lanes(total, [](Reg a, Reg b) { return V::add(a, b); });
    return {sum != sum ? sum : max, sum};
  }

  /// The largest of `count` floats, a multiple of 16. NaN may be skipped.
  [[gnu::always_inline]] static float largest(const float* s, Index count) {
    constexpr int parts = 16 / W;
    Reg best[std::size_t(parts)];
    HEED_UNROLL
    for (int i = 0; i < parts; ++i) best[i] = V::load(s + i * W);
    for (Index k = 16; k < count; k += 16) {
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) best[i] = V::max(best[i], V::load(s + k + i * W));
    }
    return fold_lanes(best, [](Reg a, Reg b) { return V::max(a, b); });
  }
  /// Writes -inf from `count` to the next multiple of N, by whole vectors: a load of what narrower stores just wrote would
  /// wait for them.
  template <int N>
  [[gnu::always_inline]] static void hide_rest(float* s, Index count) {
    static constexpr float number[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                         16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    static_assert(N <= 32);
    const Index first = round_up(count, N) - N;
    const Reg end = V::set1(float(count - first)), lowest = V::set1(-detail::infinity);
    HEED_UNROLL
    for (int i = 0; i < N; i += W) {
      V::store(s + first + i, V::select_less(V::load(number + i), end, V::load(s + first + i), lowest));
    }
  }
  /// Folds 16 lanes, which are 16 / W registers: lanes j and j + 8, then j and j + 4, j + 2, j + 1.
  template <class Fold>
  [[gnu::always_inline]] static float fold_lanes(const Reg* part, const Fold& fold) {
    Reg x;
    if constexpr (W == 16) {
      x = fold(part[0], V::template rotate<8>(part[0]));
    } else if constexpr (W == 8) {
      x = fold(part[0], part[1]);
    } else {
      x = fold(fold(part[0], part[2]), fold(part[1], part[3]));
    }
    if constexpr (W > 4) x = fold(x, V::template rotate<4>(x));
    x = fold(x, V::template rotate<2>(x));
    return V::first(fold(x, V::template rotate<1>(x)));
  }
};

}  // namespace heed::inline HEED_ABI
