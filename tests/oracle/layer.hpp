/// \file
/// What a layer around attention is made of, in float64: products, RMSNorm, and the rotation of rows.
#pragma once

#include <cmath>
#include <vector>

#include "oracle/attention.hpp"
#include "oracle/rope.hpp"

namespace oracle {

using Numbers = std::vector<double>;

/// y = x W^T for every row of x; W is [out, in], as checkpoints hold it.
inline Numbers linear(const Numbers& x, const Numbers& w, Int in) {
  const Int rows = Int(x.size()) / in, out = Int(w.size()) / in;
  Numbers y;
  y.reserve(std::size_t(rows * out));
  for (Int r = 0; r < rows; ++r) {
    for (Int o = 0; o < out; ++o) {
      double sum = 0;
      for (Int i = 0; i < in; ++i) sum += x[std::size_t(r * in + i)] * w[std::size_t(o * in + i)];
      y.push_back(sum);
    }
  }
  return y;
}

/// gain_i x_i / sqrt(mean(x^2) + eps) for every row of as many numbers as there are gains; no gains, no norm.
inline Numbers rms_norm(Numbers rows, const Numbers& gain, double eps) {
  const std::size_t width = gain.size();
  for (std::size_t first = 0; width > 0 && first < rows.size(); first += width) {
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) squares += rows[first + i] * rows[first + i];
    const double root = std::sqrt(squares / double(width) + eps);
    for (std::size_t i = 0; i < width; ++i) rows[first + i] *= gain[i] / root;
  }
  return rows;
}

/// Columns [first, first + count) of rows of `width` numbers.
inline Numbers columns(const Numbers& rows, Int width, Int first, Int count) {
  Numbers cut;
  for (auto row = rows.begin(); row != rows.end(); row += width) {
    cut.insert(cut.end(), row + first, row + first + count);
  }
  return cut;
}

inline Numbers absolute(Numbers x) {
  for (double& number : x) number = std::abs(number);
  return x;
}

/// The rotary position embedding of a model; without frequencies it does nothing.
struct Rotation {
  Numbers frequencies = {};
  bool interleaved = false;
  double amplitude = 1;

  /// Rows [tokens][heads][width], all heads of token t by positions[t]; the first numbers of a row turn.
  [[nodiscard]] Numbers rotated(Numbers rows, Int width, const std::vector<Int>& positions) const {
    return turned(std::move(rows), width, positions, 1, amplitude);
  }
  /// What was rotated, as it was before.
  [[nodiscard]] Numbers unrotated(Numbers rows, Int width, const std::vector<Int>& positions) const {
    return turned(std::move(rows), width, positions, -1, 1 / amplitude);
  }

 private:
  [[nodiscard]] Numbers turned(Numbers rows, Int width, const std::vector<Int>& positions, double sign,
                               double stretch) const {
    const std::size_t token = positions.empty() ? 1 : rows.size() / positions.size();
    for (std::size_t i = 0; i < rows.size(); i += std::size_t(width)) {
      rotate(rows.data() + i, sign * double(positions[i / token]), frequencies, interleaved, stretch);
    }
    return rows;
  }
};

}  // namespace oracle
