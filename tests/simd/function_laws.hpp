/// \file
/// How accurate exp and tanh of a backend are, against double.
#pragma once

#include <bit>
#include <cstdint>

#include "simd/tile_laws.hpp"

namespace heed_test {

/// The functions of a backend on arrays of a multiple of 16 numbers.
template <class Backend>
struct Functions {
  static void exp(const float* x, float* y, Index n) {
    each(x, y, n, [](auto v) { return Backend::exp(v); });
  }
  static void tanh(const float* x, float* y, Index n) {
    each(x, y, n, [](auto v) { return Backend::tanh(v); });
  }

 private:
  template <class F>
  static void each(const float* x, float* y, Index n, const F& f) {
    typename Backend::Reg v;
    for (Index i = 0; i < n; i += Backend::W) {
      std::memcpy(&v, x + i, sizeof v);
      v = f(v);
      std::memcpy(y + i, &v, sizeof v);
    }
  }
};
template <>
struct Functions<Scalar> {
  static void exp(const float* x, float* y, Index n) {
    for (Index i = 0; i < n; ++i) y[i] = Scalar::exp(x[i]);
  }
  static void tanh(const float* x, float* y, Index n) {
    std::copy(x, x + n, y);
    Scalar::soft_cap(y, n, 1.0f);
  }
};

/// |got - want| in units of the last place of `want` as a float.
[[nodiscard]] inline double ulps(float got, double want) {
  if (std::isnan(got)) return std::numeric_limits<double>::infinity();
  if (double(got) == want) return 0;
  const double magnitude = std::max(std::abs(want), 0x1p-126);
  return std::abs(double(got) - want) / std::ldexp(1.0, std::ilogb(magnitude) - 23);
}

template <class Backend>
class FunctionLaws : public testing::Test {};
TYPED_TEST_SUITE_P(FunctionLaws);

/// Calls check(x, y) for every `step`-th float bit pattern.
template <class F, class Check>
void sweep(std::uint64_t step, const F& function, const Check& check) {
  constexpr Index block = 4096;
  std::vector<float> x(block), y(block);
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32);) {
    for (float& number : x) {
      number = std::bit_cast<float>(std::uint32_t(bits));  // wraps to numbers already seen in the last block
      bits += step;
    }
    function(x.data(), y.data(), block);
    for (std::size_t i = 0; i < x.size(); ++i) check(x[i], y[i]);
  }
}

template <class Backend>
void expect_exp(std::uint64_t step) {
  double worst = 0;
  std::uint64_t wrong = 0;
  sweep(step, Functions<Backend>::exp, [&](float x, float y) {
    if (std::isnan(x)) {
      wrong += !std::isnan(y);
    } else if (x < -87.33655f) {
      wrong += std::bit_cast<std::uint32_t>(y) != 0;
    } else if (x >= -87.3f && x <= 88) {
      worst = std::max(worst, ulps(y, std::exp(double(x))));
    }
  });
  EXPECT_TRUE(worst <= 2) << worst;
  EXPECT_EQ(wrong, 0u);
}

template <class Backend>
void expect_tanh(std::uint64_t step) {
  double worst = 0;
  std::uint64_t wrong = 0;
  sweep(step, Functions<Backend>::tanh, [&](float x, float y) {
    if (std::isnan(x)) {
      wrong += !std::isnan(y);
    } else {
      worst = std::max(worst, ulps(y, std::tanh(double(x))));
      wrong += std::abs(y) > 1 || x * y < 0;
    }
  });
  EXPECT_TRUE(worst <= 4) << worst;
  EXPECT_EQ(wrong, 0u);
}

TYPED_TEST_P(FunctionLaws, ExpIsAccurate) { expect_exp<TypeParam>(8191); }
TYPED_TEST_P(FunctionLaws, ExpIsAccurateLong) { expect_exp<TypeParam>(1); }
TYPED_TEST_P(FunctionLaws, TanhIsAccurate) { expect_tanh<TypeParam>(8191); }
TYPED_TEST_P(FunctionLaws, TanhIsAccurateLong) { expect_tanh<TypeParam>(1); }

TYPED_TEST_P(FunctionLaws, ExpIsTheSameBitsAsScalar) {
  sweep(65521, Functions<TypeParam>::exp, [](float x, float y) {
    if (x <= 88) {
      ASSERT_TRUE(same(y, Scalar::exp(x))) << x;
    }
  });
}

TYPED_TEST_P(FunctionLaws, SpecialNumbers) {
  std::vector<float> x(16, 0.0f), y(16, nan);
  x[1] = -0.0f;
  x[2] = -infinity;
  x[3] = nan;
  x[4] = -87.34f;
  x[5] = -1e30f;
  x[6] = 0x1p-149f;
  Functions<TypeParam>::exp(x.data(), y.data(), 16);
  for (const int one : {0, 1, 6}) EXPECT_EQ(y[std::size_t(one)], 1.0f);
  for (const int zero : {2, 4, 5}) EXPECT_TRUE(same(y[std::size_t(zero)], 0.0f)) << zero;
  EXPECT_TRUE(std::isnan(y[3]));
  x[4] = infinity;
  Functions<TypeParam>::tanh(x.data(), y.data(), 16);
  for (const int zero : {0, 1}) EXPECT_EQ(y[std::size_t(zero)], 0.0f);  // the sign of zero is nobody's business
  EXPECT_EQ(y[2], -1.0f);
  EXPECT_TRUE(std::isnan(y[3]));
  EXPECT_EQ(y[4], 1.0f);
  EXPECT_EQ(y[5], -1.0f);
  EXPECT_EQ(y[6], 0x1p-149f);
}

REGISTER_TYPED_TEST_SUITE_P(FunctionLaws, ExpIsAccurate, ExpIsAccurateLong, TanhIsAccurate, TanhIsAccurateLong,
                            ExpIsTheSameBitsAsScalar, SpecialNumbers);

}  // namespace heed_test
