/// \file
/// Float functions whose symbols are heed's own.
///
/// The standard library's (std::sqrt(float), std::isfinite, std::max<float>, std::optional<float>, ...) are inline
/// functions with one name for the whole program. Where the compiler does not inline them, the linker keeps one copy.
/// That copy may hold instructions that the CPU of another translation unit lacks. Functions of double that are not
/// templates (std::exp, std::cos) lie in the C library and are safe.
#pragma once

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

inline constexpr float infinity = __builtin_inff();

[[nodiscard]] constexpr bool is_finite(float x) noexcept { return __builtin_isfinite(x); }
[[nodiscard]] constexpr bool is_finite(double x) noexcept { return __builtin_isfinite(x); }
[[nodiscard]] constexpr bool is_infinite(float x) noexcept { return __builtin_isinf(x); }
[[nodiscard]] constexpr float magnitude(float x) noexcept { return __builtin_fabsf(x); }
[[nodiscard]] constexpr double magnitude(double x) noexcept { return __builtin_fabs(x); }
[[nodiscard]] inline float square_root(float x) noexcept { return __builtin_sqrtf(x); }
[[nodiscard]] inline float logarithm(float x) noexcept { return __builtin_logf(x); }
[[nodiscard]] inline float hyperbolic_tangent(float x) noexcept { return __builtin_tanhf(x); }

/// As std::max and std::min: returns `a` if both are equal or one is NaN.
template <class T>
[[nodiscard]] constexpr T larger(T a, T b) noexcept {
  return a < b ? b : a;
}
template <class T>
[[nodiscard]] constexpr T smaller(T a, T b) noexcept {
  return b < a ? b : a;
}

/// The bits of `from` as a To of the same size.
template <class To, class From>
[[nodiscard]] constexpr To bits_as(const From& from) noexcept {
  return __builtin_bit_cast(To, from);
}

/// As std::fill, std::copy of ranges that are the same or do not overlap, and memcmp() == 0.
inline void fill(float* from, const float* to, float x) noexcept {
  for (; from < to; ++from) *from = x;
}
inline void copy(const float* from, const float* end, float* to) noexcept {
  const auto count = static_cast<__SIZE_TYPE__>(end - from);
  // The usual sizes of a head are copied here: a call would take longer.
  if (count == 64) {
    __builtin_memcpy(to, from, 64 * sizeof(float));
  } else if (count == 128) {
    __builtin_memcpy(to, from, 128 * sizeof(float));
  } else if (count != 0) {
    __builtin_memmove(to, from, count * sizeof(float));
  }
}

[[nodiscard]] inline bool same_bits(const float* a, const float* b, __PTRDIFF_TYPE__ n) noexcept {
  return n <= 0 || __builtin_memcmp(a, b, static_cast<__SIZE_TYPE__>(n) * sizeof(float)) == 0;
}

}  // namespace heed::inline HEED_ABI::detail
