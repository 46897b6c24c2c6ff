/// \file
/// HEED_ABI, the namespace of every symbol: version, instruction set, and what is missing of the macros on which the
/// headers branch and of the extensions that GCC and Clang use without being asked. Example:
/// v0_1_avx512_vnni_vbmi_bf16_x86_no_25262730313233343546490f.
///
/// Units that differ in one of these macros have different symbols, so the linker cannot give one unit the other's code.
/// The tag does not know extensions that are younger than this file, nor NDEBUG, -O, -g and sanitizers.
///
/// HEED_ABI is expanded wherever it is written, so the macros that make it stay visible. They are for this file alone.
#pragma once

#include <heed/config/backends.hpp>

/// HEED_ABSENT(code, value) is nothing if `value` is 1 (or the version of a RISC-V extension), else `code`. A macro that
/// is not defined is not 1. Codes begin with a digit, so that they are no macros of a program.
/// \{
#define HEED_SET_1
#if defined(__riscv)
#define HEED_SET_1000000
#endif
#define HEED_ABSENT(code, value) HEED_ABSENT_UNLESS(code, HEED_SET_##value)
#define HEED_ABSENT_UNLESS(code, ...) __VA_OPT__(code)
/// \}

// Defined as anything, it means 1.
#if defined(HEED_ALLOW_FAST_MATH)
#undef HEED_ALLOW_FAST_MATH
#define HEED_ALLOW_FAST_MATH 1
#endif

/// HEED_ISA names the loops that run; config.hpp undefines it. HEED_ABI has the number of each extension that is missing,
/// 0x without xsimd, 0e without Eigen, 0f unless the user accepts the wrong results of fast-math, 0m without a fast fused
/// multiply-add.
/// \{
#if defined(__x86_64__) || defined(__i386__)

#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni_vbmi_bf16
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx512_vnni_vbmi_bf16, __VA_ARGS__)
#elif defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni_bf16
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx512_vnni_bf16, __VA_ARGS__)
#elif defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni_vbmi
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx512_vnni_vbmi, __VA_ARGS__)
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx512_vnni, __VA_ARGS__)
#elif defined(__AVX512F__)
#define HEED_ISA avx512
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx512, __VA_ARGS__)
#elif defined(__AVXVNNI__) && defined(__FMA__)
#define HEED_ISA avx2_vnni
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx2_vnni, __VA_ARGS__)
#elif defined(__AVX2__) && defined(__FMA__)
#define HEED_ISA avx2_fma
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx2_fma, __VA_ARGS__)
#elif defined(__AVX2__)
#define HEED_ISA avx2
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx2, __VA_ARGS__)
#elif defined(__AVX__)
#define HEED_ISA avx
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(avx, __VA_ARGS__)
#elif defined(__SSE4_1__)
#define HEED_ISA sse4
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(sse4, __VA_ARGS__)
#elif defined(__SSE2__)
#define HEED_ISA sse2
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(sse2, __VA_ARGS__)
#else
#define HEED_ISA generic
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(generic, __VA_ARGS__)
#endif

