/// \file
/// A shared hold on a pool of pages.
#pragma once

#include <atomic>
#include <new>
#include <utility>

#include <heed/cache/page_pool.hpp>

namespace heed::inline HEED_ABI::detail {

/// A handle on a pool of pages: the cache's own pool, which ends with its last handle, or one of the caller, which must
/// outlive the handle.
class PoolHandle {
 public:
  PoolHandle() = default;
  /// A handle on a pool of the caller.
  explicit PoolHandle(PagePool& pool) noexcept : pool_(&pool) {}
  /// A handle on a new pool, or out_of_memory.
  [[nodiscard]] static Result<PoolHandle> create(const MemoryResource& memory) {
    PoolHandle handle;
    handle.owned_ = new (std::nothrow) Owned(memory);
    if (handle.owned_ == nullptr) return fail(StatusCode::out_of_memory, "page pool: no memory for it");
    handle.pool_ = &handle.owned_->pool;
    return handle;
  }
  /// Another handle on the same pool.
  PoolHandle(const PoolHandle& other) noexcept : pool_(other.pool_), owned_(other.owned_) {
    if (owned_ != nullptr) owned_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  /// Takes over the handle. `other` is left without a pool.
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

  /// The pool. Only of a handle that has one.
  /// \{
  [[nodiscard]] PagePool& operator*() const noexcept { return *pool_; }
  [[nodiscard]] PagePool* operator->() const noexcept { return pool_; }
  /// \}
  /// true if the pool is the cache's own.
  [[nodiscard]] bool owned() const noexcept { return owned_ != nullptr; }
  /// Number of handles on a cache's own pool, this one included.
  [[nodiscard]] Index handles() const noexcept {
    return owned_ == nullptr ? 0 : owned_->holders.load(std::memory_order_acquire);
  }

 private:
  struct Owned {
    explicit Owned(const MemoryResource& memory) noexcept : pool(memory) {}
    PagePool pool;
    std::atomic<Index> holders{1};
  };
  PagePool* pool_ = nullptr;
  Owned* owned_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
