// The merging value: merge_results against double, and what must hold exactly.
#include <gtest/gtest.h>

#include <cfloat>
#include <cstring>

#include <heed/kernel/softmax_state.hpp>

#include "oracle/bound.hpp"
#include "oracle/merge.hpp"
#include "oracle/random.hpp"

namespace heed_test::softmax_state_test {
namespace {

using heed::Index;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Merged {
  std::vector<float> out;
  float lse = nan;
};
Merged merged(float lse_a, const std::vector<float>& a, float lse_b, const std::vector<float>& b) {
  Merged m{std::vector<float>(a.size(), nan), nan};
  heed::merge_results(lse_a, a.data(), lse_b, b.data(), Index(a.size()), m.out.data(), &m.lse);
  return m;
}

TEST(MergeResults, MeetsDouble) {
  oracle::Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const double size = i % 3 == 0 ? 1 : i % 3 == 1 ? 30 : 1e4;
    const auto lse_a = float(size * random.gaussian()), lse_b = float(size * random.gaussian());
    const std::vector<float> a = random.gaussians(1 + random.below(40)), b = random.gaussians(Index(a.size()));
    const Merged got = merged(lse_a, a, lse_b, b);
    const oracle::State want = oracle::merge({{lse_a, oracle::doubles(a)}, {lse_b, oracle::doubles(b)}});
    // exp(lse_a - lse_b) is off by the rounding of the difference.
    const double difference = std::min(100.0, std::abs(double(lse_a) - double(lse_b)));
    for (std::size_t d = 0; d < a.size(); ++d) {
      const double sizes = std::abs(double(a[d])) + std::abs(double(b[d]));
      EXPECT_TRUE(oracle::ratio(got.out[d], want.o[d], oracle::eps32 * sizes * (4 + difference)) <= 1)
          << lse_a << " " << lse_b;
    }
    EXPECT_TRUE(oracle::lse_ratio(got.lse, want.lse, 0) <= 1) << lse_a << " " << lse_b;
  }
}

/// The other side comes back bit for bit, minus zero and NaN included.
TEST(MergeResults, EmptySideIsTheIdentity) {
  const std::vector<float> a = {-0.0f, 0.0f, 1.5f, nan, infinity, FLT_MAX, 0x1p-149f},
                           garbage = {1, nan, infinity, 2, nan, 3, 4};
  for (const float lse : {0.0f, -1e30f, 1e30f, 3.25f}) {
    for (const float empty : {-infinity, infinity}) {  // heed's, and that of other engines
      for (const Merged& m : {merged(lse, a, empty, garbage), merged(empty, garbage, lse, a)}) {
        EXPECT_TRUE(same_bits(m.out, a)) << empty;
        EXPECT_EQ(m.lse, lse) << empty;
      }
    }
  }
}

TEST(MergeResults, BothEmptyIsZero) {
  for (const float lse_a : {-infinity, infinity}) {
    for (const float lse_b : {-infinity, infinity}) {
      const Merged m = merged(lse_a, {nan, 1, infinity}, lse_b, {2, nan, -0.0f});
      EXPECT_TRUE(same_bits(m.out, {0, 0, 0}));
      EXPECT_EQ(m.lse, -infinity);
    }
  }
}

TEST(MergeResults, OutputMayBeEitherInput) {
  oracle::Random random(2);
  for (const auto& [lse_a, lse_b] :
       {std::pair{0.3f, -1.0f}, {-infinity, 1.0f}, {1.0f, -infinity}, {-infinity, -infinity}}) {
    const std::vector<float> a = random.gaussians(19), b = random.gaussians(19);
    const Merged want = merged(lse_a, a, lse_b, b);
    std::vector<float> left = a, right = b;
    float lse = nan;
    heed::merge_results(lse_a, left.data(), lse_b, b.data(), 19, left.data(), &lse);
    EXPECT_TRUE(same_bits(left, want.out));
    EXPECT_EQ(lse, want.lse);
    heed::merge_results(lse_a, a.data(), lse_b, right.data(), 19, right.data(), &lse);
    EXPECT_TRUE(same_bits(right, want.out));
  }
}

TEST(MergeResults, FarSmallerSideVanishes) {
  const std::vector<float> a = {1.25f, -3}, b = {FLT_MAX / 4, 7};
  const Merged m = merged(1e4f, a, -1e4f, b);
  EXPECT_TRUE(same_bits(m.out, a));
  EXPECT_EQ(m.lse, 1e4f);
}

TEST(MergeResults, HugeNumbersDoNotOverflow) {
  const std::vector<float> huge(3, FLT_MAX / 2);
  const Merged m = merged(2, huge, 2, huge);
  for (const float x : m.out) EXPECT_EQ(x, FLT_MAX / 2);
}

TEST(MergeResults, NanComesThrough) {
  EXPECT_TRUE(std::isnan(merged(nan, {1}, 0, {2}).out[0]));
  EXPECT_TRUE(std::isnan(merged(0, {1}, nan, {2}).out[0]));
  EXPECT_TRUE(std::isnan(merged(0, {1}, nan, {2}).lse));
  EXPECT_TRUE(std::isnan(merged(0, {nan}, 0, {2}).out[0]));
  for (const float empty : {-infinity, infinity}) {
    EXPECT_TRUE(std::isnan(merged(nan, {nan}, empty, {2}).lse));
    EXPECT_TRUE(std::isnan(merged(nan, {nan}, empty, {2}).out[0]));
    EXPECT_TRUE(std::isnan(merged(empty, {1}, nan, {nan}).lse));
  }
}

/// Many parts in any order are one whole, up to rounding.
TEST(MergeResults, OrderMattersOnlyByRounding) {
  oracle::Random random(3);
  for (int i = 0; i < 50; ++i) {
    std::vector<oracle::State> parts;
    std::vector<Merged> states;
    for (Index n = 2 + random.below(20); n > 0; --n) {
      states.push_back({random.gaussians(5), float(3 * random.gaussian())});
      parts.push_back({states.back().lse, oracle::doubles(states.back().out)});
    }
    const oracle::State want = oracle::merge(parts);
    while (states.size() > 1) {
      const auto take = [&] {
        const auto at = states.begin() + random.below(Index(states.size()));
        Merged m = *at;
        states.erase(at);
        return m;
      };
      const Merged a = take(), b = take();
      states.push_back(merged(a.lse, a.out, b.lse, b.out));
    }
    for (std::size_t d = 0; d < 5; ++d) EXPECT_NEAR(states[0].out[d], want.o[d], 4e-6);
    EXPECT_NEAR(states[0].lse, want.lse, 4e-6);
  }
}

TEST(SoftmaxState, EmptyAndLse) {
  constexpr heed::SoftmaxState empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty.lse(), -infinity);
  const heed::SoftmaxState one{.max = -3.5f, .sum = 1};
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one.lse(), -3.5f);
  EXPECT_FALSE((heed::SoftmaxState{nan, nan}.empty()));
  EXPECT_TRUE(std::isnan(heed::SoftmaxState{nan, nan}.lse()));
}

TEST(MergeWeights, AreConvex) {
  oracle::Random random(4);
  for (int i = 0; i < 1000; ++i) {
    const heed::SoftmaxState a{float(10 * random.gaussian()), float(1 + 255 * random.uniform())};
    const heed::SoftmaxState b{float(10 * random.gaussian()), float(1 + 255 * random.uniform())};
    const heed::MergeWeights w = heed::merge_weights(a, b);
    EXPECT_TRUE(w.left >= 0 && w.right >= 0 && std::abs(double(w.left) + double(w.right) - 1) <= 2 * oracle::eps32);
    EXPECT_EQ(w.state.max, std::max(a.max, b.max));
    const double want = double(a.sum) * std::exp(double(a.max) - double(w.state.max)) +
                        double(b.sum) * std::exp(double(b.max) - double(w.state.max));
    EXPECT_TRUE(oracle::ratio(w.state.sum, want, 20 * oracle::eps32 * want) <= 1);
  }
}

}  // namespace
}  // namespace heed_test::softmax_state_test
