/// \file
/// truncate() and remove() for all layer groups of a cache at once: everything that can fail is done first.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/layer_group.hpp>

namespace heed::inline HEED_ABI::detail {

/// Prepares every group: prepare(group) is its prepare_truncate() or prepare_remove(). A failure changes nothing.
template <class Prepare>
[[nodiscard]] Status prepare_all(std::span<LayerGroup> groups, const Prepare& prepare) {
  for (LayerGroup& group : groups) {
    if (Status status = prepare(group); !status.ok()) {
      for (LayerGroup& prepared : groups) prepared.abandon();
      return status;
    }
  }
  return {};
}

/// The fewest tokens above 0 that every group can go back to.
[[nodiscard]] inline Index rollback_floor(std::span<const LayerGroup> groups) noexcept {
  Index floor = 0;
  for (const LayerGroup& group : groups) floor = std::max(floor, group.index.rollback_floor());
  return floor;
}
/// The latest token that a group keeps, or -1.
[[nodiscard]] inline Index last_kept(std::span<const LayerGroup> groups) noexcept {
  Index last = -1;
  for (const LayerGroup& group : groups) last = std::max(last, group.index.last_kept());
  return last;
}
/// Number of tokens before the first removed one.
[[nodiscard]] inline Index intact(std::span<const LayerGroup> groups, Index seen) noexcept {
  for (const LayerGroup& group : groups) seen = std::min(seen, group.index.intact());
  return seen;
}

[[nodiscard]] inline Status check_removed(Index begin, Index end, Index seen) {
  if (begin >= 0 && begin <= end && end <= seen) return {};
  return fail(StatusCode::out_of_range, "remove(): positions are ", begin, " .. ", end,
              ", must ascend and lie in 0 .. ", seen);
}
/// The positions of `seen` tokens that are not in `keep`. invalid_argument unless `keep` ascends and each of its tokens
/// is kept by at least one group; out_of_memory.
[[nodiscard]] inline Result<SlidingArray<Interval>> all_but(std::span<const Index> keep, Index seen,
                                                            std::span<const LayerGroup> groups,
                                                            const MemoryResource& memory) {
  const auto held = [&](Index position) {
    return std::any_of(groups.begin(), groups.end(), [&](const LayerGroup& group) {
      return position < seen && group.index.first_kept(position) == position;
    });
  };
  SlidingArray<Interval> gone;
  if (Status status = gone.reserve_exactly(memory, Index(keep.size()) + 1); !status.ok()) return status;
  Index next = 0;  // the first position that is not decided
  for (std::size_t i = 0; i < keep.size(); ++i) {
    if (keep[i] < next || !held(keep[i])) {
      return fail(StatusCode::invalid_argument, "compact(): keep[", i, "] is ", keep[i],
                  ", must be a position that is held, and ascending");
    }
    if (keep[i] > next) gone.push_back({next, keep[i]});
    next = keep[i] + 1;
  }
  if (next < seen) gone.push_back({next, seen});
  return gone;
}

}  // namespace heed::inline HEED_ABI::detail
