/// \file
/// Which tokens of a sequence a cache holds, and how that changes.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/token_record.hpp>
#include <heed/cache/token_removal.hpp>

namespace heed::inline HEED_ABI {

/// When commit() evicts what no later query can see.
enum class Eviction : std::uint8_t {
  now,
  later,  ///< with the next commit: until then truncate() can go back to where the step began
};

/// The bookkeeping of one layer group, without a byte of a row.
///
/// plan() appends tokens tentatively and asks the rule what each of them sees; commit() keeps them and evicts. Rows are
/// moved by the caller, whom commit(), truncate() and remove() tell what to move.
class TokenIndex : public TokenRemoval {
 public:
  TokenIndex() = default;
  TokenIndex(AnyRule rule, Positions positions, Index undo_tokens)
      : TokenRemoval(std::move(rule), positions, undo_tokens) {}

  /// Memory for an empty index, or out_of_memory.
  [[nodiscard]] Status prepare(const MemoryResource& memory) {
    Status status = reach_.reserve_back(memory, 2);
    if (status.ok() && reach_.empty()) reach_.push_back({});
    return status;
  }
  /// Memory for `tokens` more near tokens, in steps of at most `step` tokens, or out_of_memory.
  [[nodiscard]] Status reserve(const MemoryResource& memory, Index tokens, Index step) {
    Status status = ids_.reserve_exactly(memory, tokens);
    if (status.ok()) status = reach_.reserve_exactly(memory, 2 * (step + undo_ + 1));
    if (status.ok() && staged()) status = stage_.reserve_exactly(memory, step);
    if (status.ok()) status = rotary_.reserve_exactly(memory, step);
    return status;
  }
  /// Gives back what a long step left, if there is memory to move the rest to. What stays is enough for `recent` near tokens,
  /// `landmarks` landmarks, those of the near run included, and steps of `step` tokens.
  void shrink(const MemoryResource& memory, Index recent, Index landmarks, Index step) noexcept {
    ids_.shrink(memory, recent);
    far_.shrink(memory, landmarks);
    holes_.shrink(memory);
    reach_.shrink(memory, step + undo_ + 2);
    stage_.shrink(memory, step);
    rotary_.shrink(memory, step);
  }
  /// Everything of `other`, or out_of_memory. Neither has a plan.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const TokenIndex& other) {
    TokenIndex made(other.rule_, other.positions_, other.undo_);
    Status status = made.ids_.copy_from(memory, other.ids_);
    if (status.ok()) status = made.far_.copy_from(memory, other.far_);
    if (status.ok()) status = made.reach_.copy_from(memory, other.reach_);
    if (status.ok()) status = made.holes_.copy_from(memory, other.holes_);
    if (!status.ok()) return status;
    made.state_ = other.state_;
    *this = std::move(made);
    return {};
  }

  // --- a step ------------------------------------------------------------------------------------------------------

