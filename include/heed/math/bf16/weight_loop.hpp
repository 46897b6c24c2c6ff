/// \file
/// Softmax weights of math::Bf16: the definition, and the loop on a vector type.
#pragma once

#include <cstdint>
#include <utility>

#include <heed/floats.hpp>
#include <heed/math/bf16/pairs.hpp>
#include <heed/simd/logits.hpp>
#include <heed/simd/scalar.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Constants of the exponential: exp(x) = 2^k 2^f as in simd/exponential.hpp, but 2^f is a polynomial of degree 4. Its relative
/// error is 2.9e-6, that of the whole at most 5e-6: a weight is rounded to 2^-8 anyway.
namespace bf16_exponential {
inline constexpr float c1 = 0.693124175f;
inline constexpr float c2 = 0.240240991f;
inline constexpr float c3 = 0.0559064262f;
inline constexpr float c4 = 0.00958285294f;
}  // namespace bf16_exponential

/// Slots whose weights are added together: 16 pairs.
inline constexpr Index bf16_sum_slots = 32;

/// 2^-8 exp(x), not yet rounded; exactly 0 if x < softmax_floor, NaN for NaN.
[[nodiscard]] inline float bf16_weight(float x) noexcept {
  using namespace exponential;
  const float shifted = Scalar::fma(x, log2e_high, round_magic);
  const float f = Scalar::fma(x, log2e_high, round_magic - shifted);
  float y = Scalar::fma(bf16_exponential::c4, f, bf16_exponential::c3);
  y = Scalar::fma(y, f, bf16_exponential::c2);
  y = Scalar::fma(y, f, bf16_exponential::c1);
  y = Scalar::fma(y, f, 1.0f);
  const auto power =
      bits_as<float>((bits_as<std::uint32_t>(shifted) << 23) + (std::uint32_t(127 + softmax_bias) << 23));
  return x < softmax_floor ? 0.0f : y * power;
}

}  // namespace detail

/// The definition.
struct Bf16ScalarWeights {
  /// Weights of `count` logits: 2^-8 exp(s[k] - max), rounded to bf16, at p[k ^ 1]. Returns the largest logit and the sum of
  /// the rounded weights. The sum has 16 parts: part j adds slots 2 j and 2 j + 1, 32 + 2 j and 32 + 2 j + 1, ...; then 16
  /// parts become 8, 4, 2, 1. Slots up to the next multiple of 32 are overwritten, and have weights of 0.
  static ChunkSum softmax(float* s, Index count, Bf16Weight* p) {
    constexpr float lowest = -detail::infinity;
    const Index padded = round_up(count, detail::bf16_sum_slots);
    detail::fill(s + count, s + padded, lowest);
    float max = lowest;
    bool nan = false;
    for (Index k = 0; k < count; ++k) {
      nan |= s[k] != s[k];
      max = detail::larger(max, s[k]);
    }
    float part[16] = {};
    for (Index k = 0; k < padded; ++k) {
      const float weight = max == lowest && !nan ? 0.0f : detail::bf16_weight(s[k] - max);
      p[k ^ 1].bits = heed::Bf16::from_float(weight);
      part[k % detail::bf16_sum_slots / 2] += float(p[k ^ 1]);
    }
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) part[i] += part[i + half];
    }
    return {part[0] != part[0] ? part[0] : max, part[0]};
  }
};

/// The same on the vector type `V`.
template <class V>
struct Bf16WeightLoop {
  using Reg = typename V::Reg;          ///< W floats
  using Words = typename V::Words;      ///< W pairs
  using Dots = detail::PairDots<V>;     ///< sums of products
  static constexpr Index W = V::width;  ///< floats of a register

  /// As Bf16ScalarWeights::softmax().
  static ChunkSum softmax(float* s, Index count, Bf16Weight* p) {
    using detail::bf16_sum_slots;
    constexpr Index parts = 16 / W;  // registers of the sum
    const Index padded = round_up(count, bf16_sum_slots);
    if (count < padded) LogitLoops<V>::template hide_rest<bf16_sum_slots>(s, count);
    const float max = LogitLoops<V>::largest(s, padded);
    if (max == -detail::infinity) {  // nothing visible, unless a NaN hides behind the maximum
      float sum = 0;
      for (Index k = 0; k < padded; ++k) sum += s[k] == max ? 0.0f : s[k];
      for (Index k = 0; k < padded; ++k) p[k].bits = 0;
      return {sum != sum ? sum : max, sum};
    }
    const Reg m = V::set1(max);
    const Words ones = Words{} + 0x3f803f80u;
    Reg total[std::size_t(parts)];
    HEED_UNROLL
    for (Index i = 0; i < parts; ++i) total[i] = V::set1(0);
    for (Index k = 0; k < padded; k += bf16_sum_slots) {
      HEED_UNROLL
      for (Index i = 0; i < parts; ++i) {
        const Index first = k + 2 * i * W;
        const Words pairs = exchanged(weight(V::sub(V::load(s + first), m)), weight(V::sub(V::load(s + first + W), m)));
        __builtin_memcpy(p + first, &pairs, sizeof pairs);
        total[i] = Dots::dot(total[i], ones, pairs);
      }
    }
    const float sum = LogitLoops<V>::fold_lanes(total, [](Reg a, Reg b) { return V::add(a, b); });
    return {sum != sum ? sum : max, sum};
  }

 private:
  // detail::bf16_weight() of every lane.
  [[gnu::always_inline]] static Reg weight(Reg x) {
    using namespace detail::exponential;
    const Reg magic = V::set1(round_magic);
    const Reg shifted = V::fma(x, V::set1(log2e_high), magic);
    const Reg f = V::fma(x, V::set1(log2e_high), V::sub(magic, shifted));
    Reg y = V::fma(V::set1(detail::bf16_exponential::c4), f, V::set1(detail::bf16_exponential::c3));
    y = V::fma(y, f, V::set1(detail::bf16_exponential::c2));
    y = V::fma(y, f, V::set1(detail::bf16_exponential::c1));
    y = V::fma(y, f, V::set1(1));
    const Reg power = V::floats((V::words(shifted) << 23) + (std::uint32_t(127 + softmax_bias) << 23));
    return V::select_less(x, V::set1(softmax_floor), V::set1(0), V::mul(y, power));
  }
  // 2 W weights, rounded: lane i has number 2 i in its upper half and number 2 i + 1 in its lower half.
  [[gnu::always_inline]] static Words exchanged(Reg low, Reg high) {
#if defined(__AVX512BF16__)
    // Weights are not subnormal, so the instruction's zeros in place of subnormals do not matter.
    if constexpr (W == 16) {
      const Words pairs = (Words)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
      return (pairs << 16) | (pairs >> 16);
    }
#endif
    using Write = typename heed::Bf16::template Writer<V>;
    const Words a = Write::rounded(low), b = Write::rounded(high);
    return every_second<0>(a, b) << 16 | every_second<1>(a, b);
  }
  // Words P, P + 2, ... of a and b, which are counted together.
  template <int P>
  [[gnu::always_inline]] static Words every_second(Words a, Words b) {
    return [&]<int... At>(std::integer_sequence<int, At...>) __attribute__((always_inline)) {
      return (Words)__builtin_shufflevector(a, b, (2 * At + P)...);
    }
    (std::make_integer_sequence<int, V::width>{});
  }
};

}  // namespace heed::inline HEED_ABI
