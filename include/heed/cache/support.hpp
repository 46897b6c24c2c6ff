/// \file
/// What goes with what: the one place that refuses, and the table that docs/support.md is printed from.
#pragma once

#include <array>

#include <heed/cache/token_index.hpp>

namespace heed::inline HEED_ABI {

/// What a cache can be asked to do.
enum class CacheFeature {
  create,    ///< to exist
  append,    ///< steps of any size, with the same results as token by token
  mask,      ///< RuleMask: the same as a mask over a text that is all there
  truncate,  ///< back to any length from rollback_floor() on
  undo,      ///< CacheOptions::undo_tokens
  accept,    ///< Step::commit(accepted)
  fork,
  compact,   ///< keep what the caller says
  remove,    ///< drop what the caller says
  snapshot,  ///< and restore
  prefix,    ///< PrefixCache
};

inline constexpr std::array all_cache_features{
    CacheFeature::create, CacheFeature::append,   CacheFeature::mask,   CacheFeature::truncate,
    CacheFeature::undo,   CacheFeature::accept,   CacheFeature::fork,   CacheFeature::compact,
    CacheFeature::remove, CacheFeature::snapshot, CacheFeature::prefix,
};

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

/// Whether a cache with this rule and these positions can do it; `rotates`: its policy turns stored keys when it reads
/// them. Holds for every codec. unsupported, saying why and what to do instead.
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
