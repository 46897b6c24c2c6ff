/// \file
/// Seeded test data, the same on every platform, and rounding to stored types by arithmetic instead of bit tricks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace oracle {

/// Gaussian numbers by Box and Muller: std::normal_distribution differs between standard libraries.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// Uniform in (0, 1).
  double uniform() { return (double(engine_() >> 11) + 0.5) * 0x1p-53; }
  /// Uniform in [0, n).
  std::int64_t below(std::int64_t n) { return std::int64_t(engine_() % std::uint64_t(n)); }
  double gaussian() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * 3.14159265358979323846 * uniform());
  }
  std::vector<float> gaussians(std::int64_t n, double deviation = 1) {
    std::vector<float> x;
    for (std::int64_t i = 0; i < n; ++i) x.push_back(float(deviation * gaussian()));
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

/// x rounded to nearest even in a binary format of `precision` significant bits whose smallest normal number is
/// 2^min_exponent and whose largest is below 2^(max_exponent + 1).
inline double round_to(double x, int precision, int min_exponent, int max_exponent) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), min_exponent);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, precision - 1 - exponent)), exponent - precision + 1);
  const double largest = std::ldexp(2 - std::ldexp(1.0, 1 - precision), max_exponent);
  return std::copysign(std::min(std::abs(rounded), largest), x);
}

inline double round_to_bf16(double x) { return round_to(x, 8, -126, 127); }
inline double round_to_f16(double x) { return round_to(x, 11, -14, 15); }

inline std::vector<double> doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

}  // namespace oracle
