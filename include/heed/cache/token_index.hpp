/// \file
/// Which tokens of a sequence a cache holds, and what each query of a step sees of them.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/sliding_array.hpp>
#include <heed/retention/any_rule.hpp>
#include <heed/retention/landmark_mask.hpp>

namespace heed::inline HEED_ABI {

/// How keys are placed on the axis of rotary positions.
enum class Positions : std::uint8_t {
  absolute,  ///< by logical index: every token ever seen counts
  rank,      ///< by index in the list of keys that a query sees: needs keys that are rotated when they are read
};

/// The bookkeeping of one layer group, without a byte of a row. Logical positions count every token ever seen and are
/// never renumbered. What is held lies in two places:
///
///     far    landmarks older than the recent tokens, in slots 0 ... held()
///     near   the recent tokens, every position in [near_begin(), seen()), in slots of the same number
///
/// plan() appends tokens tentatively and asks the rule what each of them sees; commit() keeps them and evicts. Rows are
/// moved by the caller, whom commit(), truncate() and compact() tell what to move.
class TokenIndex {
 public:
  TokenIndex() = default;
  TokenIndex(AnyRule rule, Positions positions, Index undo_tokens)
      : rule_(std::move(rule)), positions_(positions), undo_(undo_tokens) {}

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
    return status;
  }
  /// Everything of `other`, or out_of_memory. Neither has a plan.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const TokenIndex& other) {
    TokenIndex made(other.rule_, other.positions_, other.undo_);
    Status status = made.ids_.copy_from(memory, other.ids_);
    if (status.ok()) status = made.far_.copy_from(memory, other.far_);
    if (status.ok()) status = made.reach_.copy_from(memory, other.reach_);
    if (!status.ok()) return status;
    made.state_ = other.state_;
    *this = std::move(made);
    return {};
  }

  [[nodiscard]] const AnyRule& rule() const noexcept { return rule_; }
  /// Whether queries of one step may see different lists that no mask describes.
  [[nodiscard]] bool staged() const noexcept { return rule_.has_history() || positions_ == Positions::rank; }

  [[nodiscard]] Index seen() const noexcept { return state_.seen; }
  [[nodiscard]] Index kept() const noexcept { return state_.held + state_.seen - state_.near_begin; }
  [[nodiscard]] Index evicted() const noexcept { return seen() - kept(); }
  [[nodiscard]] Index planned() const noexcept { return planned_; }
  [[nodiscard]] Index held() const noexcept { return state_.held; }
  [[nodiscard]] Index near_begin() const noexcept { return state_.near_begin; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept {
    return ids_.allocated() + far_.allocated() + reach_.allocated() + stage_.allocated();
  }

  /// Key i of what is held, planned tokens included: far ones, then near ones.
  [[nodiscard]] Index position(Index key) const noexcept {
    return key < state_.held ? far_[key].position : state_.near_begin + key - state_.held;
  }
  [[nodiscard]] std::int32_t token_id(Index key) const noexcept {
    return key < state_.held ? far_[key].id : ids_[key - state_.held];
  }

  // --- a step ------------------------------------------------------------------------------------------------------

  /// Appends `count` tokens tentatively; `id(i)` is the id of the i-th. out_of_memory changes nothing.
  template <class Id>
  [[nodiscard]] Status plan(const MemoryResource& memory, Index count, const Id& id) {
    Status status = ids_.reserve_back(memory, count);
    if (status.ok()) status = reach_.reserve_back(memory, count);
    if (status.ok() && staged()) status = stage_.reserve_back(memory, count);
    if (!status.ok()) return status;
    // Only now: a count that no memory holds must not be counted up to.
    Index landmarks = 0;
    for (Index i = 0; i < count; ++i) landmarks += rule_.role(seen() + i, id(i)) != Role::plain;
    status = far_.reserve_back(memory, landmarks);
    if (!status.ok()) return status;
    committed_far_ = far_.size();
    committed_initial_ = state_.initial;
    for (; planned_ < count; ++planned_) {
      const Index position = seen() + planned_;
      const std::int32_t token = id(planned_);
      const Role role = rule_.role(position, token);
      ids_.push_back(token);
      if (role != Role::plain) far_.push_back({position, token, role});
      state_.initial += role == Role::initial;
      Reach& reach = reach_.back();
      reach.blind = !rule_.sees_landmarks(position, token);
      if (staged() && (planned_ == 0 || !(reach == reach_[reach_.size() - 2]))) stage_.push_back(planned_);
      reach_.push_back(next_reach(reach, position));
    }
    return {};
  }
  void abort() noexcept {
    if (planned_ == 0) return;
    ids_.pop_back(planned_);
    far_.pop_back(far_.size() - committed_far_);
    reach_.pop_back(planned_);
    state_.initial = committed_initial_;
    end_plan();
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
  void commit(Rows&& rows) noexcept {
    state_.seen += planned_;
    end_plan();
    release(rows);
  }

  /// Keys the last planned token sees, its own included.
  [[nodiscard]] Index keys_seen_by_last() const noexcept {
    const Reach& reach = query_reach(planned_ - 1);
    return far_seen(reach) + seen() + planned_ - reach.begin;
  }
  /// Rotary position of the planned token `i`.
  [[nodiscard]] Index rotary_position(Index i) const noexcept {
    const Index position = seen() + i;
    if (positions_ == Positions::absolute) return position;
    const Reach& reach = query_reach(i);
    return far_seen(reach) + position - reach.begin;
  }

  /// The mask of committed tokens, or of planned ones, too.
  [[nodiscard]] LandmarkMask mask(bool with_plan) const noexcept {
    const Index far = with_plan || planned_ == 0 ? far_.size() : committed_far_;
    return {reach_.span(), state_.reach_first, far_.span().first(std::size_t(far)), state_.held, state_.near_begin};
  }

  // --- stages: lists of keys of a plan ------------------------------------------------------------------------------

  [[nodiscard]] Index stages() const noexcept { return stage_.size(); }
  [[nodiscard]] Interval stage_queries(Index stage) const noexcept {
    return {stage_[stage], stage + 1 < stage_.size() ? stage_[stage + 1] : planned_};
  }
  [[nodiscard]] Index stage_size(Index stage) const noexcept {
    const Interval queries = stage_queries(stage);
    const Reach& reach = query_reach(queries.begin);
    return far_seen(reach) + seen() + queries.end - reach.begin;
  }
  /// Where key `key` of a stage lies: the far token of that number, or a near position.
  struct Place {
    bool far = false;
    Index at = 0;
    Index run = 0;  ///< keys that follow each other from here on
  };
  [[nodiscard]] Place stage_place(Index stage, Index key) const noexcept {
    const Interval queries = stage_queries(stage);
    const Reach& reach = query_reach(queries.begin);
    const Index far = far_seen(reach);
    if (key >= far) {
      const Index position = reach.begin + key - far;
      return {.far = false, .at = position, .run = seen() + queries.end - position};
    }
    const Index initial = std::min(state_.initial, reach.end_landmark);
    const Index at = key < initial ? key : far_index(first_seen(reach)) + key - initial;
    if (at >= state_.held) return {.far = false, .at = far_[at].position, .run = 1};
    return {.far = true, .at = at, .run = std::min((key < initial ? initial : far) - key, state_.held - at)};
  }
  /// The rotary position of a key of a stage.
  [[nodiscard]] Index stage_position(Index stage, Index key) const noexcept {
    if (positions_ == Positions::rank) return key;
    const Place place = stage_place(stage, key);
    return place.far ? far_[place.at].position : place.at;
  }

  // --- going back --------------------------------------------------------------------------------------------------

  /// The fewest tokens, besides 0, that truncate() can keep.
  [[nodiscard]] Index rollback_floor() const noexcept {
    if (rule_.has_history()) return state_.floor;  // a compression that evicts nothing counts landmarks, too
    if (state_.last_evicted < 0) return 0;
    const Index floor = rule_.rollback_floor(state_.last_evicted, reach_[0].begin);
    return std::min(seen(), std::max(floor, state_.floor));
  }

  /// Before truncate(): memory for it, and where the near run will begin.
  [[nodiscard]] Status prepare_truncate(const MemoryResource& memory, Index tokens, Index* near_begin) {
    const Index begin = std::min({reach_at(tokens).begin, state_.near_begin, tokens});
    *near_begin = begin;
    return ids_.reserve_front(memory, state_.near_begin - begin);
  }
  /// Keeps the first `tokens` tokens, at least rollback_floor() or none. Tells `rows`: demote(slot, position): a far row
  /// that is recent again moves to the near run; advance(begin, end).
  template <class Rows>
  void truncate(Index tokens, Rows&& rows) noexcept {
    if (tokens == seen()) return;
    if (tokens == 0) {
      reset();
      rows.advance(0, 0);
      return;
    }
    const Reach reach = reach_at(tokens);
    while (!far_.empty() && far_.back().position >= tokens) {
      state_.initial -= far_.back().role == Role::initial;
      far_.pop_back(1);
    }
    state_.held = std::min(state_.held, far_.size());
    // A landmark that is recent again was copied out of the near run, of which nothing else can be missing.
    Index begin = std::min(state_.near_begin, tokens);
    ids_.pop_back(std::min(ids_.size(), seen() - tokens));
    while (state_.held > 0 && begin > reach.begin && far_[state_.held - 1].position == begin - 1) {
      const FarToken& token = far_[--state_.held];
      rows.demote(state_.held, token.position);
      ids_.push_front(token.id);
      --begin;
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
  }

  /// Before compact(): memory for it.
  [[nodiscard]] Status prepare_compact(const MemoryResource& memory, Index kept) {
    return far_.reserve_back(memory, kept + far_.size());
  }
  /// Keeps the tokens at these positions, ascending, all of them held; everything else goes at once. The latest ones that
  /// follow each other stay recent, those before count as landmarks from now on. Tells `rows`: gather(key, slot): row
  /// `key` of what was held moves to a far slot, ascending; advance(begin, end).
  template <class Rows>
  void compact(std::span<const Index> keep, Rows&& rows) noexcept {
    // The run of latest tokens stays where it is.
    Index begin = seen();
    auto run = keep.size();
    while (run > 0 && keep[run - 1] == begin - 1 && begin > state_.near_begin) --run, --begin;
    const Index held = state_.held, old_begin = state_.near_begin;
    Index far = 0, next = 0, initial = 0;
    const Index old_far = far_.size();
    for (std::size_t i = 0; i < run; ++i) {
      while (next < old_far && far_[next].position < keep[i]) ++next;
      const bool listed = next < old_far && far_[next].position == keep[i];
      const Index key = listed && next < held ? next : held + keep[i] - old_begin;
      const FarToken token = listed ? far_[next] : FarToken{keep[i], ids_[keep[i] - old_begin]};
      rows.gather(key, far);
      initial += token.role == Role::initial;
      // Far tokens that are read later than they are overwritten wait at the back, where room was reserved.
      far_.push_back(token);
      ++far;
    }
    while (next < old_far && far_[next].position < begin) ++next;
    for (; next < old_far; ++next) {
      initial += far_[next].role == Role::initial;
      far_.push_back(far_[next]);
    }
    far_.erase(0, old_far);
    state_.held = far;
    state_.initial = initial;
    state_.dropped = 0;
    ids_.pop_front(begin - old_begin);
    state_.near_begin = begin;
    rows.advance(begin, seen());
    reach_.pop_front(reach_.size() - 1);
    state_.reach_first = seen();
    Reach& reach = reach_[0];
    reach.begin = std::max(reach.begin, begin);
    reach.first_landmark = 0;
    reach.end_landmark = Index(std::partition_point(far_.data(), far_.data() + far_.size(),
                                                    [&](const FarToken& t) { return t.position < reach.begin; }) -
                               far_.data());
    note_evicted();
    state_.floor = seen();
    state_.run_begin = begin;
  }

  void reset() noexcept {
    ids_.pop_back(ids_.size());
    far_.pop_back(far_.size());
    reach_.pop_back(reach_.size() - 1);
    reach_[0] = {};
    state_ = {};
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// All that is neither an array nor a parameter. Numbers only: it is written to snapshots as it is.
  struct State {
    Index seen = 0;
    Index near_begin = 0;
    Index held = 0;         ///< far tokens in far slots; the rest of the list still lies in the near run
    Index initial = 0;      ///< far tokens that are initial: the first ones of the list
    Index run_begin = 0;    ///< recent tokens begin here at the earliest: what was before is compacted
    Index dropped = 0;      ///< landmarks that have left the list, so that numbers stay
    Index reach_first = 0;  ///< query of reach_[0]
    Index last_evicted = -1;
    Index floor = 0;  ///< tokens at the last eviction, where no formula gives it

    friend bool operator==(const State&, const State&) = default;
  };
  [[nodiscard]] const State& state() const noexcept { return state_; }
  [[nodiscard]] std::span<const std::int32_t> near_ids() const noexcept { return ids_.span(); }
  [[nodiscard]] std::span<const FarToken> far_tokens() const noexcept { return far_.span(); }
  [[nodiscard]] std::span<const Reach> reaches() const noexcept { return reach_.span(); }

  /// Takes over what a snapshot says, if it is consistent; otherwise says what is not, and is useless.
  [[nodiscard]] Status restore(const MemoryResource& memory, const State& state, std::span<const std::int32_t> ids,
                               std::span<const FarToken> far, std::span<const Reach> reach) {
    state_ = state;
    ids_.pop_back(ids_.size());
    far_.pop_back(far_.size());
    reach_.pop_back(reach_.size());
    Status status = ids_.reserve_back(memory, Index(ids.size()));
    if (status.ok()) status = far_.reserve_back(memory, Index(far.size()));
    if (status.ok()) status = reach_.reserve_back(memory, Index(reach.size()) + 1);
    if (!status.ok()) return status;
    ids_.append(ids);
    far_.append(far);
    reach_.append(reach);
    return check();
  }

 private:
  /// What planned token `planned` sees as a query.
  [[nodiscard]] const Reach& query_reach(Index planned) const noexcept {
    return reach_[seen() + planned - state_.reach_first];
  }
  /// Index in the list of a landmark's number.
  [[nodiscard]] Index far_index(Index number) const noexcept {
    return number <= state_.initial ? number : number - state_.dropped;
  }
  [[nodiscard]] Index first_seen(const Reach& reach) const noexcept {
    return std::max(reach.first_landmark, state_.initial);
  }
  [[nodiscard]] Index landmarks_seen(const Reach& reach) const noexcept {
    return std::max<Index>(0, reach.end_landmark - first_seen(reach));
  }
  [[nodiscard]] Index far_seen(const Reach& reach) const noexcept {
    return reach.blind ? 0 : std::min(state_.initial, reach.end_landmark) + landmarks_seen(reach);
  }

  /// What the query after the one at `position` sees.
  [[nodiscard]] Reach next_reach(const Reach& reach, Index position) const noexcept {
    const Index landmarks = landmarks_seen(reach);
    const Recall recall =
        rule_.recall({.next = position + 1,
                      .begin = reach.begin,
                      .seen = std::min(state_.initial, reach.end_landmark) + landmarks + position + 1 - reach.begin,
                      .landmarks = landmarks,
                      .most_landmarks = reach.most_landmarks,
                      .last_landmark = far_.empty() ? -1 : far_.back().position});
    Reach next = reach;
    next.blind = false;
    next.begin = std::clamp(recall.begin, reach.begin, position + 1);
    while (far_index(next.end_landmark) < far_.size() && far_[far_index(next.end_landmark)].position < next.begin) {
      ++next.end_landmark;
    }
    if (recall.forget) next.first_landmark = std::max(next.first_landmark, reach.end_landmark);
    if (landmarks_seen(next) > recall.landmarks) next.first_landmark = next.end_landmark - recall.landmarks;
    next.most_landmarks = std::max(next.most_landmarks, landmarks_seen(next));
    return next;
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

  /// The latest position that is gone.
  void note_evicted() noexcept {
    Index position = state_.near_begin - 1, key = state_.held - 1;
    while (key >= 0 && far_[key].position == position) --key, --position;
    state_.last_evicted = std::max(state_.last_evicted, position);
  }

  /// What the query after the first `tokens` tokens sees. Not before rollback_floor().
  [[nodiscard]] Reach reach_at(Index tokens) const noexcept {
    if (tokens >= state_.reach_first) return reach_[tokens - state_.reach_first];
    Reach reach = reach_[0];
    reach.blind = false;
    if (rule_.has_history()) return reach;
    Index far = far_.size();
    while (far > 0 && far_[far - 1].position >= tokens) --far;
    const Index last = far == 0 ? -1 : far_[far - 1].position;
    reach.begin = std::clamp<Index>(rule_.recall({.next = tokens, .last_landmark = last}).begin,
                                    std::min(state_.run_begin, tokens), tokens);
    while (far > 0 && far_[far - 1].position >= reach.begin) --far;
    reach.end_landmark = far;
    return reach;
  }

  /// Whether everything fits together; what comes from a file may not.
  [[nodiscard]] Status check() const {
    const auto bad = [](const char* what, Index number) {
      return fail(StatusCode::invalid_argument, "snapshot: ", what, " is ", number);
    };
    constexpr Index most = Index{1} << 48;
    const State& s = state_;
    if (s.seen < 0 || s.seen > most) return bad("seen", s.seen);
    if (s.near_begin < 0 || s.near_begin > s.seen) return bad("near_begin", s.near_begin);
    if (ids_.size() != s.seen - s.near_begin) return bad("number of ids", ids_.size());
    if (s.held < 0 || s.held > far_.size()) return bad("held", s.held);
    if (s.initial < 0 || s.initial > far_.size()) return bad("initial", s.initial);
    if (s.dropped < 0 || s.dropped > s.seen) return bad("dropped", s.dropped);
    if (s.floor < 0 || s.floor > s.seen) return bad("floor", s.floor);
    if (s.last_evicted < -1 || s.last_evicted >= s.seen) return bad("last_evicted", s.last_evicted);
    if (s.run_begin < 0 || s.run_begin > s.near_begin) return bad("run_begin", s.run_begin);
    Index initial = 0, before = -1;
    for (Index i = 0; i < far_.size(); ++i) {
      const FarToken& token = far_[i];
      const bool in_place = i < s.held ? token.position < s.near_begin : token.position >= s.near_begin;
      if (token.position <= before || token.position >= s.seen || !in_place) return bad("position", token.position);
      if (token.role != Role::landmark && token.role != Role::initial) return bad("role", Index(token.role));
      initial += token.role == Role::initial;
      if (token.role == Role::initial && initial != i + 1) return bad("role", Index(token.role));
      before = token.position;
    }
    if (s.initial != initial) return bad("initial", s.initial);
    if (reach_.empty() || s.reach_first < 0 || s.reach_first + reach_.size() - 1 != s.seen) {
      return bad("reach_first", s.reach_first);
    }
    for (Index i = 0; i < reach_.size(); ++i) {
      const Reach& r = reach_[i];
      const bool ordered = i == 0 || (r.begin >= reach_[i - 1].begin && r.end_landmark >= reach_[i - 1].end_landmark &&
                                      r.first_landmark >= reach_[i - 1].first_landmark);
      if (!ordered || r.begin < s.near_begin || r.begin > s.reach_first + i) {
        return bad("begin", r.begin);
      }
      const Index end = far_index(r.end_landmark);
      if (r.end_landmark < 0 || end < 0 || end > far_.size()) return bad("end_landmark", r.end_landmark);
      if (end > 0 && far_[end - 1].position >= r.begin) return bad("end_landmark", r.end_landmark);
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

  AnyRule rule_;
  Positions positions_ = Positions::absolute;
  Index undo_ = 0;
  State state_;
  SlidingArray<std::int32_t> ids_;  // of the near run
  SlidingArray<FarToken> far_;      // every landmark that is held, those of the near run included; ascending
  SlidingArray<Reach> reach_;       // of queries reach_first ... seen + planned, the next one included
  // Of a plan:
  Index planned_ = 0;
  Index committed_far_ = 0;
  Index committed_initial_ = 0;
  SlidingArray<Index> stage_;  // first query of each
};

}  // namespace heed::inline HEED_ABI
