/// \file
/// A matrix of floats, and the product with it that a backend gives to policies.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A matrix m[in][out] of floats, m[i][o] at data[i * stride + o]. Nothing is owned.
struct Matrix {
  const float* data = nullptr;  ///< m[0][0]
  Index in = 0;                 ///< inputs
  Index out = 0;                ///< outputs
  Index stride = out;           ///< floats from one input's row to the next
};

/// A backend's matrix product: y[r][o] = sum_i x[r][i] m[i][o] for r in [0, rows). Rows of x are x_stride floats apart,
/// rows of y are y_stride floats apart. x and y do not overlap.
using Linear = void (*)(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride);

}  // namespace heed::inline HEED_ABI
