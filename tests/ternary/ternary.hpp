/// \file
/// What the tests of ternary mechanisms share: all loops and backends of this build, random weights, and bits.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <list>
#include <string>
#include <vector>

#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/simd/backends.hpp>
#include <heed/simd/ternary/select.hpp>
#include <heed/ternary/bit_linear.hpp>

#include "oracle/bitlinear.hpp"
#include "oracle/random.hpp"

namespace heed_test {

using heed::Index;
using heed::Status, heed::StatusCode;
using Floats = std::vector<float>;
using Trits = std::vector<std::int8_t>;
using Bytes = std::vector<std::uint8_t>;

inline constexpr float nan_float = std::numeric_limits<float>::quiet_NaN();
inline constexpr float inf_float = std::numeric_limits<float>::infinity();

using Backend = heed::DefaultBackend;

/// Calls f<Backend>(name) for every backend of this build.
template <class F>
void with_every_backend(F&& f) {
  heed::Backends::for_each([&]<class B>() { f.template operator()<B>(B::name); });
}

/// Calls f<Backend, Layout>(name) for every backend of this build and every layout.
template <class F>
void with_every_form(F&& f) {
  with_every_backend([&]<class B>(const std::string& name) {
    heed::TernaryLayouts::for_each([&]<class L>() { f.template operator()<B, L>(name + ", " + L::name); });
  });
}

inline bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// Rows [first, first + count) of [rows][width].
template <class T>
std::vector<T> rows_of(const std::vector<T>& all, Index first, Index count, Index width) {
  return {all.begin() + first * width, all.begin() + (first + count) * width};
}

inline void expect_failure(const Status& status, StatusCode code, const std::string& message) {
  EXPECT_EQ(status.code(), code);
  EXPECT_EQ(status.message(), message);
}
inline void expect_invalid(const Status& status, const std::string& message) {
  expect_failure(status, StatusCode::invalid_argument, message);
}

inline oracle::TernaryWeights random_weights(oracle::Random& random, Index rows, Index cols, float scale = 0.75f) {
  oracle::TernaryWeights weights{.rows = rows, .cols = cols, .scale = double(scale)};
  for (Index i = 0; i < rows * cols; ++i) weights.w.push_back(std::int8_t(random.below(3) - 1));
  return weights;
}

template <class L>
heed::TernaryMatrix<L> matrix_of(const oracle::TernaryWeights& weights) {
  return heed::value_or_throw(
      heed::ternary_from_values<L>("weight", weights.w, weights.rows, weights.cols, float(weights.scale)));
}

template <class L>
Trits values_of(const heed::TernaryMatrix<L>& matrix) {
  Trits all(std::size_t(matrix.rows() * matrix.cols()));
  for (Index r = 0; r < matrix.rows(); ++r) {
    matrix.read_row(r, std::span(all).subspan(std::size_t(r * matrix.cols()), std::size_t(matrix.cols())));
  }
  return all;
}

inline heed::Tensor vector_of(const Floats& numbers) {
  return {numbers, numbers.empty() ? 0 : 1, Index(numbers.size())};
}

/// A layer and its oracle.
struct RandomLinear {
  oracle::TernaryWeights weights;
  Floats gain;
  double eps = 1e-6;

  RandomLinear() = default;
  RandomLinear(oracle::Random& random, Index out, Index in, bool normed = true, float scale = 0.05f)
      : weights(random_weights(random, out, in, scale)) {
    for (Index i = 0; normed && i < in; ++i) gain.push_back(float(1 + 0.3 * random.gaussian()));
  }

  template <class L>
  [[nodiscard]] heed::BitLinear<L> make() const {
    return heed::value_or_throw(
        heed::BitLinear<L>::create("weight", matrix_of<L>(weights), vector_of(gain), {.norm_eps = eps}));
  }
  [[nodiscard]] oracle::BitLinear exact() const {
    return {.weights = weights, .norm = oracle::doubles(gain), .eps = eps};
  }
};

/// y is the layer's output of rows x, which it knew to `relative`: three factors more, and an integer more or less for
/// every scaled number within `tie` of a tie.
inline void expect_products(const Floats& y, const oracle::Numbers& x, const oracle::BitLinear& exact,
                            double relative = 8 * 0x1p-24, double tie = 1e-4) {
  const Index in = exact.weights.cols, out = exact.weights.rows;
  const auto normed = oracle::rms_norm(x, exact.norm, exact.eps);
  const auto rows = exact.inputs(x);
  const auto want = exact(x);
  ASSERT_EQ(y.size(), want.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const Index t = Index(i) / out;
    const double unit = rows.absmax[std::size_t(t)] / 127;
    int ties = 0;
    for (Index k = 0; k < in; ++k) {
      const double scaled = std::abs(normed[std::size_t(t * in + k)]) / unit;
      ties += std::abs(scaled - std::floor(scaled) - 0.5) < tie ? 1 : 0;
    }
    const double bound = relative * std::abs(want[i]) + 1.001 * ties * unit * exact.weights.scale;
    ASSERT_TRUE(std::abs(double(y[i]) - want[i]) <= bound) << "number " << i << ": " << y[i] << ", oracle " << want[i];
  }
}

}  // namespace heed_test
