/// \file
/// A page of rows, with a reference count.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <heed/memory.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
struct Slab;
}

/// The header of a block of rows. Its holders share it; only a page with one holder may be written. The rows lie
/// elsewhere, so taking a page touches no row: the first touch of a row may make the operating system fetch a huge
/// page.
struct Page {
  std::atomic<Index> holders{0};  ///< tables that hold the page
  Page* next_free = nullptr;      ///< next one in the pool's list of free pages
  detail::Slab* slab = nullptr;   ///< the allocation that the page is part of
  std::byte* data = nullptr;      ///< its rows
  /// Of the PageLayout whose marks the page has. 0: none, its bytes are undefined.
  std::atomic<std::uint64_t> shape{0};

  /// Its rows.
  /// \{
  [[nodiscard]] std::byte* rows() noexcept { return data; }
  [[nodiscard]] const std::byte* rows() const noexcept { return data; }
  /// \}
};
static_assert(sizeof(Page) <= std::size_t(block_alignment));

}  // namespace heed::inline HEED_ABI
