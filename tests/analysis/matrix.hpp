/// \file
/// Small float64 matrices for tests: weights are [out, in], applied as y = x W^T.
#pragma once

#include <vector>

#include "oracle/random.hpp"

namespace heed_test {

struct Matrix {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<double> numbers = {};  ///< row-major

  double& at(std::size_t r, std::size_t c) { return numbers[r * columns + c]; }
  [[nodiscard]] double at(std::size_t r, std::size_t c) const { return numbers[r * columns + c]; }
};

inline Matrix zeros(std::size_t rows, std::size_t columns) {
  return {rows, columns, std::vector<double>(rows * columns, 0.0)};
}

/// Gaussian numbers of variance 1 / columns: a weight that keeps the size of what it is applied to.
inline Matrix random_weight(oracle::Random& random, std::size_t rows, std::size_t columns) {
  Matrix m = zeros(rows, columns);
  for (double& number : m.numbers) number = random.gaussian() / std::sqrt(double(columns));
  return m;
}

inline Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix product = zeros(a.rows, b.columns);
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (std::size_t k = 0; k < a.columns; ++k) {
      for (std::size_t c = 0; c < b.columns; ++c) product.at(r, c) += a.at(r, k) * b.at(k, c);
    }
  }
  return product;
}

inline Matrix operator+(Matrix a, const Matrix& b) {
  for (std::size_t i = 0; i < a.numbers.size(); ++i) a.numbers[i] += b.numbers[i];
  return a;
}

inline Matrix operator*(double factor, Matrix a) {
  for (double& number : a.numbers) number *= factor;
  return a;
}

inline Matrix transposed(const Matrix& a) {
  Matrix t = zeros(a.columns, a.rows);
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (std::size_t c = 0; c < a.columns; ++c) t.at(c, r) = a.at(r, c);
  }
  return t;
}

/// Rows [first, first + count).
inline Matrix row_block(const Matrix& a, std::size_t first, std::size_t count) {
  const auto begin = a.numbers.begin() + std::ptrdiff_t(first * a.columns);
  return {count, a.columns, std::vector<double>(begin, begin + std::ptrdiff_t(count * a.columns))};
}

inline Matrix column_block(const Matrix& a, std::size_t first, std::size_t count) {
  return transposed(row_block(transposed(a), first, count));
}

/// `a` over `b`.
inline Matrix stacked(Matrix a, const Matrix& b) {
  a.numbers.insert(a.numbers.end(), b.numbers.begin(), b.numbers.end());
  return {a.rows + b.rows, b.columns, std::move(a.numbers)};
}

}  // namespace heed_test
