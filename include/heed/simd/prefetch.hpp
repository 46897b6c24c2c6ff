/// \file
/// A prefetch at any address.
#pragma once

#include <cstddef>
#include <cstdint>

#include <heed/simd/tile.hpp>
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

/// Prefetches the rows ahead of a group of keys, one line for each line that is read, row after row. Where rows lie together
/// this is one stream for the hardware, and all rows of a group arrive in time.
class LineCursor {
 public:
  /// For keys from number `first` on, of whose rows the bytes [first_byte, end_byte) are read.
  [[gnu::always_inline]] LineCursor(const KeyRows& keys, Index first, Index first_byte, Index end_byte)
      : row_((keys.ahead == nullptr ? keys.row : keys.ahead) + first),
        far_(keys.far_ahead == nullptr ? nullptr : keys.far_ahead + first),
        offset_(first_byte),
        end_(end_byte),
        bytes_(end_byte - first_byte) {}

  /// The next line.
  [[gnu::always_inline]] void next() {
    prefetch(*row_, offset_);
    if (far_ != nullptr) prefetch_l2(*far_, offset_);
    offset_ += 64;
    if (offset_ >= end_) {
      offset_ -= bytes_;
      ++row_;
      if (far_ != nullptr) ++far_;
    }
  }

 private:
  const std::byte* const* row_;
  const std::byte* const* far_;
  Index offset_;
  Index end_, bytes_;
};

}  // namespace heed::inline HEED_ABI::detail
