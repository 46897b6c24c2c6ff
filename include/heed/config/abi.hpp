/// \file
/// HEED_ABI, the namespace of every symbol: version, instruction set, and one bit for each macro on which the headers branch
/// and for each extension that GCC and Clang use without being asked. Example: v0_1_avx512_vnni_vbmi_bf16_x86fffc0ffda8_d.
///
/// Units that differ in one of these macros have different symbols, so the linker cannot give one unit the other's code.
/// The tag does not know extensions that are younger than this file, nor NDEBUG, -O, -g and sanitizers.
#pragma once

#include <heed/config/backends.hpp>

/// HEED_IS(macro) is 1 if `macro` is defined as 1 (or as a RISC-V extension's version), else 0. A defined one turns
/// HEED_SET_... into "0, 1", which moves the 1 to the second place.
/// \{
#define HEED_SET_1 0, 1
#define HEED_SET_1000000 0, 1
#define HEED_SECOND(first, second, ...) second
#define HEED_IS_PLACED(...) HEED_SECOND(__VA_ARGS__, 0, 0)
#define HEED_IS_PASTED(value) HEED_IS_PLACED(HEED_SET_##value)
#define HEED_IS(macro) HEED_IS_PASTED(macro)
/// \}

/// HEED_DIGIT(a, b, c, d) is one hexadecimal digit: HEED_IS() of four macros.
/// \{
#define HEED_DIGIT_0000 0
#define HEED_DIGIT_0001 1
#define HEED_DIGIT_0010 2
#define HEED_DIGIT_0011 3
#define HEED_DIGIT_0100 4
#define HEED_DIGIT_0101 5
#define HEED_DIGIT_0110 6
#define HEED_DIGIT_0111 7
#define HEED_DIGIT_1000 8
#define HEED_DIGIT_1001 9
#define HEED_DIGIT_1010 a
#define HEED_DIGIT_1011 b
#define HEED_DIGIT_1100 c
#define HEED_DIGIT_1101 d
#define HEED_DIGIT_1110 e
#define HEED_DIGIT_1111 f
#define HEED_DIGIT_PASTED(a, b, c, d) HEED_DIGIT_##a##b##c##d
#define HEED_DIGIT_OF(a, b, c, d) HEED_DIGIT_PASTED(a, b, c, d)
#define HEED_DIGIT(a, b, c, d) HEED_DIGIT_OF(HEED_IS(a), HEED_IS(b), HEED_IS(c), HEED_IS(d))
/// \}

/// Their arguments as one token, macros expanded.
/// \{
#define HEED_PASTE_(a, b) a##b
#define HEED_PASTE(a, b) HEED_PASTE_(a, b)
#define HEED_PASTE4_(a, b, c, d) a##b##c##d
#define HEED_PASTE4(a, b, c, d) HEED_PASTE4_(a, b, c, d)
#define HEED_PASTE6_(a, b, c, d, e, f) a##b##c##d##e##f
#define HEED_PASTE6(a, b, c, d, e, f) HEED_PASTE6_(a, b, c, d, e, f)
/// \}

/// HEED_FEATURES lists the instruction-set extensions that the headers ask for, and those that a compiler uses without
/// being asked. HEED_ISA names the loops that run.
/// \{
#if defined(__x86_64__) || defined(__i386__)

#define HEED_FEATURES                                                                                  \
  HEED_PASTE(HEED_PASTE6(x86, HEED_DIGIT(__SSE2__, __SSE3__, __SSSE3__, __SSE4_1__),                   \
                         HEED_DIGIT(__SSE4_2__, __POPCNT__, __AVX__, __F16C__),                        \
                         HEED_DIGIT(__FMA__, __AVX2__, __BMI__, __BMI2__),                             \
                         HEED_DIGIT(__LZCNT__, __MOVBE__, __FMA4__, __XOP__),                          \
                         HEED_DIGIT(__TBM__, __AVXVNNI__, __AVXIFMA__, __AVXVNNIINT8__)),              \
             HEED_PASTE6(HEED_DIGIT(__AVX512F__, __AVX512CD__, __AVX512DQ__, __AVX512BW__),            \
                         HEED_DIGIT(__AVX512VL__, __AVX512VNNI__, __AVX512VBMI__, __AVX512VBMI2__),    \
                         HEED_DIGIT(__AVX512IFMA__, __AVX512BF16__, __AVX512FP16__, __AVX512BITALG__), \
                         HEED_DIGIT(__AVX512VPOPCNTDQ__, __AVX512ER__, __SSE__, __APX_F__),            \
                         HEED_DIGIT(__GFNI__, __SSE4A__, __AVX10_1__, __AVX10_2__), ))

