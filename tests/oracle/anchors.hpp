/// \file
/// AnSAN, the anchor-based self-attention of AnLLM: a segment ends in an anchor, which stands for it afterwards.
///
///     segment(i) = anchors strictly before i
///     visible(i, j) = j <= i and (segment(j) = segment(i) or (anchor(j) and not anchor(i)))
///
/// An anchor as a query sees its own segment only. `anchor_sees_anchors` is the older rule, in which it sees the earlier
/// anchors too.
#pragma once

#include "oracle/marks.hpp"

namespace oracle {

struct Anchors {
  Marks anchor = no_marks();
  bool anchor_sees_anchors = false;

  [[nodiscard]] Int segment(Int token) const {
    Int before = 0;
    for (Int i = 0; i < token; ++i) before += anchor(i) ? 1 : 0;
    return before;
  }
  [[nodiscard]] bool visible(Int query, Int key) const {
    if (key > query) return false;
    if (segment(key) == segment(query)) return true;
    return anchor(key) && (anchor_sees_anchors || !anchor(query));
  }
  /// The last anchor before `next`, -1 if there is none.
  [[nodiscard]] Int last_anchor(Int next) const {
    Int last = next - 1;
    while (last >= 0 && !anchor(last)) --last;
    return last;
  }
  /// A segment goes right after the step in which its anchor was the input.
  [[nodiscard]] bool keep(Int key, Int next) const { return anchor(key) || key > last_anchor(next); }
  /// What is stored after `count` tokens, whatever was stored before.
  [[nodiscard]] Tokens kept(Int count) const {
    return where(range(0, count), [&](Int key) { return keep(key, count); });
  }

  [[nodiscard]] Visible mask() const {
    return [*this](Int query, Int key) { return visible(query, key); };
  }
  [[nodiscard]] Trace trace(Int tokens) const {
    return oracle::trace(tokens, mask(), [this](Int key, Int next) { return keep(key, next); });
  }
};

}  // namespace oracle
