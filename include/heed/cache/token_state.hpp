/// \file
/// The numbers of a token index, without its arrays and parameters.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// Numbers only. A snapshot stores some of them (TokenRecord); the others follow from these.
struct TokenState {
  Index seen = 0;           ///< tokens committed
  Index near_begin = 0;     ///< position of the first slot of the near run
  Index far_slots = 0;      ///< number of far tokens in far slots; the rest of the list still lies in the near run
  Index initial = 0;        ///< number of initial far tokens: the first ones of the list
  Index dropped = 0;        ///< number of landmarks that have left the list; so the numbers of the others stay the same
  Index reach_first = 0;    ///< position of the query whose reach is reach_[0]
  Index last_evicted = -1;  ///< largest position before the near run that is not kept; -1: none
  Index floor = 0;          ///< number of tokens at the last eviction, for rules without a formula for it
  Index first_removed = -1;  ///< first position that the caller removed; -1: none
};

}  // namespace heed::inline HEED_ABI::detail
