/// \file
/// YaRN: rotary frequencies stretched for contexts longer than the trained one.
///
///     corr(b) = dim ln(L0 / (2 pi b)) / (2 ln theta)           L0 = original_max_position, dim = rotary_dim
///     low     = max(floor(corr(beta_fast)), 0)     high = min(ceil(corr(beta_slow)), dim - 1)
///     ramp_i  = clamp((i - low) / (high - low), 0, 1)
///     f'_i    = (f_i / factor) ramp_i + f_i (1 - ramp_i)       f_i = theta^(-2i / dim)
///     m(s, k) = 0.1 k ln s + 1, or 1 if s <= 1
///
/// Sources: YaRN arXiv 2309.00071; deepseek-ai/DeepSeek-V3 inference/model.py.
#pragma once

#include <cmath>
#include <numbers>

#include <heed/floats.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// m(factor, k): YaRN's logarithmic growth of the logits.
[[nodiscard]] inline double yarn_mscale(double factor, double k) noexcept {
  return factor <= 1 ? 1.0 : 0.1 * k * std::log(factor) + 1.0;
}

/// The pairs between which YaRN blends. Pairs up to `low` keep their frequency; from `high` on it is divided by factor.
struct YarnRange {
  double low = 0;   ///< number of a pair
  double high = 0;  ///< number of a pair
};

/// The `rope_scaling` of a model file whose type is "yarn". Whether it applies is a property of the model (the official
/// code turns it on if the configured length exceeds original_max_position), never of a position.
///
/// mscale and mscale_all_dim are for the files that have both keys, as DeepSeek and Kimi do: their logits grow through
/// softmax_factor(), and the amplitude is a ratio of 1. A file with neither key means the defaults, generic YaRN:
/// amplitude 0.1 ln factor + 1 and no softmax factor.
struct Yarn {
  double factor = 1;                ///< s, at least 1
  Index original_max_position = 0;  ///< L0, the trained context length; must be set
  double beta_fast = 32;            ///< at least beta_slow
  double beta_slow = 1;             ///< above 0
  double mscale = 1;                ///< at least 0
  double mscale_all_dim = 0;        ///< at least 0

  /// invalid_argument naming the member and its value.
  [[nodiscard]] Status validate() const {
    if (!(factor >= 1 && detail::is_finite(factor))) {
      return fail(StatusCode::invalid_argument, "yarn.factor is ", factor, ", must be a finite number of at least 1");
    }
    if (original_max_position < 1) {
      return fail(StatusCode::invalid_argument, "yarn.original_max_position is ", original_max_position,
                  ", must be at least 1");
    }
    if (!(beta_slow > 0 && detail::is_finite(beta_slow))) {
      return fail(StatusCode::invalid_argument, "yarn.beta_slow is ", beta_slow, ", must be a positive number");
    }
    if (!(beta_fast >= beta_slow && detail::is_finite(beta_fast))) {
      return fail(StatusCode::invalid_argument, "yarn.beta_fast is ", beta_fast, ", must be at least beta_slow ",
                  beta_slow);
    }
    if (!(mscale >= 0 && detail::is_finite(mscale))) {
      return fail(StatusCode::invalid_argument, "yarn.mscale is ", mscale, ", must not be negative");
    }
    if (!(mscale_all_dim >= 0 && detail::is_finite(mscale_all_dim))) {
      return fail(StatusCode::invalid_argument, "yarn.mscale_all_dim is ", mscale_all_dim, ", must not be negative");
    }
    return {};
  }

  /// Factor of cos and sin: m(factor, mscale) / m(factor, mscale_all_dim).
  [[nodiscard]] double amplitude() const noexcept {
    return yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
  }

  /// Factor of the softmax scale: m(factor, mscale_all_dim)^2. It is squared because q and k would each have one m. It
  /// is 1 if the model has no mscale_all_dim.
  [[nodiscard]] double softmax_factor() const noexcept {
    const double m = yarn_mscale(factor, mscale_all_dim);
    return m * m;
  }

  /// low and high of the formula above, for rotary_dim numbers and the base `theta`. theta must be above 1.
  [[nodiscard]] YarnRange range(Index rotary_dim, double theta) const noexcept {
    const auto corr = [&](double beta) {
      const double wavelengths = double(original_max_position) / (2 * std::numbers::pi * beta);
      return double(rotary_dim) * std::log(wavelengths) / (2 * std::log(theta));
    };
    const double low = detail::larger(std::floor(corr(beta_fast)), 0.0);
    const double high = detail::smaller(std::ceil(corr(beta_slow)), double(rotary_dim) - 1);
    return {low, low == high ? high + 0.001 : high};  // avoids 0 / 0 in the way of the official code
  }

  /// f'_i of the pair whose plain frequency is `frequency`.
  [[nodiscard]] double scaled(double frequency, Index pair, YarnRange range) const noexcept {
    const double along = (double(pair) - range.low) / (range.high - range.low);
    const double ramp = detail::smaller(detail::larger(along, 0.0), 1.0);
    return frequency / factor * ramp + frequency * (1 - ramp);
  }
};

}  // namespace heed::inline HEED_ABI
