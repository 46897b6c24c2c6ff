/// \file
/// The numbers of a token index: all of it that is neither an array nor a parameter.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Numbers only. TokenRecord has those that a snapshot must say.
struct TokenState {
  Index seen = 0;
  Index near_begin = 0;
  Index held = 0;         ///< far tokens in far slots; the rest of the list still lies in the near run
  Index initial = 0;      ///< far tokens that are initial: the first ones of the list
  Index dropped = 0;      ///< landmarks that have left the list, so that numbers stay
  Index reach_first = 0;  ///< query of reach_[0]
  Index last_evicted = -1;
  Index floor = 0;           ///< tokens at the last eviction, where no formula gives it
  Index first_removed = -1;  ///< of the positions that the caller removed; -1: none
};

}  // namespace heed::inline HEED_ABI
