/// \file
/// Layers with rules of their own: each group keeps what its rule says, and a step is one for all.
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "oracle/separators.hpp"

namespace heed_test::groups_test {
namespace {

using heed::LayerRule;
using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};

Cache make(CountingMemory& memory, Index layers, const std::vector<LayerRule>& rules, Index capacity = 0) {
  return heed::value_or_throw(Cache::create(
      policy, {.layers = layers, .capacity = capacity, .page_tokens = 4, .memory = memory.resource()}, rules));
}
/// SepLLM's separators are tokens with the id 7.
Seeds text(std::mt19937_64& random, Index count) {
  Seeds tokens = new_tokens(random, count);
  for (Seed& one : tokens) {
    if (random() % 4 == 0) one = (one & ~Seed{0xffffffff}) | 7;
  }
  return tokens;
}
std::vector<Index> kept(const oracle::Separators& rule, Index count) { return rule.kept(count); }

/// SepLLM's H/T: the first and the last layer see everything. Groups name their layers in any order.
TEST(LayerGroups, KeepWhatTheirRulesSay) {
  CountingMemory memory;
  std::mt19937_64 random(1);
  Cache cache = make(memory, 5, {{heed::Separators{2, 6, {7}}, {3, 1, 2}}, {heed::Causal{}, {4, 0}}});
  Seeds tokens;
  for (int step = 0; step < 20; ++step) {
    const Seeds added = text(random, pick(random, 1, 6));
    ASSERT_NO_FATAL_FAILURE(append(cache, added));
    tokens.insert(tokens.end(), added.begin(), added.end());
    const oracle::Separators rule{[&](Index token) { return (tokens[std::size_t(token)] & 0x7fffffff) == 7; }, 2, 6};
    const auto layers = oracle::layered(rule, oracle::layer_windows(5, 6, {0, 4}));
    for (Index layer = 0; layer < 5; ++layer) {
      const auto want = kept(layers[std::size_t(layer)], Index(tokens.size()));
      ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, layer, tokens, want)) << "layer " << layer;
      ASSERT_EQ(cache.retention(layer).kept, Index(want.size()));
    }
  }
  EXPECT_STREQ(cache.rule(0).name(), "full");
  EXPECT_STREQ(cache.rule(1).name(), "separators");
  // Bytes of all layers; tokens are the mean over layers.
  const double mean = (2 * double(cache.kept(0)) + 3 * double(cache.kept(1))) / 5;
  EXPECT_DOUBLE_EQ(cache.bytes().kept, mean);
  EXPECT_DOUBLE_EQ(cache.bytes().per_token_kept(), double(cache.row_bytes_per_token()));
  EXPECT_EQ(cache.bytes().allocated, memory.held);
}

TEST(LayerGroups, ForksKeepTheOrderOfLayers) {
  CountingMemory memory;
  std::mt19937_64 random(2);
  Cache cache = make(memory, 4, {{heed::SlidingWindow{5}, {3, 0}}, {heed::Causal{}, {2, 1}}});
  Seeds tokens = text(random, 9);
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  Cache fork = heed::value_or_throw(cache.fork());
  tokens.push_back(5);
  ASSERT_NO_FATAL_FAILURE(append(fork, {5}));
  for (const Index layer : {0, 3}) expect_keeps(fork, layer, tokens, {6, 7, 8, 9});
  for (const Index layer : {1, 2}) expect_keeps(fork, layer, tokens, all_positions(10));
}

/// The floor is the highest of all groups, and nobody goes back if one cannot.
TEST(LayerGroups, TruncateTogether) {
  CountingMemory memory;
  std::mt19937_64 random(3);
  Cache cache = make(memory, 3, {{heed::SlidingWindow{4}, {1}}, {heed::Causal{}, {0}}, {heed::SinkWindow{1, 8}, {2}}});
  Seeds tokens = text(random, 6);
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  EXPECT_EQ(cache.rollback_floor(), 6);
  EXPECT_EQ(cache.truncate(5).message(), "truncate(): tokens is 5, but evicted tokens leave only 0 and 6 .. 6");
  expect_keeps(cache, 0, tokens, all_positions(6));
  expect_keeps(cache, 1, tokens, {3, 4, 5});
  ASSERT_TRUE(cache.clear().ok());
  for (Index layer = 0; layer < 3; ++layer) expect_keeps(cache, layer, {}, {});
}

