// What the retention rules cost, and the published numbers that follow from them.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "oracle/anchors.hpp"
#include "oracle/separator_stream.hpp"
#include "oracle/separators.hpp"
#include "oracle/sinks.hpp"

namespace heed_test::retention_cost_test {
namespace {

using oracle::Anchors;
using oracle::Int;
using oracle::range;
using oracle::Separators;
using oracle::SeparatorStream;
using oracle::Sinks;
using oracle::Tokens;
using oracle::Trace;

Int attended(const Trace& steps) {
  return std::accumulate(steps.begin(), steps.end(), Int(0),
                         [](Int sum, const auto& step) { return sum + Int(step.seen.size()); });
}

TEST(OracleRetentionCost, CostsInClosedForm) {
  EXPECT_EQ(attended(Separators{}.trace(50)), 50 * 51 / 2);
  for (const Int n : {Int(1), Int(7), Int(50)}) {
    EXPECT_EQ(attended(Separators{oracle::no_marks(), 0, n}.trace(50)), n * 50 - n * (n - 1) / 2);
  }
  for (const auto& [k, g] : {std::pair<Int, Int>{3, 6}, {1, 9}, {8, 1}, {5, 12}}) {
    const auto anchor = oracle::every(g, g - 1);
    const Trace steps = Anchors{anchor}.trace(k * g), old = Anchors{anchor, true}.trace(k * g);
    EXPECT_EQ(attended(steps), (g - 1) * k * (k - 1) / 2 + k * g * (g + 1) / 2);
    EXPECT_EQ(attended(old), attended(steps) + k * (k - 1) / 2);
    Int peak = 0;  // with the new token, before the segment goes
    for (std::size_t t = 0; t < steps.size(); ++t) {
      peak = std::max(peak, Int(t == 0 ? 0 : steps[t - 1].kept.size()) + 1);
    }
    EXPECT_EQ(peak, k + g - 1);
    EXPECT_EQ(Int(steps.back().kept.size()), k);
  }
  const Separators rule{[](Int t) { return t % 7 == 2 || t % 11 == 5; }, 3, 16};
  Int total = 0;
  for (Int t = 0; t < 200; ++t) {
    for (Int j = 0; j <= t; ++j) total += j < 3 || rule.separator(j) || j > t - 16 ? 1 : 0;
  }
  EXPECT_EQ(attended(rule.trace(200)), total);
}

/// Stored lengths, and numbers of keys seen, over one period after all separator slots are full.
struct Period {
  Tokens stored, seen;
};
Period period(const SeparatorStream& rule) {
  Period found;
  auto state = rule.empty();
  Int token = 0;
  const auto step = [&] {
    const Int before = Int(state.cache.size());
    const auto now = rule.step(state, token++);
    found.stored.push_back(Int(now.kept.size()));
    found.seen.push_back(Int(now.seen.size()));
    return Int(now.kept.size()) <= before;  // compressed
  };
  while (!step() || state.separators < rule.slots) {
  }
  found = {};
  while (!step()) {
  }
  return found;
}
Int sum(const Tokens& numbers) { return std::accumulate(numbers.begin(), numbers.end(), Int(0)); }

TEST(OracleRetentionCost, PublishedMeansOfSeparatorStream) {
  struct Published {
    Int initial, slots, local, capacity, stored;
  };
  for (const auto& p :
       {Published{4, 64, 256, 800, 562}, Published{4, 32, 224, 324, 292}, Published{4, 48, 224, 324, 300},
        Published{4, 64, 224, 324, 308}, Published{4, 64, 512, 800, 690}, Published{4, 64, 720, 1024, 906},
        Published{4, 64, 320, 516, 452}}) {
    const Period one = period({.initial = p.initial,
                               .slots = p.slots,
                               .local = p.local,
                               .capacity = p.capacity,
                               .separator = oracle::every(3, 1)});
    const Int least = p.initial + p.slots + p.local, steps = p.capacity - least + 1;
    EXPECT_EQ(Int(one.stored.size()), steps);
    EXPECT_EQ(sum(one.stored), p.stored * steps);
    EXPECT_EQ(sum(one.seen), (p.stored + 1) * steps);
    EXPECT_EQ(2 * p.stored, least + p.capacity);
    EXPECT_EQ(*std::min_element(one.stored.begin(), one.stored.end()), least);
    EXPECT_EQ(*std::max_element(one.stored.begin(), one.stored.end()), p.capacity);
    EXPECT_EQ(*std::max_element(one.seen.begin(), one.seen.end()), p.capacity + 1);
    const Int neighbours = sum(one.stored) - (p.initial + p.slots) * steps;
    EXPECT_EQ(2 * neighbours, (p.local + p.capacity - p.initial - p.slots) * steps);
  }
}

TEST(OracleRetentionCost, MeanOfSepCache) {
  const Period one = period({.initial = 4,
                             .slots = 128,
                             .local = 256,
                             .capacity = 512,
                             .separator = oracle::every(3, 1),
                             .form = SeparatorStream::Form::sep_cache});
  EXPECT_EQ(Int(one.stored.size()), 512 - 4 - 128 - 256);
  EXPECT_EQ(2 * sum(one.stored), (4 + 128 + 256 + 512 - 1) * Int(one.stored.size()));  // 449.5
  EXPECT_EQ(one.seen, one.stored);
  EXPECT_EQ(*std::max_element(one.stored.begin(), one.stored.end()), 511);
}

TEST(OracleRetentionCost, PublishedSizesOfSinks) {
  const Trace steps = Sinks{4, 796}.trace(1000, Sinks::Form::evict_after_step);
  EXPECT_EQ(Int(steps.back().kept.size()), 800);
  EXPECT_EQ(Int(steps.back().seen.size()), 801);
  // The paper's 47.54 % for a window of 380 does not follow; the repository's logs have 38.36 %.
  const auto seen = oracle::where(range(0, 998), [](Int key) { return Sinks{3, 380}.visible(997, key); });
  EXPECT_EQ(Int(seen.size()), 383);
  EXPECT_NEAR(double(seen.size()) / 998, 0.384, 5e-4);
}

TEST(OracleRetentionCost, SeparatorDensityBehindPublishedRatios) {
  const auto share = [](double density) {  // of 998 keys, at the last row of a = 3, n = 256
    const auto marks = [density](Int t) { return Int(double(t + 1) * density) > Int(double(t) * density); };
    const Separators rule{marks, 3, 256};
    return double(oracle::where(range(0, 998), [&](Int key) { return rule.visible(997, key); }).size()) / 998;
  };
  EXPECT_NEAR(share(0.22), 0.423, 0.0015);   // the logs' 42.17 to 42.45 %
  EXPECT_NEAR(share(0.29), 0.4736, 0.0015);  // the paper's
}

}  // namespace
}  // namespace heed_test::retention_cost_test
