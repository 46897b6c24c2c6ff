/// \file
/// Masks and paths of draft trees over the keys of a step.
#pragma once

#include <heed/speculative/tree_mask.hpp>
#include <heed/speculative/tree_paths.hpp>

#include "speculative/subjects.hpp"

namespace heed_test {

template <class Keys>
[[nodiscard]] heed::TreeMask mask_of(const Keys& keys, const heed::DraftTree& tree) {
  return heed::value_or_throw(heed::TreeMask::create(keys, tree));
}
template <class Keys>
[[nodiscard]] heed::TreePaths paths_of(const Keys& keys, const heed::DraftTree& tree) {
  return heed::value_or_throw(heed::TreePaths::create(keys, tree));
}

/// What the nodes get through their paths.
template <class P, class Keys>
[[nodiscard]] Output attend_paths(const Subject<P>& subject, const Rows& nodes, const Keys& keys,
                                  const heed::DraftTree& tree) {
  const heed::TreePaths paths = paths_of(keys, tree);
  return attend(subject, nodes, paths.keys(keys));
}

}  // namespace heed_test
