/// \file
/// Laws of growth: what a rule with a bound keeps decides what is allocated, and no begin() does much at once.
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::growth_law_test {
namespace {

using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;

struct Case {
  std::string name;
  heed::AnyRule rule;
  Index undo = 0;
  heed::Gqa policy{.num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .scale = 1};
  Index layers = 3;
};

std::vector<Case> bounded_rules() {
  std::vector<Case> cases;
  for (const Index window : {64, 100, 256, 257, 512, 800, 1024, 3000}) {
    cases.push_back({"window " + std::to_string(window), heed::SlidingWindow{window}});
    cases.push_back({"sinks, window " + std::to_string(window), heed::SinkWindow{4, window}});
  }
  cases.push_back({"window with undo", heed::SlidingWindow{300}, 16});
  cases.push_back({"sinks of the code", heed::SinkWindow{8, 500, heed::SinkForm::evict_after_step}});
  cases.push_back(
      {"one layer", heed::SlidingWindow{256}, 0, {.num_heads = 8, .num_kv_heads = 2, .head_dim = 128, .scale = 1}, 1});
  cases.push_back(
      {"30 layers", heed::SlidingWindow{256}, 0, {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .scale = 1}, 30});
  cases.push_back(
      {"small rows", heed::SlidingWindow{256}, 0, {.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 1}, 3});
  heed::SeparatorStream stream{.initial = 4, .separators = 64, .local = 256, .capacity = 800, .ids = {1}};
  cases.push_back({"stream", stream});
  stream.form = heed::StreamForm::sep_cache;
  cases.push_back({"SepCache", stream});
  return cases;
}

/// Opens, writes and commits steps of `count` tokens, `steps` times. Ids repeat after 7.
void run(Cache& cache, Index count, Index steps) {
  static std::vector<float> numbers;
  numbers.resize(std::size_t(count * cache.policy().num_kv_heads * cache.policy().head_dim));
  std::vector<std::int32_t> ids(std::size_t(count), 0);
  for (Index i = 0; i < steps; ++i) {
    for (Index t = 0; t < count; ++t) ids[std::size_t(t)] = (cache.seen() + t) % 7 == 3 ? 1 : 0;
    auto step = cache.begin(ids);
    ASSERT_TRUE(step.ok()) << step.status().message();
    for (Index layer = 0; layer < cache.layers(); ++layer) ASSERT_TRUE(step->write(layer, numbers, numbers).ok());
    ASSERT_TRUE(step->commit().ok());
  }
}

/// Memory over the rows that the rule holds when it holds most, in the last thousand steps.
double overhead(Cache& cache) {
  Index live = 0, allocated = 0;
  for (int i = 0; i < 1000; ++i) {
    run(cache, 1, 1);
    live = std::max(live, cache.bytes().live);
    allocated = std::max(allocated, cache.bytes().allocated);
  }
  return double(allocated) / double(live);
}

/// Without being told a capacity, token by token and after a prompt in one step, which left pages behind.
TEST(CacheGrowthLaw, BoundedRulesAllocateLittleMoreThanTheyKeep) {
  for (const Case& c : bounded_rules()) {
    SCOPED_TRACE(c.name);
    for (const Index prompt : {1, 5000}) {
      CountingMemory memory;
      Cache cache = heed::value_or_throw(
          Cache::create(c.policy, {.layers = c.layers, .undo_tokens = c.undo, .memory = memory.resource()}, c.rule));
      ASSERT_NO_FATAL_FAILURE(run(cache, prompt, 1));
      ASSERT_NO_FATAL_FAILURE(run(cache, 1, 4000));
      EXPECT_LE(overhead(cache), 1.25) << "prompt " << prompt;
      EXPECT_EQ(cache.bytes().allocated, memory.held);
    }
  }
}

/// Steps of several tokens come and go without an allocation.
TEST(CacheGrowthLaw, DraftsFindTheirPagesAgain) {
  CountingMemory memory;
  Cache cache = heed::value_or_throw(Cache::create({.num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .scale = 1},
                                                   {.memory = memory.resource()}, heed::SlidingWindow{256}));
  ASSERT_NO_FATAL_FAILURE(run(cache, 2000, 1));
  for (int i = 0; i < 100; ++i) ASSERT_NO_FATAL_FAILURE((run(cache, 40, 1), run(cache, 1, 9)));
  const Index allocations = memory.allocations, blocks = memory.blocks;
  for (int i = 0; i < 300; ++i) ASSERT_NO_FATAL_FAILURE((run(cache, 40, 1), run(cache, 1, 9)));
  EXPECT_EQ(memory.allocations, allocations);
  EXPECT_EQ(memory.blocks, blocks);
}

/// A capacity for a whole context costs a layer with a window no more than its window and a step.
TEST(CacheGrowthLaw, ACapacityIsCutToWhatTheRuleKeeps) {
  CountingMemory memory;
  Cache cache =
      heed::value_or_throw(Cache::create({.num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .scale = 1},
                                         {.capacity = 32768, .memory = memory.resource()}, heed::SlidingWindow{256}));
  EXPECT_GE(cache.capacity(), 32768);
  EXPECT_LE(memory.held, Index(1.25 * (256 + 512) * double(cache.row_bytes_per_token())));
  const Index allocations = memory.allocations;
  ASSERT_NO_FATAL_FAILURE(run(cache, 512, 10));
  ASSERT_NO_FATAL_FAILURE(run(cache, 1, 500));
  EXPECT_EQ(memory.allocations, allocations);
}

/// What one begin() may cost, at any length: a slab that is not touched, and some bookkeeping.
TEST(CacheGrowthLaw, NoBeginDoesMuchAtOnce) {
  CountingMemory memory;
  const heed::Gqa policy{.num_heads = 8, .num_kv_heads = 2, .head_dim = 16, .scale = 1};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2, .memory = memory.resource()}));
  const std::vector<float> numbers(64 * 2 * 16, 0.5f);
  Index largest_begin = 0, most_blocks = 0;
  for (Index i = 0; i < (Index{1} << 18) / 64; ++i) {
    const bool look = memory.allocations > 0 && (i % 64 == 0 || i < 100);
    const Index touched = look ? memory.touched() : 0, blocks = memory.allocations;
    auto step = cache.begin(heed::NumTokens(64));
    ASSERT_TRUE(step.ok());
    if (look) largest_begin = std::max(largest_begin, memory.touched() - touched);
    most_blocks = std::max(most_blocks, memory.allocations - blocks);
    for (Index layer = 0; layer < 2; ++layer) ASSERT_TRUE(step->write(layer, numbers, numbers).ok());
    ASSERT_TRUE(step->commit().ok());
    // Rows never move, so nothing is ever there twice.
    ASSERT_EQ(cache.bytes().peak, memory.peak);
    ASSERT_LE(memory.peak - memory.held, 64 * 1024) << "at " << cache.seen();
  }
  EXPECT_LE(memory.largest, (Index{8} << 20) + 64);
  EXPECT_LE(largest_begin, 64 * 1024);
  EXPECT_LE(most_blocks, 8);
  const double live = double(cache.bytes().live);
  EXPECT_LE(double(memory.held), 1.25 * live + double(Index{8} << 20));
}

