/// \file
/// Compilers and modes under which heed's results would be wrong: each one is refused with one message, before any other
/// header is read. The include after a message names no file. It ends the compilation, so nothing buries the message.
///
/// Clang has no macro for parts of fast-math (-funsafe-math-optimizations, -fassociative-math, -freciprocal-math,
/// -fno-signed-zeros). heed::exact_floats() in config.hpp recognises these when the program runs.
#pragma once

#if !defined(__GNUC__)
#error "heed needs GCC or Clang: its loops use vector extensions and __builtin_shufflevector."
#include <heed stops here: see the error above>
#endif

#if __cplusplus < 202002L
#error "heed needs C++20: add -std=c++20 (or CMake's target_compile_features(... cxx_std_20))."
#include <heed stops here: see the error above>
#endif

// exp, NaN and -inf rules of the kernel do not survive fast-math: an inlined exp was measured wrong by up to 41 %.
// GCC says __GCC_IEC_559 == 0 for every option that breaks IEEE 754, alone or together with others.
#if !defined(HEED_ALLOW_FAST_MATH) &&                                                                 \
    (defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) ||             \
     defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__) || \
     (defined(__GCC_IEC_559) && __GCC_IEC_559 == 0))
#error \
    "heed refuses fast-math and its parts (-ffast-math, -Ofast, -ffinite-math-only, -funsafe-math-optimizations, \
-fassociative-math, -freciprocal-math, -fno-signed-zeros, -fsingle-precision-constant): results would be silently wrong. \
Drop the flag for this translation unit, or define HEED_ALLOW_FAST_MATH to accept wrong results."
#include <heed stops here: see the error above>
#endif

// With more bits in a register than a float has, results depend on what is spilled: an error of 0.12 was measured.
// 16 means that only _Float16 is special.
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16 && \
    !defined(HEED_ALLOW_FAST_MATH)
#error \
    "heed needs floats that are computed as floats (__FLT_EVAL_METHOD__ is not 0), and the x87 unit does not: \
add -msse2 -mfpmath=sse."
#include <heed stops here: see the error above>
#endif

// Xlib.h says `#define Status int`, and heed's results are of type heed::Status.
#if defined(Status)
#error "heed cannot be read with a macro named Status, as <X11/Xlib.h> defines one: include heed before it, or #undef Status."
#include <heed stops here: see the error above>
#endif
