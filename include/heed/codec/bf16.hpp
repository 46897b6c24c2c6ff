/// \file
/// Rows stored as bfloat16: the upper half of a binary32.
#pragma once

#include <heed/codec/element.hpp>
#include <heed/math.hpp>

namespace heed::inline HEED_ABI {

/// Codec with 2 bytes per number: 8 bits of exponent, 8 bits of precision. Finite numbers that would round to infinity
/// (magnitudes from 3.396e38 on) are stored as +-3.389e38.
struct Bf16 : ElementCodec<Bf16, std::uint16_t> {
  static constexpr const char* name = "bf16";

  [[nodiscard]] static constexpr float to_float(std::uint16_t bits) noexcept {
    return detail::bits_as<float>(std::uint32_t(bits) << 16);
  }
  /// Rounds to nearest even whatever the processor's rounding mode, finite numbers to finite ones. A NaN stays a (quiet) NaN.
  [[nodiscard]] static constexpr std::uint16_t from_float(float x) noexcept {
    const auto bits = detail::bits_as<std::uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return std::uint16_t((bits >> 16) | 0x40u);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool overflows = (rounded & 0x7fffu) == 0x7f80u && (bits & 0x7fffffffu) < 0x7f800000u;
    return std::uint16_t(rounded - std::uint32_t(overflows));
  }

  static constexpr int per_word = 2;
  template <class V>
  [[gnu::always_inline]] static typename V::Reg load(const std::byte* from) {
    return V::load_bf16(from);
  }
  template <class V>
  [[gnu::always_inline]] static typename V::Reg from_word(typename V::Reg word, int half) {
    return half == 0 ? V::bf16_first(word) : V::bf16_second(word);
  }
};

}  // namespace heed::inline HEED_ABI
