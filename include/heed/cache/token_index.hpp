/// \file
/// Which tokens of a sequence a cache keeps, and how that changes.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/token_restoration.hpp>

namespace heed::inline HEED_ABI {

/// When commit() evicts what no later query can see.
enum class Eviction : std::uint8_t {
  now,    ///< with this commit
  later,  ///< with the next commit: until then truncate() can go back to where the step began
};

namespace detail {

/// The bookkeeping of one layer group, without a byte of a row.
///
/// plan() appends tokens tentatively and asks the rule what each of them sees; commit() keeps them and evicts. The
/// caller moves the rows: commit(), truncate() and remove() call members of its `rows` that say what to move.
class TokenIndex : public TokenRestoration {
 public:
  TokenIndex() = default;
  /// An index without tokens. prepare() must follow.
  TokenIndex(AnyRule rule, Positions positions, Index undo_tokens)
      : TokenRestoration(std::move(rule), positions, undo_tokens) {}

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
  /// Gives back memory that a long step needed. What stays is enough for `recent` near tokens, `landmarks` landmarks,
  /// those of the near run included, and steps of `step` tokens. Does nothing if there is no memory to move the rest
  /// to.
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

  /// Appends `count` tokens tentatively; `id(i)` is the id of token i. out_of_memory changes nothing. The old memory is
  /// kept until settle().
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
  /// Makes the memory that plan() took final.
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
  /// Drops the planned tokens. The memory stays for the next ones.
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
    bool same_roles = true;  ///< every token has the role that it had in the first plan
  };
  /// Makes room for a new plan of the planned tokens `accepted` only, with these ids, or out_of_memory.
  [[nodiscard]] Status prepare_replan(const MemoryResource& memory, std::span<const Index> accepted,
                                      std::span<const std::int32_t> ids, Replan* replan) {
    *replan = {.far_tokens = committed_far_};
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const Role kind = role(seen() + Index(i), ids[i]);
      replan->far_tokens += kind != Role::plain;
      replan->same_roles &= kind == role(seen() + accepted[i], ids[i]);
    }
    return far_.reserve_back(memory, std::max<Index>(0, replan->far_tokens - far_.size()));
  }
  /// Number of far slots after commit().
  [[nodiscard]] Index far_slots_after_commit() const noexcept {
    const Reach& kept = released(seen() + planned_);
    return far_index(kept.end_landmark) - dropped_by(kept);
  }
  /// true if commit() moves rows within the far slots.
  [[nodiscard]] bool commit_moves_far() const noexcept { return dropped_by(released(seen() + planned_)) > 0; }
  /// Keeps the planned tokens and evicts. Takes time for these and for the tokens that leave the near run. If landmarks
  /// are dropped, it also takes time for all landmarks. Calls these members of `rows`, in this order:
  ///
  ///     drop(slot, count, end)            far rows from slot + count to `end` move down by `count`
  ///     promote(position, slot, count)    near rows move to far slots
  ///     advance(begin, end)               near rows outside [begin, end) are no longer needed
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

