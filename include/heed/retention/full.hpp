/// \file
/// Masks that forget nothing: causal, and none at all.
#pragma once

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// Every key at or before the query: visible(i, j) = j <= i. As a cache's rule: nothing is evicted. An AttentionMask
/// and a Retention (concepts.hpp).
struct Causal {
  /// What AttentionMask asks for.
  /// \{
  [[nodiscard]] constexpr bool visible(Index query, Index key) const noexcept { return key <= query; }

  [[nodiscard]] constexpr Coverage coverage(Interval queries, Interval keys) const noexcept {
    if (keys.begin > queries.end - 1) return Coverage::none;
    return keys.end - 1 <= queries.begin ? Coverage::full : Coverage::partial;
  }
  /// \}

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "full";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = true;
  [[nodiscard]] Status validate() const { return {}; }
  [[nodiscard]] constexpr bool needs_ids() const noexcept { return false; }
  [[nodiscard]] constexpr bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] constexpr Role role(Index, std::int32_t) const noexcept { return Role::plain; }
  [[nodiscard]] constexpr bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] constexpr Recall recall(const History&) const noexcept { return {}; }
  [[nodiscard]] constexpr Index rollback_floor(Index, Index) const noexcept { return 0; }
  [[nodiscard]] constexpr MostKept most_kept() const noexcept { return {.everything = true}; }
  template <class Field>
  void describe(Field&&) const {}
  /// \}
};

/// Every key, later ones included: visible(i, j) = true. For encoders and cross-attention. An AttentionMask.
struct Unmasked {
  /// What AttentionMask asks for.
  /// \{
  [[nodiscard]] constexpr bool visible(Index, Index) const noexcept { return true; }
  [[nodiscard]] constexpr Coverage coverage(Interval, Interval) const noexcept { return Coverage::full; }
  /// \}
};

}  // namespace heed::inline HEED_ABI
