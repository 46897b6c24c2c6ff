/// \file
/// Which rotary positions the keys of a cache have.
#pragma once

#include <cstdint>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

/// Which rotary positions keys have.
enum class Positions : std::uint8_t {
  absolute,  ///< the logical index: every token ever seen counts
  rank,      ///< the index in the list of keys that the query sees; keys must then be rotated when they are read
};

}  // namespace heed::inline HEED_ABI
