/// \file
/// Causal sliding window.
#pragma once

#include <algorithm>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// The last `window` keys, the query's own included: visible(i, j) = 0 <= i - j < window. llama.cpp's `n_swa` counts
/// the same way. An AttentionMask and a Retention (concepts.hpp).
struct SlidingWindow {
  Index window = 0;  ///< keys, at least 1

  /// What AttentionMask asks for.
  /// \{
  [[nodiscard]] constexpr bool visible(Index query, Index key) const noexcept {
    return detail::in_window(query, key, window);
  }

  [[nodiscard]] constexpr Coverage coverage(Interval queries, Interval keys) const noexcept {
    const Index first_query = queries.begin, last_query = queries.end - 1, last_key = keys.end - 1;
    const bool causal = last_key <= first_query;
    if (keys.begin > last_query || (causal && !visible(first_query, last_key))) return Coverage::none;
    return causal && visible(last_query, keys.begin) ? Coverage::full : Coverage::partial;
  }
  /// \}

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "window";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = true;
  [[nodiscard]] Status validate() const {
    if (window >= 1) return {};
    return fail(StatusCode::invalid_argument, "window is ", window, ", must be at least 1");
  }
  [[nodiscard]] constexpr bool needs_ids() const noexcept { return false; }
  [[nodiscard]] constexpr bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] constexpr Role role(Index, std::int32_t) const noexcept { return Role::plain; }
  [[nodiscard]] constexpr bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] constexpr Recall recall(const History& h) const noexcept {
    return {.begin = std::max<Index>(0, h.next - window + 1)};
  }
  [[nodiscard]] constexpr Index rollback_floor(Index evicted, Index) const noexcept {
    return detail::moved_position(evicted, window);
  }
  [[nodiscard]] constexpr MostKept most_kept() const noexcept {
    return {.recent = window, .landmarks = 0, .everything = keeps_everything()};
  }
  /// Whether no sequence is longer than the window.
  [[nodiscard]] constexpr bool keeps_everything() const noexcept { return window >= detail::most_tokens; }
  template <class Field>
  void describe(Field&& field) const {
    field("window", window);
  }
  /// \}
};

}  // namespace heed::inline HEED_ABI
