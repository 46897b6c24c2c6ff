/// \file
/// Rows stored as IEEE binary32.
#pragma once

#include <heed/codec/element.hpp>

namespace heed::inline HEED_ABI {

/// Codec with 4 bytes per number, lossless.
struct F32 : ElementCodec<F32, float> {
  static constexpr const char* name = "f32";

  [[nodiscard]] static constexpr float to_float(float x) noexcept { return x; }
  [[nodiscard]] static constexpr float from_float(float x) noexcept { return x; }

  // How a vector type `V` reads it: load() reads V::width numbers from memory; from_word() takes number i of every
  // 32-bit word of a register. per_word is the count of numbers in a word.
  static constexpr int per_word = 1;
  template <class V>
  [[gnu::always_inline]] static typename V::Reg load(const std::byte* from) {
    return V::load_words(from);
  }
  template <class V>
  [[gnu::always_inline]] static typename V::Reg from_word(typename V::Reg word, int) {
    return word;
  }
};

}  // namespace heed::inline HEED_ABI
