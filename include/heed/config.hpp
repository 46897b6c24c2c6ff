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

// The namespace every symbol lives in, versioned and tagged with the instruction set this translation unit is compiled
// for; written `namespace heed::inline HEED_ABI {` in every header. Two units built with different -march flags get
// different symbols, so the linker can never hand one the other's instructions.
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ABI v0_1_avx512_vnni_vbmi_bf16
#elif defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ABI v0_1_avx512_vnni_bf16
#elif defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ABI v0_1_avx512_vnni_vbmi
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ABI v0_1_avx512_vnni
#elif defined(__AVX512F__)
#define HEED_ABI v0_1_avx512
#elif defined(__AVXVNNI__) && defined(__FMA__)
#define HEED_ABI v0_1_avx2_vnni
#elif defined(__AVX2__) && defined(__FMA__)
#define HEED_ABI v0_1_avx2_fma
#elif defined(__AVX2__)
#define HEED_ABI v0_1_avx2
#elif defined(__AVX__)
#define HEED_ABI v0_1_avx
#elif defined(__SSE4_1__)
#define HEED_ABI v0_1_sse4
#elif defined(__SSE2__)
#define HEED_ABI v0_1_sse2
#elif defined(__ARM_FEATURE_SVE)
#define HEED_ABI v0_1_sve
#elif defined(__ARM_FEATURE_DOTPROD)
#define HEED_ABI v0_1_neon_dotprod
#elif defined(__ARM_NEON)
#define HEED_ABI v0_1_neon
#else
#define HEED_ABI v0_1_generic
#endif

#define HEED_QUOTE_(a) #a
#define HEED_QUOTE(a) HEED_QUOTE_(a)

/// Unrolls the next loop, whose bounds are constants, so that accumulators indexed in it stay in registers at -O2.
#if defined(__clang__)
#define HEED_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HEED_UNROLL _Pragma("GCC unroll 16")
#endif

namespace heed::inline HEED_ABI {

/// "major.minor.patch" of the headers this translation unit was compiled with.
[[nodiscard]] constexpr const char* version_string() noexcept {
  return HEED_QUOTE(HEED_VERSION_MAJOR) "." HEED_QUOTE(HEED_VERSION_MINOR) "." HEED_QUOTE(HEED_VERSION_PATCH);
}

/// Name of the instruction-set tag this translation unit was compiled for, such as "avx512_vnni_bf16" or "neon".
[[nodiscard]] constexpr const char* isa_name() noexcept { return &HEED_QUOTE(HEED_ABI)[sizeof("v0_1_") - 1]; }

}  // namespace heed::inline HEED_ABI
