/// \file
/// Which of a chunk's 256 keys a query sees, as bits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// 256 bits, one per key of a chunk.
struct KeyBits {
  std::array<std::uint64_t, chunk_keys / 64> word{};  ///< key k is bit k % 64 of word k / 64

  /// Bit `k`, 0 <= k < 256.
  [[nodiscard]] bool test(Index k) const noexcept { return (word[std::size_t(k / 64)] >> (k % 64)) & 1u; }

  /// Sets bits [keys.begin, keys.end) and no other. The parts of `keys` outside [0, 256) are ignored.
  [[nodiscard]] static KeyBits of(Interval keys) noexcept {
    const auto below = [](Index n) { return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1; };
    KeyBits bits;
    for (Index w = 0; w < chunk_keys / 64; ++w) {
      const Index begin = std::max<Index>(keys.begin - 64 * w, 0), end = std::max<Index>(keys.end - 64 * w, 0);
      bits.word[std::size_t(w)] = below(end) & ~below(begin);
    }
    return bits;
  }

  /// true if a bit is set.
  [[nodiscard]] bool any() const noexcept { return (word[0] | word[1] | word[2] | word[3]) != 0; }

  /// The first k in [from, end) whose bit is `value`, or `end` if there is none.
  [[nodiscard]] Index find(Index from, Index end, bool value) const noexcept {
    while (from < end) {
      const std::uint64_t w = value ? word[std::size_t(from / 64)] : ~word[std::size_t(from / 64)];
      const std::uint64_t rest = w >> (from % 64);
      if (rest != 0) return std::min(end, from + Index(std::countr_zero(rest)));
      from = (from / 64 + 1) * 64;
    }
    return end;
  }

  /// The smallest interval that holds every set bit; empty at 0 if none is set.
  [[nodiscard]] Interval hull() const noexcept {
    const Index begin = find(0, chunk_keys, true);
    if (begin == chunk_keys) return {};
    std::size_t last = word.size() - 1;
    while (word[last] == 0) --last;
    return {begin, Index(last) * 64 + Index(std::bit_width(word[last]))};
  }

  /// The bits that are set in both, or in one of them.
  /// \{
  friend KeyBits operator&(KeyBits a, const KeyBits& b) noexcept {
    for (std::size_t w = 0; w < a.word.size(); ++w) a.word[w] &= b.word[w];
    return a;
  }
  friend KeyBits operator|(KeyBits a, const KeyBits& b) noexcept {
    for (std::size_t w = 0; w < a.word.size(); ++w) a.word[w] |= b.word[w];
    return a;
  }
  /// \}
  /// The bits that are set here and not in `other`.
  [[nodiscard]] KeyBits without(const KeyBits& other) const noexcept {
    KeyBits bits = *this;
    for (std::size_t w = 0; w < word.size(); ++w) bits.word[w] &= ~other.word[w];
    return bits;
  }
  friend bool operator==(const KeyBits&, const KeyBits&) = default;
};
static_assert(chunk_keys == 256);

}  // namespace heed::inline HEED_ABI::detail
