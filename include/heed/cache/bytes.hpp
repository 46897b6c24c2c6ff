/// \file
/// The measured memory of a cache.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A cache's memory in bytes, and its tokens, at one moment.
struct CacheBytes {
  Index allocated = 0;       ///< held from the memory resource, everything included; forks share it
  Index allocated_rows = 0;  ///< of `allocated`, in pages; the rest is token ids and a few words per step and layer
  Index live = 0;            ///< rows of kept tokens, all layers, row padding included
  Index peak = 0;            ///< the most that was ever held at once
  Index shared = 0;          ///< bytes of pages that another cache also holds
  Index layers = 0;          ///< number of layers
  double kept = 0;           ///< tokens in the cache, as a mean over layers
  Index seen = 0;            ///< tokens committed so far, evicted ones included

  /// Live bytes of one layer; 0 for a cache that was moved from.
  [[nodiscard]] Index live_per_layer() const noexcept { return layers == 0 ? 0 : live / layers; }
  /// Live bytes per token in the cache, all layers; 0 without tokens.
  [[nodiscard]] double per_token_kept() const noexcept { return kept == 0 ? 0 : double(live) / kept; }
  /// Live bytes per token of the sequence, all layers: what papers call KV bytes per token. 0 without tokens.
  [[nodiscard]] double per_token_seen() const noexcept { return seen == 0 ? 0 : double(live) / double(seen); }
};

/// What one layer has kept over the life of its sequence: the counters of the papers' r.KV. Three different definitions
/// are in use (SepLLM, arXiv 2412.12094):
///
///     mask form     keys the last query saw / tokens seen
///     SepCache      sum over calls of tokens kept / sum over calls of tokens seen
///     streaming     mean number of tokens kept, where an ordinary cache of N tokens counts as N / 2
struct RetentionCounters {
  Index seen = 0;       ///< tokens committed
  Index kept = 0;       ///< tokens held now
  Index evicted = 0;    ///< tokens that are no longer held
  Index last_seen = 0;  ///< keys that the last query saw
  Index calls = 0;      ///< commits of at least one token
  double kept_sum = 0;  ///< sum over calls of the tokens held after the call
  double seen_sum = 0;  ///< sum over calls of the tokens seen until then

  /// The ratio of the mask form; 0 without tokens.
  [[nodiscard]] double last_row_ratio() const noexcept { return seen == 0 ? 0 : double(last_seen) / double(seen); }
  /// The ratio of SepCache; 0 without calls.
  [[nodiscard]] double call_ratio() const noexcept { return seen_sum == 0 ? 0 : kept_sum / seen_sum; }
  /// The number of streaming; 0 without calls.
  [[nodiscard]] double mean_kept() const noexcept { return calls == 0 ? 0 : kept_sum / double(calls); }
};

}  // namespace heed::inline HEED_ABI
