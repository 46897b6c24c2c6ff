/// \file
/// The linear layers around attention, in float64 where they are not what is tested.
#pragma once

#include <vector>

#include "oracle/layer.hpp"

namespace heed_golden {

/// y = x W^T for rows of x; W is [out, in].
inline std::vector<double> product(const std::vector<double>& x, const std::vector<double>& w, oracle::Int in) {
  return oracle::linear(x, w, in);
}

inline std::vector<float> floats(const std::vector<double>& x) { return {x.begin(), x.end()}; }

}  // namespace heed_golden
