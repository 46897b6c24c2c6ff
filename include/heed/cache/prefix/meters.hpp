/// \file
/// The meters of a PrefixCache.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// What the entries of a PrefixCache hold now.
struct PrefixBytes {
  Index pages = 0;        ///< of rows; a page counts once, whoever else shares it
  Index bookkeeping = 0;  ///< of the entries' caches, their ids and the tree of ids
  [[nodiscard]] Index total() const noexcept { return pages + bookkeeping; }
};

/// What a PrefixCache has done so far.
struct PrefixCounters {
  Index finds = 0;
  Index hits = 0;          ///< finds that gave a cache
  Index asked_tokens = 0;  ///< ids of all finds
  Index found_tokens = 0;  ///< of these, tokens that need not be computed again
  Index compared = 0;      ///< ids compared in finds
  Index evicted = 0;       ///< entries that went to keep max_bytes
};

}  // namespace heed::inline HEED_ABI