  /// Makes room for truncate(), and says where the near run will begin; or out_of_memory.
  [[nodiscard]] Status prepare_truncate(const MemoryResource& memory, Index tokens, Index* near_begin) {
    *near_begin = recent_after(tokens, reach_at(tokens).begin).begin;
    return ids_.reserve_front(memory, std::min(state_.near_begin, tokens) - *near_begin);
  }
  /// Keeps the first `tokens` tokens: 0, or at least rollback_floor(). Fewer are allowed if no later token is kept;
  /// tokens that are not kept are then lost for good. Calls these members of `rows`, in this order:
  ///
  ///     demote(slot, position, count)     far rows that are recent again move to the near run
  ///     advance(begin, end)               near rows outside [begin, end) are no longer needed
  template <class Rows>
  void truncate(Index tokens, Rows&& rows) noexcept {
    if (tokens == seen()) return;
    if (tokens == 0) {
      reset();
      rows.advance(0, 0);
      return;
    }
    const Reach reach = reach_at(tokens);
    // A landmark that is recent again was moved out of the near run. Nothing else can be missing from it.
    const Recent recent = recent_after(tokens, reach.begin);
    if (state_.first_removed >= tokens) state_.first_removed = -1;
    // After resume_at() a query may lack tokens. They are lost for good, also if truncate() comes back to that query.
    if (state_.first_removed < 0 && reach.begin > recent_begin(tokens)) state_.first_removed = tokens;
    while (!far_.empty() && far_.back().position >= tokens) {
      state_.initial -= far_.back().role == Role::initial;
      far_.pop_back(1);
    }
    state_.far_slots = std::min(state_.far_slots, far_.size());
    ids_.pop_back(std::min(ids_.size(), seen() - tokens));
    holes_.drop_from(tokens);
    rows.demote(recent.far_slots, recent.begin, state_.far_slots - recent.far_slots);
    for (Index i = state_.far_slots; i > recent.far_slots; --i) ids_.push_front(far_[i - 1].id);
    state_.far_slots = recent.far_slots;
    if (keeps_all_) far_.pop_back(far_.size() - state_.far_slots);
    state_.near_begin = recent.begin;
    rows.advance(recent.begin, tokens);
    state_.seen = tokens;
    if (tokens < state_.reach_first) {
      reach_.pop_back(reach_.size() - 1);
      reach_[0] = reach;
      state_.reach_first = tokens;
    } else {
      reach_.pop_back(reach_.size() - 1 - (tokens - state_.reach_first));
      reach_.back().blind = false;
    }
    // All tokens between last_evicted and the old near run are kept. So it changes only if it is cut off.
    if (state_.last_evicted >= recent.begin) note_evicted();
  }

  /// Forgets all tokens. Keeps the memory.
  void reset() noexcept {
    ids_.pop_back(ids_.size());
    far_.pop_back(far_.size());
    reach_.pop_back(reach_.size() - 1);
    reach_[0] = {};
    holes_.clear();
    state_ = {};
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
    for (Index i = 0; i < count; ++i) landmarks += role(seen() + i, id(i)) != Role::plain;
    return landmarks;
  }

  /// The query whose reach decides what is kept after `tokens` tokens.
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
    // `query` is the first query with this reach. No token was evicted after it, so truncation to any later query is
    // possible.
    if (!same_keys(reach, reach_[0])) {
      const bool late = rule_.evicts_before_step();
      Index query = released_now;
      while (query > state_.reach_first && same_keys(reach_[query - 1 - state_.reach_first], reach)) --query;
      if (rule_.has_history()) state_.floor = query + (late ? 1 : 0);
    }
    if (const Index dropped = dropped_by(reach); dropped > 0) {
      const Index stored = std::min(dropped, std::max<Index>(0, state_.far_slots - state_.initial));
      if (stored > 0) rows.drop(state_.initial, stored, state_.far_slots);
      state_.last_evicted = std::max(state_.last_evicted, far_[state_.initial + dropped - 1].position);
      far_.erase(state_.initial, dropped);
      state_.far_slots -= stored;
      state_.dropped += dropped;
    }
    for (; state_.far_slots < far_.size() && far_[state_.far_slots].position < reach.begin; ++state_.far_slots) {
      rows.promote(far_[state_.far_slots].position, state_.far_slots, 1);
    }
    if (const Index before = state_.near_begin; reach.begin > before) {
      ids_.pop_front(reach.begin - before);
      holes_.drop_before(reach.begin);
      state_.near_begin = reach.begin;
      rows.advance(reach.begin, seen());
      note_evicted(before);
    }
    reach_.pop_front(released_now - state_.reach_first);
    state_.reach_first = released_now;
  }
  [[nodiscard]] static bool same_keys(const Reach& a, const Reach& b) noexcept {
    return a.begin == b.begin && a.first_landmark == b.first_landmark;
  }
};

}  // namespace detail

}  // namespace heed::inline HEED_ABI
