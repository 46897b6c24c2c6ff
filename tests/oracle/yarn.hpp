/// \file
/// YaRN in float64, written as the DeepSeek-V3 model file writes it: find_correction_dim, find_correction_range, ramp.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "oracle/rope.hpp"

namespace oracle {

struct YarnScaling {
  double factor, original_max_position, beta_fast, beta_slow, mscale, mscale_all_dim;
};

inline double find_correction_dim(double rotations, double dim, double base, double max_seq_len) {
  return dim * std::log(max_seq_len / (rotations * 2 * 3.14159265358979323846)) / (2 * std::log(base));
}

inline double get_mscale(double scale, double mscale) { return scale <= 1 ? 1 : 0.1 * mscale * std::log(scale) + 1; }

inline std::vector<double> yarn_frequencies(std::int64_t dim, double theta, const YarnScaling& y) {
  double low = std::floor(find_correction_dim(y.beta_fast, double(dim), theta, y.original_max_position));
  double high = std::ceil(find_correction_dim(y.beta_slow, double(dim), theta, y.original_max_position));
  if (low < 0) low = 0;
  if (high > double(dim) - 1) high = double(dim) - 1;
  if (low == high) high += 0.001;
  std::vector<double> f = rope_frequencies(dim, theta);
  for (std::size_t i = 0; i < f.size(); ++i) {
    double linear = (double(i) - low) / (high - low);
    if (linear < 0) linear = 0;
    if (linear > 1) linear = 1;
    const double smooth = 1 - linear;
    f[i] = f[i] / y.factor * (1 - smooth) + f[i] * smooth;
  }
  return f;
}

inline double yarn_amplitude(const YarnScaling& y) {
  return get_mscale(y.factor, y.mscale) / get_mscale(y.factor, y.mscale_all_dim);
}

inline double yarn_softmax_factor(const YarnScaling& y) {
  return get_mscale(y.factor, y.mscale_all_dim) * get_mscale(y.factor, y.mscale_all_dim);
}

}  // namespace oracle