#if defined(__AVX512F__)
#define HEED_ABI HEED_ABI_OF(__SSE__, __SSE2__, __SSE3__, __SSSE3__, __SSE4_1__, __SSE4_2__, __POPCNT__, __AVX__,     \
  __F16C__, __FMA__, __AVX2__, __BMI__, __BMI2__, __LZCNT__, __MOVBE__, __FMA4__, __XOP__, __TBM__, __SSE4A__,        \
  __GFNI__, __AVXVNNI__, __AVXIFMA__, __AVXVNNIINT8__, __APX_F__, __AVX10_1__, __AVX10_2__, __AVX512F__,              \
  __AVX512CD__, __AVX512DQ__, __AVX512BW__, __AVX512VL__, __AVX512VNNI__, __AVX512VBMI__, __AVX512VBMI2__,            \
  __AVX512IFMA__, __AVX512BF16__, __AVX512FP16__, __AVX512BITALG__, __AVX512VPOPCNTDQ__, __AVX512ER__,                \
  HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#define HEED_ABI_OF(f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26, f27, f28,    \
  f29, f30, f31, f32, f33, f34, f35, f36, f37, f38, f39, f40, f41, f42, f43, f44, f45, f46, f47, f48, f49, f0x,       \
  f0e, f0f, f0m)                                                                                                      \
  HEED_ABI_JOINED(HEED_ABSENT(10, f10), HEED_ABSENT(11, f11), HEED_ABSENT(12, f12), HEED_ABSENT(13, f13),             \
    HEED_ABSENT(14, f14), HEED_ABSENT(15, f15), HEED_ABSENT(16, f16), HEED_ABSENT(17, f17), HEED_ABSENT(18, f18),     \
    HEED_ABSENT(19, f19), HEED_ABSENT(20, f20), HEED_ABSENT(21, f21), HEED_ABSENT(22, f22), HEED_ABSENT(23, f23),     \
    HEED_ABSENT(24, f24), HEED_ABSENT(25, f25), HEED_ABSENT(26, f26), HEED_ABSENT(27, f27), HEED_ABSENT(28, f28),     \
    HEED_ABSENT(29, f29), HEED_ABSENT(30, f30), HEED_ABSENT(31, f31), HEED_ABSENT(32, f32), HEED_ABSENT(33, f33),     \
    HEED_ABSENT(34, f34), HEED_ABSENT(35, f35), HEED_ABSENT(36, f36), HEED_ABSENT(37, f37), HEED_ABSENT(38, f38),     \
    HEED_ABSENT(39, f39), HEED_ABSENT(40, f40), HEED_ABSENT(41, f41), HEED_ABSENT(42, f42), HEED_ABSENT(43, f43),     \
    HEED_ABSENT(44, f44), HEED_ABSENT(45, f45), HEED_ABSENT(46, f46), HEED_ABSENT(47, f47), HEED_ABSENT(48, f48),     \
    HEED_ABSENT(49, f49), HEED_ABSENT(0x, f0x), HEED_ABSENT(0e, f0e), HEED_ABSENT(0f, f0f), HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26,     \
  f27, f28, f29, f30, f31, f32, f33, f34, f35, f36, f37, f38, f39, f40, f41, f42, f43, f44, f45, f46, f47, f48,       \
  f49, f0x, f0e, f0f, f0m)                                                                                            \
  v0_1_##isa##_x86_no_##f10##f11##f12##f13##f14##f15##f16##f17##f18##f19##f20##f21##f22##f23##f24##f25##f26##f27      \
    ##f28##f29##f30##f31##f32##f33##f34##f35##f36##f37##f38##f39##f40##f41##f42##f43##f44##f45##f46##f47##f48##f49    \
    ##f0x##f0e##f0f##f0m
#else  // nothing else of AVX-512 either
#define HEED_ABI HEED_ABI_OF(__SSE__, __SSE2__, __SSE3__, __SSSE3__, __SSE4_1__, __SSE4_2__, __POPCNT__, __AVX__,     \
  __F16C__, __FMA__, __AVX2__, __BMI__, __BMI2__, __LZCNT__, __MOVBE__, __FMA4__, __XOP__, __TBM__, __SSE4A__,        \
  __GFNI__, __AVXVNNI__, __AVXIFMA__, __AVXVNNIINT8__, __APX_F__, __AVX10_1__, __AVX10_2__, __AVX512F__,              \
  HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#define HEED_ABI_OF(f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26, f27, f28,    \
  f29, f30, f31, f32, f33, f34, f35, f36, f0x, f0e, f0f, f0m)                                                         \
  HEED_ABI_JOINED(HEED_ABSENT(10, f10), HEED_ABSENT(11, f11), HEED_ABSENT(12, f12), HEED_ABSENT(13, f13),             \
    HEED_ABSENT(14, f14), HEED_ABSENT(15, f15), HEED_ABSENT(16, f16), HEED_ABSENT(17, f17), HEED_ABSENT(18, f18),     \
    HEED_ABSENT(19, f19), HEED_ABSENT(20, f20), HEED_ABSENT(21, f21), HEED_ABSENT(22, f22), HEED_ABSENT(23, f23),     \
    HEED_ABSENT(24, f24), HEED_ABSENT(25, f25), HEED_ABSENT(26, f26), HEED_ABSENT(27, f27), HEED_ABSENT(28, f28),     \
    HEED_ABSENT(29, f29), HEED_ABSENT(30, f30), HEED_ABSENT(31, f31), HEED_ABSENT(32, f32), HEED_ABSENT(33, f33),     \
    HEED_ABSENT(34, f34), HEED_ABSENT(35, f35), HEED_ABSENT(36, f36), HEED_ABSENT(0x, f0x), HEED_ABSENT(0e, f0e),     \
    HEED_ABSENT(0f, f0f), HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26,     \
  f27, f28, f29, f30, f31, f32, f33, f34, f35, f36, f0x, f0e, f0f, f0m)                                               \
  v0_1_##isa##_x86_no_##f10##f11##f12##f13##f14##f15##f16##f17##f18##f19##f20##f21##f22##f23##f24##f25##f26##f27      \
    ##f28##f29##f30##f31##f32##f33##f34##f35##f36##f0x##f0e##f0f##f0m
