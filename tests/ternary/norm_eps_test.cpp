/// \file
/// Norms of rows and eps so small that 1 / sqrt(mean(x^2) + eps) is no float: right, and a row of zeros stays zero.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <heed/exec/serial.hpp>
#include <heed/layer/rms_norm.hpp>
#include <heed/simd/scalar.hpp>
#include <heed/ternary/bit_linear.hpp>

namespace heed_test::norm_eps_test {
namespace {

using heed::Index;
using Floats = std::vector<float>;

const std::vector<double> all_eps{0, 5e-324, 1e-310, 1e-100, 1e-90, 1e-78, 8e-78, 1e-77, 1e-40, 1e-6};
const std::vector<double> all_sizes{0, 0x1p-149, 0x1p-147, 0x1p-140, 0x1p-131, 0x1p-127, 1e-30, 1e-3, 1, 1e10, 1e37};
const std::vector<Floats> all_gains{{1, 1, 1, 1}, {1, 2, -0.5f, 1}, {1e-3f, -4e-3f, 2e-3f, 1e-3f}};

/// Numbers whose integers are far from ties, whatever the gains.
Floats row_of(double size) { return {float(1 * size), float(-3 * size), float(5 * size), float(8 * size)}; }

/// x / sqrt(mean(x^2) + eps) * gain in float64; zeros for zeros.
std::vector<double> normed(const Floats& x, double eps, const Floats& gain) {
  double squares = 0;
  for (const float v : x) squares += double(v) * double(v);
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double rms = std::sqrt(squares / double(x.size()) + eps);
    out.push_back(x[i] == 0 ? 0 : double(x[i]) / rms * double(gain[i]));
  }
  return out;
}

template <class Body>
void for_all(const Body& body) {
  for (const double eps : all_eps) {
    for (const double size : all_sizes) {
      for (const Floats& gain : all_gains) {
        SCOPED_TRACE(testing::Message() << "eps " << eps << ", rows of " << size << ", gain[1] " << gain[1]);
        body(eps, row_of(size), gain);
      }
    }
  }
}

TEST(NormEps, RmsNorm) {
  for_all([](double eps, const Floats& x, const Floats& gain) {
    const auto norm = heed::value_or_throw(heed::RmsNorm::create("w", {gain, 1, 4}, 4, eps));
    Floats out(4, 9.0f);
    norm.apply(1, x.data(), 4, out.data(), 4);
    const std::vector<double> want = normed(x, eps, gain);
    for (std::size_t i = 0; i < 4; ++i) {
      ASSERT_TRUE(std::abs(double(out[i]) - want[i]) <= 1e-6 * std::abs(want[i]) + 0x1p-149)
          << out[i] << " " << want[i];
    }
  });
}

TEST(NormEps, BitLinear) {
  const std::vector<std::int8_t> weights{1, -1, 0, 1, 0, 1, 1, -1, 1, 1, 1, 1};
  for_all([&](double eps, const Floats& x, const Floats& gain) {
    auto matrix = heed::value_or_throw(heed::ternary_from_values("w", weights, 3, 4, 0.25f));
    const auto layer =
        heed::value_or_throw(heed::BitLinear<>::create("w", std::move(matrix), {gain, 1, 4}, {.norm_eps = eps}));
    const std::vector<double> xn = normed(x, eps, gain);
    double a = 1e-5;
    for (const double v : xn) a = std::max(a, std::abs(v));
    for (const Index tokens : {1, 3}) {
      Floats rows, y(std::size_t(3 * tokens), 9.0f);
      for (Index t = 0; t < tokens; ++t) rows.insert(rows.end(), x.begin(), x.end());
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      ASSERT_TRUE(heed::bit_linear<heed::Scalar>(layer, rows, y, workspace, executor).ok());
      for (std::size_t i = 0; i < y.size(); ++i) {
        double sum = 0;
        for (std::size_t c = 0; c < 4; ++c) {
          const double q = xn[c] * 127 / a;
          ASSERT_GT(std::abs(std::abs(q - std::floor(q)) - 0.5), 1e-3) << "a tie";
          sum += std::round(q) * weights[i % 3 * 4 + c];
        }
        const double want = sum * a / 127 * 0.25;
        ASSERT_TRUE(std::abs(double(y[i]) - want) <= 1e-5 * std::abs(want)) << y[i] << " " << want;
      }
    }
  });
}

}  // namespace
}  // namespace heed_test::norm_eps_test
