/// \file
/// Nothing is forgotten: the causal mask, and the absence of a mask.
#pragma once

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// Every key at or before the query: visible(i, j) = j <= i.
struct Causal {
  [[nodiscard]] constexpr bool visible(Index query, Index key) const noexcept { return key <= query; }

  [[nodiscard]] constexpr Coverage coverage(Interval queries, Interval keys) const noexcept {
    if (keys.begin > queries.end - 1) return Coverage::none;
    return keys.end - 1 <= queries.begin ? Coverage::full : Coverage::partial;
  }

  [[nodiscard]] constexpr bool keep(Index, Index) const noexcept { return true; }
};

/// Every key, later ones included: encoders and cross-attention.
struct Unmasked {
  [[nodiscard]] constexpr bool visible(Index, Index) const noexcept { return true; }
  [[nodiscard]] constexpr Coverage coverage(Interval, Interval) const noexcept { return Coverage::full; }
  [[nodiscard]] constexpr bool keep(Index, Index) const noexcept { return true; }
};

}  // namespace heed::inline HEED_ABI
