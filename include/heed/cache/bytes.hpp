/// \file
/// What a cache costs, measured.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A cache's memory and tokens at one moment.
struct CacheBytes {
  Index allocated = 0;       ///< held from the memory resource, everything included
  Index allocated_rows = 0;  ///< of these, for rows; the rest is bookkeeping: token ids and a few words per layer
  Index live = 0;            ///< rows of committed tokens, all layers, row padding included
  Index peak = 0;            ///< the most that was ever held at once; growth holds the old and the new block
  Index layers = 0;
  Index kept = 0;  ///< tokens in the cache
  Index seen = 0;  ///< tokens committed so far, evicted ones included

  [[nodiscard]] Index live_per_layer() const noexcept { return live / layers; }
  /// Live bytes per token in the cache, all layers; 0 if there is none.
  [[nodiscard]] double per_token_kept() const noexcept { return kept == 0 ? 0 : double(live) / double(kept); }
  /// Live bytes per token of the sequence, all layers: what papers call KV bytes per token. 0 if there is none.
  [[nodiscard]] double per_token_seen() const noexcept { return seen == 0 ? 0 : double(live) / double(seen); }
};

}  // namespace heed::inline HEED_ABI