/// However many landmarks stay: no begin() moves them to larger memory. What it obtains bounds what it can have copied there.
TEST(CacheGrowthLaw, NoBeginMovesItsLandmarks) {
  const std::vector<float> numbers(64, 0.5f);
  const std::vector<std::int32_t> separators(64, 1);
  for (const heed::AnyRule& rule :
       {heed::AnyRule(heed::Separators{4, 100, {1}}), heed::AnyRule(heed::Anchors{.ids = {1}})}) {
    SCOPED_TRACE(rule.name());
    CountingMemory memory;
    {
      heed::PagePool pool(memory.resource());
      const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 1, .scale = 1};
      const heed::CacheOptions options{.page_tokens = 256, .pool = &pool};
      // Leaves its pages, so what is allocated from now on is bookkeeping.
      ASSERT_TRUE(Cache::create(policy, options)->begin(heed::NumTokens(340000)).ok());
      const Index slabs = memory.held;
      Cache cache = heed::value_or_throw(Cache::create(policy, options, rule));
      Index most = 0, largest = 0;
      const auto append = [&](std::span<const std::int32_t> ids) {
        const Index held = memory.held;
        memory.peak = memory.held;
        memory.largest = 0;
        auto step = cache.begin(ids);
        ASSERT_TRUE(step.ok());
        most = std::max(most, memory.peak - held);
        largest = std::max(largest, memory.largest);
        ASSERT_TRUE(step->write(0, std::span(numbers).first(ids.size()), std::span(numbers).first(ids.size())).ok());
        ASSERT_TRUE(step->commit().ok());
      };
      while (cache.kept() < 320000) ASSERT_NO_FATAL_FAILURE(append(separators));
      EXPECT_LE(largest, 32 * 1024);
      EXPECT_LE(most, 64 * 1024);
      EXPECT_LE(double(memory.held - slabs), 1.1 * 16 * double(cache.kept()) + 128 * 1024);
      // Decode steps allocate only where a block is full.
      const Index allocations = memory.allocations;
      for (int i = 0; i < 4096; ++i) ASSERT_NO_FATAL_FAILURE(append(std::span(separators).first(1)));
      EXPECT_LE(memory.allocations - allocations, 8);
      // What truncate() cuts off goes back.
      ASSERT_TRUE(cache.clear().ok());
      for (int i = 0; i < 300; ++i) ASSERT_NO_FATAL_FAILURE(append(std::span(separators).first(1)));
      EXPECT_LE(memory.held - slabs, 128 * 1024);
    }
    EXPECT_EQ(memory.held, 0);
  }
}

/// A page of many layers is megabytes: begin() takes it, and rows define it as they are written.
TEST(CacheGrowthLaw, BeginClearsNoPage) {
  CountingMemory memory;
  const heed::Gqa policy{.num_heads = 8, .num_kv_heads = 2, .head_dim = 128, .scale = 1};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 24, .memory = memory.resource()}));
  for (int page = 0; page < 5; ++page) {
    const Index touched = memory.touched();
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(256)));
    EXPECT_LE(memory.touched() - touched, 64 * 1024) << "of a page of " << 256 * cache.row_bytes_per_token();
    const std::vector<float> numbers(256 * 2 * 128, 0.5f);
    for (Index layer = 0; layer < 24; ++layer) ASSERT_TRUE(step.write(layer, numbers, numbers).ok());
    ASSERT_TRUE(step.commit().ok());
  }
}

}  // namespace
}  // namespace heed_test::growth_law_test
