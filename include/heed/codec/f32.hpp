/// \file
/// Rows stored as IEEE binary32.
#pragma once

#include <heed/codec/element.hpp>

namespace heed::inline HEED_ABI {

/// Codec with 4 bytes per number, lossless.
struct F32 : ElementCodec<F32, float> {
  static constexpr const char* name = "f32";  ///< in snapshots and reports

  /// A number is its own code.
  /// \{
  [[nodiscard]] static constexpr float to_float(float x) noexcept { return x; }
  [[nodiscard]] static constexpr float from_float(float x) noexcept { return x; }
  /// \}

  /// How a vector type reads it (detail::RowReader).
  template <class V>
  struct Reader {
    /// What detail::RowReader asks for.
    /// \{
    using Reg = typename V::Reg;
    static constexpr int group_words = 1;
    static constexpr int group_numbers = 1;
    [[gnu::always_inline]] static Reg number(const Reg* group, int) { return *group; }
    [[gnu::always_inline]] static Reg load(const std::byte* row, Index first) {
      return V::load_words(row + offset_bytes(first));
    }
    /// \}
  };
  /// How a vector type stores it.
  template <class V>
  struct Writer {
    /// Writes V::width numbers to `to`, which may have any alignment.
    [[gnu::always_inline]] static void store(std::byte* to, typename V::Reg numbers) {
      std::memcpy(to, &numbers, sizeof numbers);
    }
  };
};

}  // namespace heed::inline HEED_ABI
