/// \file
/// A retention rule for some layers of a cache.
#pragma once

#include <vector>

#include <heed/retention/any_rule.hpp>

namespace heed::inline HEED_ABI {

/// A rule and the layers it is for.
struct LayerRule {
  AnyRule rule;
  std::vector<Index> layers;
};

}  // namespace heed::inline HEED_ABI
