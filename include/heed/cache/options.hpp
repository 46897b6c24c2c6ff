/// \file
/// What a cache is created with: its options, and the rules of its layers. Options are checked before anything is
/// allocated.
#pragma once

#include <cstdint>
#include <vector>

#include <heed/cache/positions.hpp>
#include <heed/checked.hpp>
#include <heed/memory.hpp>
#include <heed/retention/any_rule.hpp>

namespace heed::inline HEED_ABI {

class PagePool;

/// Options of a KvCache besides its policy, codecs and rule. Counts are at least 0; create() says which number is
/// wrong.
struct CacheOptions {
  Index layers = 1;  ///< at least 1
  /// Tokens for which create() allocates memory. For a rule with a bound it is cut to what the rule keeps, plus a step.
  Index capacity = 0;
  Index max_tokens = 0;  ///< most tokens that the cache may keep, those of a step included; 0: no limit
  Positions positions = Positions::absolute;  ///< which rotary positions keys have
  /// Number of tokens by which eviction is delayed. So truncate() can go back to any length from m - undo_tokens on,
  /// where m is the most tokens that the cache has seen since it was empty, in one truncation or in several.
  Index undo_tokens = 0;
  Index page_tokens = 0;  ///< tokens of a page, in all layers of a group; 0: see automatic_page_tokens()
  /// The caller's hash of weights and RoPE. restore() refuses a snapshot with another one.
  std::uint64_t model_id = 0;
  MemoryResource memory = default_memory();  ///< where memory comes from, unless `pool` is given
  /// Page pool, possibly shared with other caches. Not owned. Null: the cache creates its own pool from `memory`.
  PagePool* pool = nullptr;
};

/// A rule and the layers it is for.
struct LayerRule {
  AnyRule rule;               ///< rule of all these layers
  std::vector<Index> layers;  ///< numbers of layers; every layer of a cache is in one LayerRule
};

namespace detail {

inline Status validate_options(const CacheOptions& options) {
  const Index most = token_limit(options.max_tokens);
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
