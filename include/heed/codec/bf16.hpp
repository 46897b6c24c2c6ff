/// \file
/// Rows stored as bfloat16: the upper half of a binary32.
#pragma once

#include <heed/codec/element.hpp>
#include <heed/floats.hpp>

namespace heed::inline HEED_ABI {

/// Codec with 2 bytes per number: 8 bits of exponent, 8 bits of precision. Finite numbers that would round to infinity
/// (magnitudes from 3.396e38 on) are stored as +-3.389e38.
struct Bf16 : ElementCodec<Bf16, std::uint16_t> {
  static constexpr const char* name = "bf16";  ///< in snapshots and reports

  /// The number that these bits stand for, exactly.
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

  /// How a vector type reads it (detail::RowReader).
  template <class V>
  struct Reader {
    /// What detail::RowReader asks for.
    /// \{
    using Reg = typename V::Reg;
    static constexpr int group_words = 1;
    static constexpr int group_numbers = 2;
    static constexpr bool two_by_shifts = true;  // number() of a word costs less than load() of a number
    [[gnu::always_inline]] static Reg number(const Reg* group, int i) {
      return V::floats(i == 0 ? V::words(*group) << 16 : V::words(*group) & 0xffff0000u);
    }
    [[gnu::always_inline]] static Reg load(const std::byte* row, Index first) {
      return V::floats(V::widen(V::load_halves(row + offset_bytes(first))) << 16);
    }
    /// \}
  };
  /// How a vector type stores it: from_float() of every number.
  template <class V>
  struct Writer {
    using Words = typename V::Words;  ///< as in V
    using Ints = typename V::Ints;    ///< as in V
    /// from_float() of every number, in the lower half of its word.
    [[gnu::always_inline]] static Words rounded(typename V::Reg numbers) {
      const Words bits = V::words(numbers), magnitude = bits & 0x7fffffffu;
      const Words is_nan = (Words)((Ints)magnitude > 0x7f800000), is_finite = (Words)((Ints)magnitude < 0x7f800000);
      const Words to_nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
      const Words overflows = (Words)((to_nearest & 0x7fffu) == 0x7f80u) & is_finite;  // all bits: -1
      return (is_nan & ((bits >> 16) | 0x40u)) | (~is_nan & (to_nearest + overflows));
    }
    /// Writes V::width numbers to `to`, which may have any alignment.
    [[gnu::always_inline]] static void store(std::byte* to, typename V::Reg numbers) {
      V::store_halves(to, V::narrow(rounded(numbers)));
    }
  };
};

}  // namespace heed::inline HEED_ABI
