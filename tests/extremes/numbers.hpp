/// \file
/// The numbers that arithmetic on a caller's integers must survive. Run under UBSan these tests also see what happens to
/// give the right answer.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <string>

#include <heed/compiled/scalar.hpp>
#include <heed/heed.hpp>

namespace heed_test {

using heed::Index;

inline constexpr Index largest = std::numeric_limits<Index>::max(), smallest = std::numeric_limits<Index>::min();
inline constexpr std::array<Index, 12> extremes{0,
                                                1,
                                                -1,
                                                std::numeric_limits<std::int32_t>::max(),
                                                (Index{1} << 24) + 1,
                                                Index{1} << 32,
                                                Index{1} << 48,
                                                Index{1} << 62,
                                                largest / 8,
                                                largest - 1,
                                                largest,
                                                smallest};

/// Calls `call(n)` for every extreme, and `call(m, n)`, `call(l, m, n)` for every combination.
template <class Call>
void for_extremes(const Call& call) {
  for (const Index n : extremes) {
    if constexpr (std::is_invocable_v<Call, Index>) {
      SCOPED_TRACE(n);
      call(n);
    } else {
      for_extremes([&](auto... rest) requires(std::is_invocable_v<Call, Index, decltype(rest)...>) {
        SCOPED_TRACE(n);
        call(n, rest...);
      });
    }
  }
}

inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
inline constexpr double endless = std::numeric_limits<double>::infinity();
/// What a caller's float64 may be.
inline constexpr std::array<double, 14> extreme_floats{0.0,  -0.0, 5e-324, 1e-310,  1e-45,   0.5,      1.0,
                                                       -1.0, 3e38, 1e39,   1.7e308, endless, -endless, not_a_number};

/// Calls `call(x)` for every extreme float, or `call(x, y)` for every pair.
template <class Call>
void for_extreme_floats(const Call& call) {
  for (const double x : extreme_floats) {
    SCOPED_TRACE(x);
    if constexpr (std::is_invocable_v<Call, double>) {
      call(x);
    } else {
      for (const double y : extreme_floats) {
        SCOPED_TRACE(y);
        call(x, y);
      }
    }
  }
}

/// A failure says why.
inline void expect_said(const heed::Status& status) {
  if (!status.ok()) {
    EXPECT_FALSE(status.message().empty());
  }
}
template <class T>
void expect_said(const heed::Result<T>& result) {
  if (!result.ok()) {
    EXPECT_FALSE(result.status().message().empty());
  }
}
/// Refused, and the message has the number.
template <class R>
void expect_refused(const R& result, Index number) {
  EXPECT_FALSE(result.ok());
  if constexpr (std::is_same_v<R, heed::Status>) {
    EXPECT_NE(result.message().find(std::to_string(number)), std::string::npos) << result.message();
  } else {
    EXPECT_NE(result.status().message().find(std::to_string(number)), std::string::npos) << result.status().message();
  }
}

/// Memory of at most 16 MiB a block and 64 MiB in all: what is not refused must not be tried either.
inline heed::MemoryResource little_memory() {
  static std::atomic<std::size_t> taken{0};
  return {.context = nullptr,
          .allocate = [](void*, std::size_t bytes, std::size_t alignment) -> void* {
            if (bytes > std::size_t{1} << 24) return nullptr;
            if (taken.fetch_add(bytes) + bytes > std::size_t{1} << 26) {
              taken.fetch_sub(bytes);
              return nullptr;
            }
            return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
          },
          .deallocate =
              [](void*, void* block, std::size_t bytes, std::size_t) {
                taken.fetch_sub(bytes);
                std::free(block);
              }};
}

}  // namespace heed_test
