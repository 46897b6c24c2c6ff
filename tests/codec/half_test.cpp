// bf16 and f16 conversions, every pattern both ways, against rounding by arithmetic in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>

#include "oracle/random.hpp"

namespace heed_test::half_test {
namespace {

struct Bf16Format {
  using Codec = heed::Bf16;
  static constexpr int fraction_bits = 7, exponent_bits = 8;
  static double round(double x) { return oracle::round_to_bf16(x); }
};
struct F16Format {
  using Codec = heed::F16;
  static constexpr int fraction_bits = 10, exponent_bits = 5;
  static double round(double x) { return oracle::round_to_f16(x); }
};

/// The number a pattern means, by the definition of the format.
template <class Format>
double meaning(std::uint16_t bits) {
  const int bias = (1 << (Format::exponent_bits - 1)) - 1, largest = (1 << Format::exponent_bits) - 1;
  const int fraction = bits & ((1 << Format::fraction_bits) - 1);
  const int exponent = (bits >> Format::fraction_bits) & largest;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == largest) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  const double significand = (exponent == 0 ? 0 : 1) + std::ldexp(fraction, -Format::fraction_bits);
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias);
}

template <class Format>
class Half : public testing::Test {};
using Formats = testing::Types<Bf16Format, F16Format>;
TYPED_TEST_SUITE(Half, Formats);

TYPED_TEST(Half, EveryPatternDecodesToItsNumber) {
  for (int i = 0; i < 65536; ++i) {
    const double want = meaning<TypeParam>(std::uint16_t(i));
    const float got = TypeParam::Codec::to_float(std::uint16_t(i));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << i;
    } else {
      ASSERT_TRUE(double(got) == want && std::signbit(got) == std::signbit(want)) << i;
    }
  }
}

TYPED_TEST(Half, EveryPatternComesBack) {
  for (int i = 0; i < 65536; ++i) {
    const float x = TypeParam::Codec::to_float(std::uint16_t(i));
    const std::uint16_t back = TypeParam::Codec::from_float(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(TypeParam::Codec::to_float(back)));
      ASSERT_EQ(back & 0x8000, i & 0x8000) << "sign of NaN " << i;
    } else {
      ASSERT_EQ(back, i);
    }
  }
}

template <class Format>
void expect_rounded(float x) {
  const float got = Format::Codec::to_float(Format::Codec::from_float(x));
  const double want = Format::round(x);
  if (std::isnan(x)) {
    ASSERT_TRUE(std::isnan(got));
  } else {
    ASSERT_TRUE(double(got) == want && std::signbit(got) == std::signbit(x)) << x << " became " << got;
  }
}

/// The midpoint of every two neighbours, where ties go to even, and the floats beside it.
TYPED_TEST(Half, MidpointsRoundToEven) {
  for (int i = 0; i < 32768; ++i) {
    const double a = meaning<TypeParam>(std::uint16_t(i)), b = meaning<TypeParam>(std::uint16_t(i + 1));
    if (!std::isfinite(a) || std::isnan(b)) continue;
    // Beyond the largest number the next would be one step away.
    const double middle = std::isfinite(b) ? (a + b) / 2 : a + (a - meaning<TypeParam>(std::uint16_t(i - 1))) / 2;
    const auto x = float(middle);
    for (const float y : {x, std::nextafter(x, 0.0f), std::nextafter(x, std::numeric_limits<float>::infinity())}) {
      ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(y));
      ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(-y));
    }
  }
}

TYPED_TEST(Half, EveryThousandthFloat) {
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 1009) {
    ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(std::bit_cast<float>(std::uint32_t(bits))));
  }
}

TYPED_TEST(Half, EveryFloatLong) {
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; ++bits) {
    ASSERT_NO_FATAL_FAILURE(expect_rounded<TypeParam>(std::bit_cast<float>(std::uint32_t(bits))));
  }
}

/// A finite number stays finite, an infinity infinite.
TYPED_TEST(Half, BeyondTheLargestNumberSaturates) {
  const auto stored = [](float x) { return double(TypeParam::Codec::to_float(TypeParam::Codec::from_float(x))); };
  const std::uint16_t largest_bits =
      std::uint16_t((((1 << TypeParam::exponent_bits) - 1) << TypeParam::fraction_bits) - 1);
  const double largest = meaning<TypeParam>(largest_bits);
  ASSERT_TRUE(std::isfinite(largest));
  for (const float x : {std::numeric_limits<float>::max(), float(largest * 1.0009), float(largest)}) {
    EXPECT_EQ(stored(std::min(x, std::numeric_limits<float>::max())), largest);
    EXPECT_EQ(stored(-std::min(x, std::numeric_limits<float>::max())), -largest);
  }
  EXPECT_EQ(stored(std::numeric_limits<float>::infinity()), std::numeric_limits<double>::infinity());
  EXPECT_EQ(stored(-std::numeric_limits<float>::infinity()), -std::numeric_limits<double>::infinity());
}

static_assert(heed::F16::from_float(65504.0f) == 0x7bff && heed::F16::from_float(1e6f) == 0x7bff);
static_assert(heed::F16::from_float(-65520.0f) == 0xfbff && heed::F16::from_float(65519.0f) == 0x7bff);

}  // namespace
}  // namespace heed_test::half_test
