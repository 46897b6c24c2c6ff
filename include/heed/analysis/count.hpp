/// \file
/// Counts of elements, bytes, parameters and FLOPs in 64 bits.
#pragma once

#include <limits>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::analysis {

/// What a count becomes that does not fit into 64 bits, so that no total can wrap around to a small number.
inline constexpr Index count_limit = std::numeric_limits<Index>::max();

/// A number of things, at least 0, whose sums and products stick at count_limit (2^63 - 1) instead of overflowing.
class Count {
 public:
  constexpr Count(Index value) noexcept : value_(value) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] constexpr Index value() const noexcept { return value_; }

  friend constexpr Count operator+(Count a, Count b) noexcept {
    Index sum = 0;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? count_limit : sum;
  }
  friend constexpr Count operator*(Count a, Count b) noexcept {
    Index product = 0;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? count_limit : product;
  }

 private:
  Index value_;
};

/// `count` rounded to its first `digits` decimal digits, half to even: round_significant(287834112, 3) is 288000000,
/// what a paper prints as 2.88e8. `count` is at least 0, `digits` 1 to 18.
[[nodiscard]] constexpr Index round_significant(Index count, int digits) noexcept {
  Index limit = 1, unit = 1;
  for (int i = 0; i < digits; ++i) limit *= 10;
  while (count / unit >= limit) unit *= 10;
  const Index kept = count / unit, rest = count % unit;
  const bool up = rest > unit - rest || (rest == unit - rest && unit > 1 && kept % 2 != 0);
  return (Count(kept + (up ? 1 : 0)) * unit).value();
}

/// part / whole, and 0 for whole 0: 0.0625 is what MFA-KR keeps of MHA in the MFA paper.
[[nodiscard]] constexpr double ratio(Index part, Index whole) noexcept {
  return whole == 0 ? 0.0 : double(part) / double(whole);
}

/// 1 - part / whole, what papers call the KV cache saved: 0.875 is 87.5 %.
[[nodiscard]] constexpr double saved(Index part, Index whole) noexcept { return 1.0 - ratio(part, whole); }

}  // namespace heed::inline HEED_ABI::analysis
