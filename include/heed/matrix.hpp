/// \file
/// A matrix of weights, and the product with it that a backend gives to policies.
#pragma once

#include <cstdint>

#include <heed/floats.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A matrix m[in][out] of floats or of bfloat16 numbers: one of the two pointers is null. Nothing is owned.
///
/// Number m[i][o] is number i * stride + o of the memory. With `panels` the columns lie in panels of 64, one behind the
/// other, each [in][64], the last one [in][out % 64]: a product then reads the memory from its first byte to its last.
struct Matrix {
  const float* data = nullptr;          ///< m[0][0]
  Index in = 0;                         ///< inputs
  Index out = 0;                        ///< outputs
  Index stride = out;                   ///< numbers from one input's row to the next; not used with panels
  const std::uint16_t* bf16 = nullptr;  ///< m[0][0] as bfloat16, the upper half of a float
  bool panels = false;                  ///< the columns lie in panels

  static constexpr Index panel_columns = 64;  ///< columns of a panel

  /// Where m[i][o] lies in a matrix of panels.
  [[nodiscard]] static constexpr Index index_in_panels(Index in, Index out, Index i, Index o) noexcept {
    const Index first = o / panel_columns * panel_columns;
    return first * in + i * (out - first < panel_columns ? out - first : panel_columns) + o - first;
  }
  /// m[i][o] as a float, exactly.
  [[nodiscard]] float number(Index i, Index o) const noexcept {
    const Index at = panels ? index_in_panels(in, out, i, o) : i * stride + o;
    return bf16 == nullptr ? data[at] : detail::bits_as<float>(std::uint32_t(bf16[at]) << 16);
  }
  /// A matrix of the same shape whose memory begins `numbers` numbers further on.
  [[nodiscard]] Matrix moved(Index numbers) const noexcept {
    Matrix other = *this;
    if (bf16 == nullptr) {
      other.data += numbers;
    } else {
      other.bf16 += numbers;
    }
    return other;
  }
  /// The panel that begins at column `first`, a multiple of 64, as a matrix without panels.
  [[nodiscard]] Matrix panel(Index first) const noexcept {
    Matrix made = moved(first * in);
    made.out = made.stride = out - first < panel_columns ? out - first : panel_columns;
    made.panels = false;
    return made;
  }
};

/// A backend's matrix product: y[r][o] = sum_i x[r][i] m[i][o] for r in [0, rows). Rows of x are x_stride floats apart,
/// rows of y are y_stride floats apart. x and y do not overlap. bfloat16 numbers are widened
/// first: the product is one of floats.
using Linear = void (*)(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride);

}  // namespace heed::inline HEED_ABI
