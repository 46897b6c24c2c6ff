/// \file
/// Pages of rows with reference counts: caches take them, forks share them, evicting gives them back.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include <heed/cache/memory.hpp>

namespace heed::inline HEED_ABI {

/// A block of rows. Those who hold it share it; only a page held once may be written.
struct Page {
  std::atomic<Index> holders{0};
  Page* next_free = nullptr;
  bool defined = false;  ///< has been handed out before

  /// The rows: right behind this header.
  [[nodiscard]] std::byte* rows() noexcept { return reinterpret_cast<std::byte*>(this) + block_alignment; }
  [[nodiscard]] const std::byte* rows() const noexcept {
    return reinterpret_cast<const std::byte*>(this) + block_alignment;
  }
};
static_assert(sizeof(Page) <= std::size_t(block_alignment));

/// What a pool holds and has held, in bytes asked of its memory resource.
struct PoolBytes {
  Index held = 0;  ///< now
  Index peak = 0;  ///< at most at once
  Index free = 0;  ///< of these, in pages that nobody holds
};

/// A source of pages, for one cache and its forks or for all sequences of an engine, and the meter of all that they
/// allocate. Safe to use from many threads. Pages are allocated several at a time, as many as there are already, up to
/// 32 MiB at once; free pages are handed out again, and go back to the memory resource with trim() or the pool's end.
class PagePool {
 public:
  /// Page sizes one pool serves: one for each layer group shape.
  static constexpr std::size_t max_sizes = 16;

  explicit PagePool(const MemoryResource& memory = default_memory()) noexcept : memory_(memory) {}
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  /// Every page must have been given back.
  ~PagePool() {
    for (SizeClass& size : sizes_) {
      while (size.slabs != nullptr) free_slab(size, &size.slabs);
    }
  }

  /// A page for `bytes` bytes of rows, held once, or out_of_memory. Its bytes are zeros or old rows.
  [[nodiscard]] Result<Page*> acquire(Index bytes) {
    Result<Page*> page = take(bytes);
    // Not when it is allocated: reserved memory that is never used should not be touched.
    if (page.ok() && !std::exchange((*page)->defined, true)) std::memset((*page)->rows(), 0, std::size_t(bytes));
    return page;
  }
  /// Makes sure that `count` pages of this size are free, or out_of_memory.
  [[nodiscard]] Status reserve(Index bytes, Index count) {
    const std::lock_guard lock(mutex_);
    Result<SizeClass*> found = size_class(bytes);
    if (!found.ok()) return found.status();
    const Index missing = count - (*found)->free_pages;
    return missing > 0 ? add_slab(**found, missing) : Status();
  }
  [[nodiscard]] Index free_pages(Index bytes) const noexcept {
    const std::lock_guard lock(mutex_);
    for (const SizeClass& size : sizes_) {
      if (size.page_bytes == page_bytes(bytes)) return size.free_pages;
    }
    return 0;
  }

