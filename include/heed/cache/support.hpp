/// \file
/// Which features work together: the one place that refuses a combination. docs/support.md is printed from it.
#pragma once

#include <array>

#include <heed/cache/positions.hpp>
#include <heed/retention/any_rule.hpp>
#include <heed/status.hpp>

namespace heed::inline HEED_ABI {

/// What a cache can be asked to do.
enum class CacheFeature {
  create,    ///< a cache with this rule and these positions
  append,    ///< steps of any size, with the same results as token by token
  mask,      ///< RuleMask: the rule as a mask over a text that is held whole
  truncate,  ///< go back to any length from rollback_floor() on
  undo,      ///< CacheOptions::undo_tokens
  accept,    ///< Step::commit(accepted)
  fork,      ///< KvCache::fork()
  compact,   ///< keep only given tokens
  remove,    ///< remove given tokens
  snapshot,  ///< snapshot() and restore()
  prefix,    ///< PrefixCache
};

/// Every CacheFeature, in order.
inline constexpr std::array all_cache_features{
    CacheFeature::create, CacheFeature::append,   CacheFeature::mask,   CacheFeature::truncate,
    CacheFeature::undo,   CacheFeature::accept,   CacheFeature::fork,   CacheFeature::compact,
    CacheFeature::remove, CacheFeature::snapshot, CacheFeature::prefix,
};

/// The name of the enumerator.
[[nodiscard]] constexpr const char* name_of(CacheFeature feature) noexcept {
  switch (feature) {
    case CacheFeature::create: return "create";
    case CacheFeature::append: return "append";
    case CacheFeature::mask: return "mask";
    case CacheFeature::truncate: return "truncate";
    case CacheFeature::undo: return "undo";
    case CacheFeature::accept: return "accept";
    case CacheFeature::fork: return "fork";
    case CacheFeature::compact: return "compact";
    case CacheFeature::remove: return "remove";
    case CacheFeature::snapshot: return "snapshot";
    case CacheFeature::prefix: return "prefix";
  }
  return "";
}

/// Ok if a cache with this rule and these positions has the feature, for every codec. `rotates`: its policy rotates
/// stored keys when it reads them. Otherwise unsupported; the message says why and what to do instead.
[[nodiscard]] inline Status supports(CacheFeature feature, const AnyRule& rule, Positions positions, bool rotates) {
  const bool ranks = positions == Positions::rank;
  if (ranks && !rule.has_ranks()) {
    return fail(StatusCode::unsupported, "positions are in-cache ranks, but rule ", rule.name(),
                " is defined for absolute positions");
  }
  if (ranks && !rotates) {
    return fail(
        StatusCode::unsupported,
        "positions are in-cache ranks, but the policy stores rotated keys: wrap it in RotatedKeys (Mla: set rope), "
        "so that keys are stored un-rotated and turned when they are read");
  }
  switch (feature) {
    case CacheFeature::mask:
      if (rule.has_history()) {
        return fail(StatusCode::unsupported, "rule ", rule.name(),
                    " has a history: what a query sees is no mask. Feed a cache instead");
      }
      if (ranks) {
        return fail(StatusCode::unsupported,
                    "with in-cache ranks a key's position differs from query to query, which no "
                    "mask can say. Feed a cache instead");
      }
      return {};
    case CacheFeature::compact:
    case CacheFeature::remove:
      if (rule.has_history()) {
        return fail(StatusCode::unsupported, name_of(feature), "(): rule ", rule.name(),
                    " has a history that counts what the cache holds");
      }
      return {};
    default: return {};
  }
}

}  // namespace heed::inline HEED_ABI