/// compact() needs a token in some layer.
TEST(LayerGroups, CompactTogether) {
  CountingMemory memory;
  std::mt19937_64 random(4);
  Cache cache = make(memory, 2, {{heed::SlidingWindow{4}, {1}}, {heed::Causal{}, {0}}});
  const Seeds tokens = text(random, 6);
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  EXPECT_EQ(cache.compact(std::vector<Index>{2, 6}).status().code(), StatusCode::invalid_argument);
  expect_keeps(cache, 0, tokens, all_positions(6));
  ASSERT_TRUE(cache.compact(std::vector<Index>{0, 2, 3, 5}).ok());
  expect_keeps(cache, 0, tokens, {0, 2, 3, 5});
  expect_keeps(cache, 1, tokens, {3, 5});
  EXPECT_EQ(cache.compact(std::vector<Index>{1, 5}).status().code(), StatusCode::invalid_argument);
}

/// reserve() makes room in every group, also where their pages have one size.
TEST(LayerGroups, ReservedTokensNeedNoAllocation) {
  CountingMemory memory;
  Cache cache = make(memory, 4, {{heed::SlidingWindow{100}, {0, 1}}, {heed::Causal{}, {2, 3}}}, 40);
  EXPECT_EQ(cache.capacity(), 40);
  const Index allocations = memory.allocations;
  std::mt19937_64 random(5);
  for (int i = 0; i < 20; ++i) ASSERT_NO_FATAL_FAILURE(append(cache, text(random, 2)));
  EXPECT_EQ(memory.allocations, allocations);
  EXPECT_EQ(cache.capacity(), 40);
}

TEST(LayerGroups, IdsAreNeededIfOneRuleNeedsThem) {
  CountingMemory memory;
  Cache cache = make(memory, 2, {{heed::Causal{}, {0}}, {heed::Anchors{{7}}, {1}}});
  const heed::Status status = cache.begin(heed::NumTokens(3)).status();
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), "begin(): rule anchors needs token ids; begin() got only their number, 3");
}

TEST(LayerGroups, EveryLayerIsInOneGroup) {
  const auto refused = [](const std::vector<LayerRule>& rules) {
    CountingMemory memory;
    const heed::Status status = Cache::create(policy, {.layers = 3, .memory = memory.resource()}, rules).status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_EQ(memory.held, 0);
    return status.message();
  };
  const heed::AnyRule full;
  EXPECT_EQ(refused({}), "rules: layer 0 is in no group");
  EXPECT_EQ(refused({{full, {0, 2}}}), "rules: layer 1 is in no group");
  EXPECT_EQ(refused({{full, {0, 1}}, {full, {2, 1}}}), "rules: layer 1 is in two groups");
  EXPECT_EQ(refused({{full, {0, 1, 2, 2}}}), "rules: layer 2 is in two groups");
  EXPECT_EQ(refused({{full, {0, 1, 3}}}), "rules: layer is 3, the cache has 3");
  EXPECT_EQ(refused({{full, {-1, 0, 1, 2}}}), "rules: layer is -1, the cache has 3");
  EXPECT_EQ(refused({{full, {0, 1, 2}}, {full, {}}}), "rules: group 1 has no layers");
  EXPECT_EQ(refused({{full, {0, 1}}, {heed::SlidingWindow{0}, {2}}}), "window is 0, must be at least 1");
}

/// A step that one group has no memory for is a step of no group.
TEST(LayerGroups, EveryAllocationMayFail) {
  std::mt19937_64 random(6);
  const Seeds first = text(random, 10), second = text(random, 10);
  Seeds both = first;
  both.insert(both.end(), second.begin(), second.end());
  for (Index k = 0;; ++k) {
    CountingMemory memory;
    Cache cache = make(memory, 3, {{heed::SlidingWindow{5}, {0}}, {heed::Causal{}, {1, 2}}});
    ASSERT_NO_FATAL_FAILURE(append(cache, first));
    memory.failing_from = memory.allocations + k;
    memory.failures = 2;
    if (auto step = cache.begin(ids(second)); step.ok()) {
      EXPECT_GE(k, 2);
      break;
    }
    expect_keeps(cache, 0, first, {6, 7, 8, 9});
    expect_keeps(cache, 1, first, all_positions(10));
    EXPECT_EQ(cache.bytes().allocated, memory.held);
    memory.failing_from = -1;
    ASSERT_NO_FATAL_FAILURE(append(cache, second));
    expect_keeps(cache, 0, both, {16, 17, 18, 19});
    expect_keeps(cache, 2, both, all_positions(20));
  }
}

}  // namespace
}  // namespace heed_test::groups_test