  static void share(Page* page) noexcept { page->holders.fetch_add(1, std::memory_order_relaxed); }
  /// Whether somebody else holds the page, too.
  [[nodiscard]] static bool shared(const Page* page) noexcept {
    return page->holders.load(std::memory_order_acquire) > 1;
  }
  /// Gives up a hold on a page of `bytes` bytes of rows.
  void release(Page* page, Index bytes) noexcept {
    if (page->holders.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    const std::lock_guard lock(mutex_);
    SizeClass& size = **size_class(bytes);
    page->next_free = size.free;
    size.free = page;
    ++size.free_pages;
  }

  /// Gives slabs without a page in use back to the memory resource.
  void trim() noexcept {
    const std::lock_guard lock(mutex_);
    for (SizeClass& size : sizes_) trim(size);
  }

  [[nodiscard]] PoolBytes bytes() const noexcept {
    const std::lock_guard lock(mutex_);
    PoolBytes bytes{.held = held_, .peak = peak_};
    for (const SizeClass& size : sizes_) bytes.free += size.free_pages * size.page_bytes;
    return bytes;
  }
  /// Bytes of pages, headers included.
  [[nodiscard]] Index page_bytes_held() const noexcept {
    const std::lock_guard lock(mutex_);
    Index bytes = 0;
    for (const SizeClass& size : sizes_) bytes += size.pages * size.page_bytes + size.slab_headers * block_alignment;
    return bytes;
  }

  /// The same memory, counted: for what caches allocate beside pages. Must not outlive the pool.
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

  /// Bytes a page with `bytes` bytes of rows takes: a header, the rows, whole cache lines.
  [[nodiscard]] static constexpr Index page_bytes(Index bytes) noexcept {
    return block_alignment + round_up(bytes, block_alignment);
  }

 private:
  /// Before its pages.
  struct Slab {
    Slab* next = nullptr;
    Index pages = 0;
  };
  static_assert(sizeof(Slab) <= std::size_t(block_alignment));

  struct SizeClass {
    Index page_bytes = 0;
    Page* free = nullptr;
    Index free_pages = 0;
    Slab* slabs = nullptr;
    Index pages = 0;
    Index slab_headers = 0;
  };

  [[nodiscard]] static Page* page_of(Slab* slab, Index page_bytes, Index i) noexcept {
    return reinterpret_cast<Page*>(reinterpret_cast<std::byte*>(slab) + block_alignment + i * page_bytes);
  }
  [[nodiscard]] static Index slab_bytes(Index page_bytes, Index pages) noexcept {
    return block_alignment + pages * page_bytes;
  }

  [[nodiscard]] Result<Page*> take(Index bytes) {
    const std::lock_guard lock(mutex_);
    Result<SizeClass*> found = size_class(bytes);
    if (!found.ok()) return found.status();
    SizeClass& size = **found;
    if (size.free == nullptr) {
      constexpr Index most = Index{32} << 20;
      const Index count = std::clamp<Index>(most / size.page_bytes, 1, std::max<Index>(size.pages, 1));
      Status status = add_slab(size, count);
      if (!status.ok() && count > 1) status = add_slab(size, 1);
      if (!status.ok()) return status;
    }
    Page* page = size.free;
    size.free = page->next_free;
    --size.free_pages;
    page->holders.store(1, std::memory_order_relaxed);
    return page;
  }

  [[nodiscard]] Result<SizeClass*> size_class(Index bytes) {
    const Index wanted = page_bytes(bytes);
    for (SizeClass& size : sizes_) {
      if (size.page_bytes == 0) size.page_bytes = wanted;
      if (size.page_bytes == wanted) return &size;
    }
    return fail(StatusCode::out_of_memory, "page pool: pages of ", bytes, " bytes would be the size number ",
                max_sizes + 1, ", a pool serves ", max_sizes);
  }

  [[nodiscard]] Status add_slab(SizeClass& size, Index pages) {
    Index bytes = 0;
    if (__builtin_mul_overflow(pages, size.page_bytes, &bytes) ||
        __builtin_add_overflow(bytes, block_alignment, &bytes)) {
      return fail(StatusCode::out_of_memory, "rows: ", pages, " pages of ", size.page_bytes,
                  " bytes are more bytes than there are addresses");
    }
    void* block = memory_.allocate(memory_.context, std::size_t(bytes), std::size_t(block_alignment));
    if (block == nullptr) return fail(StatusCode::out_of_memory, "rows: cannot allocate ", bytes, " bytes");
    count(bytes);
    auto* slab = std::construct_at(static_cast<Slab*>(block));
    slab->pages = pages;
    slab->next = size.slabs;
    size.slabs = slab;
    for (Index i = pages; i-- > 0;) {
      Page* page = std::construct_at(page_of(slab, size.page_bytes, i));
      page->next_free = size.free;
      size.free = page;
    }
    size.free_pages += pages;
    size.pages += pages;
    ++size.slab_headers;
    return {};
  }

  void free_slab(SizeClass& size, Slab** link) noexcept {
    Slab* slab = *link;
    *link = slab->next;
    const Index bytes = slab_bytes(size.page_bytes, slab->pages);
    size.pages -= slab->pages;
    --size.slab_headers;
    count(-bytes);
    memory_.deallocate(memory_.context, slab, std::size_t(bytes), std::size_t(block_alignment));
  }

  void trim(SizeClass& size) noexcept {
    for (Slab** link = &size.slabs; *link != nullptr;) {
      Slab* slab = *link;
      const std::byte* begin = reinterpret_cast<std::byte*>(slab);
      const std::byte* end = begin + slab_bytes(size.page_bytes, slab->pages);
      const auto in_slab = [begin, end](const Page* page) {
        const auto* at = reinterpret_cast<const std::byte*>(page);
        return at >= begin && at < end;
      };
      // Not its holders: a page that nobody holds may still be on its way to the list, in another thread's release().
      Index free = 0;
      for (const Page* page = size.free; page != nullptr; page = page->next_free) free += in_slab(page);
      if (free < slab->pages) {
        link = &slab->next;
        continue;
      }
      for (Page** page = &size.free; *page != nullptr;) {
        if (in_slab(*page)) {
          *page = (*page)->next_free;
          --size.free_pages;
        } else {
          page = &(*page)->next_free;
        }
      }
      free_slab(size, link);
    }
  }

  void count(Index bytes) noexcept {
    held_ += bytes;
    peak_ = std::max(peak_, held_);
  }

  mutable std::mutex mutex_;
  MemoryResource memory_;
  std::array<SizeClass, max_sizes> sizes_{};
  Index held_ = 0;
  Index peak_ = 0;
};

/// A shared hold on a pool: one's own, or the caller's, which must outlive it.
class PoolHandle {
 public:
  PoolHandle() = default;
  /// The caller's.
  explicit PoolHandle(PagePool& pool) noexcept : pool_(&pool) {}
  /// A new one, which ends with its last handle, or out_of_memory.
  [[nodiscard]] static Result<PoolHandle> create(const MemoryResource& memory) {
    PoolHandle handle;
    handle.owned_ = new (std::nothrow) Owned(memory);
    if (handle.owned_ == nullptr) return fail(StatusCode::out_of_memory, "page pool: no memory for it");
    handle.pool_ = &handle.owned_->pool;
    return handle;
  }
  PoolHandle(const PoolHandle& other) noexcept : pool_(other.pool_), owned_(other.owned_) {
    if (owned_ != nullptr) owned_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  PoolHandle(PoolHandle&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), owned_(std::exchange(other.owned_, nullptr)) {}
  PoolHandle& operator=(PoolHandle other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~PoolHandle() {
    if (owned_ != nullptr && owned_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete owned_;
  }

  [[nodiscard]] PagePool& operator*() const noexcept { return *pool_; }
  [[nodiscard]] PagePool* operator->() const noexcept { return pool_; }
  [[nodiscard]] bool owned() const noexcept { return owned_ != nullptr; }

 private:
  struct Owned {
    explicit Owned(const MemoryResource& memory) noexcept : pool(memory) {}
    PagePool pool;
    std::atomic<Index> holders{1};
  };
  PagePool* pool_ = nullptr;
  Owned* owned_ = nullptr;
};

}  // namespace heed::inline HEED_ABI
