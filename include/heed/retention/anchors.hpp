/// \file
/// AnSAN, the anchor-based self-attention of AnLLM (arXiv 2402.07616). An anchor is the last token of a segment. Later
/// tokens see the anchor in place of the segment.
#pragma once

#include <heed/concepts.hpp>
#include <heed/retention/token_set.hpp>

namespace heed::inline HEED_ABI {

/// An anchor is a token whose id is in `ids`. With seg(i) the number of anchors at positions below i:
///
///     visible(i, j) = j <= i and (seg(j) = seg(i) or (anchor(j) and not anchor(i)))
///
/// As a query an anchor sees only its own segment, because it sums that segment up. A segment is evicted right after
/// the step in which its anchor is the input. Positions are absolute. A Retention (concepts.hpp).
struct Anchors {
  TokenSet ids;                      ///< anchors; at least one id
  bool anchor_sees_anchors = false;  ///< an anchor as a query also sees earlier anchors: an older file of AnLLM's code

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "anchors";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = false;
  [[nodiscard]] Status validate() const { return ids.validate("ids"); }
  [[nodiscard]] bool needs_ids() const noexcept { return true; }
  [[nodiscard]] bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] Role role(Index, std::int32_t id) const noexcept {
    return ids.contains(id) ? Role::landmark : Role::plain;
  }
  [[nodiscard]] bool sees_landmarks(Index, std::int32_t id) const noexcept {
    return anchor_sees_anchors || !ids.contains(id);
  }
  [[nodiscard]] Recall recall(const History& h) const noexcept { return {.begin = h.last_landmark + 1}; }
  [[nodiscard]] Index rollback_floor(Index, Index begin) const noexcept { return begin; }
  template <class Field>
  void describe(Field&& field) const {
    field("ids", ids);
    field("anchor_sees_anchors", Index(anchor_sees_anchors));
  }
  /// \}
};

}  // namespace heed::inline HEED_ABI
