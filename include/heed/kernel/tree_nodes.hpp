/// \file
/// The nodes of the merge tree that a range of chunks is made of.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include <heed/kernel/chunk.hpp>
#include <heed/kernel/key_range.hpp>

namespace heed::inline HEED_ABI::detail {

/// Most nodes of one range: going up from its begin and down to its end, each at most once a level.
inline constexpr Index most_nodes = 2 * 33;

/// The largest node of the tree that begins where `chunks` begin and ends within them. `chunks` is not empty.
///
/// A node that began earlier would also hold chunks that others answer for, and merge ours before theirs.
[[nodiscard]] inline Interval first_node(Interval chunks) noexcept {
  const auto begin = std::uint64_t(chunks.begin);
  const std::uint64_t aligned = begin == 0 ? std::uint64_t(KeyRange::all) : begin & (~begin + 1);
  const std::uint64_t fits = std::bit_floor(std::uint64_t(chunks.size()));
  return {chunks.begin, chunks.begin + Index(std::min(aligned, fits))};
}

/// Calls body(node) for the nodes that `chunks` are made of, in order. Only for those with a chunk within `held`.
template <class Body>
void for_each_node(Interval chunks, Interval held, const Body& body) {
  for (Interval rest = chunks; rest.size() > 0 && rest.begin < held.end;) {
    const Interval node = first_node(rest);
    if (node.end > held.begin && held.size() > 0) body(node);
    rest.begin = node.end;
  }
}

/// How many nodes those are.
[[nodiscard]] inline Index count_nodes(Interval chunks, Interval held) {
  Index count = 0;
  for_each_node(chunks, held, [&](Interval) { ++count; });
  return count;
}

/// Upper bound on the nodes of `chunks` that hold any of `count` consecutive chunks, wherever those lie. Nodes within
/// them have at most two of each size. One node may reach over either end.
[[nodiscard]] inline Index most_nodes_of(Interval chunks, Index count) {
  if (count == 0) return 0;
  return std::min(count_nodes(chunks, {0, KeyRange::all}), 2 * Index(std::bit_width(std::uint64_t(count))) + 2);
}

}  // namespace heed::inline HEED_ABI::detail
