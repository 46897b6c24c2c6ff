/// \file
/// Counts of elements, bytes, parameters and FLOPs in 64 bits.
#pragma once

#include <algorithm>

#include <heed/checked.hpp>

namespace heed::inline HEED_ABI::analysis {

using heed::Count;
using heed::count_limit;

/// `count` rounded to its first `digits` decimal digits, half to even: round_significant(287834112, 3) is 288000000,
/// which a paper prints as 2.88e8. A negative count becomes 0; digits is clamped to 1 .. 18.
[[nodiscard]] constexpr Index round_significant(Index count, int digits) noexcept {
  count = std::max<Index>(count, 0);
  digits = std::clamp(digits, 1, 18);
  Index limit = 1, unit = 1;
  for (int i = 0; i < digits; ++i) limit *= 10;
  while (count / unit >= limit) unit *= 10;
  const Index kept = count / unit, rest = count % unit;
  const bool up = rest > unit - rest || (rest == unit - rest && unit > 1 && kept % 2 != 0);
  return (Count(kept + (up ? 1 : 0)) * unit).value();
}

/// part / whole; 0 if whole is 0. Of MHA's cache MFA-KR keeps 0.0625 in the MFA paper.
[[nodiscard]] constexpr double ratio(Index part, Index whole) noexcept {
  return whole == 0 ? 0.0 : double(part) / double(whole);
}

/// 1 - part / whole: the share of the KV cache that is saved, in the words of papers. 0.875 is 87.5 %.
[[nodiscard]] constexpr double saved(Index part, Index whole) noexcept { return 1.0 - ratio(part, whole); }

}  // namespace heed::inline HEED_ABI::analysis
