// YaRN against the released models' numbers.
#include <heed/rope/rope.hpp>
#include <heed/rope/yarn.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "oracle/random.hpp"
#include "oracle/yarn.hpp"

namespace heed_test::yarn_test {
namespace {

using heed::Index;
using heed::Yarn;

const Yarn deepseek_v3{.factor = 40, .original_max_position = 4096, .mscale = 1, .mscale_all_dim = 1};
const Yarn deepseek_v2_lite{.factor = 40, .original_max_position = 4096, .mscale = 0.707, .mscale_all_dim = 0.707};
const Yarn kimi_k2{
    .factor = 32, .original_max_position = 4096, .beta_fast = 1, .beta_slow = 1, .mscale = 1, .mscale_all_dim = 1};
const Yarn kimi_k2_0905{
    .factor = 64, .original_max_position = 4096, .beta_fast = 1, .beta_slow = 1, .mscale = 1, .mscale_all_dim = 1};

oracle::YarnScaling scaling(const Yarn& y) {
  return {y.factor, double(y.original_max_position), y.beta_fast, y.beta_slow, y.mscale, y.mscale_all_dim};
}

TEST(Yarn, RangesOfDeepSeekAndKimi) {
  EXPECT_EQ(deepseek_v3.range(64, 1e4).low, 10);
  EXPECT_EQ(deepseek_v3.range(64, 1e4).high, 23);
  EXPECT_EQ(kimi_k2.range(64, 5e4).low, 19);
  EXPECT_EQ(kimi_k2.range(64, 5e4).high, 20);
}

TEST(Yarn, RangeIsClampedAndNeverEmpty) {
  // 6 positions are less than one turn of the fastest pair: both ends of the range fall on 0
  const Yarn short_context{.factor = 2, .original_max_position = 6};
  EXPECT_EQ(short_context.range(64, 1e4).low, 0);
  EXPECT_EQ(short_context.range(64, 1e4).high, 0.001);
  const Yarn long_context{.factor = 2, .original_max_position = Index{1} << 40};
  EXPECT_EQ(long_context.range(8, 1e4).high, 7);
}

// m, m^2 and the softmax scale of a 192-wide head, as printed in the models' documentation to 7 digits.
TEST(Yarn, MscaleTable) {
  const auto expect = [](const Yarn& y, double m, double m_squared, double scale) {
    EXPECT_NEAR(heed::yarn_mscale(y.factor, y.mscale_all_dim), m, 5e-7);
    EXPECT_NEAR(y.softmax_factor(), m_squared, 5e-7);
    EXPECT_NEAR(y.softmax_factor() / std::sqrt(192.0), scale, 5e-8);
    EXPECT_EQ(y.amplitude(), 1);
  };
  expect({.factor = 1, .original_max_position = 4096, .mscale_all_dim = 1}, 1, 1, 0.0721688);
  expect(deepseek_v2_lite, 1.260804, 1.589626, 0.1147214);
  expect(deepseek_v3, 1.368888, 1.873854, 0.1352338);
  expect(kimi_k2, 1.346574, 1.813260, 0.1308608);
  expect(kimi_k2_0905, 1.415888, 2.004740, 0.1446796);
}

TEST(Yarn, WithoutEitherKeyItIsGeneric) {
  const Yarn generic{.factor = 32, .original_max_position = 4096};
  EXPECT_DOUBLE_EQ(generic.amplitude(), 0.1 * std::log(32.0) + 1);
  EXPECT_EQ(generic.softmax_factor(), 1);
}

TEST(Yarn, FrequenciesAndRotationAreTheFormula) {
  oracle::Random random(1);
  for (const auto& [yarn, theta] : {std::pair{deepseek_v3, 1e4},
                                    {kimi_k2, 5e4},
                                    {kimi_k2_0905, 5e4},
                                    {Yarn{.factor = 8, .original_max_position = 8192}, 5e5}}) {
    const auto rope = heed::value_or_throw(
        heed::Rope::create({.head_dim = 64, .layout = heed::RopeLayout::interleaved, .theta = theta, .yarn = yarn}));
    const auto want = oracle::yarn_frequencies(64, theta, scaling(yarn));
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(rope.frequencies()[i], want[i], 1e-14 * want[i]);
    for (const Index position : {Index{1}, Index{5000}, Index{100000}}) {
      auto row = random.gaussians(64);
      auto exact = oracle::doubles(row);
      oracle::rotate(exact.data(), double(position), want, true, oracle::yarn_amplitude(scaling(yarn)));
      rope.apply(position, row.data());
      for (std::size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(row[i], exact[i], 2e-6);
    }
  }
}

TEST(Yarn, KeepsFastFrequenciesAndDividesSlowOnes) {
  const auto rope = heed::value_or_throw(
      heed::Rope::create({.head_dim = 64, .layout = heed::RopeLayout::half_split, .theta = 1e4, .yarn = deepseek_v3}));
  const auto plain = oracle::rope_frequencies(64, 1e4);
  for (std::size_t i = 0; i <= 10; ++i) EXPECT_NEAR(rope.frequencies()[i], plain[i], 1e-15 * plain[i]);
  for (std::size_t i = 23; i < 32; ++i) EXPECT_NEAR(rope.frequencies()[i], plain[i] / 40, 1e-15 * plain[i]);
}

TEST(YarnErrors, NameTheMemberAndTheNumber) {
  const auto expect = [](auto change, const char* name, const char* number) {
    Yarn yarn = deepseek_v3;
    change(yarn);
    const heed::Status status = yarn.validate();
    ASSERT_FALSE(status.ok()) << name;
    EXPECT_EQ(status.message().rfind(name, 0), 0u) << status.message();
    EXPECT_NE(status.message().find(number), std::string::npos) << status.message();
  };
  expect([](Yarn& y) { y.factor = 0.5; }, "yarn.factor", "0.5");
  expect([](Yarn& y) { y.factor = std::nan(""); }, "yarn.factor", "nan");
  expect([](Yarn& y) { y.original_max_position = 0; }, "yarn.original_max_position", "0");
  expect([](Yarn& y) { y.beta_slow = 0; }, "yarn.beta_slow", "0");
  expect([](Yarn& y) { y.beta_fast = 0.5; }, "yarn.beta_fast", "0.5");
  expect([](Yarn& y) { y.mscale = -1; }, "yarn.mscale", "-1");
  expect([](Yarn& y) { y.mscale_all_dim = -1; }, "yarn.mscale_all_dim", "-1");
}

}  // namespace
}  // namespace heed_test::yarn_test
