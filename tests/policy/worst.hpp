/// \file
/// How far float results are from float64, where products and maps around the kernel are rounded too.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "oracle/bound.hpp"

namespace heed_test {

/// Worst error in units of 1e-5 times the largest number of `want`, or of 1; infinite for another size or a NaN.
inline double worst(const std::vector<float>& got, const std::vector<double>& want) {
  double largest = 1, error = got.size() == want.size() ? 0 : oracle::infinity;
  for (const double x : want) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < want.size() && i < got.size(); ++i) {
    error = std::max(error, oracle::ratio(got[i], want[i], 1e-5 * largest));
  }
  return error;
}

}  // namespace heed_test
