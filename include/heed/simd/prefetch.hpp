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
  /// For keys from number `first` on, of whose rows the bytes [first_byte, end_byte) are read. Lists that are null are not
  /// prefetched; the others have whole groups of keys.
  [[gnu::always_inline]] LineCursor(const KeyRows& keys, Index first, Index first_byte, Index end_byte)
      : near_list_(keys.ahead),
        far_list_(keys.far_ahead),
        row_(first),
        offset_(first_byte),
        end_(end_byte),
        bytes_(end_byte - first_byte) {}

  /// The next line.
  [[gnu::always_inline]] void next() {
    if (near_list_ != nullptr) prefetch(near_list_[row_], offset_);
    if (far_list_ != nullptr) prefetch_l2(far_list_[row_], offset_);
    offset_ += 64;
    if (offset_ >= end_) {
      offset_ -= bytes_;
      ++row_;
    }
  }

 private:
  const std::byte* const* near_list_;
  const std::byte* const* far_list_;
  Index row_;
  Index offset_;
  Index end_, bytes_;
};

}  // namespace heed::inline HEED_ABI::detail
