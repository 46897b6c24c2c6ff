/// \file
/// The linear map that MLA and MFA-KR have before or after the kernel.
#pragma once

#include <cstring>

#include <heed/checked.hpp>
#include <heed/matrix.hpp>

namespace heed::inline HEED_ABI {

/// A HeadMap: [x | t] -> [x m | t], with x of matrix.in numbers and t of `tail` numbers. Each head has its own matrix
/// m, or all share one. Without a matrix (matrix.in = 0) it copies t.
struct MatrixMap {
  Matrix matrix = {};     ///< the matrix of head 0; its memory is not owned
  Index head_stride = 0;  ///< numbers from one head's matrix to the next; 0: all heads share one matrix
  Index tail = 0;         ///< trailing numbers that are copied

  /// What HeadMap asks for (concepts.hpp).
  /// \{
  [[nodiscard]] Index in_width() const noexcept { return (Count(matrix.in) + tail).value(); }
  [[nodiscard]] Index out_width() const noexcept { return (Count(matrix.out) + tail).value(); }
  void apply(Index head, Index rows, const float* in, Index in_stride, float* out, Index out_stride,
             Linear linear) const {
    if (matrix.in > 0) {
      linear(matrix.moved(head * head_stride), rows, in, in_stride, out, out_stride);
    }
    for (Index r = 0; r < rows && tail > 0; ++r) {
      std::memcpy(out + r * out_stride + matrix.out, in + r * in_stride + matrix.in, std::size_t(tail) * sizeof(float));
    }
  }
  /// \}
};

}  // namespace heed::inline HEED_ABI
