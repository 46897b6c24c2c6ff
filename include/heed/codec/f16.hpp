/// \file
/// Rows stored as IEEE binary16.
#pragma once

#include <heed/codec/element.hpp>
#include <heed/math.hpp>

namespace heed::inline HEED_ABI {

/// Codec with 2 bytes per number: 5 bits of exponent, 11 bits of precision. Finite numbers beyond +-65504 are stored as
/// +-65504: stored as infinity, one such key would make every query that sees it NaN.
struct F16 : ElementCodec<F16, std::uint16_t> {
  static constexpr const char* name = "f16";

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

  static constexpr int per_word = 2;
  template <class V>
  [[gnu::always_inline]] static typename V::Reg load(const std::byte* from) {
    return V::load_f16(from);
  }
  template <class V>
  [[gnu::always_inline]] static typename V::Reg from_word(typename V::Reg word, int half) {
    return half == 0 ? V::f16_first(word) : V::f16_second(word);
  }
};

}  // namespace heed::inline HEED_ABI