#endif

#elif defined(__ARM_NEON)

// Also where SVE is there: no loop uses it.
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define HEED_ISA neon_dotprod
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(neon_dotprod, __VA_ARGS__)
#else
#define HEED_ISA neon
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(neon, __VA_ARGS__)
#endif

#if defined(__ARM_FEATURE_SVE_BITS)
#define HEED_ABI HEED_ABI_OF(__ARM_ARCH, __ARM_FEATURE_SVE_BITS, __aarch64__, __ARM_FEATURE_DOTPROD,                  \
  __ARM_FEATURE_SVE, __ARM_FEATURE_SVE2, __ARM_FEATURE_ATOMICS, __ARM_FEATURE_CRC32, __ARM_FEATURE_QRDMX,             \
  __ARM_FEATURE_FMA, __ARM_FEATURE_FP16_VECTOR_ARITHMETIC, __ARM_FEATURE_FP16_FML,                                    \
  __ARM_FEATURE_BF16_VECTOR_ARITHMETIC, __ARM_FEATURE_MATMUL_INT8, __ARM_FEATURE_JCVT, __ARM_FEATURE_COMPLEX,         \
  __ARM_FEATURE_FRINT, __ARM_FEATURE_RCPC, HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#else
#define HEED_ABI HEED_ABI_OF(__ARM_ARCH, 0, __aarch64__, __ARM_FEATURE_DOTPROD, __ARM_FEATURE_SVE,                    \
  __ARM_FEATURE_SVE2, __ARM_FEATURE_ATOMICS, __ARM_FEATURE_CRC32, __ARM_FEATURE_QRDMX, __ARM_FEATURE_FMA,             \
  __ARM_FEATURE_FP16_VECTOR_ARITHMETIC, __ARM_FEATURE_FP16_FML, __ARM_FEATURE_BF16_VECTOR_ARITHMETIC,                 \
  __ARM_FEATURE_MATMUL_INT8, __ARM_FEATURE_JCVT, __ARM_FEATURE_COMPLEX, __ARM_FEATURE_FRINT, __ARM_FEATURE_RCPC,      \
  HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#endif
#define HEED_ABI_OF(arch, sve, f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f22, f23, f24, f25,        \
  f0x, f0e, f0f, f0m)                                                                                                 \
  HEED_ABI_JOINED(arch, sve, HEED_ABSENT(10, f10), HEED_ABSENT(11, f11), HEED_ABSENT(12, f12),                        \
    HEED_ABSENT(13, f13), HEED_ABSENT(14, f14), HEED_ABSENT(15, f15), HEED_ABSENT(16, f16), HEED_ABSENT(17, f17),     \
    HEED_ABSENT(18, f18), HEED_ABSENT(19, f19), HEED_ABSENT(20, f20), HEED_ABSENT(21, f21), HEED_ABSENT(22, f22),     \
    HEED_ABSENT(23, f23), HEED_ABSENT(24, f24), HEED_ABSENT(25, f25), HEED_ABSENT(0x, f0x), HEED_ABSENT(0e, f0e),     \
    HEED_ABSENT(0f, f0f), HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, arch, sve, f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f22, f23, f24,    \
  f25, f0x, f0e, f0f, f0m)                                                                                            \
  v0_1_##isa##_arm##arch##_sve##sve##_no_##f10##f11##f12##f13##f14##f15##f16##f17##f18##f19##f20##f21##f22##f23       \
    ##f24##f25##f0x##f0e##f0f##f0m

