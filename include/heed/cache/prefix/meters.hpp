/// \file
/// The counters of a PrefixCache.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// What the entries of a PrefixCache hold now.
struct PrefixBytes {
  Index pages = 0;        ///< bytes of pages; a shared page counts once, also one that a running cache holds
  Index bookkeeping = 0;  ///< bytes of the entries' caches without pages, of their ids and of the tree of ids
  /// The bytes that set_max_bytes() limits.
  [[nodiscard]] Index total() const noexcept { return pages + bookkeeping; }
};

/// What a PrefixCache has done so far.
struct PrefixCounters {
  Index finds = 0;         ///< calls of find()
  Index hits = 0;          ///< calls of find() that returned a cache
  Index asked_tokens = 0;  ///< number of ids in all calls of find()
  Index found_tokens = 0;  ///< how many of these need not be computed again
  Index compared = 0;      ///< ids compared by find()
  Index evicted = 0;       ///< entries dropped because of set_max_bytes()
};

}  // namespace heed::inline HEED_ABI