#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni_vbmi_bf16
#elif defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni_bf16
#elif defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni_vbmi
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HEED_ISA avx512_vnni
#elif defined(__AVX512F__)
#define HEED_ISA avx512
#elif defined(__AVXVNNI__) && defined(__FMA__)
#define HEED_ISA avx2_vnni
#elif defined(__AVX2__) && defined(__FMA__)
#define HEED_ISA avx2_fma
#elif defined(__AVX2__)
#define HEED_ISA avx2
#elif defined(__AVX__)
#define HEED_ISA avx
#elif defined(__SSE4_1__)
#define HEED_ISA sse4
#elif defined(__SSE2__)
#define HEED_ISA sse2
#else
#define HEED_ISA generic
#endif

#elif defined(__ARM_NEON)

#if defined(__ARM_FEATURE_SVE_BITS)
#define HEED_SVE_BITS __ARM_FEATURE_SVE_BITS
#else
#define HEED_SVE_BITS 0
#endif
#define HEED_FEATURES                                                                                                  \
  HEED_PASTE(                                                                                                          \
      HEED_PASTE6(arm, __ARM_ARCH, _,                                                                                  \
                  HEED_DIGIT(__aarch64__, __ARM_FEATURE_DOTPROD, __ARM_FEATURE_SVE, __ARM_FEATURE_SVE2),               \
                  HEED_DIGIT(__ARM_FEATURE_ATOMICS, __ARM_FEATURE_CRC32, __ARM_FEATURE_QRDMX, __ARM_FEATURE_FMA),      \
                  HEED_DIGIT(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, __ARM_FEATURE_FP16_FML,                             \
                             __ARM_FEATURE_BF16_VECTOR_ARITHMETIC, __ARM_FEATURE_MATMUL_INT8)),                        \
      HEED_PASTE4(HEED_DIGIT(__ARM_FEATURE_JCVT, __ARM_FEATURE_COMPLEX, __ARM_FEATURE_FRINT, __ARM_FEATURE_RCPC), sve, \
                  HEED_SVE_BITS, ))

// Also where SVE is there: no loop uses it.
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define HEED_ISA neon_dotprod
#else
#define HEED_ISA neon
#endif

#else

#define HEED_ISA generic
#if defined(__ARCH__)  // s390x
#define HEED_FEATURES HEED_PASTE4(z, __ARCH__, _, HEED_IS(__VX__))
#elif defined(__riscv)
#define HEED_FEATURES                                                                        \
  HEED_PASTE4(rv, HEED_DIGIT(__riscv_mul, __riscv_atomic, __riscv_fdiv, __riscv_compressed), \
              HEED_DIGIT(__riscv_vector, __riscv_zba, __riscv_zbb, __riscv_zbs),             \
              HEED_DIGIT(__riscv_zbc, __riscv_zicond, __riscv_zfh, __riscv_zvfh))
#elif defined(__powerpc__)
#define HEED_FEATURES                                                     \
  HEED_PASTE4(ppc, HEED_DIGIT(__ALTIVEC__, __VSX__, __MMA__, _ARCH_PWR7), \
              HEED_DIGIT(_ARCH_PWR8, _ARCH_PWR9, _ARCH_PWR10, _ARCH_PWR11), )
#else
#define HEED_FEATURES other
#endif

#endif
/// \}

/// 1 if the user accepts the wrong results of fast-math.
#if defined(HEED_ALLOW_FAST_MATH)
#define HEED_FAST_MATH 1
#else
#define HEED_FAST_MATH 0
#endif

/// HEED_ABI is the name of the namespace. Its last digit says what else the headers branch on.
/// \{
#define HEED_ABI_OF(major, minor, isa, features, last) HEED_ABI_PASTED(major, minor, isa, features, last)
#define HEED_ABI_PASTED(major, minor, isa, features, last) v##major##_##minor##_##isa##_##features##_##last
#define HEED_ABI                                                               \
  HEED_ABI_OF(HEED_VERSION_MAJOR, HEED_VERSION_MINOR, HEED_ISA, HEED_FEATURES, \
              HEED_DIGIT(HEED_HAS_XSIMD, HEED_HAS_EIGEN, HEED_FAST_MATH, __FP_FAST_FMAF))
/// \}