#else

#define HEED_ISA generic
#define HEED_ABI_JOINED(...) HEED_ABI_PASTED(generic, __VA_ARGS__)
#if defined(__ARCH__)  // s390x
#define HEED_ABI HEED_ABI_OF(__ARCH__, __VX__, HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH,                  \
  __FP_FAST_FMAF)
#define HEED_ABI_OF(arch, f10, f0x, f0e, f0f, f0m)                                                                    \
  HEED_ABI_JOINED(arch, HEED_ABSENT(10, f10), HEED_ABSENT(0x, f0x), HEED_ABSENT(0e, f0e), HEED_ABSENT(0f, f0f),       \
    HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, arch, f10, f0x, f0e, f0f, f0m)                                                           \
  v0_1_##isa##_z##arch##_no_##f10##f0x##f0e##f0f##f0m
#elif defined(__riscv)
#define HEED_ABI HEED_ABI_OF(__riscv_mul, __riscv_atomic, __riscv_fdiv, __riscv_compressed, __riscv_vector,           \
  __riscv_zba, __riscv_zbb, __riscv_zbs, __riscv_zbc, __riscv_zicond, __riscv_zfh, __riscv_zvfh, HEED_HAS_XSIMD,      \
  HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#define HEED_ABI_OF(f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f0x, f0e, f0f, f0m)                   \
  HEED_ABI_JOINED(HEED_ABSENT(10, f10), HEED_ABSENT(11, f11), HEED_ABSENT(12, f12), HEED_ABSENT(13, f13),             \
    HEED_ABSENT(14, f14), HEED_ABSENT(15, f15), HEED_ABSENT(16, f16), HEED_ABSENT(17, f17), HEED_ABSENT(18, f18),     \
    HEED_ABSENT(19, f19), HEED_ABSENT(20, f20), HEED_ABSENT(21, f21), HEED_ABSENT(0x, f0x), HEED_ABSENT(0e, f0e),     \
    HEED_ABSENT(0f, f0f), HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, f10, f11, f12, f13, f14, f15, f16, f17, f18, f19, f20, f21, f0x, f0e, f0f, f0m)          \
  v0_1_##isa##_rv_no_##f10##f11##f12##f13##f14##f15##f16##f17##f18##f19##f20##f21##f0x##f0e##f0f##f0m
#elif defined(__powerpc__)
#define HEED_ABI HEED_ABI_OF(__ALTIVEC__, __VSX__, __MMA__, _ARCH_PWR7, _ARCH_PWR8, _ARCH_PWR9, _ARCH_PWR10,          \
  _ARCH_PWR11, HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#define HEED_ABI_OF(f10, f11, f12, f13, f14, f15, f16, f17, f0x, f0e, f0f, f0m)                                       \
  HEED_ABI_JOINED(HEED_ABSENT(10, f10), HEED_ABSENT(11, f11), HEED_ABSENT(12, f12), HEED_ABSENT(13, f13),             \
    HEED_ABSENT(14, f14), HEED_ABSENT(15, f15), HEED_ABSENT(16, f16), HEED_ABSENT(17, f17), HEED_ABSENT(0x, f0x),     \
    HEED_ABSENT(0e, f0e), HEED_ABSENT(0f, f0f), HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, f10, f11, f12, f13, f14, f15, f16, f17, f0x, f0e, f0f, f0m)                              \
  v0_1_##isa##_ppc_no_##f10##f11##f12##f13##f14##f15##f16##f17##f0x##f0e##f0f##f0m
#else
#define HEED_ABI HEED_ABI_OF(HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_ALLOW_FAST_MATH, __FP_FAST_FMAF)
#define HEED_ABI_OF(f0x, f0e, f0f, f0m)                                                                               \
  HEED_ABI_JOINED(HEED_ABSENT(0x, f0x), HEED_ABSENT(0e, f0e), HEED_ABSENT(0f, f0f), HEED_ABSENT(0m, f0m))
#define HEED_ABI_PASTED(isa, f0x, f0e, f0f, f0m)                                                                      \
  v0_1_##isa##_other_no_##f0x##f0e##f0f##f0m
#endif

#endif
/// \}
