/// \file
/// Many pages in two blocks of memory: what a pool of pages allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <heed/cache/page.hpp>

namespace heed::inline HEED_ABI::detail {

/// The slabs of one page size: a node of the pool's list, in its own block.
struct PageSize {
  Index page_bytes = 0;
  PageSize* next = nullptr;
  Slab* slabs[3] = {};  ///< by Slab::list()
  Index num_slabs = 0;
  Index pages = 0;
  Index free_pages = 0;
};
static_assert(sizeof(PageSize) <= std::size_t(block_alignment));

/// Pages whose rows are one block. This object and the headers of the pages, which follow it, are another block.
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
  /// Takes a free page; there must be one.
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

}  // namespace heed::inline HEED_ABI::detail
