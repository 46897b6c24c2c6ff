/// \file
/// Version, refused compiler modes, and the namespace every heed symbol lives in.
///
/// Translation units compiled for different instruction sets may be linked into one program.
///   Promised      Each unit runs its own heed: HEED_ABI gives its symbols names of their own. heed's headers
///                 instantiate no template of the standard library with float or double, and call none of its inline
///                 float functions (floats.hpp): the linker would share them. Tested with GCC at -O0.
///   Not promised  Other inline functions of the standard library have one name in all units. The linker keeps the first
///                 copy of each function that was not inlined, and that copy may hold the newer instructions. With GCC at
///                 -O0 these are the constructors of std::mutex (PagePool, ThreadPool) and std::unordered_map
///                 (PrefixCache). Clang at -O0 may have others. -O2 inlines nearly all of them.
///                 Containers of floats that you pass to heed are your code's. Eigen names its functions after the width
///                 of a register, not after its instructions.
///   So            A program that must also start on an older CPU links the object files for the oldest CPU first, or
///                 loads the newer ones from a shared library that hides its symbols.
///
/// Macros that a program sees: fewer than 12.
///   For users      HEED_VERSION, HEED_HAS_XSIMD and HEED_HAS_EIGEN (1 or 0), HEED_ABI.
///   For headers    HEED_UNROLL, and six that HEED_ABI expands to.
///   Set by users   HEED_NO_XSIMD, HEED_NO_EIGEN, HEED_ALLOW_FAST_MATH.
#pragma once

#include <heed/config/guards.hpp>

#include <heed/config/abi.hpp>

/// Version of the headers: major * 10000 + minor * 100 + patch.
#define HEED_VERSION 100

#if HEED_VERSION / 100 != 1
#error "HEED_ABI in heed/config/abi.hpp begins with another version."
#endif

/// Unrolls the next loop, whose bounds are constants, so that accumulators indexed in it stay in registers at -O2.
#if defined(__clang__)
#define HEED_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HEED_UNROLL _Pragma("GCC unroll 16")
#endif

/// A string literal of `a`, macros expanded. Not visible outside this header.
/// \{
#define HEED_QUOTE_(a) #a
#define HEED_QUOTE(a) HEED_QUOTE_(a)
/// \}

namespace heed::inline HEED_ABI {

namespace detail {
// "major.minor.patch" of a HEED_VERSION.
struct VersionText {
  char text[9] = {};
  constexpr explicit VersionText(int number) noexcept {
    char* to = text;
    for (int unit = 10000; unit > 0; unit /= 100) {
      const int part = number / unit % 100;
      if (part >= 10) *to++ = char('0' + part / 10);
      *to++ = char('0' + part % 10);
      if (unit > 1) *to++ = '.';
    }
  }
};
inline constexpr VersionText version_text(HEED_VERSION);
}  // namespace detail

/// "major.minor.patch" of the headers this translation unit was compiled with.
[[nodiscard]] constexpr const char* version_string() noexcept { return detail::version_text.text; }

/// Name of the loops this translation unit was compiled for, such as "avx512_vnni_bf16" or "neon".
[[nodiscard]] constexpr const char* isa_name() noexcept { return HEED_QUOTE(HEED_ISA); }

/// true if float arithmetic means what the source says in the translation unit that calls this. Clang has no macro for
/// -funsafe-math-optimizations, -fassociative-math, -freciprocal-math and -fno-signed-zeros, so heed cannot refuse them
/// at compile time as it does for GCC. They take effect in optimised code only. Under Clang attend() calls this and
/// refuses to run if it is false. Costs a few nanoseconds.
[[nodiscard, gnu::always_inline]] inline bool exact_floats() noexcept {
  volatile float big = 0x1p30f, one = 1, third = 0x1.555556p-2f, zero = 0, minus_zero = -0.0f;
  volatile float three = 3, five = 5, eleven = 11;
  const float a = big, b = one, x = three, y = five, w = eleven, r = third, z = minus_zero, n = zero;
  const bool ordered = (a + b) - a != b;  // equal if the compiler may reassociate; otherwise it is 0 or 128
  // Equal if it may multiply by 1 / 3. To nearest 5 differs, upwards 3, downwards and to zero 11.
  const bool divided = x / 3.0f != x * r || y / 3.0f != y * r || w / 3.0f != w * r;
  // -0 + 0 is -0 if the sign of zero does not matter. In the rounding mode downwards it is -0 anyway, and so is 0 - 0.
  const bool zeros = !__builtin_signbit(z + 0.0f) || __builtin_signbit(n - n);
  return ordered && divided && zeros;
}

}  // namespace heed::inline HEED_ABI

#undef HEED_ISA
#undef HEED_QUOTE
#undef HEED_QUOTE_
