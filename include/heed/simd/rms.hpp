/// \file
/// The root mean square of a row, with the same bits on every instruction set. The sum always has 16 parts that are
/// added in a fixed order. Squares of floats are exact in float64, so a fused multiply-add changes nothing.
#pragma once

#include <cmath>
#include <cstring>

#include <heed/floats.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// to[j] = from[at + j] for j in [0, 16); zeros from number n on.
[[gnu::always_inline]] inline void load_16(const float* from, Index at, Index n, float* to) noexcept {
  if (at + 16 <= n) {
    std::memcpy(to, from + at, 64);
  } else {
    std::memset(to, 0, 64);
    std::memcpy(to, from + at, std::size_t(n - at) * sizeof(float));
  }
}

/// Sum of x[i]^2 in float64.
[[nodiscard]] inline double sum_of_squares(const float* x, Index n) noexcept {
  double lane[16] = {};
  for (Index i = 0; i < n; i += 16) {
    float v[16];
    load_16(x, i, n, v);
    for (int j = 0; j < 16; ++j) lane[j] += double(v[j]) * double(v[j]);
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  }
  return lane[0];
}

/// 1 / sqrt(squares / n + eps), computed in float64 and rounded to float.
[[nodiscard]] inline float reciprocal_rms(double squares, Index n, double eps) noexcept {
  return float(1 / std::sqrt(squares / double(n) + eps));
}

/// Factors of a row's norm: x * lift * rstd.
struct RmsFactors {
  float rstd = 1;
  float lift = 1;  ///< 1, or a power of two for a row so small that 1 / rms is no float
};

/// The factors of a row with this sum of squares. A row of zeros has finite ones, so it stays zero whatever eps is.
[[nodiscard]] inline RmsFactors rms_factors(double squares, Index n, double eps) noexcept {
  const float rstd = reciprocal_rms(squares, n, eps);
  if (rstd != infinity) return {.rstd = rstd};
  if (squares == 0) return {.rstd = 0};
  // Every number is below 2^-128 sqrt(n), so lifting it is exact and does not overflow. 1 / rms is below 2^170.
  return {.rstd = reciprocal_rms(0x1p128 * squares, n, 0x1p128 * eps), .lift = 0x1p64f};
}

}  // namespace heed::inline HEED_ABI::detail
