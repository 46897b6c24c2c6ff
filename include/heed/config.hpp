/// \file
/// Version, refused compiler modes, and the namespace every heed symbol lives in.
#pragma once

#define HEED_VERSION_MAJOR 0
#define HEED_VERSION_MINOR 1
#define HEED_VERSION_PATCH 0

// exp, NaN and -inf rules of the kernel do not survive fast-math: an inlined exp was measured wrong by up to 41 %.
#if (defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)) && !defined(HEED_ALLOW_FAST_MATH)
#error "heed refuses fast-math (-ffast-math, -Ofast, -ffinite-math-only): results would be silently wrong. \
Drop the flag for this translation unit, or define HEED_ALLOW_FAST_MATH to accept wrong results."
#endif

#if !defined(__GNUC__)
#error "heed needs GCC or Clang: its loops use vector extensions and __builtin_shufflevector."
#endif

// The tag of the instruction set this translation unit is compiled for. Two units built with different -march flags
// get different symbols, so the linker can never hand one the other's instructions.
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA_NAME avx512_vnni_bf16
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA_NAME avx512_vnni
#elif defined(__AVX512F__)
#define HEED_ISA_NAME avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define HEED_ISA_NAME avx2_fma
#elif defined(__AVX2__)
#define HEED_ISA_NAME avx2
#elif defined(__AVX__)
#define HEED_ISA_NAME avx
#elif defined(__SSE4_1__)
#define HEED_ISA_NAME sse4
#elif defined(__SSE2__)
#define HEED_ISA_NAME sse2
#elif defined(__ARM_FEATURE_SVE)
#define HEED_ISA_NAME sve
#elif defined(__ARM_NEON)
#define HEED_ISA_NAME neon
#else
#define HEED_ISA_NAME generic
#endif

#define HEED_PASTE_(a, b) a##b
#define HEED_PASTE(a, b) HEED_PASTE_(a, b)
#define HEED_QUOTE_(a) #a
#define HEED_QUOTE(a) HEED_QUOTE_(a)

/// Versioned and ISA-tagged; written `namespace heed::inline HEED_ABI {` in every header.
#define HEED_ABI HEED_PASTE(v0_1_, HEED_ISA_NAME)

namespace heed::inline HEED_ABI {

/// "major.minor.patch" of the headers this translation unit was compiled with.
[[nodiscard]] constexpr const char* version_string() noexcept {
  return HEED_QUOTE(HEED_VERSION_MAJOR) "." HEED_QUOTE(HEED_VERSION_MINOR) "." HEED_QUOTE(HEED_VERSION_PATCH);
}

/// Name of the instruction-set tag this translation unit was compiled for, such as "avx512_vnni_bf16" or "neon".
[[nodiscard]] constexpr const char* isa_name() noexcept { return HEED_QUOTE(HEED_ISA_NAME); }

}  // namespace heed::inline HEED_ABI
