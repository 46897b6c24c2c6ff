/// \file
/// The tokens of a layer group as lists: which are kept, and what each query of a step sees of them.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include <heed/cache/block_queue.hpp>
#include <heed/cache/hole_list.hpp>
#include <heed/cache/landmark_numbers.hpp>
#include <heed/cache/positions.hpp>
#include <heed/cache/sliding_array.hpp>
#include <heed/cache/token_state.hpp>
#include <heed/retention/full.hpp>
#include <heed/unique_number.hpp>

namespace heed::inline HEED_ABI::detail {

/// What can be asked of a TokenIndex without changing it. Logical positions count every token ever seen and are never
/// renumbered. What is kept lies in two places:
///
///     far    landmarks older than the recent tokens, in slots 0 ... far_slots()
///     near   the recent tokens, every position in [near_begin(), seen()), in slots of the same number
///
/// A recent token that was removed leaves a hole: its slot stays until the run has moved past it. Under a rule that keeps
/// everything the run never moves on. So tokens that are kept before a hole move to the far slots at once.
class TokenLists {
 public:
  /// The rule of the group.
  [[nodiscard]] const AnyRule& rule() const noexcept { return rule_; }
  /// true if queries of one step may see different lists, which no mask can express.
  [[nodiscard]] bool staged() const noexcept { return rule_.has_history() || positions_ == Positions::rank; }
  /// How keys are numbered.
  [[nodiscard]] Positions positions() const noexcept { return positions_; }
  /// Name of the rule; null if it never forgets.
  [[nodiscard]] const char* forgets_by() const noexcept { return keeps_all_ ? nullptr : rule_.name(); }

  /// The rule's, or 0 if nothing is ever forgotten.
  [[nodiscard]] std::uint64_t rule_fingerprint() const noexcept { return fingerprint_; }

  /// Identity of the list: no other list of the process has this number, whatever its address. It goes along when the list
  /// moves; a copy has a number of its own.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

