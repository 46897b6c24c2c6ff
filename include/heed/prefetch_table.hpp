/// \file
/// How far ahead rows of a cache are prefetched: a choice of each machine, which changes no bit.
#pragma once

#include <heed/types.hpp>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace heed::inline HEED_ABI {

/// Distances of a stream of rows, in bytes. 0: no such prefetch, which leaves it to the hardware.
struct PrefetchDistance {
  Index l1_bytes = 0;  ///< into all caches
  Index l2_bytes = 0;  ///< into L2 only, further ahead
};

/// Distances for keys and values that are read in place, by the number of query rows that read them together.
struct PrefetchTable {
  PrefetchDistance keys_of_one = {8192, 0};    ///< one query row
  PrefetchDistance values_of_one = {8192, 0};  ///< one query row, whose math reads one value after the other
  PrefetchDistance keys = {12288, 0};          ///< other cases
  PrefetchDistance values = {12288, 0};        ///< other cases
  Index chunks = 1;                            ///< most chunks whose keys are read before their values, 1 to 16
  Index in_place_rows = 8;                     ///< most query rows that read in place; a math may allow fewer

  /// The distances for `rows` query rows. `at_once`: values that the math reads together.
  /// \{
  [[nodiscard]] const PrefetchDistance& of_keys(Index rows) const noexcept { return rows == 1 ? keys_of_one : keys; }
  [[nodiscard]] const PrefetchDistance& of_values(Index rows, Index at_once) const noexcept {
    return rows == 1 && at_once == 1 ? values_of_one : values;
  }
  /// \}
};

namespace detail {

/// Family and model of an x86 CPU, as CPUID gives them, and whether it is AMD's.
struct CpuModel {
  bool amd = false;
  unsigned family = 0;
  unsigned model = 0;
};

[[nodiscard]] inline CpuModel cpu_model() noexcept {
  CpuModel found;
#if defined(__x86_64__) || defined(__i386__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return found;
  found.amd = b == 0x68747541 && d == 0x69746e65 && c == 0x444d4163;  // "AuthenticAMD"
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return found;
  found.family = (a >> 8 & 15) + (a >> 20 & 255);
  found.model = (a >> 4 & 15) | (a >> 12 & 240);
#endif
  return found;
}

/// Zen 4: the hardware prefetches values for one row best when it is left alone. Software prefetches into L1 far ahead, or
/// in another order than memory's, halve its bandwidth (docs/measurements.md).
inline constexpr PrefetchTable zen4_prefetch{.keys_of_one = {4096, 32768},
                                             .values_of_one = {0, 0},
                                             .keys = {4096, 32768},
                                             .values = {4096, 32768},
                                             .chunks = 16,
                                             .in_place_rows = 64};

[[nodiscard]] inline PrefetchTable prefetch_of(const CpuModel& cpu) noexcept {
  const bool zen4 = cpu.amd && cpu.family == 0x19 && ((cpu.model >= 0x10 && cpu.model <= 0x1f) || cpu.model >= 0x60);
  return zen4 ? zen4_prefetch : PrefetchTable{};
}

}  // namespace detail

/// The table of the CPU that this runs on, found once. Measured on Zen 4 and Zen 5; other CPUs get Zen 5's.
[[nodiscard]] inline const PrefetchTable& machine_prefetch() noexcept {
  static const PrefetchTable table = detail::prefetch_of(detail::cpu_model());
  return table;
}

}  // namespace heed::inline HEED_ABI
