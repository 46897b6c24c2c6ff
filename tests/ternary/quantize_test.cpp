/// \file
/// The activation quantiser: the integers of the oracle but where rounding may differ, and exactly them away from ties.
#include "ternary/ternary.hpp"

namespace heed_test::quantize_test {
namespace {

using heed::Rounding;
using heed::detail::NormedRow;
using heed::detail::QuantizedRow;

struct Quantized {
  Trits q;  ///< padding included
  QuantizedRow row;
};

Quantized quantized(const NormedRow& row, Rounding rounding = Rounding::half_even, Index padded = 0) {
  Quantized made;
  made.q.assign(std::size_t(std::max(padded, heed::round_up(row.n, 4))), 55);
  made.row = heed::detail::quantize_row(row, rounding, Index(made.q.size()), made.q.data(), 4);
  return made;
}
Quantized quantized(const Floats& x, Rounding rounding = Rounding::half_even, Index padded = 0) {
  return quantized({.x = x.data(), .n = Index(x.size())}, rounding, padded);
}
Trits front(const Quantized& made, std::size_t n) { return {made.q.begin(), made.q.begin() + std::ptrdiff_t(n)}; }

/// The oracle's integers, but where the scaled number is within 1e-4 of a tie: float32 errs by less than 4 roundings of
/// 127, 3e-5. The scale is off by as many roundings.
void expect_like_the_oracle(const Quantized& got, const oracle::Numbers& x, oracle::Rounding halves) {
  const auto want = oracle::quantized_rows(x, Index(x.size()), halves);
  const double a = want.absmax[0];
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double scaled = std::abs(x[i] * (127 / a));
    const bool tie = std::abs(scaled - std::floor(scaled) - 0.5) < 1e-4;
    ASSERT_LE(std::abs(got.q[i] - want.q[i]), tie ? 1 : 0) << i << ": " << x[i] << ", largest " << a;
    ASSERT_LE(std::abs(int(got.q[i])), 127);
    sum += got.q[i];
  }
  for (std::size_t i = x.size(); i < got.q.size(); ++i) ASSERT_EQ(got.q[i], 0) << "padding " << i;
  ASSERT_EQ(got.row.sum, sum);
  ASSERT_TRUE(std::abs(double(got.row.scale) - a / 127) <= 4 * 0x1p-24 * a / 127) << got.row.scale;
}

TEST(TernaryQuantize, RandomRows) {
  oracle::Random random(1);
  for (Index n = 1; n <= 70; ++n) {
    const Floats x = random.gaussians(n, std::exp(8 * random.gaussian()));
    for (const Index padded : {Index{0}, heed::round_up(n, 16), heed::round_up(n, 20), heed::round_up(n, 16) + 32}) {
      ASSERT_NO_FATAL_FAILURE(expect_like_the_oracle(quantized(x, Rounding::half_even, padded), oracle::doubles(x),
                                                     oracle::Rounding::half_even));
      ASSERT_NO_FATAL_FAILURE(expect_like_the_oracle(quantized(x, Rounding::half_away, padded), oracle::doubles(x),
                                                     oracle::Rounding::half_away));
    }
  }
}

TEST(TernaryQuantize, NormedRows) {
  oracle::Random random(2);
  for (const Index n : {1, 2, 15, 16, 17, 96, 333, 2560}) {
    for (const double eps : {1e-6, 1e-8, 0.0, 2.0}) {
      const Floats x = random.gaussians(n, std::exp(4 * random.gaussian())), gain = random.gaussians(n);
      const double squares = heed::detail::sum_of_squares(x.data(), n);
      const NormedRow row{
          .x = x.data(), .n = n, .norm = heed::detail::rms_factors(squares, n, eps), .gain = gain.data()};
      const auto normed = oracle::rms_norm(oracle::doubles(x), oracle::doubles(gain), eps);
      ASSERT_NO_FATAL_FAILURE(expect_like_the_oracle(quantized(row), normed, oracle::Rounding::half_even));
    }
  }
}

/// Multiples of 1/128 of a row whose scale is a power of two: nothing is rounded, and no tie is left to chance.
TEST(TernaryQuantize, ExactWhereNothingIsRounded) {
  oracle::Random random(3);
  for (const double a : {127.0, 254.0, 63.5, 127.0 / 1024}) {
    Floats x{float(a)};
    for (int i = 0; i < 300; ++i) x.push_back(float(a / 127 * (double(random.below(127 * 128)) / 128)));
    for (std::size_t i = 0; i < x.size(); i += 2) x[i] = -x[i];
    EXPECT_EQ(front(quantized(x), x.size()),
              oracle::quantized_rows(oracle::doubles(x), Index(x.size()), oracle::Rounding::half_even).q);
    EXPECT_EQ(front(quantized(x, Rounding::half_away), x.size()),
              oracle::quantized_rows(oracle::doubles(x), Index(x.size()), oracle::Rounding::half_away).q);
  }
}

TEST(TernaryQuantize, Ties) {
  Floats x{127};
  Trits even{127}, away{127};
  for (int k = -127; k <= 126; ++k) {
    x.push_back(float(k) + 0.5f);
    even.push_back(std::int8_t(k % 2 == 0 ? k : k + 1));
    away.push_back(std::int8_t(k >= 0 ? k + 1 : k));
  }
  EXPECT_EQ(front(quantized(x), x.size()), even);
  EXPECT_EQ(front(quantized(x, Rounding::half_away), x.size()), away);
}

/// The neighbours of a tie are none.
TEST(TernaryQuantize, BesideTies) {
  Floats x{127};
  Trits want{127};
  for (int k = 0; k < 127; ++k) {
    const float tie = float(k) + 0.5f;
    x.insert(x.end(), {std::nextafter(tie, 0.0f), std::nextafter(tie, 200.0f), -std::nextafter(tie, 0.0f)});
    want.insert(want.end(), {std::int8_t(k), std::int8_t(k + 1), std::int8_t(-k)});
  }
  EXPECT_EQ(front(quantized(x), x.size()), want);
  EXPECT_EQ(front(quantized(x, Rounding::half_away), x.size()), want);
}

TEST(TernaryQuantize, ZeroRow) {
  for (const Index n : {1, 16, 37}) {
    Floats x(std::size_t(n), 0.0f);
    x.back() = -0.0f;
    const Quantized got = quantized(x);
    EXPECT_EQ(got.q, Trits(got.q.size(), 0));
    EXPECT_EQ(got.row.scale, 1e-5f / 127.0f);
    EXPECT_EQ(got.row.sum, 0);
  }
}

TEST(TernaryQuantize, SmallRowsDoNotGrow) {
  const Quantized got = quantized(Floats{3e-6f, -3e-6f, 1e-9f, std::numeric_limits<float>::denorm_min()});
  EXPECT_EQ(got.q, (Trits{38, -38, 0, 0}));
  EXPECT_EQ(got.row.scale, 1e-5f / 127.0f);
  EXPECT_EQ(quantized(Floats{1e-38f, -1e-40f}).q, Trits(4, 0));
}

TEST(TernaryQuantize, OneOutlier) {
  Floats x(200, 1.0f);
  x[150] = -1000;
  Trits want(200, 0);
  want[150] = -127;
  EXPECT_EQ(quantized(x).q, want);
  EXPECT_EQ(quantized(x).row.sum, -127);
}

TEST(TernaryQuantize, LargestFloats) {
  constexpr float most = std::numeric_limits<float>::max();
  const Quantized got = quantized(Floats{most, -most, most / 2, 1});
  EXPECT_EQ(got.q, (Trits{127, -127, 64, 0}));
  EXPECT_EQ(got.row.scale, most / 127.0f);
}

TEST(TernaryQuantize, WhatIsNotFiniteMakesTheRowNan) {
  for (const float bad : {nan_float, -nan_float, inf_float, -inf_float}) {
    for (const Index n : {1, 4, 16, 19, 40}) {
      for (Index at = 0; at < n; ++at) {
        Floats x(std::size_t(n), 3.0f);
        x[std::size_t(at)] = bad;
        const Quantized got = quantized(x, Rounding::half_even, heed::round_up(n, 20));
        ASSERT_TRUE(std::isnan(got.row.scale)) << bad << " at " << at << " of " << n;
        ASSERT_EQ(got.row.sum, 0);
        ASSERT_EQ(got.q, Trits(got.q.size(), 0));
      }
    }
  }
}

TEST(TernaryQuantize, AGainThatOverflowsMakesTheRowNan) {
  const Floats x{1e30f, 1}, gain{1e30f, 1};
  EXPECT_TRUE(std::isnan(quantized({.x = x.data(), .n = 2, .norm = {}, .gain = gain.data()}).row.scale));
}

/// Quads go where the stride says, padding is zero, and nothing else is written.
TEST(TernaryQuantize, StridesAndPadding) {
  oracle::Random random(4);
  for (const Index n : {1, 3, 4, 17, 30, 48}) {
    const Floats x = random.gaussians(n);
    const Index padded = heed::round_up(n, 20);
    const Trits want = quantized(x, Rounding::half_even, padded).q;
    for (const Index stride : {4, 16, 48}) {
      Trits to(std::size_t(padded / 4 * stride + 16), 99);
      heed::detail::quantize_row({.x = x.data(), .n = n}, Rounding::half_even, padded, to.data() + 8, stride);
      for (Index i = 0; i < Index(to.size()); ++i) {
        const Index quad = (i - 8) / stride, in_quad = (i - 8) % stride;
        const bool written = i >= 8 && quad < padded / 4 && in_quad < 4;
        ASSERT_EQ(to[std::size_t(i)], written ? want[std::size_t(4 * quad + in_quad)] : 99)
            << i << ", stride " << stride;
      }
    }
  }
}

/// A row's numbers are not read beyond its end, and may lie anywhere.
TEST(TernaryQuantize, AnyAddress) {
  oracle::Random random(5);
  Floats x = random.gaussians(64);
  const Floats aligned = rows_of(x, 0, 37, 1);
  for (std::size_t shift = 1; shift < 16; ++shift) {
    Floats moved(37 + 2 * shift, nan_float);  // what is beside the row would make it NaN
    std::copy(aligned.begin(), aligned.end(), moved.begin() + std::ptrdiff_t(shift));
    const Quantized got = quantized({.x = moved.data() + shift, .n = 37}), want = quantized(aligned);
    EXPECT_EQ(got.q, want.q);
    EXPECT_EQ(got.row.scale, want.row.scale);
  }
}

TEST(TernaryQuantize, RootMeanSquare) {
  oracle::Random random(6);
  for (Index n = 1; n < 70; ++n) {
    const Floats x = random.gaussians(n, std::exp(20 * random.gaussian()));
    double want = 0;
    for (const float number : x) want += double(number) * double(number);
    const double got = heed::detail::sum_of_squares(x.data(), n);
    EXPECT_TRUE(std::abs(got - want) <= 1e-14 * want) << n;
    const double rstd = 1 / std::sqrt(want / double(n) + 1e-6);
    EXPECT_TRUE(std::abs(double(heed::detail::reciprocal_rms(got, n, 1e-6)) - rstd) <= 0x1p-24 * rstd) << n;
  }
}

}  // namespace
}  // namespace heed_test::quantize_test