  /// Committed tokens, evicted and removed ones included.
  [[nodiscard]] Index seen() const noexcept { return state_.seen; }
  /// Committed tokens that are kept, in far slots and in the near run.
  [[nodiscard]] Index kept() const noexcept { return state_.far_slots + holes_.left(state_.near_begin, state_.seen); }
  /// Committed tokens that are no longer kept, removed ones included.
  [[nodiscard]] Index evicted() const noexcept { return seen() - kept(); }
  /// Tokens of the open plan.
  [[nodiscard]] Index planned() const noexcept { return planned_; }
  /// Number of far slots.
  [[nodiscard]] Index far_slots() const noexcept { return state_.far_slots; }
  /// Position of the first slot of the near run.
  [[nodiscard]] Index near_begin() const noexcept { return state_.near_begin; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept {
    return ids_.allocated() + far_.allocated() + reach_.allocated() + stage_.allocated() + rotary_.allocated() +
           holes_.allocated();
  }

  /// Position of a key. Keys are the tokens that are kept and the planned ones: far ones first, then near ones.
  [[nodiscard]] Index position(Index key) const noexcept {
    return key < state_.far_slots ? far_[key].position : holes_.position(state_.near_begin, key - state_.far_slots);
  }
  /// Id of a key; no_token_id if it was given none.
  [[nodiscard]] std::int32_t token_id(Index key) const noexcept {
    return key < state_.far_slots ? far_[key].id : ids_[position(key) - state_.near_begin];
  }
  /// Id of planned token `i`.
  [[nodiscard]] std::int32_t planned_id(Index i) const noexcept { return ids_[seen() + i - state_.near_begin]; }
  /// The first token at or after `position` that is kept, or seen().
  [[nodiscard]] Index first_kept(Index position) const noexcept {
    const BlockSpan<FarToken> stored = far_.elements().first(state_.far_slots);
    const Index at = far_before(stored, position);
    if (at < stored.size()) return stored[at].position;
    position = std::max(position, state_.near_begin);
    const Interval hole = holes_.next(position);
    return std::min(seen(), hole.begin == position ? hole.end : position);
  }
  /// The latest token that is kept, or -1.
  [[nodiscard]] Index last_kept() const noexcept { return kept() == 0 ? -1 : position(kept() - 1); }
  /// Tokens at the start of the sequence before the first that was removed; all, if none was.
  [[nodiscard]] Index intact() const noexcept { return state_.first_removed < 0 ? seen() : state_.first_removed; }

  /// Slots are keys and holes: far slots first, then those of the near run.
  /// \{
  [[nodiscard]] Index slots() const noexcept { return state_.far_slots + state_.seen - state_.near_begin; }
  [[nodiscard]] Index slot_position(Index slot) const noexcept {
    return slot < state_.far_slots ? far_[slot].position : state_.near_begin + slot - state_.far_slots;
  }
  /// \}
  /// The first holes at or after a slot.
  [[nodiscard]] Interval next_hole(Index slot) const noexcept {
    const Index shift = state_.far_slots - state_.near_begin;
    const Interval hole = holes_.next(std::max(slot, state_.far_slots) - shift);
    return hole.begin == HoleList::none ? hole : Interval{hole.begin + shift, hole.end + shift};
  }

  /// The numbers of the index.
  [[nodiscard]] const TokenState& state() const noexcept { return state_; }
  /// Ids of the near run, planned tokens included.
  [[nodiscard]] const BlockQueue<std::int32_t>& near_ids() const noexcept { return ids_; }
  /// Landmarks that are kept or planned, also those in the near run; ascending by position.
  [[nodiscard]] BlockSpan<FarToken> far_tokens() const noexcept { return far_.elements(); }
  /// What queries see: the one at state().reach_first, every later one, and the next one.
  [[nodiscard]] std::span<const Reach> reaches() const noexcept { return reach_.span(); }
  /// Removed positions of the near run.
  [[nodiscard]] const HoleList& holes() const noexcept { return holes_; }

  /// The fewest tokens, besides 0, that truncate() can keep.
  [[nodiscard]] Index rollback_floor() const noexcept {
    if (rule_.has_history()) return state_.floor;  // even a compression that evicts nothing changes the landmark count
    if (state_.last_evicted < 0 || keeps_all_) return 0;
    return std::min(seen(), rule_.rollback_floor(state_.last_evicted, reach_[0].begin));
  }

  /// true if the caller removed tokens since the list was last empty. What follows differs from the whole text's.
  [[nodiscard]] bool removed() const noexcept { return state_.first_removed >= 0; }

  // --- what a plan sees --------------------------------------------------------------------------------------------

  /// Keys the last planned token sees, its own included.
  [[nodiscard]] Index keys_seen_by_last() const noexcept {
    const Reach& reach = query_reach(planned_ - 1);
    return far_seen(reach) + holes_.left(reach.begin, seen() + planned_);
  }
  /// Rotary position of the planned token `i`.
  [[nodiscard]] Index rotary_position(Index i) const noexcept {
    const Index position = seen() + i;
    if (positions_ == Positions::absolute) return position;
    const Reach& reach = query_reach(i);
    return far_seen(reach) + holes_.left(reach.begin, position);
  }

  /// The same of all planned tokens, in order.
  [[nodiscard]] std::span<const Index> rotary_positions() const noexcept { return rotary_.span(); }

  /// The mask of the committed tokens, or of the committed and planned ones.
  [[nodiscard]] LandmarkMask mask(bool with_plan) const noexcept {
    const Index num_far = with_plan || planned_ == 0 ? far_.size() : committed_far_;
    return {reach_.span(),    state_.reach_first, far_.elements().first(num_far),
            state_.far_slots, state_.near_begin,  fingerprint_};
  }
  /// Position of the earliest query all of whose keys are still kept. If the recent tokens begin at 0, every query can
  /// be answered: it is then the least Index.
  [[nodiscard]] Index first_query() const noexcept {
    return keeps_all_ || reach_[0].begin == 0 ? std::numeric_limits<Index>::min() : state_.reach_first;
  }

  // --- stages: lists of keys of a plan ------------------------------------------------------------------------------

  /// As StagedSource says of stages.
  /// \{
  [[nodiscard]] Index stages() const noexcept { return stage_.size(); }
  [[nodiscard]] Interval stage_queries(Index stage) const noexcept {
    return {stage_[stage], stage + 1 < stage_.size() ? stage_[stage + 1] : planned_};
  }
  [[nodiscard]] Index stage_size(Index stage) const noexcept {
    const Interval queries = stage_queries(stage);
    const Reach& reach = query_reach(queries.begin);
    return far_seen(reach) + holes_.left(reach.begin, seen() + queries.end);
  }
  /// \}
  /// Where key `key` of a stage lies: the far token of that number, or a near position.
  struct Place {
    bool is_far = false;  ///< true: a far token
    Index at = 0;         ///< number of the far token, or a position of the near run
    Index run = 0;        ///< keys that follow each other from here on, this one included
  };
  /// Where key `key` of a stage lies.
  [[nodiscard]] Place stage_place(Index stage, Index key) const noexcept {
    const Interval queries = stage_queries(stage);
    const Reach& reach = query_reach(queries.begin);
    const Index num_far = far_seen(reach);
    if (key >= num_far) {
      const Index number = key - num_far + holes_.left(state_.near_begin, reach.begin);
      const Index position = holes_.position(state_.near_begin, number);
      return {.is_far = false,
              .at = position,
              .run = std::min(seen() + queries.end, holes_.next(position).begin) - position};
    }
    const Index initial = std::min(state_.initial, reach.end_landmark);
    const Index at = key < initial ? key : far_index(first_seen(reach)) + key - initial;
    if (at >= state_.far_slots) return {.is_far = false, .at = far_[at].position, .run = 1};
    const Index listed = (key < initial ? initial : num_far) - key;
    return {.is_far = true, .at = at, .run = std::min(listed, state_.far_slots - at)};
  }
  /// The rotary position of a key of a stage.
  [[nodiscard]] Index stage_position(Index stage, Index key) const noexcept {
    if (positions_ == Positions::rank) return key;
    const Place place = stage_place(stage, key);
    return place.is_far ? far_[place.at].position : place.at;
  }

 protected:
  TokenLists() = default;
  /// An empty index. TokenIndex::prepare() allocates its memory.
  TokenLists(AnyRule rule, Positions positions, Index undo_tokens)
      : rule_(std::move(rule)), positions_(positions), undo_(undo_tokens), keeps_all_(rule_.most_kept().everything) {
    if (!keeps_all_) fingerprint_ = rule_.fingerprint();
  }

  /// What a token is to the rule. Every token is plain under a rule that keeps everything, because none becomes far.
  [[nodiscard]] Role role(Index position, std::int32_t id) const noexcept {
    return keeps_all_ ? Role::plain : rule_.role(position, id);
  }

  /// What planned token `planned` sees as a query.
  [[nodiscard]] const Reach& query_reach(Index planned) const noexcept {
    return reach_[seen() + planned - state_.reach_first];
  }
  /// How landmark numbers lead to indices of the list.
  [[nodiscard]] LandmarkNumbers numbers() const noexcept {
    return {.initial = state_.initial, .dropped = state_.dropped};
  }
  /// Index in the list of a landmark's number.
  [[nodiscard]] Index far_index(Index number) const noexcept { return numbers().index(number); }
  /// Number of the first landmark, after the initial ones, that a query sees.
  [[nodiscard]] Index first_seen(const Reach& reach) const noexcept { return numbers().first_seen(reach); }
  /// How many far keys a query sees.
  [[nodiscard]] Index far_seen(const Reach& reach) const noexcept { return numbers().far_seen(reach); }

  /// What the query after the one at `position` sees.
  [[nodiscard]] Reach next_reach(const Reach& reach, Index position) const noexcept {
    return numbers().next(rule_, reach, position, far_.size(), [this](Index i) { return far_[i].position; });
  }

  /// Position where the rule lets the recent tokens of the query at `tokens` begin, whether they are still kept or not.
  /// `tokens` itself for a rule with a history, because its recall() looks at more than positions.
  [[nodiscard]] Index recent_begin(Index tokens) const noexcept {
    if (rule_.has_history()) return tokens;
    const Index num_far = landmarks_before(tokens);
    const Index last = num_far == 0 ? -1 : far_[num_far - 1].position;
    return std::clamp<Index>(rule_.recall({.next = tokens, .last_landmark = last}).begin, 0, tokens);
  }

  /// What the query after the first `tokens` tokens sees. Not before rollback_floor().
  [[nodiscard]] Reach reach_at(Index tokens) const noexcept {
    if (tokens >= state_.reach_first) return reach_[tokens - state_.reach_first];
    Reach reach = reach_[0];
    reach.blind = false;
    if (rule_.has_history()) return reach;
    if (keeps_all_) {
      const Recent recent = recent_after(tokens, 0);
      reach.begin = recent.begin;
      reach.end_landmark = recent.far_slots;
      return reach;
    }
    // Without std::max a query could see recent tokens that are gone, after resume_at() went back further than the rule
    // lets truncate() go.
    reach.begin = std::max(recent_begin(tokens), std::min(state_.last_evicted + 1, tokens));
    reach.end_landmark = landmarks_before(reach.begin);
    return reach;
  }

  /// Landmarks of the list before `position`.
  [[nodiscard]] Index landmarks_before(Index position) const noexcept { return far_before(far_.elements(), position); }

  /// What is kept once only the first `tokens` tokens are left.
  struct Recent {
    Index begin = 0;      ///< of the near run
    Index far_slots = 0;  ///< far tokens before it
  };
  /// Far tokens right before the near run, from position `least` on, become near tokens again.
  [[nodiscard]] Recent recent_after(Index tokens, Index least) const noexcept {
    Recent recent{std::min(state_.near_begin, tokens), std::min(state_.far_slots, landmarks_before(tokens))};
    while (recent.far_slots > 0 && recent.begin > least && far_[recent.far_slots - 1].position == recent.begin - 1) {
      --recent.far_slots;
      --recent.begin;
    }
    return recent;
  }

  AnyRule rule_;                               ///< of the group
  Positions positions_ = Positions::absolute;  ///< how keys are numbered
  Index undo_ = 0;                             ///< tokens by which eviction is delayed
  bool keeps_all_ = true;                      ///< nothing is ever evicted, so what lies before a hole is far
  std::uint64_t fingerprint_ = 0;              ///< of the rule; 0 if nothing is ever evicted
  std::uint64_t number_ = unique_number();     ///< identity
  TokenState state_;                           ///< all numbers but those of a plan
  BlockQueue<std::int32_t> ids_;               ///< of the near run
  BlockQueue<FarToken> far_;   ///< every landmark that is kept, those of the near run included; ascending
  SlidingArray<Reach> reach_;  ///< of queries reach_first ... seen + planned, the next one included
  HoleList holes_;             ///< in the near run
  // Of a plan:
  Index planned_ = 0;            ///< tokens
  Index committed_far_ = 0;      ///< far_.size() before the plan
  Index committed_initial_ = 0;  ///< state_.initial before the plan
  SlidingArray<Index> stage_;    ///< first query of each stage
  SlidingArray<Index> rotary_;   ///< positions of the planned tokens
};

}  // namespace heed::inline HEED_ABI::detail
