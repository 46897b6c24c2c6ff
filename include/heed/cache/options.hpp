/// \file
/// What a cache is made from, checked before anything is allocated.
#pragma once

#include <array>

#include <heed/cache/token_index.hpp>
#include <heed/checked.hpp>
#include <heed/policy/layout.hpp>

namespace heed::inline HEED_ABI {

class PagePool;

/// What a KvCache is made with, besides its policy, codecs and rule. Counts are at least 0, `layers` at least 1; create()
/// says which number is wrong.
struct CacheOptions {
  Index layers = 1;
  Index capacity = 0;    ///< tokens to make room for at once; for a rule with a bound no more than it keeps, and a step
  Index max_tokens = 0;  ///< the cache refuses to hold more, a step's included; 0 is no limit
  Positions positions = Positions::absolute;
  /// Eviction waits so many tokens. So truncate() can go back to any length from m - undo_tokens on, where m is the most
  /// tokens that the cache has seen since it was empty: so many tokens in all, in one truncation or in several.
  Index undo_tokens = 0;
  Index page_tokens = 0;       ///< tokens of a page, in all layers of a group; 0: see automatic_page_tokens()
  std::uint64_t model_id = 0;  ///< a hash of weights and RoPE, of the caller's: snapshots of another model are refused
  MemoryResource memory = default_memory();
  PagePool* pool = nullptr;  ///< where pages come from, shared with other caches; null: an own one, of `memory`
};

namespace detail {

inline Status validate_options(const CacheOptions& options) {
  const Index most = options.max_tokens > 0 ? options.max_tokens : most_tokens;
  Status status = check_range("layers", options.layers, 1, most_layers);
  if (status.ok()) status = check_range("max_tokens", options.max_tokens, 0, most_tokens);
  if (status.ok()) status = check_range("capacity", options.capacity, 0, most);
  if (status.ok()) status = check_range("undo_tokens", options.undo_tokens, 0, most_undo);
  if (status.ok()) status = check_range("page_tokens", options.page_tokens, 0, most_tokens);
  if (status.ok()) status = check_memory(options.memory);
  return status;
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI
