/// \file
/// How the processor rounds, and which numbers it takes for zero. The caller decides; every worker must do the same.
#pragma once

#include <cstdint>

#include <heed/types.hpp>

#if !defined(__SSE__) && !defined(__aarch64__)
#include <cfenv>
#endif

namespace heed::inline HEED_ABI {

/// The floating-point environment of a thread: rounding mode, DAZ and FTZ (flush subnormal operands or results to
/// zero), exception masks. On x86 it is MXCSR and x87's control word, on AArch64 FPCR, elsewhere what the header cfenv
/// has. Cheap enough for every call of an executor.
class FloatingPointEnvironment {
 public:
  /// The environment of the calling thread.
  [[nodiscard]] static FloatingPointEnvironment current() noexcept {
    FloatingPointEnvironment now;
#if defined(__SSE__)
    now.state_ = __builtin_ia32_stmxcsr();
    asm volatile("fnstcw %0" : "=m"(now.x87_));
#elif defined(__aarch64__)
    asm volatile("mrs %0, fpcr" : "=r"(now.state_));
#else
    std::fegetenv(&now.state_);
#endif
    return now;
  }

  /// Makes this the environment of the calling thread.
  void apply() const noexcept {
#if defined(__SSE__)
    __builtin_ia32_ldmxcsr(state_);
    asm volatile("fldcw %0" : : "m"(x87_));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" : : "r"(state_));
#else
    std::fesetenv(&state_);
#endif
  }

 private:
#if defined(__SSE__)
  std::uint32_t state_ = 0;
  std::uint16_t x87_ = 0;
#elif defined(__aarch64__)
  std::uint64_t state_ = 0;
#else
  std::fenv_t state_{};
#endif
};

}  // namespace heed::inline HEED_ABI
