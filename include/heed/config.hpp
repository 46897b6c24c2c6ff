/// \file
/// Version, refused compiler modes, and the namespace every heed symbol lives in.
///
/// Units with different instruction sets may be linked into one program.
///   Promised      Each unit runs its own heed: HEED_ABI gives its symbols names of their own. heed's headers call no inline
///                 float function of the standard library (math.hpp), which the linker would share.
///   Not promised  Containers of floats, std::mutex and whatever else of the standard library is inline have one name in all
///                 units. The linker keeps the first copy of each function that was not inlined, and that copy may hold
///                 the newer instructions. -O2 inlines nearly all of them.
///   So            A program that must also start on an older CPU links the object files for the oldest CPU first, or
///                 loads the newer ones from a shared library that hides its symbols.
#pragma once

#include <heed/config/guards.hpp>

#include <heed/config/abi.hpp>

#define HEED_VERSION_MAJOR 0
#define HEED_VERSION_MINOR 1
#define HEED_VERSION_PATCH 0

#define HEED_QUOTE_(a) #a
#define HEED_QUOTE(a) HEED_QUOTE_(a)

/// Unrolls the next loop, whose bounds are constants, so that accumulators indexed in it stay in registers at -O2.
#if defined(__clang__)
#define HEED_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HEED_UNROLL _Pragma("GCC unroll 16")
#endif

// GCC 12's AVX-512 intrinsics read a variable that they leave uninitialised on purpose, with a mask that ignores it, and
// -Wall reports each one that was inlined (GCC bug 105593). These two silence that warning, and no other, for the code
// between them. What a user calls is not between them.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#define HEED_INTRINSICS_BEGIN _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"")
#define HEED_INTRINSICS_END _Pragma("GCC diagnostic pop")
#else
#define HEED_INTRINSICS_BEGIN
#define HEED_INTRINSICS_END
#endif

namespace heed::inline HEED_ABI {

/// "major.minor.patch" of the headers this translation unit was compiled with.
[[nodiscard]] constexpr const char* version_string() noexcept {
  return HEED_QUOTE(HEED_VERSION_MAJOR) "." HEED_QUOTE(HEED_VERSION_MINOR) "." HEED_QUOTE(HEED_VERSION_PATCH);
}

/// Name of the loops this translation unit was compiled for, such as "avx512_vnni_bf16" or "neon".
[[nodiscard]] constexpr const char* isa_name() noexcept { return HEED_QUOTE(HEED_ISA); }

/// Whether float arithmetic means what the source says in the translation unit that calls this. Clang has no macro for
/// -funsafe-math-optimizations, -fassociative-math, -freciprocal-math and -fno-signed-zeros, so heed cannot refuse them at
/// compile time as it does for GCC. They show in optimised code only. attend() asks and refuses; costs a few nanoseconds.
[[nodiscard, gnu::always_inline]] inline bool exact_floats() noexcept {
  volatile float big = 0x1p30f, one = 1, five = 5, third = 1.0f / 3.0f, minus_zero = -0.0f;
  const float a = big, b = one, x = five, z = minus_zero;
  const float by_reciprocal = x * third;
  const bool ordered = (a + b) - a == 0;            // 1 if the compiler may reassociate
  const bool divided = x / 3.0f != by_reciprocal;   // equal if it may multiply by 1 / 3
  const bool zeros = !__builtin_signbit(z + 0.0f);  // -0 if the sign of zero does not matter
  return ordered && divided && zeros;
}

}  // namespace heed::inline HEED_ABI
