// The oracle's own laws, and that its bounds can fail.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "oracle/attention.hpp"
#include "oracle/bound.hpp"
#include "oracle/merge.hpp"
#include "oracle/random.hpp"

namespace heed_test::oracle_test {
namespace {

using oracle::Int;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

oracle::Problem gaussian_problem(Int queries, Int keys, std::uint64_t seed = 1) {
  oracle::Random random(seed);
  oracle::Problem p{.heads = 4, .kv_heads = 2, .key_dim = 8, .value_dim = 6, .scale = 0.4};
  p.q = oracle::doubles(random.gaussians(queries * p.heads * p.key_dim));
  p.k = oracle::doubles(random.gaussians(keys * p.kv_heads * p.key_dim));
  p.v = oracle::doubles(random.gaussians(keys * p.kv_heads * p.value_dim));
  return p;
}

TEST(OracleAttention, TwoKeysByHand) {  // logits 0.5 and 1.0, values 1 and 3
  const oracle::Problem p{.scale = 0.5, .q = {1}, .k = {1, 2}, .v = {1, 3}};
  const auto answer = oracle::attention(p);
  const double a = std::exp(0.5), b = std::exp(1.0);
  EXPECT_NEAR(answer.o[0], (a + 3 * b) / (a + b), 1e-15);
  EXPECT_NEAR(answer.lse[0], std::log(a + b), 1e-15);
  EXPECT_EQ(answer.logit_size[0], 1);
}

TEST(OracleAttention, SinkTakesWeightButNoValue) {
  oracle::Problem p{.scale = 0.5, .q = {1}, .k = {1, 2}, .v = {1, 3}, .sinks = {2}};
  const double a = std::exp(0.5), b = std::exp(1.0), c = std::exp(2.0);
  EXPECT_NEAR(oracle::attention(p).o[0], (a + 3 * b) / (a + b + c), 1e-15);
  EXPECT_NEAR(oracle::attention(p).lse[0], std::log(a + b), 1e-15);
}

TEST(OracleAttention, SoftCapComesBeforeAlibi) {
  oracle::Problem p{.q = {1}, .k = {3, 0}, .v = {1, 0}, .soft_cap = 2, .slopes = {0.25}};
  const double a = std::exp(2 * std::tanh(1.5) - 0.25), b = 1;
  EXPECT_NEAR(oracle::attention(p).o[0], a / (a + b), 1e-15);
}

TEST(OracleAttention, QueriesAreEndAligned) {
  const auto p = gaussian_problem(5, 20);
  auto explicit_positions = p;
  explicit_positions.query_positions = {15, 16, 17, 18, 19};
  EXPECT_EQ(oracle::attention(p).o, oracle::attention(explicit_positions).o);
}

TEST(OracleAttention, GroupsAreContiguous) {  // heads 0, 1 read KV head 0; heads 2, 3 read KV head 1
  auto p = gaussian_problem(1, 3);
  auto changed = p;
  for (Int j = 0; j < 3; ++j) changed.v[std::size_t(j * 12 + 6)] += 1;
  const auto a = oracle::attention(p).o, b = oracle::attention(changed).o;
  for (std::size_t h = 0; h < 4; ++h) EXPECT_EQ(a[h * 6] == b[h * 6], h < 2) << h;
}

TEST(OracleAttention, NothingVisibleIsZeroAndMinusInfinity) {
  auto p = gaussian_problem(3, 10);
  p.visible = [](Int query, Int key) { return query != 8 && key <= query; };
  const auto answer = oracle::attention(p);
  for (std::size_t h = 4; h < 8; ++h) {
    EXPECT_EQ(answer.lse[h], -oracle::infinity);
    for (std::size_t d = 0; d < 6; ++d) EXPECT_EQ(answer.o[h * 6 + d], 0);
  }
  EXPECT_TRUE(std::isfinite(answer.lse[0]));
  p.k.clear();
  p.v.clear();
  EXPECT_EQ(oracle::attention(p).lse[0], -oracle::infinity);
}

TEST(OracleAttention, MaskedNanStaysOutAndVisibleNanComesThrough) {
  auto p = gaussian_problem(2, 10);
  const auto clean = oracle::attention(p);
  for (std::size_t i = 9 * 12; i < p.v.size(); ++i) p.v[i] = nan;
  const auto dirty = oracle::attention(p);
  for (std::size_t i = 0; i < 4 * 6; ++i) EXPECT_EQ(dirty.o[i], clean.o[i]);
  for (std::size_t i = 4 * 6; i < 8 * 6; ++i) EXPECT_TRUE(std::isnan(dirty.o[i]));
}

TEST(OracleAttention, WindowCountsTheQueryItself) {
  const auto visible = oracle::window(3);
  EXPECT_TRUE(visible(10, 10) && visible(10, 8));
  EXPECT_FALSE(visible(10, 7) || visible(10, 11));
}

TEST(OracleMerge, PartsAreTheWhole) {
  const auto p = gaussian_problem(1, 30);
  const auto whole = oracle::attention(p);
  std::vector<std::vector<oracle::State>> states(4);
  for (const auto& [begin, end] : {std::pair<Int, Int>{0, 7}, {7, 7}, {7, 30}}) {
    auto part = p;
    part.visible = [b = begin, e = end](Int, Int key) { return b <= key && key < e; };
    const auto answer = oracle::attention(part);
    for (std::size_t h = 0; h < 4; ++h) {
      const auto from = answer.o.begin() + std::ptrdiff_t(h * 6);
      states[h].push_back({answer.lse[h], {from, from + 6}});
    }
  }
  for (std::size_t h = 0; h < 4; ++h) {
    const auto merged = oracle::merge(states[h]);
    EXPECT_NEAR(merged.lse, whole.lse[h], 1e-14);
    for (std::size_t d = 0; d < 6; ++d) EXPECT_NEAR(merged.o[d], whole.o[h * 6 + d], 1e-14);
  }
}

TEST(OracleMerge, NothingIsMinusInfinity) {
  const auto merged = oracle::merge({{-oracle::infinity, {0, 0}}, {-oracle::infinity, {nan, 0}}});
  EXPECT_EQ(merged.lse, -oracle::infinity);
  EXPECT_EQ(merged.o, (std::vector<double>{0, 0}));
}

TEST(OracleBound, IsOneAtTheLimit) {
  const double permitted = oracle::eps32 * 2 + 4 * oracle::eps32 * 3 * (1 + 5);
  EXPECT_NEAR(oracle::output_ratio(2 + permitted, 2, 3, 5), 1, 1e-9);
  EXPECT_NEAR(oracle::output_ratio(2 - 10 * permitted, 2, 3, 5), 10, 1e-9);
  EXPECT_NEAR(oracle::units(1 + 16 * oracle::eps32 * 3, 1, 3), 16, 1e-6);
}

TEST(OracleBound, NanFailsEveryComparison) {
  for (const auto& [got, want] : {std::pair{nan, 1.0}, {1.0, nan}, {nan, nan}}) {
    EXPECT_FALSE(oracle::output_ratio(got, want, 1, 1) <= 1);
    EXPECT_FALSE(oracle::lse_ratio(got, want, 1) <= 1);
    EXPECT_FALSE(oracle::units(got, want, 1) <= 16);
  }
  EXPECT_FALSE(oracle::output_ratio(1, 1.5, nan, 1) <= 1);
  oracle::Answer answer{.o = {1, 2}, .lse = {0}, .abs_values = {1, 2}, .logit_size = {1}};
  EXPECT_EQ(oracle::worst_output(std::vector<float>{1, 2}, answer), 0);
  EXPECT_FALSE(oracle::worst_output(std::vector<float>{1, float(nan)}, answer) <= 1);
  EXPECT_FALSE(oracle::worst_output(std::vector<float>{1}, answer) <= 1);
  EXPECT_FALSE(oracle::worst_lse(std::vector<float>{float(nan)}, answer) <= 1);
  EXPECT_FALSE(oracle::worst_units(std::vector<float>{float(nan), 2}, answer) <= 16);
}

TEST(OracleBound, InfinitiesMustAgree) {
  EXPECT_EQ(oracle::lse_ratio(-oracle::infinity, -oracle::infinity, 0), 0);
  EXPECT_FALSE(oracle::lse_ratio(-1e30, -oracle::infinity, 0) <= 1);
  EXPECT_FALSE(oracle::lse_ratio(-oracle::infinity, -1e30, 1e30) <= 1);
  EXPECT_FALSE(oracle::output_ratio(oracle::infinity, 1, 1, oracle::infinity) <= 1);
}

TEST(OracleRandom, IsTheSameEverywhere) {
  oracle::Random random(1);
  const double first = random.gaussian(), second = random.gaussian();
  EXPECT_NEAR(first, oracle::Random(1).gaussian(), 0);
  double sum = first + second, squares = first * first + second * second;
  for (int i = 2; i < 20000; ++i) {
    const double x = random.gaussian();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 20000, 0, 0.03);
  EXPECT_NEAR(squares / 20000, 1, 0.03);
}

TEST(OracleRandom, RoundsToNearestEven) {
  EXPECT_EQ(oracle::round_to_bf16(1 + 0x1p-8), 1);               // tie, to even
  EXPECT_EQ(oracle::round_to_bf16(1 + 3 * 0x1p-8), 1 + 0x1p-6);  // tie, to even
  EXPECT_EQ(oracle::round_to_bf16(1 + 0x1.1p-8), 1 + 0x1p-7);
  EXPECT_EQ(oracle::round_to_bf16(-3.1415927f), -3.140625);
  EXPECT_EQ(oracle::round_to_bf16(0x1p-134), 0);  // half the smallest subnormal
  EXPECT_EQ(oracle::round_to_bf16(0x1.8p-134), 0x1p-133);
  EXPECT_EQ(oracle::round_to_bf16(3.4e38), 0x1.fep127);  // finite numbers stay finite
  EXPECT_EQ(oracle::round_to_f16(65519), 65504);
  EXPECT_EQ(oracle::round_to_f16(-65520), -65504);
  EXPECT_EQ(oracle::round_to_f16(-oracle::infinity), -oracle::infinity);
  EXPECT_EQ(oracle::round_to_f16(0.1), 0x1.998p-4);
  EXPECT_EQ(oracle::round_to_f16(0x1.8p-25), 0x1p-24);
  EXPECT_EQ(oracle::round_to_f16(0x1p-25), 0);
}

}  // namespace
}  // namespace heed_test::oracle_test
