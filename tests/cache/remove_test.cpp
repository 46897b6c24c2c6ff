/// \file
/// remove() in every layer group, or in none.
#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "retention/rule_model.hpp"

namespace heed_test::remove_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 0.3f};

Tokens positions_of(const Cache& cache, Index layer = 0) {
  Tokens positions;
  for (Index key = 0; key < cache.kept(layer); ++key) positions.push_back(cache.position(key, layer));
  return positions;
}

/// Every group drops what it holds of the range.
TEST(CacheRemove, OfGroups) {
  const std::vector<heed::LayerRule> rules{
      {heed::Causal{}, {0}}, {heed::SlidingWindow{4}, {1}}, {heed::Separators{1, 3, {1}}, {2}}};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 3, .page_tokens = 4}, rules));
  //                                    0  1  2  3  4  5  6  7  8  9
  ASSERT_NO_FATAL_FAILURE(append(cache, {0, 0, 1, 0, 1, 0, 0, 0, 0, 0}));
  ASSERT_TRUE(cache.remove(2, 4).ok()) << "no window holds these";
  EXPECT_EQ(positions_of(cache, 0), (Tokens{0, 1, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(positions_of(cache, 1), (Tokens{7, 8, 9}));
  EXPECT_EQ(positions_of(cache, 2), (Tokens{0, 4, 8, 9}));
  ASSERT_TRUE(cache.remove(4, 9).ok());
  EXPECT_EQ(positions_of(cache, 0), (Tokens{0, 1, 9}));
  EXPECT_EQ(positions_of(cache, 1), (Tokens{9}));
  EXPECT_EQ(positions_of(cache, 2), (Tokens{0, 9}));
  const std::vector<Index> keep{0, 9};
  ASSERT_TRUE(cache.compact(keep).ok()) << "0 is held by two of three";
  EXPECT_EQ(positions_of(cache, 0), (Tokens{0, 9}));
  EXPECT_EQ(cache.compact(std::vector<Index>{1, 9}).status().message(),
            "compact(): keep[0] is 1, must be a position that is held, and ascending");
  ASSERT_NO_FATAL_FAILURE(append(cache, {0, 1, 0}));
  EXPECT_EQ(positions_of(cache, 1), (Tokens{10, 11, 12}));
  EXPECT_EQ(positions_of(cache, 2), (Tokens{0, 11, 12}));
}

TEST(CacheRemove, RulesThatCountRefuse) {
  const heed::SeparatorStream stream{.initial = 1, .separators = 1, .local = 1, .capacity = 4, .ids = {1}};
  const std::vector<heed::LayerRule> rules{{heed::Causal{}, {0}}, {stream, {1}}};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2}, rules));
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2}));
  const heed::Status status = cache.remove(0, 1);
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(status.message(), "remove(): rule separator_stream has a history that counts what the cache holds");
  EXPECT_EQ(positions_of(cache), (Tokens{0, 1}));
}

TEST(CacheRemove, EveryAllocationMayFail) {
  const std::vector<heed::LayerRule> rules{
      {heed::SlidingWindow{40}, {0}}, {heed::Causal{}, {1}}, {heed::Separators{1, 4, {1}}, {2}}};
  for (Index k = 0;; ++k) {
    CountingMemory memory;
    Cache cache = heed::value_or_throw(
        Cache::create(policy, {.layers = 3, .page_tokens = 1, .memory = memory.resource()}, rules));
    const Seeds tokens{1, 1, 1, 4, 1, 6, 7, 1, 9, 10, 11, 12};
    ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
    const Cache fork = heed::value_or_throw(cache.fork());
    const Tokens marked = positions_of(cache, 2);
    memory.failing_from = memory.allocations + k;
    memory.failures = 2;  // a slab, and then a single page
    const heed::Status status = cache.remove(1, 5);
    memory.failing_from = -1;
    EXPECT_EQ(positions_of(fork, 2), marked);
    expect_keeps(fork, 1, tokens, all_positions(12));
    EXPECT_EQ(cache.bytes().allocated, memory.held);
    if (status.ok()) {
      EXPECT_GE(k, 3);
      for (const Index layer : {0, 1}) expect_keeps(cache, layer, tokens, {0, 5, 6, 7, 8, 9, 10, 11});
      expect_keeps(cache, 2, tokens, {0, 7, 9, 10, 11});
      break;
    }
    ASSERT_EQ(status.code(), StatusCode::out_of_memory);
    for (const Index layer : {0, 1}) expect_keeps(cache, layer, tokens, all_positions(12));
    expect_keeps(cache, 2, tokens, {marked.begin(), marked.end()});
    EXPECT_EQ(cache.intact(), 12);
  }
}

/// A thousand turns of a text from whose middle a token is taken: under whatever keeps everything, memory is what is left.
TEST(CacheRemove, LeavesNoHoleWhereNothingIsEvicted) {
  const std::vector<heed::AnyRule> rules{
      heed::Causal{}, heed::SlidingWindow{heed::unlimited}, heed::Separators{3, heed::unlimited, {1}},
      heed::FixedGrid{0, heed::unlimited, 3, 1}, heed::SinkWindow{4, Index{1} << 60}};
  for (const heed::AnyRule& rule : rules) {
    SCOPED_TRACE(rule.name());
    CountingMemory memory;
    Cache cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4, .memory = memory.resource()}, rule));
    const Seeds text(40, 1);
    ASSERT_NO_FATAL_FAILURE(append(cache, text));
    cache.trim();
    const Index held = memory.held;
    for (int i = 0; i < 1000; ++i) {
      ASSERT_NO_FATAL_FAILURE(append(cache, {Seed(i % 3)}));
      const Index middle = cache.position(20);
      ASSERT_TRUE(cache.remove(middle, middle + 1).ok());
      ASSERT_EQ(cache.kept(), 40);
      ASSERT_EQ(cache.keys(0).slots(), 40) << "holes are read";
    }
    EXPECT_EQ(cache.rollback_floor(), 0);
    cache.trim();
    EXPECT_LE(memory.held, held + 3 * 1024);
    EXPECT_LE(cache.bytes().allocated_rows, (40 + 3 * 4) * 128 + 16 * 192);
  }
}

/// Rows move in runs: what is moved is counted, and its bits are those of before, over the borders of pages of any length.
TEST(CacheRemove, MovesRuns) {
  std::mt19937_64 random(11);
  for (const Index page : {1, 3, 4, 7, 64}) {
    CountingMemory memory;
    Cache cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = page, .memory = memory.resource()}));
    const Seeds text = new_tokens(random, 100);
    ASSERT_NO_FATAL_FAILURE(append(cache, text));
    std::vector<Index> left = all_positions(100);
    for (int i = 0; i < 12; ++i) {
      const Index begin = pick(random, 0, 99), end = std::min<Index>(100, begin + pick(random, 0, 9));
      std::erase_if(left, [&](Index p) { return p >= begin && p < end; });
      ASSERT_TRUE(cache.remove(begin, end).ok());
      ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, 0, text, left)) << "page " << page << ", call " << i;
    }
    std::vector<Index> keep;
    for (const Index position : left) {
      if (random() % 4 > 0) keep.push_back(position);
    }
    ASSERT_TRUE(cache.compact(keep).ok());
    ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, 0, text, keep));
  }
}

}  // namespace
}  // namespace heed_test::remove_test
