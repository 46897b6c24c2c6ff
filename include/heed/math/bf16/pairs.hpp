/// \file
/// Pairs of bf16 numbers, and the one operation of math::Bf16: a sum of products of pairs.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include <heed/codec/bf16.hpp>
#include <heed/simd/scalar.hpp>

namespace heed::inline HEED_ABI {

/// Two bf16 numbers in a word: of a query or a key, dim 2 i in the lower half and dim 2 i + 1 in the upper half. Of values,
/// the key of slot 2 i in the upper half and that of slot 2 i + 1 in the lower half.
struct Bf16Pair {
  std::uint32_t bits;  ///< both numbers
};

/// A softmax weight as a bf16 number. Two of them are read as a Bf16Pair.
struct Bf16Weight {
  std::uint16_t bits;  ///< the upper half of a float
  /// The number, exactly.
  explicit operator float() const noexcept { return heed::Bf16::to_float(bits); }
};

namespace detail {

/// What a hidden value counts as: -0, because x + 0 * -0 is x for every x, also for -0.
inline constexpr std::uint32_t negative_zero_bf16 = 0x8000;

/// Takes the place of a subnormal number: zero, of the same sign.
[[nodiscard]] constexpr float flushed(float x) noexcept {
  const auto bits = bits_as<std::uint32_t>(x);
  return (bits & 0x7fffffffu) < 0x00800000u ? bits_as<float>(bits & 0x80000000u) : x;
}

/// The definition: sum + upper a * upper b, then that + lower a * lower b. Each is rounded once, and subnormal operands and
/// results count as 0. AVX512-BF16 and its documentation call this VDPBF16PS.
[[nodiscard]] inline float dot_pairs(float sum, Bf16Pair a, Bf16Pair b) noexcept {
  const auto upper = [](Bf16Pair x) { return flushed(bits_as<float>(x.bits & 0xffff0000u)); };
  const auto lower = [](Bf16Pair x) { return flushed(bits_as<float>(x.bits << 16)); };
  return flushed(Scalar::fma(lower(a), lower(b), flushed(Scalar::fma(upper(a), upper(b), sum))));
}

/// The pair of two numbers, which are rounded.
[[nodiscard]] inline Bf16Pair bf16_pair(float lower, float upper) noexcept {
  return {std::uint32_t(heed::Bf16::from_float(lower)) | std::uint32_t(heed::Bf16::from_float(upper)) << 16};
}

/// How many pairs `width` numbers are.
[[nodiscard]] constexpr Index bf16_pairs(Index width) noexcept { return (width + 1) / 2; }

/// Words that hold weights or pairs.
using PairWord [[gnu::may_alias]] = std::uint32_t;

/// dot_pairs() of every lane, on the vector type `V`.
template <class V>
struct PairDots {
  using Reg = typename V::Reg;      ///< W sums
  using Words = typename V::Words;  ///< W pairs

  /// true if the ISA has the instruction.
  static constexpr bool native =
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
      true;
#elif defined(__AVX512BF16__)
      V::width == 16;
#else
      false;
#endif

  /// sum + a b. `a` is the same pair for all lanes.
  [[gnu::always_inline]] static Reg dot(Reg sum, Words a, Words b) {
    if constexpr (native) {
#if defined(__AVX512BF16__)
      if constexpr (V::width == 16) return (Reg)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#if defined(__AVX512VL__)
      if constexpr (V::width == 8) return (Reg)_mm256_dpbf16_ps((__m256)sum, (__m256bh)a, (__m256bh)b);
      if constexpr (V::width == 4) return (Reg)_mm_dpbf16_ps((__m128)sum, (__m128bh)a, (__m128bh)b);
#endif
#endif
    }
    const Reg first = flush(V::fma(upper(a), upper(b), sum));
    return flush(V::fma(lower(a), lower(b), first));
  }
  /// The same with the pair at `a`.
  [[gnu::always_inline]] static Reg dot_at(Reg sum, const PairWord* a, Words b) {
#if defined(__AVX512BF16__)
    // Compilers load the pair first, which costs 1.4 times the instruction: the type of the pair is in their way.
    if constexpr (V::width == 16) {
      Reg x = sum;
      __asm__("vdpbf16ps {%2%{1to16%}, %1, %0|%0, %1, DWORD PTR %2%{1to16%}}" : "+v"(x) : "v"((Reg)b), "m"(*a));
      return x;
    }
#endif
    return dot(sum, all(a), b);
  }
  /// The pair at `a` in every lane.
  [[gnu::always_inline]] static Words all(const PairWord* a) { return Words{} + std::uint32_t(*a); }

 private:
  [[gnu::always_inline]] static Reg flush(Reg x) {
    using Ints = typename V::Ints;
    const Words bits = V::words(x);
    const Words normal = (Words)((Ints)(bits & 0x7fffffffu) > 0x007fffff);
    return V::floats(bits & (normal | 0x80000000u));
  }
  [[gnu::always_inline]] static Reg upper(Words pairs) { return flush(V::floats(pairs & 0xffff0000u)); }
  [[gnu::always_inline]] static Reg lower(Words pairs) { return flush(V::floats(pairs << 16)); }
};

/// Makes pairs of numbers, on the vector type `V`.
template <class V>
struct PairMaker {
  using Reg = typename V::Reg;      ///< W numbers
  using Words = typename V::Words;  ///< W pairs

  /// The pairs of two registers of numbers, which are rounded.
  [[gnu::always_inline]] static Words pairs(Reg lower, Reg upper) {
    using Write = typename heed::Bf16::template Writer<V>;
    return Write::rounded(lower) | (Write::rounded(upper) << 16);
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
