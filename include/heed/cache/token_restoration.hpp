/// \file
/// A token index to and from the numbers of a snapshot.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/token_record.hpp>
#include <heed/cache/token_removal.hpp>

namespace heed::inline HEED_ABI::detail {

/// The part of a TokenIndex that is written to snapshots and made from them. The numbers of a snapshot are checked:
/// some sequence of calls must lead to them. All else is derived by asking the rule again.
class TokenRestoration : public TokenRemoval {
 public:
  /// What a snapshot stores, besides far tokens and ids. There must be no plan.
  [[nodiscard]] TokenRecord record() const noexcept {
    const Reach& reach = reach_[0];
    return {.seen = seen(),
            .floor = state_.floor,
            .first_removed = state_.first_removed,
            .reach_first = state_.reach_first,
            .begin = reach.begin,
            .first_landmark = reach.first_landmark - state_.dropped,
            .most_landmarks = reach.most_landmarks};
  }
  /// Fills an empty index from a snapshot. `distant` are the far tokens without their roles, `ids` the ids of the near
  /// tokens, `holes` the removed near tokens. invalid_argument for numbers that no sequence of calls leads to, or
  /// out_of_memory. After an error the index must not be used.
  [[nodiscard]] Status restore(const MemoryResource& memory, const TokenRecord& record,
                               std::span<const FarToken> distant, std::span<const std::int32_t> ids,
                               std::span<const Interval> holes) {
    Status status = check_record(record, rule_);
    if (status.ok()) status = check_holes(record, distant, holes);
    if (status.ok() && Index(ids.size()) != record.seen - record.begin) {
      status = bad_snapshot("number of ids", Index(ids.size()));
    }
    if (status.ok()) status = ids_.reserve_back(memory, Index(ids.size()));
    if (status.ok()) status = reach_.reserve_back(memory, record.seen - record.reach_first);
    if (!status.ok()) return status;
    Index landmarks = Index(distant.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (!is_id(ids[i])) return bad_snapshot("token id", ids[i]);
      landmarks += role(record.begin + Index(i), ids[i]) != Role::plain;
    }
    status = far_.reserve_back(memory, landmarks);
    if (status.ok()) status = holes_.reserve(memory, Index(holes.size()));
    if (!status.ok()) return status;

    state_ = {.near_begin = record.begin,
              .far_slots = Index(distant.size()),
              .reach_first = record.reach_first,
              .floor = record.floor,
              .first_removed = record.first_removed};
    for (const FarToken& token : distant) {
      const Index before = far_.empty() ? -1 : far_.back().position;
      if (token.position <= before || token.position >= record.begin) {
        return bad_snapshot("position", token.position);
      }
      if (!is_id(token.id)) return bad_snapshot("token id", token.id);
      // Under a rule that keeps everything, what lies before a removed token counts as a landmark.
      const Role kind = role(token.position, token.id);
      if (keeps_all_ ? token.position == record.begin - 1 : kind == Role::plain) {
        return bad_snapshot("position of a landmark", token.position);
      }
      add_landmark({token.position, token.id, kind == Role::plain ? Role::landmark : kind});
    }
    state_.seen = record.begin;
    for (; seen() < record.reach_first; ++state_.seen) add_token(seen(), ids[std::size_t(seen() - record.begin)]);
    if (status = start_reach(record); !status.ok()) return status;
    for (; seen() < record.seen; ++state_.seen) {
      const std::int32_t id = ids[std::size_t(seen() - record.begin)];
      add_token(seen(), id);
      add_reach(seen(), id);
    }
    // Up to here the reaches are those of a text without removed tokens.
    for (const Interval& hole : holes) holes_.add(hole);
    remove_landmarks(holes, [](Index, Index, Index) {});
    for (Index i = 0; i < reach_.size() && !holes.empty(); ++i) {
      reach_[i].end_landmark = landmarks_before(reach_[i].begin);
    }
    note_evicted();
    if (status = check_begin(record); !status.ok()) return status;
    // truncate() must find every token that the query at the rollback floor sees. Later queries see later tokens.
    const Index least = rollback_floor();
    if (least > 0 && reach_at(least).begin <= state_.last_evicted) return bad_snapshot("floor", record.floor);
    return {};
  }

 protected:
  TokenRestoration() = default;
  /// As TokenIndex.
  TokenRestoration(AnyRule rule, Positions positions, Index undo_tokens)
      : TokenRemoval(std::move(rule), positions, undo_tokens) {}

