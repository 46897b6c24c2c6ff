/// \file
/// How far a float32 run may be from the float64 reference: the `suggested_tolerances` of index.json.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "golden/report.hpp"

namespace heed_golden {

/// max abs error <= 2e-5 max(1, max |reference|); more where the case is hard, and then only as much as its data asks.
struct Tolerances {
  /// The largest max_j scale sum_d |q_d k_jd|: rounding q and k to float32 moves a logit by about eps32 times this, so
  /// "very large logits: allow 1e-3" begins where 4 eps32 size passes 2e-5.
  double logit_size = 0;
  /// The farthest RoPE position: references made with float32 angles are off by position * 6e-8 rad, hence "about 1e-3
  /// on cached rope keys and 5e-4 on outputs" from several thousand on.
  std::int64_t farthest = 0;

  [[nodiscard]] double rotated(std::span<const double> want) const {
    return std::max(2e-5, far() ? 1e-3 : 0.0) * std::max(1.0, largest(want));
  }
  /// For what official code rotated by float32 angles: position and frequency are each rounded, 6e-8 rad a position.
  [[nodiscard]] double rotated_by_float_angles(std::span<const double> want) const {
    return rotated(want) + 1.2e-7 * double(farthest) * largest(want);
  }
  [[nodiscard]] double output(std::span<const double> want) const {
    const double logits = std::min(1e-3, 4 * 0x1p-23 * logit_size);
    return std::max({2e-5, logits, far() ? 5e-4 : 0.0}) * std::max(1.0, largest(want));
  }
  [[nodiscard]] static double plain(std::span<const double> want) { return 2e-5 * std::max(1.0, largest(want)); }

 private:
  [[nodiscard]] bool far() const { return farthest >= 2000; }
};

}  // namespace heed_golden
