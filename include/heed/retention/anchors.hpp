/// \file
/// AnSAN, the anchor-based self-attention of AnLLM (arXiv 2402.07616): an anchor ends its segment and stands for it.
#pragma once

#include <heed/concepts.hpp>
#include <heed/retention/token_set.hpp>

namespace heed::inline HEED_ABI {

/// With seg(i) = number of anchors strictly before i, and an anchor being a token whose id is in `ids`:
///
///     visible(i, j) = j <= i and (seg(j) = seg(i) or (anchor(j) and not anchor(i)))
///
/// An anchor as a query sees its own segment only: it sums that segment up. `anchor_sees_anchors` is the rule of an older
/// file of AnLLM's repository. A segment is evicted right after the step in which its anchor is the input.
/// Positions are absolute.
struct Anchors {
  TokenSet ids;
  bool anchor_sees_anchors = false;

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
};

}  // namespace heed::inline HEED_ABI
