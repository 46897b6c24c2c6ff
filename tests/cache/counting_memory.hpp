/// \file
/// A memory resource that counts, and that fails on demand.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include <heed/memory.hpp>

namespace heed_test {

/// Keeps the meter's own nodes out of the heap that a test counts or lets fail.
template <class T>
struct MallocAllocator {
  using value_type = T;
  MallocAllocator() = default;
  template <class U>
  MallocAllocator(const MallocAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t n) { return static_cast<T*>(std::malloc(n * sizeof(T))); }
  void deallocate(T* block, std::size_t) noexcept { std::free(block); }
  template <class U>
  bool operator==(const MallocAllocator<U>&) const noexcept {
    return true;
  }
};

/// Held and peak bytes as the resource sees them. Must outlive every cache that uses it. Blocks are filled with a byte, so
/// that whoever relies on zeros notices, and that touched() can tell what was written.
struct CountingMemory {
  heed::Index held = 0;
  heed::Index peak = 0;
  heed::Index blocks = 0;         ///< held now
  heed::Index allocations = 0;    ///< ever tried
  heed::Index failing_from = -1;  ///< the allocation with this number fails, and `failures` - 1 after it
  heed::Index failures = 1;
  heed::Index most_held = heed::Index{1} << 62;  ///< no block is given that would make it more
  heed::Index largest = 0;                       ///< block that was ever given
  using Blocks = std::map<void*, std::size_t, std::less<>, MallocAllocator<std::pair<void* const, std::size_t>>>;
  Blocks given = {};  ///< every block that is held
  static constexpr unsigned char filling = 0xA5;
  static constexpr heed::Index most = heed::Index{1} << 33;  ///< no larger block is given

  /// Bytes of all blocks that are no longer what they were filled with. Misses a byte that was overwritten by the filling.
  [[nodiscard]] heed::Index touched() const noexcept {
    heed::Index bytes = 0;
    for (const auto& [block, size] : given) {
      const auto* const begin = static_cast<const unsigned char*>(block);
      bytes += heed::Index(size) - heed::Index(std::count(begin, begin + size, filling));
    }
    return bytes;
  }

  [[nodiscard]] heed::MemoryResource resource() noexcept {
    return {.context = this,
            .allocate = [](void* context, std::size_t bytes, std::size_t alignment) -> void* {
              auto& memory = *static_cast<CountingMemory*>(context);
              const heed::Index number = memory.allocations++;
              if (heed::Index(bytes) > most || memory.held + heed::Index(bytes) > memory.most_held) return nullptr;
              if (memory.failing_from >= 0 && number >= memory.failing_from &&
                  number < memory.failing_from + memory.failures) {
                return nullptr;
              }
              void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
              std::memset(block, int(filling), bytes);
              ++memory.blocks;
              memory.largest = std::max(memory.largest, heed::Index(bytes));
              memory.given[block] = bytes;
              memory.held += heed::Index(bytes);
              memory.peak = std::max(memory.peak, memory.held);
              return block;
            },
            .deallocate =
                [](void* context, void* block, std::size_t bytes, std::size_t) {
                  auto& memory = *static_cast<CountingMemory*>(context);
                  --memory.blocks;
                  memory.given.erase(block);
                  memory.held -= heed::Index(bytes);
                  std::free(block);
                }};
  }
};

}  // namespace heed_test
