/// \file
/// Bytes that several caches hold together. A shared page counts once.
#pragma once

#include <unordered_map>

#include <heed/checked.hpp>
#include <heed/heap.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// Pages of a cache, if it has any (KvCache does; what has none counts by its bookkeeping).
template <class Cache, class Body>
void for_each_page_of(const Cache& cache, const Body& body) {
  if constexpr (requires { cache.for_each_page(body); }) cache.for_each_page(body);
}

/// Bytes of a cache that no other cache shares.
template <class Cache>
[[nodiscard]] Index own_bytes_of(const Cache& cache) {
  if constexpr (requires { cache.bookkeeping_bytes(); }) {
    return cache.bookkeeping_bytes();
  } else {
    return cache.bytes().allocated;
  }
}

/// Counts pages by their address. A cache must not change between add() and remove().
class PageTally {
 public:
  [[nodiscard]] Index bytes() const noexcept { return bytes_; }

  /// Nothing changes if the heap has no memory (std::bad_alloc).
  template <class Cache>
  void add(const Cache& cache) {
    Index added = 0;
    Undo undo([&]() noexcept { remove_first(added, cache); });
    for_each_page_of(cache, [&](const void* page, Index bytes) {
      if (++holders_[page] == 1) bytes_ += bytes;
      ++added;
    });
    undo.keep();
  }
  template <class Cache>
  void remove(const Cache& cache) noexcept {
    remove_first(count_limit, cache);
  }

 private:
  template <class Cache>
  void remove_first(Index pages, const Cache& cache) noexcept {
    for_each_page_of(cache, [&](const void* page, Index bytes) {
      if (pages-- <= 0) return;
      const auto at = holders_.find(page);
      if (--at->second > 0) return;
      holders_.erase(at);
      bytes_ -= bytes;
    });
  }

  std::unordered_map<const void*, Index> holders_;
  Index bytes_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail
