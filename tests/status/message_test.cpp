/// \file
/// How messages are made: numbers as they are, nouns as many as there are.
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include <heed/rope/rope.hpp>
#include <heed/status.hpp>

namespace heed_test::message_test {
namespace {

template <class... Parts>
std::string message(const Parts&... parts) {
  return heed::fail(heed::StatusCode::invalid_argument, parts...).message();
}

TEST(Messages, HaveIntegersInFull) {
  EXPECT_EQ(message("n is ", 0, ", ", -7, ", ", std::numeric_limits<std::int64_t>::min(), ", ", std::size_t(5)),
            "n is 0, -7, -9223372036854775808, 5");
  EXPECT_EQ(message(std::string("name"), " has ", std::int8_t(-3)), "name has -3");
}

/// No number that is not zero reads as zero, none that is below a bound reads as the bound.
TEST(Messages, HaveFloatsThatReadBackTheSame) {
  EXPECT_EQ(message("theta is ", 1e-7), "theta is 1e-07");
  EXPECT_EQ(message(1e-300, " ", 5e-324), "1e-300 5e-324");
  EXPECT_EQ(message(0.1f, " ", 0.1, " ", -1.0f, " ", 1.5), "0.1 0.1 -1 1.5");
  EXPECT_EQ(message(0.99999999999), "0.99999999999");
  EXPECT_EQ(message(0.0, " ", -0.0f), "0 -0");
  for (const double number : {3.4028234663852886e38, 1.0 / 3, 5e-324, -123456789.125, 65520.0}) {
    EXPECT_EQ(std::strtod(message("", number).c_str(), nullptr), number);
    EXPECT_EQ(std::strtof(message("", float(1.0 / 3)).c_str(), nullptr), float(1.0 / 3));
  }
}

TEST(Messages, SayWhatIsNoNumber) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(message("x is ", std::numeric_limits<float>::quiet_NaN()), "x is nan");
  EXPECT_EQ(message("x is ", infinity, ", ", -double(infinity)), "x is inf, -inf");
}

TEST(Messages, HaveOneTokenOrManyTokens) {
  EXPECT_EQ(message("a step of ", 1, " tokens is open"), "a step of 1 token is open");
  EXPECT_EQ(message("a step of ", 2, " tokens is open"), "a step of 2 tokens is open");
  EXPECT_EQ(message("for ", std::size_t(1), " queries"), "for 1 query");
  EXPECT_EQ(message("for ", 11, " queries"), "for 11 queries");
  EXPECT_EQ(message("has ", 1, " numbers, must have ", 1, " bytes"), "has 1 number, must have 1 byte");
  // Words that only begin like one, or are none of these nouns.
  EXPECT_EQ(message("layer ", 1, " has no stream"), "layer 1 has no stream");
  EXPECT_EQ(message("row ", 1, " idsomething"), "row 1 idsomething");
  EXPECT_EQ(message("at ", 1.0, " tokens"), "at 1 tokens");
  EXPECT_EQ(message("no number", " tokens"), "no number tokens");
}

TEST(Messages, OfARopeSayTheNumber) {
  heed::RopeOptions options{.head_dim = 8, .layout = heed::RopeLayout::half_split, .theta = -1e-7};
  EXPECT_EQ(options.validate().message(), "theta is -1e-07, must be positive, and above 1 with yarn");
  options.theta = 1e4;
  options.linear_factor = -1e-9;
  EXPECT_EQ(options.validate().message(), "linear_factor is -1e-09, must be a positive number");
  options.linear_factor = 1;
  options.yarn = heed::Yarn{.factor = 0.9999999999, .original_max_position = 4096};
  EXPECT_EQ(options.validate().message(), "yarn.factor is 0.9999999999, must be a finite number of at least 1");
}

TEST(CheckRange, NamesArgumentNumberAndRange) {
  EXPECT_TRUE(heed::detail::check_range("layers", 1, 1, 3).ok());
  EXPECT_TRUE(heed::detail::check_range("layers", 3, 1, 3).ok());
  EXPECT_EQ(heed::detail::check_range("layers", 4, 1, 3).message(), "layers is 4, must be in 1 .. 3");
  EXPECT_EQ(heed::detail::check_range("layers", 0, 1, 3).message(), "layers is 0, must be in 1 .. 3");
}

}  // namespace
}  // namespace heed_test::message_test
