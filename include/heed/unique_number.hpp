/// \file
/// Numbers that tell objects apart, also those that had the same memory one after the other.
#pragma once

#include <atomic>
#include <cstdint>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

/// A number that no other call in the process returns, and not 0. An address is no such number: freed memory is given to
/// the next object that asks for as much.
///
/// The counter is heed's only global state. Nothing that is computed depends on its value.
[[nodiscard]] inline std::uint64_t unique_number() noexcept {
  static constinit std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace heed::inline HEED_ABI::detail
