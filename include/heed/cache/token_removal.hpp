/// \file
/// Tokens that the caller removes from a cache.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/token_lists.hpp>

namespace heed::inline HEED_ABI::detail {

/// The part of a TokenIndex that removes tokens from its lists, whatever the rule says. No query sees a removed token
/// again. The rule evicts the others as if nothing had been removed.
class TokenRemoval : public TokenLists {
 public:
  /// Before remove(): memory for it, and the far slots that will be written.
  [[nodiscard]] Status prepare_remove(const MemoryResource& memory, std::span<const Interval> gone, Interval* distant) {
    *distant = {state_.far_slots, state_.far_slots};
    Index left = 0, first = state_.far_slots;  // far tokens that stay, and the first that does not
    std::size_t at = 0;
    for (Index i = 0; i < state_.far_slots; ++i) {
      const bool stays = !is_gone(gone, at, far_[i].position);
      if (!stays) first = std::min(first, i);
      left += stays;
    }
    if (!keeps_all_) {
      if (first < state_.far_slots) *distant = {first, state_.far_slots};
      return holes_.reserve(memory, Index(gone.size()));
    }
    const Index begin = gathered_begin(gone);
    for (Index position = state_.near_begin; position < begin; ++position) left += !is_gone(gone, at, position);
    *distant = {first, std::max(left, state_.far_slots)};
    return far_.reserve_back(memory, std::max<Index>(0, left - far_.size()));
  }
  /// Removes the tokens at the positions `gone`, whether they are kept or not. The intervals are disjoint, ascending
  /// and not empty. Calls these members of `rows`, far rows first, positions and slots ascending:
  ///
  ///     gather(slot, to, count)           far rows move to far slots before them
  ///     promote(position, slot, count)    near rows move to far slots
  ///     advance(begin, end)               near rows outside [begin, end) are no longer needed
  template <class Rows>
  void remove(std::span<const Interval> gone, Rows&& rows) noexcept {
    note_removed(gone);
    remove_landmarks(gone, [&](Index slot, Index to, Index count) { rows.gather(slot, to, count); });
    if (keeps_all_) {
      gather(gone, rows);
    } else {
      for (const Interval& tokens : gone) {
        holes_.add({std::max(tokens.begin, state_.near_begin), std::min(tokens.end, seen())});
      }
    }
    for (Index i = 0; i < reach_.size(); ++i) reach_[i].end_landmark = landmarks_before(reach_[i].begin);
    note_evicted();
  }

 protected:
  TokenRemoval() = default;
  /// As TokenIndex.
  TokenRemoval(AnyRule rule, Positions positions, Index undo_tokens)
      : TokenLists(std::move(rule), positions, undo_tokens) {}

  /// true if `position` is in one of `gone`. Calls with ascending positions share `at`, which begins at 0.
  [[nodiscard]] static bool is_gone(std::span<const Interval> gone, std::size_t& at, Index position) noexcept {
    while (at < gone.size() && gone[at].end <= position) ++at;
    return at < gone.size() && gone[at].begin <= position;
  }
  /// Takes the far tokens that are in `gone` off the list. Calls move(slot, to, count) for rows that must move.
  template <class Move>
  void remove_landmarks(std::span<const Interval> gone, const Move& move) noexcept {
    std::size_t at = 0;
    Index left = 0, held = 0, run = 0;  // `run` rows before slot i go to the slots before `held`
    for (Index i = 0; i < far_.size(); ++i) {
      const bool gone_now = is_gone(gone, at, far_[i].position);
      if (run > 0 && (gone_now || i == state_.far_slots)) {
        move(i - run, held - run, run);
        run = 0;
      }
      if (gone_now) {
        state_.initial -= far_[i].role == Role::initial;
        continue;
      }
      if (i < state_.far_slots) {
        run += i != held;
        ++held;
      }
      far_[left++] = far_[i];
    }
    if (run > 0) move(far_.size() - run, held - run, run);
    far_.pop_back(far_.size() - left);
    state_.far_slots = held;
  }

  /// Sets last_evicted. Looks at all tokens before the near run.
  void note_evicted() noexcept {
    state_.last_evicted = -1;
    note_evicted(0);
  }
  /// The same if nothing before position `from` has changed. Looks at the tokens from there to the near run.
  void note_evicted(Index from) noexcept {
    Index position = state_.near_begin - 1, key = state_.far_slots - 1;
    while (position >= from && key >= 0 && far_[key].position == position) --key, --position;
    if (position >= from) state_.last_evicted = position;
  }

 private:
  void note_removed(std::span<const Interval> gone) noexcept {
    for (const Interval& tokens : gone) {
      const Index first = first_kept(tokens.begin);
      if (first < std::min(tokens.end, intact())) state_.first_removed = first;
      if (first >= intact()) return;
    }
  }
  /// Where the near run begins under a rule that keeps everything, once `gone` is removed.
  [[nodiscard]] Index gathered_begin(std::span<const Interval> gone) const noexcept {
    return gone.empty() ? state_.near_begin : std::max(state_.near_begin, std::min(gone.back().end, seen()));
  }
  /// Makes far what is left of the near run before the end of the last of `gone`.
  template <class Rows>
  void gather(std::span<const Interval> gone, Rows& rows) noexcept {
    const Index begin = gathered_begin(gone);
    Index next = state_.near_begin;  // the first position that is neither removed nor far
    for (const Interval& tokens : gone) {
      const Index end = std::min(tokens.begin, begin);
      if (next < end) {
        rows.promote(next, state_.far_slots, end - next);
        state_.far_slots += end - next;
      }
      for (; next < end; ++next) far_.push_back({next, ids_[next - state_.near_begin]});
      next = std::max(next, tokens.end);
    }
    ids_.pop_front(begin - state_.near_begin);
    state_.near_begin = begin;
    rows.advance(begin, seen());
    reach_.pop_front(reach_.size() - 1);
    state_.reach_first = seen();
    reach_[0].begin = begin;
  }
};

}  // namespace heed::inline HEED_ABI::detail
