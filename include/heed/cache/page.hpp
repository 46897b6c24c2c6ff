/// \file
/// A page of rows: what caches share, count and hand on.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include <heed/cache/memory.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
struct Slab;
}

/// A block of rows. Those who hold it share it; only a page held once may be written. The rows lie elsewhere: to take a
/// page touches none of them, whose first touch may cost the kernel a huge page.
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

namespace detail {

/// Slabs of one page size. A node of the pool's list, in a block of its own.
struct PageSize {
  Index page_bytes = 0;
  PageSize* next = nullptr;
  Slab* slabs[3] = {};  ///< by Slab::list()
  Index num_slabs = 0;
  Index pages = 0;
  Index free_pages = 0;
};
static_assert(sizeof(PageSize) <= std::size_t(block_alignment));

/// Pages whose rows are one block. Their headers lie behind this one, in a block of their own.
struct Slab {
  enum List { full, partial, idle };

  PageSize* size = nullptr;
  Slab* next = nullptr;
  Slab* previous = nullptr;
  Page* free = nullptr;  ///< handed out before
  std::byte* data = nullptr;
  std::int32_t pages = 0;
  std::int32_t made = 0;  ///< pages that have been handed out
  Index free_pages = 0;
  std::int64_t number = 0;  ///< counts all slabs of the pool

  [[nodiscard]] List list() const noexcept { return free_pages == 0 ? full : free_pages < pages ? partial : idle; }
  /// Bytes of the headers.
  [[nodiscard]] static Index header_bytes(Index pages) noexcept { return (1 + pages) * block_alignment; }
  /// A free page; there is one.
  [[nodiscard]] Page* take() noexcept {
    --free_pages;
    if (Page* const page = free; page != nullptr) {
      free = page->next_free;
      return page;
    }
    std::byte* const at = reinterpret_cast<std::byte*>(this) + header_bytes(made);
    Page* const page = std::construct_at(reinterpret_cast<Page*>(at));
    page->slab = this;
    page->data = data + made * (size->page_bytes - block_alignment);
    ++made;
    return page;
  }
  void give(Page* page) noexcept {
    page->next_free = free;
    free = page;
    ++free_pages;
  }
};
static_assert(sizeof(Slab) <= std::size_t(block_alignment));

}  // namespace detail

}  // namespace heed::inline HEED_ABI
