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

/// The header of a block of rows. Its holders share it; only a page with one holder may be written. The rows lie elsewhere,
/// so taking a page touches no row: the first touch may cost the kernel a huge page.
struct Page {
  std::atomic<Index> holders{0};
  Page* next_free = nullptr;
  detail::Slab* slab = nullptr;
  std::byte* data = nullptr;
  std::atomic<std::uint64_t> shape{
      0};  ///< of the PageLayout whose marks the page has; 0: none, its bytes are undefined

  [[nodiscard]] std::byte* rows() noexcept { return data; }
  [[nodiscard]] const std::byte* rows() const noexcept { return data; }
};
static_assert(sizeof(Page) <= std::size_t(block_alignment));

}  // namespace heed::inline HEED_ABI
