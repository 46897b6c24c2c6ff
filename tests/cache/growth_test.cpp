/// \file
/// How a cache grows, and what happens when it cannot.
#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::growth_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};

Cache make(CountingMemory& memory, Index capacity, Index max_tokens = 0) {
  auto cache = Cache::create(
      policy,
      {.layers = 3, .capacity = capacity, .max_tokens = max_tokens, .page_tokens = 10, .memory = memory.resource()});
  EXPECT_TRUE(cache.ok()) << cache.status().message();
  return *std::move(cache);
}

/// Pages come in slabs, each as large as all before.
TEST(CacheGrowth, DoublesAndKeepsEverything) {
  CountingMemory memory;
  Cache cache = make(memory, 0);
  std::mt19937_64 random(1);
  Seeds tokens;
  std::vector<Index> capacities;
  for (int i = 0; i < 100; ++i) {
    const Seeds one = new_tokens(random, 1);
    ASSERT_NO_FATAL_FAILURE(append(cache, one));
    tokens.push_back(one[0]);
    if (capacities.empty() || capacities.back() != cache.capacity()) capacities.push_back(cache.capacity());
  }
  EXPECT_EQ(capacities, (std::vector<Index>{10, 20, 40, 80, 160}));
  expect_holds(cache, tokens);
}

TEST(CacheGrowth, ReservedTokensNeedNoAllocation) {
  CountingMemory memory;
  Cache cache = make(memory, 0);
  ASSERT_TRUE(cache.reserve(50).ok());
  EXPECT_EQ(cache.capacity(), 50);
  const Index allocations = memory.allocations;
  std::mt19937_64 random(1);
  for (int i = 0; i < 10; ++i) ASSERT_NO_FATAL_FAILURE(append(cache, new_tokens(random, 5)));
  ASSERT_TRUE(cache.reserve(7).ok());  // never shrinks
  EXPECT_EQ(cache.capacity(), 50);
  EXPECT_EQ(memory.allocations, allocations);
  ASSERT_NO_FATAL_FAILURE(append(cache, new_tokens(random, 1)));
  EXPECT_EQ(cache.capacity(), 100);
}

TEST(CacheGrowth, StopsAtMaxTokens) {
  CountingMemory memory;
  Cache cache = make(memory, 20, 35);
  std::mt19937_64 random(1);
  const Seeds tokens = new_tokens(random, 30);
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  EXPECT_EQ(cache.capacity(), 35);  // not 40
  const auto refused = cache.begin(heed::NumTokens(6));
  ASSERT_EQ(refused.status().code(), StatusCode::out_of_range);
  EXPECT_EQ(refused.status().message(), "begin(): 6 tokens, but only 5 more fit: 30 of max_tokens 35 are in the cache");
  expect_holds(cache, tokens);
  EXPECT_TRUE(cache.begin(heed::NumTokens(5)).ok());
}

/// The k-th allocation of a whole history fails, for every k: the call that needed it says so, no token has changed, and
/// the same call works when there is memory again.
TEST(CacheGrowth, EveryAllocationMayFail) {
  std::mt19937_64 random(3);
  for (Index k = 0;; ++k) {
    CountingMemory memory{.failing_from = k};
    auto made = Cache::create(policy, {.layers = 3, .capacity = 5, .page_tokens = 4, .memory = memory.resource()});
    if (!made.ok()) {
      EXPECT_EQ(made.status().code(), StatusCode::out_of_memory);
      EXPECT_EQ(memory.held, 0);
      continue;
    }
    Cache cache = *std::move(made);
    Seeds tokens;
    for (const Index count : {4, 9, 1, 40, 70}) {
      const Seeds added = new_tokens(random, count);
      const auto before = cache.bytes();
      if (auto step = cache.begin(ids(added)); !step.ok()) {
        ASSERT_EQ(step.status().code(), StatusCode::out_of_memory);
        ASSERT_NE(step.status().message().find("cannot allocate "), std::string::npos) << step.status().message();
        ASSERT_EQ(cache.bytes().allocated, memory.held);
        ASSERT_EQ(cache.bytes().live, before.live);
        ASSERT_NO_FATAL_FAILURE(expect_holds(cache, tokens));
      }
      ASSERT_NO_FATAL_FAILURE(append(cache, added));
      tokens.insert(tokens.end(), added.begin(), added.end());
      ASSERT_EQ(cache.bytes().allocated, memory.held);
      ASSERT_EQ(cache.bytes().peak, memory.peak);
    }
    ASSERT_NO_FATAL_FAILURE(expect_holds(cache, tokens));
    // A slab that fails is tried again as one page, so the last failures go unnoticed.
    if (memory.allocations <= k) {
      EXPECT_GT(k, 5);  // there were allocations to fail
      break;
    }
  }
}

TEST(CacheGrowth, SizesThatNobodyHasAreRefused) {
  CountingMemory memory;
  const heed::Gqa huge{.num_heads = 65536, .num_kv_heads = 65536, .head_dim = Index{1} << 24, .scale = 1};
  const auto made = Cache::create(huge, {.layers = 65536, .memory = memory.resource()});
  ASSERT_EQ(made.status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(made.status().message(),
            "rows: a page of 256 tokens in 65536 layers needs more bytes than there are addresses");

  const auto many = Cache::create(policy, {.capacity = Index{1} << 48, .memory = memory.resource()});
  EXPECT_EQ(many.status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(memory.held, 0);

  auto cache = Cache::create(huge, {.memory = memory.resource()});
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->begin(heed::NumTokens(1)).status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(cache->begin(heed::NumTokens(Index{1} << 48)).status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(cache->size(), 0);
}

/// Capacities around the one at which ids move from one array to blocks.
TEST(CacheGrowth, ACapacityIsEnough) {
  for (const Index capacity : {2047, 2048, 2049, 4096, 4097, 5000}) {
    CountingMemory memory;
    auto cache = heed::value_or_throw(heed::KvCache<heed::SharedRow, heed::Bf16>::create(
        {.num_heads = 1, .head_dim = 2, .scale = 1}, {.capacity = capacity, .memory = memory.resource()}));
    const Index before = memory.allocations;
    const std::vector<float> rows(2, 1.0f);
    for (Index token = 0; token < capacity; ++token) {
      auto step = cache.begin(heed::NumTokens(1));
      ASSERT_TRUE(step.ok());
      ASSERT_TRUE(step->write(0, rows).ok());
      ASSERT_TRUE(step->commit().ok());
      ASSERT_EQ(memory.allocations, before) << "capacity " << capacity << ", token " << token;
    }
  }
}

}  // namespace
}  // namespace heed_test::growth_test
