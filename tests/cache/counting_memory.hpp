/// \file
/// A memory resource that counts, and that fails on demand.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <heed/cache/memory.hpp>

namespace heed_test {

/// Held and peak bytes as the resource sees them. Must outlive every cache that uses it.
struct CountingMemory {
  heed::Index held = 0;
  heed::Index peak = 0;
  heed::Index blocks = 0;         ///< held now
  heed::Index allocations = 0;    ///< ever tried
  heed::Index failing_from = -1;  ///< the allocation with this number fails, and `failures` - 1 after it
  heed::Index failures = 1;
  static constexpr heed::Index most = heed::Index{1} << 33;  ///< no larger block is given

  [[nodiscard]] heed::MemoryResource resource() noexcept {
    return {.context = this,
            .allocate = [](void* context, std::size_t bytes, std::size_t alignment) -> void* {
              auto& memory = *static_cast<CountingMemory*>(context);
              const heed::Index number = memory.allocations++;
              if (heed::Index(bytes) > most) return nullptr;
              if (memory.failing_from >= 0 && number >= memory.failing_from &&
                  number < memory.failing_from + memory.failures) {
                return nullptr;
              }
              void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
              std::memset(block, 0xA5, bytes);  // whoever relies on zeros shall notice
              ++memory.blocks;
              memory.held += heed::Index(bytes);
              memory.peak = std::max(memory.peak, memory.held);
              return block;
            },
            .deallocate =
                [](void* context, void* block, std::size_t bytes, std::size_t) {
                  auto& memory = *static_cast<CountingMemory*>(context);
                  --memory.blocks;
                  memory.held -= heed::Index(bytes);
                  std::free(block);
                }};
  }
};

}  // namespace heed_test
