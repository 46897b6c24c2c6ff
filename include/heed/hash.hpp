/// \file
/// The hash of cache shapes, of settings, and of positions.
#pragma once

#include <cstdint>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// The hash of numbers that come one by one: `hash` is that of the numbers before. Snapshots hold it, so it must not change.
[[nodiscard]] constexpr std::uint64_t hash_next(std::uint64_t hash, std::uint64_t number) noexcept {
  hash = (hash ^ number) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 32;
}

}  // namespace heed::inline HEED_ABI::detail
