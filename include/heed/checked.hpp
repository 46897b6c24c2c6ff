/// \file
/// Arithmetic on the numbers a caller gives: a size that does not fit into 64 bits must never become a small one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// 2^63 - 1, the value of every Count that does not fit into 64 bits. So no total wraps around to a small number.
inline constexpr Index count_limit = std::numeric_limits<Index>::max();

/// A number of things, at least 0. A sum or product that overflows becomes count_limit, and so does a negative number.
/// Nothing real has count_limit elements. So a size that overflowed never equals a real size, and is refused.
class Count {
 public:
  /// `value` things; count_limit for a negative value.
  constexpr Count(Index value) noexcept
      : value_(value < 0 ? count_limit : value) {}  // NOLINT(google-explicit-constructor)

  /// The number, or count_limit.
  [[nodiscard]] constexpr Index value() const noexcept { return value_; }
  /// false if the count overflowed.
  [[nodiscard]] constexpr bool fits() const noexcept { return value_ < count_limit; }

  /// Sum and product; count_limit if they do not fit into 64 bits.
  /// \{
  friend constexpr Count operator+(Count a, Count b) noexcept {
    return a.value_ > count_limit - b.value_ ? count_limit : a.value_ + b.value_;
  }
  // By division: for __builtin_mul_overflow clang calls a function that libgcc lacks on 32-bit targets.
  friend constexpr Count operator*(Count a, Count b) noexcept {
    return b.value_ != 0 && a.value_ > count_limit / b.value_ ? count_limit : a.value_ * b.value_;
  }
  /// \}
  /// Rounded up to a multiple of `multiple`, which is at least 1.
  friend constexpr Count round_up(Count n, Index multiple) noexcept {
    const Index over = n.value_ % multiple;
    return !n.fits() || over == 0 ? n : n + (multiple - over);
  }
  /// For messages.
  [[nodiscard]] std::string text() const { return fits() ? std::to_string(value_) : "2^63 or more"; }

 private:
  Index value_;
};

namespace detail {

// Limits beyond any model and any memory. They are small enough to multiply sizes before comparing them.
inline constexpr Index most_tokens = Index{1} << 48;  // also of positions
inline constexpr Index most_undo = Index{1} << 20;
inline constexpr Index most_layers = Index{1} << 16;
inline constexpr Index most_heads = Index{1} << 16;        // of a stream
inline constexpr Index most_query_heads = Index{1} << 24;  // FPBA has one per channel
inline constexpr Index most_width = Index{1} << 24;        // of a row
inline constexpr Index most_workers = Index{1} << 16;
inline constexpr Index most_numbers = Index{1} << 56;  // floats of one array

/// The most tokens of a cache whose option max_tokens is this; 0 says that there is no limit.
[[nodiscard]] constexpr Index token_limit(Index max_tokens) noexcept {
  return max_tokens > 0 ? max_tokens : most_tokens;
}

/// true if `numbers` equals `wanted` and `wanted` did not overflow.
[[nodiscard]] constexpr bool has_size(std::size_t numbers, Count wanted) noexcept {
  return wanted.fits() && std::uint64_t(numbers) == std::uint64_t(wanted.value());
}

/// position + distance, which sticks at the ends of Index.
[[nodiscard]] constexpr Index moved_position(Index position, Index distance) noexcept {
  constexpr Index least = std::numeric_limits<Index>::min();
  if (distance >= 0) return position > count_limit - distance ? count_limit : position + distance;
  return position < least - distance ? least : position + distance;
}

/// to - from, which sticks at the ends of Index.
[[nodiscard]] constexpr Index distance(Index from, Index to) noexcept {
  constexpr Index least = std::numeric_limits<Index>::min();
  if (from >= 0) return to < least + from ? least : to - from;
  return to > count_limit + from ? count_limit : to - from;
}

/// 0 <= query - key < window, for any positions.
[[nodiscard]] constexpr bool in_window(Index query, Index key, Index window) noexcept {
  return key <= query && window > 0 && std::uint64_t(query) - std::uint64_t(key) < std::uint64_t(window);
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI
