/// \file
/// Pages of rows with reference counts: caches take them, forks share them, evicting gives them back.
#pragma once

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

#include <heed/cache/slab.hpp>
#include <heed/checked.hpp>

namespace heed::inline HEED_ABI {

/// Memory of a pool, in bytes asked of its memory resource.
struct PoolBytes {
  Index held = 0;  ///< held now
  Index peak = 0;  ///< the most that was held at once
  Index free = 0;  ///< part of `held` in free pages
};

/// A source of pages for one cache and its forks, or for all sequences of an engine. It also counts all that they
/// allocate. Serves any number of page sizes. Safe to use from many threads.
///
/// Pages are allocated in slabs: as many pages as the pool already has, within 8 MiB (32 MiB once the pool holds a
/// gigabyte) and within what the caller can use. Headers lie apart, so rows are not touched before they are written.
/// Free pages are used again. They go back to the memory resource by trim(), at the end of the pool, and when the
/// resource has no more memory.
class PagePool {
 public:
  /// A pool without pages. `memory.context` must outlive it.
  explicit PagePool(const MemoryResource& memory = default_memory()) noexcept : memory_(memory) {}
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  /// Every page must have been given back.
  ~PagePool() {
    while (sizes_ != nullptr) {
      for (Slab*& slab : sizes_->slabs) {
        while (slab != nullptr) free_slab(slab);
      }
      free_size(sizes_);
    }
  }

  /// Takes a page for `bytes` bytes of rows; the caller is its only holder. Its bytes are old rows, or undefined: see
  /// PageLayout::prepare(). If a slab is allocated for it, the slab has at most `most` pages. out_of_memory.
  [[nodiscard]] Result<Page*> acquire(Index bytes, Index most = count_limit) {
    const std::lock_guard lock(mutex_);
    Result<PageSize*> size = size_for(bytes);
    if (!size.ok()) return size.status();
    if ((*size)->free_pages == 0) {
      if (Status status = grow(**size, most); !status.ok()) {
        drop_if_empty(*size);
        return status;
      }
    }
    Slab* const slab = fullest(**size);
    unlink(slab);
    Page* const page = slab->take();
    --(*size)->free_pages;
    link(slab);
    page->holders.store(1, std::memory_order_relaxed);
    return page;
  }
  /// Allocates until `count` pages of this size are free, or out_of_memory.
  [[nodiscard]] Status reserve(Index bytes, Index count) {
    if (count <= 0) return {};
    const std::lock_guard lock(mutex_);
    Result<PageSize*> size = size_for(bytes);
    if (!size.ok()) return size.status();
    const Index missing = count - (*size)->free_pages;
    Status status = missing > 0 ? add_slab(**size, missing) : Status();
    if (!status.ok() && give_back_idle(*size)) status = add_slab(**size, missing);
    drop_if_empty(*size);
    return status;
  }
  /// Number of free pages of `bytes` bytes.
  [[nodiscard]] Index free_pages(Index bytes) const noexcept {
    const std::lock_guard lock(mutex_);
    const PageSize* const size = find(page_bytes(bytes));
    return size == nullptr ? 0 : size->free_pages;
  }

  /// Adds a holder.
  static void share(Page* page) noexcept { page->holders.fetch_add(1, std::memory_order_relaxed); }
  /// true if the page has more than one holder.
  [[nodiscard]] static bool shared(const Page* page) noexcept {
    return page->holders.load(std::memory_order_acquire) > 1;
  }
  /// Gives up a hold on a page.
  void release(Page* page) noexcept {
    if (page->holders.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    const std::lock_guard lock(mutex_);
    Slab* const slab = page->slab;
    unlink(slab);
    slab->give(page);
    ++slab->size->free_pages;
    link(slab);
  }

  /// Gives slabs without a page in use back to the memory resource.
  void trim() noexcept {
    const std::lock_guard lock(mutex_);
    give_back_idle();
  }
  /// Number of the slab that was allocated last.
  [[nodiscard]] std::int64_t last_slab() const noexcept {
    const std::lock_guard lock(mutex_);
    return last_slab_;
  }
  /// As trim(), only for slabs that were allocated after number `slab`.
  void trim_after(std::int64_t slab) noexcept {
    const std::lock_guard lock(mutex_);
    for (PageSize* size = sizes_; size != nullptr;) {
      PageSize* const next_size = size->next;
      for (Slab* at = size->slabs[Slab::idle]; at != nullptr;) {
        Slab* const next = at->next;
        if (at->number > slab) free_slab(at);
        at = next;
      }
      drop_if_empty(size);
      size = next_size;
    }
  }
  /// As trim(), only for pages of one size, and `keep` free pages of it stay.
  void trim(Index bytes, Index keep) noexcept {
    const std::lock_guard lock(mutex_);
    PageSize* const size = find(page_bytes(bytes));
    if (size == nullptr) return;
    for (Slab* slab = size->slabs[Slab::idle]; slab != nullptr;) {
      Slab* const next = slab->next;
      if (size->free_pages - slab->pages >= keep) free_slab(slab);
      slab = next;
    }
    drop_if_empty(size);
  }

  /// What the pool holds now.
  [[nodiscard]] PoolBytes bytes() const noexcept {
    const std::lock_guard lock(mutex_);
    PoolBytes bytes{.held = held_, .peak = peak_};
    for (const PageSize* s = sizes_; s != nullptr; s = s->next) bytes.free += s->free_pages * s->page_bytes;
    return bytes;
  }
  /// Bytes of pages, headers included.
  [[nodiscard]] Index page_bytes_held() const noexcept {
    const std::lock_guard lock(mutex_);
    Index bytes = 0;
    for (const PageSize* s = sizes_; s != nullptr; s = s->next) {
      bytes += s->pages * s->page_bytes + (1 + s->num_slabs) * block_alignment;
    }
    return bytes;
  }

  /// The pool's memory resource, counted in bytes(): for the bookkeeping of caches. Must not outlive the pool.
  [[nodiscard]] MemoryResource metered() noexcept {
    return {.context = this,
            .allocate = [](void* pool, std::size_t bytes, std::size_t alignment) -> void* {
              auto* self = static_cast<PagePool*>(pool);
              void* block = self->memory_.allocate(self->memory_.context, bytes, alignment);
              if (block != nullptr) {
                const std::lock_guard lock(self->mutex_);
                self->count(Index(bytes));
              }
              return block;
            },
            .deallocate =
                [](void* pool, void* block, std::size_t bytes, std::size_t alignment) {
                  auto* self = static_cast<PagePool*>(pool);
                  self->memory_.deallocate(self->memory_.context, block, bytes, alignment);
                  const std::lock_guard lock(self->mutex_);
                  self->count(-Index(bytes));
                }};
  }

  /// Bytes that a page with `bytes` bytes of rows takes: the rows in whole cache lines, and its header in the slab's block.
  [[nodiscard]] static constexpr Index page_bytes(Index bytes) noexcept {
    return block_alignment + round_up(bytes, block_alignment);
  }

 private:
  using PageSize = detail::PageSize;
  using Slab = detail::Slab;

  [[nodiscard]] PageSize* find(Index page_bytes) const noexcept {
    PageSize* size = sizes_;
    while (size != nullptr && size->page_bytes != page_bytes) size = size->next;
    return size;
  }
  /// The pages of this size, perhaps none yet, or out_of_memory.
  [[nodiscard]] Result<PageSize*> size_for(Index bytes) {
    const Index wanted = page_bytes(bytes);
    if (PageSize* const size = find(wanted); size != nullptr) return size;
    void* block = allocate(block_alignment);
    if (block == nullptr && give_back_idle()) block = allocate(block_alignment);
    if (block == nullptr) {
      return fail(StatusCode::out_of_memory, "page pool: cannot allocate ", block_alignment, " bytes");
    }
    sizes_ = std::construct_at(static_cast<PageSize*>(block), PageSize{.page_bytes = wanted, .next = sizes_});
    return sizes_;
  }
  void drop_if_empty(PageSize* size) noexcept {
    if (size->num_slabs == 0) free_size(size);
  }
  void free_size(PageSize* size) noexcept {
    PageSize** link = &sizes_;
    while (*link != size) link = &(*link)->next;
    *link = size->next;
    deallocate(size, block_alignment);
  }

  /// Adds at least one page.
  [[nodiscard]] Status grow(PageSize& size, Index most) {
    constexpr Index least_slab = Index{8} << 20, most_slab = Index{32} << 20;
    const Index slab_bytes = std::clamp(held_ / 32, least_slab, most_slab);
    const Index pages =
        std::clamp<Index>(std::min(most, size.pages), 1, std::max<Index>(1, slab_bytes / size.page_bytes));
    Status status = add_slab(size, pages);
    if (!status.ok() && pages > 1) status = add_slab(size, 1);
    if (!status.ok() && give_back_idle(&size)) status = add_slab(size, 1);
    return status;
  }
  [[nodiscard]] Status add_slab(PageSize& size, Index pages) {
    Index bytes = 0;
    if (__builtin_mul_overflow(pages, size.page_bytes, &bytes) ||
        __builtin_add_overflow(bytes, block_alignment, &bytes) || pages > std::numeric_limits<std::int32_t>::max()) {
      return fail(StatusCode::out_of_memory, "rows: ", pages, " pages of ", size.page_bytes,
                  " bytes are more bytes than there are addresses");
    }
    const Index headers = Slab::header_bytes(pages);
    void* const block = allocate(headers);
    void* const data = block == nullptr ? nullptr : allocate(bytes - headers);
    if (data == nullptr) {
      if (block != nullptr) deallocate(block, headers);
      return fail(StatusCode::out_of_memory, "rows: cannot allocate ", bytes, " bytes");
    }
    Slab* const slab = std::construct_at(static_cast<Slab*>(block));
    slab->size = &size;
    slab->data = static_cast<std::byte*>(data);
    slab->pages = std::int32_t(pages);
    slab->free_pages = pages;
    slab->number = ++last_slab_;
    size.free_pages += pages;
    size.pages += pages;
    ++size.num_slabs;
    link(slab);
    return {};
  }
  void free_slab(Slab* slab) noexcept {
    PageSize& size = *slab->size;
    unlink(slab);
    size.pages -= slab->pages;
    size.free_pages -= slab->free_pages;
    --size.num_slabs;
    deallocate(slab->data, slab->pages * (size.page_bytes - block_alignment));
    deallocate(slab, Slab::header_bytes(slab->pages));
  }
  /// A slab with free pages, preferably few: so other slabs become empty and can be given back. Looks at a few slabs
  /// only.
  [[nodiscard]] static Slab* fullest(const PageSize& size) noexcept {
    Slab* best = size.slabs[Slab::partial];
    if (best == nullptr) return size.slabs[Slab::idle];
    int looks = 8;
    for (Slab* slab = best->next; slab != nullptr && looks > 0; slab = slab->next, --looks) {
      if (slab->free_pages < best->free_pages) best = slab;
    }
    return best;
  }
  /// Frees every slab without a page in use, except of size `keep`; false if there is none.
  bool give_back_idle(const PageSize* keep = nullptr) noexcept {
    bool any = false;
    for (PageSize* size = sizes_; size != nullptr;) {
      PageSize* const next = size->next;
      while (size != keep && size->slabs[Slab::idle] != nullptr) {
        free_slab(size->slabs[Slab::idle]);
        any = true;
      }
      if (size != keep) drop_if_empty(size);
      size = next;
    }
    return any;
  }

  void link(Slab* slab) noexcept {
    Slab*& first = slab->size->slabs[slab->list()];
    slab->previous = nullptr;
    slab->next = first;
    if (first != nullptr) first->previous = slab;
    first = slab;
  }
  void unlink(Slab* slab) noexcept {
    if (slab->next != nullptr) slab->next->previous = slab->previous;
    (slab->previous != nullptr ? slab->previous->next : slab->size->slabs[slab->list()]) = slab->next;
  }

  [[nodiscard]] void* allocate(Index bytes) noexcept {
    void* const block = detail::ask_for(memory_, bytes);
    if (block != nullptr) count(bytes);
    return block;
  }
  void deallocate(void* block, Index bytes) noexcept {
    count(-bytes);
    memory_.deallocate(memory_.context, block, std::size_t(bytes), std::size_t(block_alignment));
  }
  void count(Index bytes) noexcept {
    held_ += bytes;
    peak_ = std::max(peak_, held_);
  }

  mutable std::mutex mutex_;
  MemoryResource memory_;
  PageSize* sizes_ = nullptr;
  Index held_ = 0;
  Index peak_ = 0;
  std::int64_t last_slab_ = 0;
};

}  // namespace heed::inline HEED_ABI