  /// Appends `count` tokens tentatively; `id(i)` is the id of the i-th. out_of_memory changes nothing. The memory of
  /// before is kept until settle().
  template <class Id>
  [[nodiscard]] Status plan(const MemoryResource& memory, Index count, const Id& id) {
    Status status = ids_.try_back(memory, count);
    if (status.ok()) status = reach_.try_back(memory, count);
    if (status.ok() && staged()) status = stage_.try_back(memory, count);
    if (status.ok()) status = rotary_.try_back(memory, count);
    // Only now: a count that no memory holds must not be counted up to.
    if (status.ok()) status = far_.try_back(memory, landmarks_of(count, id));
    if (!status.ok()) {
      revert();
      return status;
    }
    committed_far_ = far_.size();
    committed_initial_ = state_.initial;
    for (; planned_ < count; ++planned_) {
      const Index position = seen() + planned_;
      const std::int32_t token = id(planned_);
      add_token(position, token);
      add_reach(position, token);
      if (staged() && (planned_ == 0 || !(reach_[reach_.size() - 2] == reach_[reach_.size() - 3]))) {
        stage_.push_back(planned_);
      }
    }
    for (Index i = 0; i < count; ++i) rotary_.push_back(rotary_position(i));
    return {};
  }
  /// The memory that plan() took is final.
  void settle() noexcept {
    ids_.settle();
    reach_.settle();
    stage_.settle();
    rotary_.settle();
    far_.settle();
  }
  /// Undoes plan(), before settle(): the memory is what it was.
  void undo_plan() noexcept {
    abort();
    revert();
  }
  /// Forgets the planned tokens. The memory stays for the next ones.
  void abort() noexcept {
    if (planned_ == 0) return;
    ids_.pop_back(planned_);
    far_.pop_back(far_.size() - committed_far_);
    reach_.pop_back(planned_);
    reach_.back().blind = false;
    state_.initial = committed_initial_;
    end_plan();
  }
  /// A plan of some of the planned tokens.
  struct Replan {
    Index far_tokens = 0;    ///< in the list
    bool same_roles = true;  ///< tokens are to the rule what they were
  };
  /// Before the planned tokens `accepted` alone are planned again, with these ids: memory for it, or out_of_memory.
  [[nodiscard]] Status prepare_replan(const MemoryResource& memory, std::span<const Index> accepted,
                                      std::span<const std::int32_t> ids, Replan* replan) {
    *replan = {.far_tokens = committed_far_};
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const Role role = rule_.role(seen() + Index(i), ids[i]);
      replan->far_tokens += role != Role::plain;
      replan->same_roles &= role == rule_.role(seen() + accepted[i], ids[i]);
    }
    return far_.reserve_back(memory, std::max<Index>(0, replan->far_tokens - far_.size()));
  }
  /// Far slots there must be for commit().
  [[nodiscard]] Index held_after_commit() const noexcept {
    const Reach& kept = released(seen() + planned_);
    return far_index(kept.end_landmark) - dropped_by(kept);
  }
  /// Whether commit() moves rows within the far slots.
  [[nodiscard]] bool commit_moves_far() const noexcept { return dropped_by(released(seen() + planned_)) > 0; }
  /// Keeps the planned tokens and evicts. Tells `rows` in order: drop(slot, count, end): far slots from slot + count to
  /// `end` move down by `count`; promote(position, slot): a near row moves to a far slot; advance(begin, end): near rows
  /// outside go.
  template <class Rows>
  void commit(Rows&& rows, Eviction eviction) noexcept {
    const Index undo = undo_;
    if (eviction == Eviction::later) undo_ = std::max(undo_, planned_);
    state_.seen += planned_;
    end_plan();
    release(rows);
    undo_ = undo;
  }

  // --- going back --------------------------------------------------------------------------------------------------

  /// Before truncate(): memory for it, and where the near run will begin.
  [[nodiscard]] Status prepare_truncate(const MemoryResource& memory, Index tokens, Index* near_begin) {
    const Index reach = reach_at(tokens).begin, end = std::min(state_.near_begin, tokens);
    Index begin = end, distant = state_.held;
    while (distant > 0 && far_[distant - 1].position >= tokens) --distant;
    for (; distant > 0 && begin > reach && far_[distant - 1].position == begin - 1; --distant) --begin;
    *near_begin = begin;
    return ids_.reserve_front(memory, end - begin);
  }
  /// Keeps the first `tokens` tokens, at least rollback_floor() or none. With fewer, which must be all that are held, what
  /// is gone stays gone. Tells `rows`: demote(slot, position): a far row that is recent again moves to the near run;
  /// advance(begin, end).
  template <class Rows>
  void truncate(Index tokens, Rows&& rows) noexcept {
    if (tokens == seen()) return;
    if (tokens == 0) {
      reset();
      rows.advance(0, 0);
      return;
    }
    const Reach reach = reach_at(tokens);
    if (state_.first_removed >= tokens) state_.first_removed = -1;
    if (state_.first_removed < 0 && tokens < rollback_floor()) state_.first_removed = tokens;
    while (!far_.empty() && far_.back().position >= tokens) {
      state_.initial -= far_.back().role == Role::initial;
      far_.pop_back(1);
    }
    state_.held = std::min(state_.held, far_.size());
    // A landmark that is recent again was copied out of the near run, of which nothing else can be missing.
    Index begin = std::min(state_.near_begin, tokens);
    ids_.pop_back(std::min(ids_.size(), seen() - tokens));
    holes_.drop_from(tokens);
    while (state_.held > 0 && begin > reach.begin && far_[state_.held - 1].position == begin - 1) {
      const FarToken& token = far_[--state_.held];
      rows.demote(state_.held, token.position);
      ids_.push_front(token.id);
      --begin;
      if (gathers_) far_.pop_back(1);
    }
    state_.near_begin = begin;
    rows.advance(begin, tokens);
    state_.seen = tokens;
    if (tokens < state_.reach_first) {
      reach_.pop_back(reach_.size() - 1);
      reach_[0] = reach;
      state_.reach_first = tokens;
    } else {
      reach_.pop_back(reach_.size() - 1 - (tokens - state_.reach_first));
      reach_.back().blind = false;
    }
    note_evicted();
  }

  void reset() noexcept {
    ids_.pop_back(ids_.size());
    far_.pop_back(far_.size());
    reach_.pop_back(reach_.size() - 1);
    reach_[0] = {};
    holes_.clear();
    state_ = {};
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// What a snapshot says, besides far tokens and ids. There is no plan.
  [[nodiscard]] TokenRecord record() const noexcept {
    const Reach& reach = reach_[0];
    return {.seen = seen(),
            .near_begin = near_begin(),
            .floor = state_.floor,
            .first_removed = state_.first_removed,
            .reach_first = state_.reach_first,
            .begin = reach.begin,
            .first_landmark = reach.first_landmark - state_.dropped,
            .most_landmarks = reach.most_landmarks};
  }
  /// Makes an empty index the one of a snapshot: `far` are the far tokens, their roles not yet known, `ids` those of the
  /// near ones, `holes` removed ones among these. invalid_argument for what no sequence of calls leads to, or out_of_memory;
  /// the index is then useless.
  [[nodiscard]] Status restore(const MemoryResource& memory, const TokenRecord& record,
                               std::span<const FarToken> distant, std::span<const std::int32_t> ids,
                               std::span<const Interval> holes) {
    Status status = detail::check_record(record, rule_);
    if (status.ok()) status = check_holes(record, distant, holes);
    if (status.ok() && Index(ids.size()) != record.seen - record.near_begin) {
      status = detail::bad_snapshot("number of ids", Index(ids.size()));
    }
    if (status.ok()) status = ids_.reserve_back(memory, Index(ids.size()));
    if (status.ok()) status = reach_.reserve_back(memory, record.seen - record.reach_first);
    if (!status.ok()) return status;
    Index landmarks = Index(distant.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      landmarks += rule_.role(record.near_begin + Index(i), ids[i]) != Role::plain;
    }
    status = far_.reserve_back(memory, landmarks);
    if (status.ok()) status = holes_.reserve(memory, Index(holes.size()));
    if (!status.ok()) return status;

    state_ = {.near_begin = record.near_begin,
              .held = Index(distant.size()),
              .reach_first = record.reach_first,
              .floor = record.floor,
              .first_removed = record.first_removed};
    for (const FarToken& token : distant) {
      const Index before = far_.empty() ? -1 : far_.back().position;
      if (token.position <= before || token.position >= record.near_begin) {
        return detail::bad_snapshot("position", token.position);
      }
      // Under a rule that keeps everything, what lies before a removed token counts as a landmark.
      const Role role = rule_.role(token.position, token.id);
      if (gathers_ ? token.position == record.near_begin - 1 : role == Role::plain) {
        return detail::bad_snapshot("position of a landmark", token.position);
      }
      add_landmark({token.position, token.id, role == Role::plain ? Role::landmark : role});
    }
    state_.seen = record.near_begin;
    for (; seen() < record.reach_first; ++state_.seen) add_token(seen(), ids[std::size_t(seen() - record.near_begin)]);
    if (status = start_reach(record); !status.ok()) return status;
    for (; seen() < record.seen; ++state_.seen) {
      const std::int32_t id = ids[std::size_t(seen() - record.near_begin)];
      add_token(seen(), id);
      add_reach(seen(), id);
    }
    // The reaches are those of a time when nothing was removed.
    for (const Interval& hole : holes) holes_.add(hole);
    remove_landmarks(holes, [](Index, Index) {});
    for (Index i = 0; i < reach_.size() && !holes.empty(); ++i) {
      reach_[i].end_landmark = landmarks_before(reach_[i].begin);
    }
    note_evicted();
    // Whatever truncate() may be asked to go back to must still be here. Later lengths see later tokens.
    const Index least = rollback_floor();
    if (least > 0 && reach_at(least).begin <= state_.last_evicted) return detail::bad_snapshot("floor", record.floor);
    return {};
  }

 private:
  void revert() noexcept {
    ids_.revert();
    reach_.revert();
    stage_.revert();
    rotary_.revert();
    far_.revert();
  }
  /// Landmarks among `count` tokens after those seen.
  template <class Id>
  [[nodiscard]] Index landmarks_of(Index count, const Id& id) const noexcept {
    Index landmarks = 0;
    for (Index i = 0; i < count; ++i) landmarks += rule_.role(seen() + i, id(i)) != Role::plain;
    return landmarks;
  }

  /// A token joins the near run, and the landmarks if it is one. There is room.
  void add_token(Index position, std::int32_t id) noexcept {
    ids_.push_back(id);
    const Role role = rule_.role(position, id);
    if (role != Role::plain) add_landmark({position, id, role});
  }
  void add_landmark(const FarToken& token) noexcept {
    far_.push_back(token);
    state_.initial += token.role == Role::initial;
  }
  /// The token becomes a query, and there is a next one.
  void add_reach(Index position, std::int32_t id) noexcept {
    reach_.back().blind = !rule_.sees_landmarks(position, id);
    reach_.push_back(next_reach(reach_.back(), position));
  }

  /// The reach that a snapshot begins with. All tokens before its query are here.
  [[nodiscard]] Status start_reach(const TokenRecord& record) noexcept {
    Index initial = 0;
    while (initial < far_.size() && far_[initial].role == Role::initial) ++initial;
    if (initial != state_.initial) return detail::bad_snapshot("number of initial tokens", state_.initial);
    Reach& reach = reach_[0];
    reach = {.begin = record.begin,
             .first_landmark = record.first_landmark,
             .end_landmark = landmarks_before(record.begin),
             .most_landmarks = record.most_landmarks};
    if (reach.first_landmark > reach.end_landmark) return detail::bad_snapshot("first_landmark", reach.first_landmark);
    if (rule_.has_history() && numbers().landmarks_seen(reach) > reach.most_landmarks) {
      return detail::bad_snapshot("most_landmarks", reach.most_landmarks);
    }
    return {};
  }

  /// The query whose reach decides what is held after `tokens` tokens.
  [[nodiscard]] Index released_query(Index tokens) const noexcept {
    const Index query = tokens - undo_ - (rule_.evicts_before_step() ? 1 : 0);
    return std::max(query, state_.reach_first);
  }
  [[nodiscard]] const Reach& released(Index tokens) const noexcept {
    return reach_[released_query(tokens) - state_.reach_first];
  }
  /// Landmarks of the list that a reach no longer needs.
  [[nodiscard]] Index dropped_by(const Reach& reach) const noexcept {
    return std::max<Index>(0, reach.first_landmark - state_.initial - state_.dropped);
  }

  void end_plan() noexcept {
    planned_ = 0;
    stage_.pop_back(stage_.size());
    rotary_.pop_back(rotary_.size());
  }

  template <class Rows>
  void release(Rows& rows) noexcept {
    const Index released_now = released_query(seen());
    const Reach reach = released(seen());
    // The first query that saw just this: from there on nothing was lost.
    if (!same_keys(reach, reach_[0])) {
      const bool late = rule_.evicts_before_step();
      Index query = released_now;
      while (query > state_.reach_first && same_keys(reach_[query - 1 - state_.reach_first], reach)) --query;
      if (rule_.has_history()) state_.floor = query + (late ? 1 : 0);
    }
    if (const Index dropped = dropped_by(reach); dropped > 0) {
      const Index stored = std::min(dropped, std::max<Index>(0, state_.held - state_.initial));
      if (stored > 0) rows.drop(state_.initial, stored, state_.held);
      far_.erase(state_.initial, dropped);
      state_.held -= stored;
      state_.dropped += dropped;
    }
    for (; state_.held < far_.size() && far_[state_.held].position < reach.begin; ++state_.held) {
      rows.promote(far_[state_.held].position, state_.held);
    }
    if (reach.begin > state_.near_begin) {
      ids_.pop_front(reach.begin - state_.near_begin);
      holes_.drop_before(reach.begin);
      state_.near_begin = reach.begin;
      rows.advance(reach.begin, seen());
    }
    note_evicted();
    reach_.pop_front(released_now - state_.reach_first);
    state_.reach_first = released_now;
  }
  [[nodiscard]] static bool same_keys(const Reach& a, const Reach& b) noexcept {
    return a.begin == b.begin && a.first_landmark == b.first_landmark;
  }

  /// What a snapshot says of removed tokens.
  [[nodiscard]] Status check_holes(const TokenRecord& r, std::span<const FarToken> distant,
                                   std::span<const Interval> holes) const {
    Index before = r.near_begin - 1;
    for (const Interval& hole : holes) {
      const bool refused = gathers_ || rule_.has_history() || r.first_removed < 0 || r.first_removed > hole.begin;
      if (refused || hole.begin <= before || hole.end <= hole.begin || hole.end > r.seen) {
        return detail::bad_snapshot("hole", hole.begin);
      }
      before = hole.end;
    }
    if (!gathers_) return {};
    if (r.near_begin != r.begin) return detail::bad_snapshot("near_begin", r.near_begin);
    Index first = 0;  // that is missing
    while (first < Index(distant.size()) && distant[std::size_t(first)].position == first) ++first;
    if (r.first_removed != (r.near_begin == 0 ? -1 : first)) {
      return detail::bad_snapshot("first_removed", r.first_removed);
    }
    return {};
  }
};

}  // namespace heed::inline HEED_ABI
