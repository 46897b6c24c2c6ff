/// \file
/// Which of a chunk's 256 keys a query sees, as bits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// 256 bits, one per key of a chunk.
struct KeyBits {
  std::array<std::uint64_t, chunk_keys / 64> word{};

  [[nodiscard]] bool test(Index k) const noexcept { return (word[std::size_t(k / 64)] >> (k % 64)) & 1u; }

  /// The bits [0, count).
  [[nodiscard]] static KeyBits first(Index count) noexcept {
    KeyBits bits;
    for (Index w = 0; w < chunk_keys / 64; ++w) {
      const Index n = std::clamp<Index>(count - 64 * w, 0, 64);
      bits.word[std::size_t(w)] = n == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
    }
    return bits;
  }

  [[nodiscard]] bool any() const noexcept { return (word[0] | word[1] | word[2] | word[3]) != 0; }

  /// First position at or after `from` whose bit is `value`, or `end`.
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
    Index end = chunk_keys;
    while (!test(end - 1)) --end;
    return {begin, end};
  }

  friend KeyBits operator&(KeyBits a, const KeyBits& b) noexcept {
    for (std::size_t w = 0; w < a.word.size(); ++w) a.word[w] &= b.word[w];
    return a;
  }
  friend KeyBits operator|(KeyBits a, const KeyBits& b) noexcept {
    for (std::size_t w = 0; w < a.word.size(); ++w) a.word[w] |= b.word[w];
    return a;
  }
  friend bool operator==(const KeyBits&, const KeyBits&) = default;
};
static_assert(chunk_keys == 256);

}  // namespace heed::inline HEED_ABI
