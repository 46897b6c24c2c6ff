/// \file
/// The linear layers around attention, in float64: they are not what is tested.
#pragma once

#include <vector>

#include "golden/case.hpp"

namespace heed_golden {

/// y = x W^T for rows of x; W is [out, in].
inline std::vector<double> product(const std::vector<double>& x, const std::vector<double>& w, Int in) {
  const Int rows = Int(x.size()) / in, out = Int(w.size()) / in;
  std::vector<double> y(std::size_t(rows * out), 0.0);
  for (Int r = 0; r < rows; ++r) {
    for (Int o = 0; o < out; ++o) {
      double sum = 0;
      for (Int i = 0; i < in; ++i) sum += x[std::size_t(r * in + i)] * w[std::size_t(o * in + i)];
      y[std::size_t(r * out + o)] = sum;
    }
  }
  return y;
}

inline std::vector<float> floats(const std::vector<double>& x) {
  std::vector<float> y;
  for (const double number : x) y.push_back(float(number));
  return y;
}

}  // namespace heed_golden
