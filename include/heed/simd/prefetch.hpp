/// \file
/// A prefetch at any address.
#pragma once

#include <cstddef>
#include <cstdint>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// Prefetches the cache line at `from` + offset. `from` may lie outside any object, because prefetch lists run past the
/// last row. The offset is added to an integer: pointer arithmetic there would be undefined.
[[gnu::always_inline]] inline void prefetch(const std::byte* from, Index offset) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(from) + std::uintptr_t(offset)));
}

/// The same, into L2 only.
[[gnu::always_inline]] inline void prefetch_l2(const std::byte* from, Index offset) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(from) + std::uintptr_t(offset)), 0,
                     2);
}

}  // namespace heed::inline HEED_ABI::detail
