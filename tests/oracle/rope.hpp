/// \file
/// Rotary position embedding in float64, straight from the formula.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace oracle {

/// f_i = theta^(-2i / dim), i = 0 ... dim/2 - 1.
inline std::vector<double> rope_frequencies(std::int64_t dim, double theta) {
  std::vector<double> f;
  for (std::int64_t i = 0; i < dim / 2; ++i) f.push_back(1 / std::pow(theta, 2 * double(i) / double(dim)));
  return f;
}

/// Turns pair i of x by position * f[i] and stretches it by `amplitude`. Pairs are (2i, 2i+1) or (i, i + dim/2).
inline void rotate(double* x, double position, const std::vector<double>& f, bool interleaved, double amplitude = 1) {
  for (std::size_t i = 0; i < f.size(); ++i) {
    double& a = x[interleaved ? 2 * i : i];
    double& b = x[interleaved ? 2 * i + 1 : i + f.size()];
    const double c = std::cos(position * f[i]), s = std::sin(position * f[i]), old_a = a;
    a = amplitude * (old_a * c - b * s);
    b = amplitude * (old_a * s + b * c);
  }
}

}  // namespace oracle