  /// A token joins the near run, and the landmarks if it is one. There is room.
  void add_token(Index position, std::int32_t id) noexcept {
    ids_.push_back(id);
    const Role kind = role(position, id);
    if (kind != Role::plain) add_landmark({position, id, kind});
  }
  /// A landmark joins the list. There is room.
  void add_landmark(const FarToken& token) noexcept {
    far_.push_back(token);
    state_.initial += token.role == Role::initial;
  }
  /// The token becomes a query, and there is a next one.
  void add_reach(Index position, std::int32_t id) noexcept {
    reach_.back().blind = !keeps_all_ && !rule_.sees_landmarks(position, id);
    reach_.push_back(next_reach(reach_.back(), position));
  }

 private:
  /// true for an id that begin() takes.
  [[nodiscard]] bool is_id(std::int32_t id) const noexcept {
    return id >= 0 || (id == no_token_id && !rule_.needs_ids());
  }
  /// Makes and checks the first reach. All tokens before its query have been added.
  [[nodiscard]] Status start_reach(const TokenRecord& record) noexcept {
    Index initial = 0;
    while (initial < far_.size() && far_[initial].role == Role::initial) ++initial;
    if (initial != state_.initial) return bad_snapshot("number of initial tokens", state_.initial);
    Reach& reach = reach_[0];
    reach = {.begin = record.begin,
             .first_landmark = record.first_landmark,
             .end_landmark = landmarks_before(record.begin),
             .most_landmarks = record.most_landmarks};
    // Landmarks that no query sees have left the list, so the first one that is seen is the first of the list.
    if (reach.first_landmark > std::min(reach.end_landmark, state_.initial)) {
      return bad_snapshot("first_landmark", reach.first_landmark);
    }
    if (!rule_.has_history()) return {};
    if (numbers().landmarks_seen(reach) > reach.most_landmarks) {
      return bad_snapshot("most_landmarks", reach.most_landmarks);
    }
    if (const Index landmarks = far_seen(reach); landmarks > rule_.most_kept().landmarks) {
      return bad_snapshot("number of landmarks", landmarks);
    }
    // From the floor on every query has the reach of the one before.
    const Index query = record.reach_first, first = record.floor - (rule_.evicts_before_step() ? 1 : 0);
    if (query > std::max<Index>(first, 0) && !(next_reach(reach, query - 1) == reach)) {
      return bad_snapshot("reach_first", query);
    }
    return {};
  }
  /// invalid_argument unless the rule lets recent tokens begin at r.begin, or later if the tokens before it were
  /// removed.
  [[nodiscard]] Status check_begin(const TokenRecord& r) const {
    // Initial tokens are never evicted.
    Index first = 0;
    while (first < r.begin && first < far_.size() && far_[first].position == first) ++first;
    const bool lost = first < r.begin && role(first, no_token_id) == Role::initial;
    if (lost && (r.first_removed < 0 || r.first_removed > first)) {
      return bad_snapshot("first_removed", r.first_removed);
    }
    if (rule_.has_history()) return {};
    const Index begin = recent_begin(r.reach_first);
    const bool gone = r.first_removed >= 0 && r.first_removed <= r.reach_first;
    if (r.begin == begin || (r.begin > begin && gone)) return {};
    return bad_snapshot("begin", r.begin);
  }
  /// invalid_argument unless tokens can have been removed at these positions.
  [[nodiscard]] Status check_holes(const TokenRecord& r, std::span<const FarToken> distant,
                                   std::span<const Interval> holes) const {
    Index before = r.begin - 1;
    for (const Interval& hole : holes) {
      const bool refused = keeps_all_ || rule_.has_history() || r.first_removed < 0 || r.first_removed > hole.begin;
      if (refused || hole.begin <= before || hole.end <= hole.begin || hole.end > r.seen) {
        return bad_snapshot("hole", hole.begin);
      }
      before = hole.end;
    }
    if (!keeps_all_) return {};
    Index first = 0;  // the first position that is not kept
    while (first < Index(distant.size()) && distant[std::size_t(first)].position == first) ++first;
    if (r.first_removed != (r.begin == 0 ? -1 : first)) {
      return bad_snapshot("first_removed", r.first_removed);
    }
    return {};
  }
};

}  // namespace heed::inline HEED_ABI::detail
