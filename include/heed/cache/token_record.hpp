/// \file
/// The numbers of a token index that a snapshot stores.
#pragma once

#include <heed/checked.hpp>
#include <heed/retention/any_rule.hpp>
#include <heed/status.hpp>

namespace heed::inline HEED_ABI::detail {

/// The numbers of a token index that cannot be derived. The far tokens, the ids of the near tokens and the rule give
/// the rest. The rule gives the roles. Later reaches follow from the first one. The near run begins with the recent
/// tokens of the first one. A missing token was removed if it is a hole, and evicted otherwise.
///
///     0 <= begin <= reach_first <= seen
struct TokenRecord {
  Index seen = 0;            ///< tokens committed
  Index floor = 0;           ///< see TokenState
  Index first_removed = -1;  ///< see TokenState
  Index reach_first = 0;     ///< the first query whose reach is known
  Index begin = 0;           ///< where its recent tokens begin, and the near run
  Index first_landmark = 0;  ///< its first landmark, as an index in the list of those that are kept
  Index most_landmarks = 0;  ///< as in Reach
};


[[nodiscard]] inline Status bad_snapshot(const char* what, Index number) {
  return fail(StatusCode::invalid_argument, "snapshot: ", what, " is ", number);
}

/// invalid_argument naming a number that no index with this rule has.
[[nodiscard]] inline Status check_record(const TokenRecord& r, const AnyRule& rule) {
  if (r.seen < 0 || r.seen > most_tokens) return bad_snapshot("seen", r.seen);
  if (r.reach_first < 0 || r.reach_first > r.seen) return bad_snapshot("reach_first", r.reach_first);
  if (r.begin < 0 || r.begin > r.reach_first) return bad_snapshot("begin", r.begin);
  if (r.first_removed < -1 || r.first_removed > r.seen) return bad_snapshot("first_removed", r.first_removed);
  if (r.floor < 0 || r.floor > r.seen) return bad_snapshot("floor", r.floor);
  if (!rule.has_history()) {
    if (r.floor != 0) return bad_snapshot("floor", r.floor);
    if (r.first_landmark != 0) return bad_snapshot("first_landmark", r.first_landmark);
    if (r.most_landmarks != 0) return bad_snapshot("most_landmarks", r.most_landmarks);
    return {};
  }
  if (r.first_removed != -1) return bad_snapshot("first_removed", r.first_removed);
  // The floor is the first query with the keys of the query reach_first, so at most reach_first. A rule that evicts
  // before a step records one more.
  const Index late = rule.evicts_before_step() ? 1 : 0;
  if (r.floor < r.begin || r.floor > r.reach_first + late) return bad_snapshot("floor", r.floor);
  const Index floor = r.begin == 0 ? 0 : rule.rollback_floor(r.begin - 1, r.begin);
  if (r.floor != floor && (r.begin == 0 || floor > 0)) return bad_snapshot("floor", r.floor);
  if (r.first_landmark < 0) return bad_snapshot("first_landmark", r.first_landmark);
  if (r.most_landmarks < 0 || r.most_landmarks > r.reach_first) {
    return bad_snapshot("most_landmarks", r.most_landmarks);
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
