/// \file
/// How what one query sees leads to what the next query sees.
#pragma once

#include <algorithm>

#include <heed/retention/any_rule.hpp>
#include <heed/retention/landmark_mask.hpp>

namespace heed::inline HEED_ABI::detail {

/// The relation between landmark numbers, which never change, and a list of landmarks from which some may have been
/// dropped.
struct LandmarkNumbers {
  Index initial = 0;  ///< landmarks of the list that are initial: its first ones
  Index dropped = 0;  ///< landmarks after the initial ones that have left the list

  /// Index in the list of landmark number `number`.
  [[nodiscard]] Index index(Index number) const noexcept { return number <= initial ? number : number - dropped; }
  /// Number of initial landmarks that a query sees, unless it is blind.
  [[nodiscard]] Index initial_seen(const Reach& reach) const noexcept { return std::min(initial, reach.end_landmark); }
  /// Number of the first landmark, after the initial ones, that a query sees.
  [[nodiscard]] Index first_seen(const Reach& reach) const noexcept { return std::max(reach.first_landmark, initial); }
  /// Number of other landmarks that a query sees, unless it is blind.
  [[nodiscard]] Index landmarks_seen(const Reach& reach) const noexcept {
    return std::max<Index>(0, reach.end_landmark - first_seen(reach));
  }
  /// Number of far keys that a query sees.
  [[nodiscard]] Index far_seen(const Reach& reach) const noexcept {
    return reach.blind ? 0 : initial_seen(reach) + landmarks_seen(reach);
  }

  /// What the query after the one at `position` sees; `reach` is what the one at `position` sees. The list has `size`
  /// landmarks, up to position `position`; at(i) is the position of landmark i of the list.
  template <class At>
  [[nodiscard]] Reach next(const AnyRule& rule, const Reach& reach, Index position, Index size,
                           const At& at) const noexcept {
    const Index landmarks = landmarks_seen(reach);
    const Recall recall = rule.recall({.next = position + 1,
                                       .begin = reach.begin,
                                       .seen = initial_seen(reach) + landmarks + position + 1 - reach.begin,
                                       .landmarks = landmarks,
                                       .most_landmarks = reach.most_landmarks,
                                       .last_landmark = size == 0 ? -1 : at(size - 1)});
    Reach next = reach;
    next.blind = false;
    next.begin = std::clamp(recall.begin, reach.begin, position + 1);
    while (index(next.end_landmark) < size && at(index(next.end_landmark)) < next.begin) ++next.end_landmark;
    if (recall.forget) next.first_landmark = std::max(next.first_landmark, reach.end_landmark);
    if (landmarks_seen(next) > recall.landmarks) next.first_landmark = next.end_landmark - recall.landmarks;
    if (rule.has_history()) next.most_landmarks = std::max(next.most_landmarks, landmarks_seen(next));
    return next;
  }
};

}  // namespace heed::inline HEED_ABI::detail
