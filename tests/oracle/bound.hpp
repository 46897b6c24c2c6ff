/// \file
/// How wrong a float32 kernel may be: error over permitted error, so that at most 1 passes.
///
///     |out - R| <= eps_out |R| + C eps32 (sum_j p_j |v_j|) (1 + max_j scale sum_d |q_d k_jd|)      C = 4
///     |lse - R| <= 8 eps32 max(1, |R|) + C eps32 max_j scale sum_d |q_d k_jd|
///
/// eps_out |R| is the rounding of the output; the second term is the cancellation of a convex combination times the
/// error of a logit. R is computed on the stored (rounded) keys and values. The form is that of oneDNN's sdpa tests.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "oracle/attention.hpp"

namespace oracle {

inline constexpr double eps32 = 0x1p-23;
inline constexpr double eps_bf16 = 0x1p-7;
inline constexpr double eps_f16 = 0x1p-10;
/// Holds for chunks of at most 256 keys with room: the worst measured is 0.65.
inline constexpr double bound_constant = 4;

/// |got - want| / permitted. A NaN on either side is +inf, so it fails `<= 1` and every other comparison too; tests of
/// NaN propagation ask isnan themselves. Equal infinities are 0.
inline double ratio(double got, double want, double permitted) {
  if (std::isnan(got) || std::isnan(want) || std::isnan(permitted)) return infinity;
  if (got == want) return 0;
  const double error = std::abs(got - want);
  return permitted > 0 && error < infinity ? error / permitted : infinity;
}

/// Error of one output element over the bound. `floor` is an absolute allowance for subnormal values.
inline double output_ratio(double got, double want, double abs_values, double logit_size, double eps_out = eps32,
                           double floor = 0) {
  return ratio(got, want, eps_out * std::abs(want) + bound_constant * eps32 * abs_values * (1 + logit_size) + floor);
}

/// Error of one log-sum-exp over the bound; an empty row must be exactly -inf.
inline double lse_ratio(double got, double want, double logit_size) {
  if (want == -infinity) return got == want ? 0 : infinity;
  return ratio(got, want, 8 * eps32 * std::max(1.0, std::abs(want)) + bound_constant * eps32 * logit_size);
}

/// Error of one output element in units of eps32 sum_j p_j |v_j|: at most 16 for Gaussian data with a logit standard
/// deviation up to 4 and 262,144 keys. Tighter than the bound, which is loose for chunked kernels.
inline double units(double got, double want, double abs_values) { return ratio(got, want, eps32 * abs_values); }

/// The worst output_ratio of all outputs, +inf if the sizes differ.
inline double worst_output(std::span<const float> got, const Answer& want, double eps_out = eps32, double floor = 0) {
  if (got.size() != want.o.size()) return infinity;
  const std::size_t value_dim = want.lse.empty() ? 1 : want.o.size() / want.lse.size();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(
        worst, output_ratio(got[i], want.o[i], want.abs_values[i], want.logit_size[i / value_dim], eps_out, floor));
  }
  return worst;
}

/// The worst lse_ratio of all rows, +inf if the sizes differ.
inline double worst_lse(std::span<const float> got, const Answer& want) {
  if (got.size() != want.lse.size()) return infinity;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, lse_ratio(got[i], want.lse[i], want.logit_size[i]));
  }
  return worst;
}

/// The worst error in units() of all outputs, +inf if the sizes differ.
inline double worst_units(std::span<const float> got, const Answer& want) {
  if (got.size() != want.o.size()) return infinity;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, units(got[i], want.o[i], want.abs_values[i]));
  return worst;
}

}  // namespace oracle
