/// \file
/// Rows times a matrix, for any vector type: the product of a policy's linear maps.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include <heed/matrix.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI::detail {

/// y[r][o] = sum_i x[r][i] m[i][o], summed as a score is: i in blocks of 32, each with its own accumulator, ascending
/// from 0; the block sums are added in order. So a row has the same bits alone and among others.
template <class V>
struct LinearLoop {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register
  /// Vectors of a wide tile: of 6 rows, as for scores.
  static constexpr int wide = tile_vectors<V>;

  /// The function of type Linear.
  static void run(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride) {
    Index o = 0;
    if (rows == 1) o = columns<2 * wide>(m, o, rows, x, x_stride, y, y_stride);
    o = columns<wide>(m, o, rows, x, x_stride, y, y_stride);
    o = columns<1>(m, o, rows, x, x_stride, y, y_stride);
    if (o < m.out) last(m, o, rows, x, x_stride, y, y_stride);
  }

 private:
  // Computes the columns from `first` on in whole tiles of N vectors. Returns the first column that is left. The part
  // of the matrix that is used for all rows before the next one is at most 32 KiB, so it stays in L1.
  template <int N>
  static Index columns(const Matrix& m, Index first, Index rows, const float* x, Index x_stride, float* y,
                       Index y_stride) {
    for (; first + N * W <= m.out; first += N * W) {
      for (Index i = 0; i < std::max<Index>(m.in, 1); i += cached_inputs) {
        const Interval inputs{i, std::min(i + cached_inputs, m.in)};
        const float* weights = m.data + first;
        const auto rows_of = [&]<int R>(std::integral_constant<int, R>, Index r) {
          product<R, N>(weights, m.stride, inputs, x + r * x_stride, x_stride, y + r * y_stride + first, y_stride);
        };
        Index r = 0;
        if constexpr (N <= wide) {
          for (; r + 6 <= rows; r += 6) rows_of(std::integral_constant<int, 6>{}, r);
          for (; r + 2 <= rows; r += 2) rows_of(std::integral_constant<int, 2>{}, r);
        }
        for (; r < rows; ++r) rows_of(std::integral_constant<int, 1>{}, r);
      }
    }
    return first;
  }

  // Computes the columns after the last whole vector, from a padded copy of them.
  static void last(const Matrix& m, Index first, Index rows, const float* x, Index x_stride, float* y, Index y_stride) {
    const Index count = m.out - first;
    float weights[std::size_t(score_dims * W)] = {};
    float sums[std::size_t(W)];
    for (Index begin = 0; begin < std::max<Index>(m.in, 1); begin += score_dims) {
      const Interval inputs{begin, std::min(begin + score_dims, m.in)};
      for (Index i = inputs.begin; i < inputs.end; ++i) {
        std::memcpy(weights + (i - begin) * W, m.data + i * m.stride + first, std::size_t(count) * sizeof(float));
      }
      for (Index r = 0; r < rows; ++r) {
        float* out = y + r * y_stride + first;
        if (begin > 0) std::memcpy(sums, out, std::size_t(count) * sizeof(float));
        product<1, 1>(weights - begin * W, W, inputs, x + r * x_stride, x_stride, sums, W);
        std::memcpy(out, sums, std::size_t(count) * sizeof(float));
      }
    }
  }

  template <int R, int N>
  static void product(const float* weights, Index stride, Interval inputs, const float* x, Index x_stride, float* y,
                      Index y_stride) {
    Index begin = inputs.begin;
    do {
      const Index end = std::min(begin + score_dims, inputs.end);
      RegisterTile<V, R, N> tile;
      tile.clear();
      for (Index i = begin; i < end; ++i) tile.add(x + i, x_stride, weights + i * stride);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) {
          float* at = y + r * y_stride + n * W;
          V::store(at, begin == 0 ? tile.sum[r][n] : V::add(V::load(at), tile.sum[r][n]));
        }
      }
      begin = end;
    } while (begin < inputs.end);
  }

  static constexpr Index cached_inputs = 128;  // 128 x 64 floats
};

}  // namespace heed::inline HEED_ABI::detail
