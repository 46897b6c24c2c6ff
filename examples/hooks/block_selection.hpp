/// \file
/// Blocks of keys that are selected for each KV head, as MoBA, Quest and NSA do, as a mask.
#pragma once

#include <vector>

#include <heed/concepts.hpp>

namespace heed_examples {

using heed::Index;

/// A query sees its own block of `block` positions and the selected earlier blocks, all of them causally.
struct BlockSelection {
  Index block = 64;
  std::vector<std::vector<bool>> selected;  // [num_kv_heads][blocks]

  [[nodiscard]] bool visible(Index query, Index key, Index kv_head) const {
    return key <= query && (key / block == query / block || selected[std::size_t(kv_head)][std::size_t(key / block)]);
  }
  [[nodiscard]] heed::Coverage coverage(heed::Interval queries, heed::Interval keys, Index kv_head) const {
    if (keys.begin > queries.end - 1) return heed::Coverage::none;  // all keys are later
    const Index first = keys.begin / block, last = (keys.end - 1) / block;
    bool all = keys.end - 1 <= queries.begin, none = last < queries.begin / block;
    for (Index b = first; b <= last; ++b) {
      const bool shown = selected[std::size_t(kv_head)][std::size_t(b)];
      all &= shown;
      none &= !shown;
    }
    return all ? heed::Coverage::full : none ? heed::Coverage::none : heed::Coverage::partial;
  }
};
static_assert(heed::GroupedMask<BlockSelection>);

}  // namespace heed_examples
