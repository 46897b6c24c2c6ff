/// \file
/// Checks that a cache was fed the token ids under which it is to be stored.
#pragma once

#include <cstdint>
#include <span>

#include <heed/rule.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// invalid_argument for a negative id.
[[nodiscard]] inline Status check_ids(const char* call, std::span<const std::int32_t> ids) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) return fail(StatusCode::invalid_argument, call, ": ids[", i, "] is ", ids[i]);
  }
  return {};
}

/// invalid_argument if the cache was fed another id at a position. A cache that was fed no ids passes.
[[nodiscard]] inline Status check_id(const char* call, std::span<const std::int32_t> ids, Index position,
                                     std::int32_t known) {
  const std::int32_t id = ids[std::size_t(position)];
  if (known == no_token_id || known == id) return {};
  return fail(StatusCode::invalid_argument, call, ": ids[", position, "] is ", id, ", but the cache was given ", known);
}

/// check_ids(), unsupported if tokens were removed, and check_id() of all tokens that the cache still keeps. There are
/// at least as many ids as it has seen.
template <class Cache>
[[nodiscard]] Status check_ids_of(const char* call, std::span<const std::int32_t> ids, const Cache& cache) {
  if (Status status = check_ids(call, ids); !status.ok()) return status;
  // A KvCache, not a state: nothing can be taken out of that.
  if constexpr (requires { cache.rule(Index{}); }) {
    if (cache.removed()) {
      return fail(StatusCode::unsupported, call, ": tokens were removed from the cache, from position ", cache.intact(),
                  " on, so it is not what its ids make of it");
    }
  }
  if constexpr (requires { cache.token_id(Index{}, Index{}); }) {
    Index layer = 0;  // one that keeps the most
    for (Index other = 1; other < cache.layers(); ++other) {
      if (cache.kept(other) > cache.kept(layer)) layer = other;
    }
    for (Index key = 0; key < cache.kept(layer); ++key) {
      Status status = check_id(call, ids, cache.position(key, layer), cache.token_id(key, layer));
      if (!status.ok()) return status;
    }
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
