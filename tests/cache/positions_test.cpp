/// \file
/// Rotary positions of a step's tokens: logical ones, or in-cache ranks, which differ from layer to layer.
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/instances.hpp"

namespace heed_test::positions_test {
namespace {

constexpr heed::Mqa plain{.num_heads = 1, .head_dim = 2, .scale = 1};
using Cache = heed::KvCache<heed::RotatedKeys<heed::Mqa>, heed::F32>;
using Positions = std::vector<Index>;

Cache make(heed::Positions positions) {
  static const heed::Rope rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  const std::vector<heed::LayerRule> rules{
      {heed::Causal{}, {0, 3}}, {heed::SlidingWindow{4}, {1}}, {heed::SinkWindow{.initial = 2, .window = 3}, {2}}};
  return heed::value_or_throw(
      Cache::create({.policy = plain, .rope = &rope}, {.layers = 4, .positions = positions}, rules));
}
Cache::Step begin(Cache& cache, Index tokens) {
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(tokens)));
  const std::vector<float> rows(std::size_t(2 * tokens), 1.0f);
  for (Index layer = 0; layer < 4; ++layer) heed::check(step.write(layer, rows, rows));
  return step;
}
Positions of(const Cache::Step& step, Index layer) {
  const std::span<const Index> positions = step.positions(layer);
  return {positions.begin(), positions.end()};
}

TEST(StepPositions, AreLogicalWithoutRanks) {
  Cache cache = make(heed::Positions::absolute);
  heed::check(begin(cache, 10).commit());
  const auto step = begin(cache, 3);
  for (Index layer = 0; layer < 4; ++layer) EXPECT_EQ(of(step, layer), (Positions{10, 11, 12})) << layer;
  EXPECT_EQ(step.first_logical_position(), 10);
}

/// The rank of a token is the number of keys it sees less one: all, the last 4, or 2 and the last 3.
TEST(StepPositions, AreRanksOfTheLayersRule) {
  Cache cache = make(heed::Positions::rank);
  {
    const auto step = begin(cache, 7);
    EXPECT_EQ(of(step, 0), (Positions{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(of(step, 1), (Positions{0, 1, 2, 3, 3, 3, 3}));
    EXPECT_EQ(of(step, 2), (Positions{0, 1, 2, 3, 4, 4, 4}));
    EXPECT_EQ(of(step, 3), of(step, 0));
  }  // aborted
  heed::check(begin(cache, 4).commit());
  for (int i = 0; i < 3; ++i) {
    auto step = begin(cache, 1);
    EXPECT_EQ(of(step, 0), (Positions{4 + i}));
    EXPECT_EQ(of(step, 1), (Positions{3}));
    EXPECT_EQ(of(step, 2), (Positions{4}));
    heed::check(step.commit());
  }
}

TEST(StepPositions, AreGoneWithTheStep) {
  Cache cache = make(heed::Positions::rank);
  auto step = begin(cache, 2);
  EXPECT_TRUE(of(step, -1).empty());
  EXPECT_TRUE(of(step, 4).empty());
  EXPECT_EQ(of(step, 3), (Positions{0, 1}));
  step.abort();
  EXPECT_TRUE(of(step, 3).empty());
  auto none = begin(cache, 0);
  EXPECT_TRUE(of(none, 0).empty());
}

TEST(StepPositions, FollowACacheThatMoves) {
  Cache cache = make(heed::Positions::rank);
  heed::check(begin(cache, 9).commit());
  const auto step = begin(cache, 2);
  const std::span<const Index> before = step.positions(1);
  const Cache moved(std::move(cache));
  EXPECT_EQ(of(step, 1), (Positions{3, 3}));
  EXPECT_EQ(Positions(before.begin(), before.end()), (Positions{3, 3}));
}

}  // namespace
}  // namespace heed_test::positions_test
