/// \file
/// Rows stored as IEEE binary16.
#pragma once

#include <heed/codec/element.hpp>
#include <heed/floats.hpp>
#include <heed/simd/registers.hpp>

namespace heed::inline HEED_ABI {

// GCC 12's AVX-512 intrinsics read a variable that they leave uninitialised on purpose, with a mask that ignores it
// (GCC bug 105593). -Wall reports each one that is inlined. What a user calls is not between push and pop.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// Codec with 2 bytes per number: 5 bits of exponent, 11 bits of precision. Finite numbers beyond +-65504 are stored as
/// +-65504: stored as infinity, one such key would make every query that sees it NaN.
struct F16 : ElementCodec<F16, std::uint16_t> {
  static constexpr const char* name = "f16";  ///< in snapshots and reports

  /// The number that these bits stand for, exactly.
  [[nodiscard]] static constexpr float to_float(std::uint16_t bits) noexcept {
    const std::uint32_t sign = std::uint32_t(bits & 0x8000u) << 16;
    const std::uint32_t magnitude = bits & 0x7fffu;
    // No float operand here is subnormal: with DAZ set, the processor would take such numbers for zeros.
    const auto tiny = detail::bits_as<std::uint32_t>(float(std::int32_t(magnitude)) * 0x1p-24f);
    const std::uint32_t special = magnitude >= 0x7c00u ? 0x38000000u : 0u;
    return detail::bits_as<float>((magnitude < 0x400u ? tiny : (magnitude << 13) + 0x38000000u + special) | sign);
  }
  /// Rounds to nearest even whatever the processor's rounding mode, finite numbers to finite ones. A NaN stays a (quiet) NaN.
  [[nodiscard]] static constexpr std::uint16_t from_float(float x) noexcept {
    const auto bits = detail::bits_as<std::uint32_t>(x);
    const auto sign = std::uint16_t((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return std::uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x477ff000u) return std::uint16_t(sign | (magnitude < 0x7f800000u ? 0x7bffu : 0x7c00u));
    if (magnitude < 0x38800000u) {  // below 2^-14: multiples of 2^-24
      // In integers: the float adder would round as the host says.
      const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u, places = 126 - (magnitude >> 23);
      if (places > 24) return sign;  // less than half of 2^-24
      const std::uint32_t tie = (std::uint32_t{1} << (places - 1)) - 1;
      return std::uint16_t(sign | ((significand + tie + ((significand >> places) & 1u)) >> places));
    }
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return std::uint16_t(sign | ((rounded - 0x38000000u) >> 13));
  }

  /// How a vector type reads it (detail::RowReader).
  template <class V>
  struct Reader {
    /// What detail::RowReader asks for, and the vectors of V that it uses.
    /// \{
    using Reg = typename V::Reg;
    using Words = typename V::Words;
    using Halves = typename V::Halves;
    static constexpr int group_words = 1;
    static constexpr int group_numbers = 2;
    [[gnu::always_inline]] static Reg number(const Reg* group, int i) {
      return narrow(i == 0 ? V::words(*group) & 0xffffu : V::words(*group) >> 16);
    }
    [[gnu::always_inline]] static Reg load(const std::byte* row, Index first) {
      return widen(V::load_halves(row + offset_bytes(first)));
    }
    /// \}

    /// f16 bits as floats, exactly.
    [[gnu::always_inline]] static Reg widen(Halves h) {
#if defined(__AVX512F__)
      if constexpr (V::width == 16) return _mm512_cvtph_ps((__m256i)h);
#endif
#if defined(__F16C__)
      if constexpr (V::width == 8) return _mm256_cvtph_ps((__m128i)h);
#endif
      return widen_words(V::widen(h));
    }

   private:
    [[gnu::always_inline]] static Reg narrow(Words low16) {
#if defined(__AVX512F__)
      if constexpr (V::width == 16) return _mm512_cvtph_ps((__m256i)V::narrow(low16));
#endif
#if defined(__F16C__)
      if constexpr (V::width == 8) return _mm256_cvtph_ps((__m128i)V::narrow(low16));
#endif
      return widen_words(low16);
    }

    // f16 bits in the low half of each word, as floats. The fields of a normal number are shifted and its bias is
    // changed. A subnormal number is an integer times 2^-24. No float operand is subnormal, so DAZ and FTZ change
    // nothing.
    [[gnu::always_inline]] static Reg widen_words(Words h) {
      using Types = detail::VectorTypes<V::width>;
      const Words sign = (h & 0x8000u) << 16;
      const Words magnitude = h & 0x7fffu;
      const auto tiny =
          (Words)(__builtin_convertvector((typename Types::Ints)magnitude, typename Types::Floats) * 0x1p-24f);
      const Words is_small = (Words)((typename Types::Ints)magnitude < 0x400);
      const Words special = (Words)((typename Types::Ints)magnitude >= 0x7c00) & 0x38000000u;
      const Words normal = (magnitude << 13) + 0x38000000u + special;
      return V::floats((is_small & tiny) | (~is_small & normal) | sign);
    }
  };

  /// How a vector type stores it: from_float() of every number.
  template <class V>
  struct Writer {
    /// As in V.
    /// \{
    using Reg = typename V::Reg;
    using Words = typename V::Words;
    using Halves = typename V::Halves;
    using Ints = typename V::Ints;
    /// \}
    /// Writes V::width numbers to `to`, which may have any alignment.
    [[gnu::always_inline]] static void store(std::byte* to, Reg numbers) {
      V::store_halves(to, narrow(V::words(numbers)));
    }

   private:
    static constexpr int largest_finite = 0x477fe000;  // 65504, as a float's bits
    static constexpr int first_beyond = 0x477ff000;    // rounds to more
    static constexpr int infinite = 0x7f800000;

    [[gnu::always_inline]] static Halves narrow(Words bits) {
#if defined(__F16C__) || defined(__AVX512F__)
      // The instructions round to nearest even whatever the rounding mode, and know subnormal results under FTZ. They
      // would make infinities of finite numbers.
      if constexpr (V::width >= 8) {
        const Words magnitude = bits & 0x7fffffffu;
        const Words beyond = (Words)((Ints)magnitude >= first_beyond) & (Words)((Ints)magnitude < infinite);
        [[maybe_unused]] const Words finite =
            (beyond & ((bits & 0x80000000u) | std::uint32_t(largest_finite))) | (~beyond & bits);
#if defined(__AVX512F__)
        if constexpr (V::width == 16) return (Halves)_mm512_cvtps_ph((__m512)finite, _MM_FROUND_TO_NEAREST_INT);
#endif
#if defined(__F16C__)
        if constexpr (V::width == 8) return (Halves)_mm256_cvtps_ph((__m256)finite, _MM_FROUND_TO_NEAREST_INT);
#endif
      }
#endif
      return narrow_words(bits);
    }

    [[gnu::always_inline]] static Halves narrow_words(Words bits) {
      const Words sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
      const Words is_small = (Words)((Ints)magnitude < 0x38800000);  // below 2^-14
      const Words is_beyond = (Words)((Ints)magnitude >= first_beyond);
      const Words is_infinite = (Words)((Ints)magnitude >= infinite), is_nan = (Words)((Ints)magnitude > infinite);
      const Words normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
      const Words beyond = 0x7bffu + (is_infinite & 1u) + (is_nan & (0x200u | ((magnitude >> 13) & 0x1ffu)));
      const Words finite = (is_small & subnormal(magnitude & is_small)) | (~is_small & normal);
      return V::narrow((is_beyond & beyond) | (~is_beyond & finite) | sign);
    }

    // Multiples of 2^-24 next to magnitudes below 2^-14. Truncation does not depend on the rounding mode, and the product and
    // the difference are exact. A float that DAZ takes for zero is one that rounds to zero.
    [[gnu::always_inline]] static Words subnormal(Words magnitude) {
      using Floats = typename detail::VectorTypes<V::width>::Floats;
      const Floats units = (Floats)magnitude * 0x1p24f;
      const Ints whole = __builtin_convertvector(units, Ints);
      const Floats rest = units - __builtin_convertvector(whole, Floats);
      const Ints up = (Ints)(rest > 0.5f) | ((Ints)(rest == 0.5f) & -(whole & 1));
      return (Words)(whole - up);
    }
  };
};

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic pop
#endif

}  // namespace heed::inline HEED_ABI
