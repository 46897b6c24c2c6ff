/// \file
/// DAZ and FTZ as a host sets them, for a while.
#pragma once

#include <cstdint>

namespace heed_test {

/// Subnormal operands count as zeros (DAZ), subnormal results become zeros (FTZ), in this thread.
class FlushSubnormals {
 public:
#if defined(__SSE2__)
  static constexpr bool possible = true;
  FlushSubnormals() { __builtin_ia32_ldmxcsr(before_ | 0x8040u); }
  ~FlushSubnormals() { __builtin_ia32_ldmxcsr(before_); }

 private:
  std::uint32_t before_ = __builtin_ia32_stmxcsr();

 public:
#elif defined(__aarch64__)
  static constexpr bool possible = true;
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (std::uint64_t{1} << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  std::uint64_t before_ = 0;

 public:
#else
  static constexpr bool possible = false;
  FlushSubnormals() {}
#endif
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;
};

/// Whether they do now.
[[nodiscard]] inline bool flushes_subnormals() {
  const volatile float subnormal = 0x1p-140f, large = 0x1p100f;
  return subnormal * large == 0;
}

}  // namespace heed_test
