/// \file
/// The removed tokens among the recent ones.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/sliding_array.hpp>
#include <heed/checked.hpp>

namespace heed::inline HEED_ABI::detail {

/// Removed positions of a run of tokens, as disjoint intervals in order that do not touch. A removed token's slot stays a
/// hole until the run moves on. Every question takes time logarithmic in the number of holes.
class HoleList {
 public:
  /// Removed positions [begin, end).
  struct Hole {
    Index begin = 0;  ///< first position
    Index end = 0;    ///< position behind the last one
    /// Number of tokens removed before this hole, also by holes that have left the list. Only differences count.
    Index before = 0;
  };

  static constexpr Index none = count_limit;  ///< next() if there is no hole

  /// true if no token is removed.
  [[nodiscard]] bool empty() const noexcept { return holes_.empty(); }
  /// Number of holes.
  [[nodiscard]] Index size() const noexcept { return holes_.size(); }
  /// The holes, ascending.
  [[nodiscard]] std::span<const Hole> holes() const noexcept { return holes_.span(); }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept { return holes_.allocated(); }

  /// Tokens removed before `position`.
  [[nodiscard]] Index removed_before(Index position) const noexcept {
    const Index i = first_ending_after(position);
    if (i == size()) return empty() ? 0 : through(i - 1);
    return through(i) - (holes_[i].end - std::max(position, holes_[i].begin));
  }
  /// Number of tokens of [begin, end) that are not removed.
  [[nodiscard]] Index left(Index begin, Index end) const noexcept {
    return empty() ? end - begin : end - begin - (removed_before(end) - removed_before(begin));
  }
  /// Of the tokens from `begin` on that are not removed, the position of number `number`. `begin` is not after the
  /// first hole.
  [[nodiscard]] Index position(Index begin, Index number) const noexcept {
    if (empty()) return begin + number;
    const auto left_before = [&](const Hole& hole) { return hole.begin - begin - (hole.before - holes_[0].before); };
    const Hole* const first = holes_.data();
    const Index i =
        std::partition_point(first, first + size(), [&](const Hole& hole) { return left_before(hole) <= number; }) -
        first;
    return begin + number + (i == 0 ? 0 : through(i - 1));
  }
  /// The first removed tokens at or after `position`; {none, none} if there are none.
  [[nodiscard]] Interval next(Index position) const noexcept {
    const Index i = first_ending_after(position);
    if (i == size()) return {none, none};
    return {std::max(position, holes_[i].begin), holes_[i].end};
  }

  /// Makes room for `count` calls of add(), or out_of_memory.
  [[nodiscard]] Status reserve(const MemoryResource& memory, Index count) { return holes_.reserve_back(memory, count); }
  /// Gives memory back if there is more than four times what the holes need, or does nothing.
  void shrink(const MemoryResource& memory) noexcept { holes_.shrink(memory, size()); }
  /// Removes [begin, end); parts of it may be removed already. reserve() must have made room.
  void add(Interval tokens) noexcept {
    if (tokens.size() <= 0) return;
    // Holes [first, last) touch the new one and merge with it.
    Index first = size();
    while (first > 0 && holes_[first - 1].end >= tokens.begin) --first;
    Index last = first;
    while (last < size() && holes_[last].begin <= tokens.end) ++last;
    Hole hole{tokens.begin, tokens.end, 0};
    if (last > first) {
      hole.begin = std::min(hole.begin, holes_[first].begin);
      hole.end = std::max(hole.end, holes_[last - 1].end);
      holes_.erase(first, last - first);
    }
    holes_.push_back(hole);
    std::rotate(holes_.data() + first, holes_.data() + size() - 1, holes_.data() + size());
    count(first);
  }
  /// Drops the holes, and parts of holes, before `position`.
  void drop_before(Index position) noexcept {
    holes_.pop_front(first_ending_after(position));
    if (!empty() && holes_[0].begin < position) {
      holes_[0].before += position - holes_[0].begin;
      holes_[0].begin = position;
    }
  }
  /// Drops the holes, and parts of holes, at `position` or after it.
  void drop_from(Index position) noexcept {
    while (!empty() && holes_.back().begin >= position) holes_.pop_back(1);
    if (!empty()) holes_.back().end = std::min(holes_.back().end, position);
  }
  /// Forgets all holes.
  void clear() noexcept { holes_.pop_back(size()); }

  /// A copy with memory of its own, or out_of_memory.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const HoleList& other) {
    return holes_.copy_from(memory, other.holes_);
  }

 private:
  /// Number of the first hole that ends after `position`.
  [[nodiscard]] Index first_ending_after(Index position) const noexcept {
    const Hole* const first = holes_.data();
    return std::partition_point(first, first + size(), [&](const Hole& hole) { return hole.end <= position; }) - first;
  }
  /// Tokens of holes 0 ... i.
  [[nodiscard]] Index through(Index i) const noexcept {
    return holes_[i].before - holes_[0].before + holes_[i].end - holes_[i].begin;
  }
  /// Counts the tokens before holes `i`, i + 1, ...
  void count(Index i) noexcept {
    for (; i < size(); ++i) {
      holes_[i].before = i == 0 ? 0 : holes_[i - 1].before + holes_[i - 1].end - holes_[i - 1].begin;
    }
  }

  SlidingArray<Hole> holes_;
};

}  // namespace heed::inline HEED_ABI::detail
