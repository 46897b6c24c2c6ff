/// \file
/// Whether the parts of a token index fit together: what comes from a file may not.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/token_state.hpp>
#include <heed/retention/landmark_mask.hpp>
#include <heed/status.hpp>

namespace heed::inline HEED_ABI::detail {

/// invalid_argument naming a number that does not fit.
[[nodiscard]] inline Status check_tokens(const TokenState& s, Index num_ids, std::span<const FarToken> far,
                                         std::span<const Reach> reach) {
  const auto bad = [](const char* what, Index number) {
    return fail(StatusCode::invalid_argument, "snapshot: ", what, " is ", number);
  };
  constexpr Index most = Index{1} << 48;
  if (s.seen < 0 || s.seen > most) return bad("seen", s.seen);
  if (s.near_begin < 0 || s.near_begin > s.seen) return bad("near_begin", s.near_begin);
  if (num_ids != s.seen - s.near_begin) return bad("number of ids", num_ids);
  if (s.held < 0 || s.held > Index(far.size())) return bad("held", s.held);
  if (s.initial < 0 || s.initial > Index(far.size())) return bad("initial", s.initial);
  if (s.dropped < 0 || s.dropped > s.seen) return bad("dropped", s.dropped);
  if (s.floor < 0 || s.floor > s.seen) return bad("floor", s.floor);
  if (s.last_evicted < -1 || s.last_evicted >= s.seen) return bad("last_evicted", s.last_evicted);
  if (s.run_begin < 0 || s.run_begin > s.near_begin) return bad("run_begin", s.run_begin);
  Index initial = 0, before = -1;
  for (Index i = 0; i < Index(far.size()); ++i) {
    const FarToken& token = far[std::size_t(i)];
    const bool in_place = i < s.held ? token.position < s.near_begin : token.position >= s.near_begin;
    if (token.position <= before || token.position >= s.seen || !in_place) return bad("position", token.position);
    if (token.role != Role::landmark && token.role != Role::initial) return bad("role", Index(token.role));
    initial += token.role == Role::initial;
    if (token.role == Role::initial && initial != i + 1) return bad("role", Index(token.role));
    before = token.position;
  }
  if (s.initial != initial) return bad("initial", s.initial);
  if (reach.empty() || s.reach_first < 0 || s.reach_first + Index(reach.size()) - 1 != s.seen) {
    return bad("reach_first", s.reach_first);
  }
  for (Index i = 0; i < Index(reach.size()); ++i) {
    const Reach& r = reach[std::size_t(i)];
    const bool ordered = i == 0 || (r.begin >= reach[std::size_t(i - 1)].begin &&
                                    r.end_landmark >= reach[std::size_t(i - 1)].end_landmark &&
                                    r.first_landmark >= reach[std::size_t(i - 1)].first_landmark);
    if (!ordered || r.begin < s.near_begin || r.begin > s.reach_first + i) {
      return bad("begin", r.begin);
    }
    const Index end = r.end_landmark <= s.initial ? r.end_landmark : r.end_landmark - s.dropped;
    if (r.end_landmark < 0 || end < 0 || end > Index(far.size())) return bad("end_landmark", r.end_landmark);
    if (end > 0 && far[std::size_t(end - 1)].position >= r.begin) return bad("end_landmark", r.end_landmark);
    if (r.first_landmark < 0 || r.first_landmark > std::max(r.end_landmark, s.initial)) {
      return bad("first_landmark", r.first_landmark);
    }
    if (r.first_landmark > s.initial && r.first_landmark < s.initial + s.dropped) {
      return bad("first_landmark", r.first_landmark);
    }
    if (r.most_landmarks < 0 || r.most_landmarks > s.seen) return bad("most_landmarks", r.most_landmarks);
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
