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
    return softmax_by(s, count, [s](Index k, Reg weights) __attribute__((always_inline)) {
      V::store(s + k, weights);
      return weights;
    });
  }

  /// The same, but keep(k, weights) stores the weights of the W slots from k on, and returns the numbers that are added. It
  /// may store them over the logits of these slots.
  template <class Keep>
  static ChunkSum softmax_by(float* s, Index count, const Keep& keep) {
    constexpr int parts = 16 / W;
    const Index padded = round_up(count, 16);
    if (count < padded) {  // by whole vectors: a load of what narrower stores just wrote would wait for them
      static constexpr float number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      const Reg end = V::set1(float(count - (padded - 16))), lowest = V::set1(-detail::infinity);
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) {
        float* const at = s + padded - 16 + i * W;
        V::store(at, V::select_less(V::load(number + i * W), end, V::load(at), lowest));
      }
    }
    Reg best[std::size_t(parts)];
    HEED_UNROLL
    for (int i = 0; i < parts; ++i) best[i] = V::load(s + i * W);
    for (Index k = 16; k < padded; k += 16) {
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) best[i] = V::max(best[i], V::load(s + k + i * W));
    }
    const float max = fold_lanes(best, [](Reg a, Reg b) { return V::max(a, b); });
    if (max == -detail::infinity) {  // nothing visible, unless a NaN hides behind the maximum
      float sum = 0;
      for (Index k = 0; k < padded; ++k) sum += s[k] == max ? 0.0f : s[k];
      for (Index k = 0; k < padded; k += W) static_cast<void>(keep(k, V::set1(0)));
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
        total[i] = V::add(total[i], keep(k + i * W, p));
      }
    }
    const float sum = fold_lanes(total, [](Reg a, Reg b) { return V::add(a, b); });
    return {sum != sum ? sum : max, sum};
  }

 private:
  // Folds 16 lanes, which are 16 / W registers: lanes j and j + 8, then j and j + 4, j + 2, j + 1.
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
