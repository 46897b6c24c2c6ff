/// \file
/// Caches and steps move, and either may end first.
#include <atomic>
#include <optional>

#include <heed/exec/thread_pool.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::SharedRow, heed::Bf16>;

Cache make(CountingMemory& memory) {
  return *Cache::create({.num_heads = 2, .head_dim = 6, .v_head_dim = 4, .scale = 1},
                        {.layers = 2, .memory = memory.resource()}, heed::SlidingWindow{.window = 9});
}

static_assert(!std::is_copy_constructible_v<Cache> && !std::is_copy_assignable_v<Cache>);
static_assert(!std::is_copy_constructible_v<Cache::Step>);
static_assert(std::is_nothrow_move_constructible_v<Cache> && std::is_nothrow_move_assignable_v<Cache>);
static_assert(std::is_nothrow_move_constructible_v<Cache::Step>);

TEST(CacheLifetime, StepFollowsItsCache) {
  CountingMemory memory;
  std::vector<Cache> caches;
  caches.push_back(make(memory));
  auto step = caches[0].begin(2);
  for (int i = 0; i < 4; ++i) caches.push_back(make(memory));  // moves the first one
  ASSERT_TRUE(step->open());
  ASSERT_NO_FATAL_FAILURE(write_all(*step, caches[0], {1, 2}));
  EXPECT_EQ(step->keys(1).size(), 2);
  ASSERT_TRUE(step->commit().ok());
  EXPECT_EQ(caches[0].size(), 2);
  EXPECT_TRUE(caches[0].rule().same_as(heed::SlidingWindow{9}));
  EXPECT_EQ(caches[1].size(), 0);
}

TEST(CacheLifetime, CacheFollowsItsStep) {
  CountingMemory memory;
  Cache cache = make(memory);
  std::optional<Cache::Step> holder;
  {
    auto step = cache.begin(ids({1, 2}));
    holder.emplace(*std::move(step));
    EXPECT_FALSE(step->open());
  }  // the empty step's end changes nothing
  ASSERT_TRUE(holder->open());
  EXPECT_EQ(holder->tokens(), 2);
  EXPECT_EQ(cache.begin(1).status().code(), StatusCode::wrong_state);
  Cache::Step last(std::move(*holder));
  holder.reset();
  ASSERT_NO_FATAL_FAILURE(write_all(last, cache, {1, 2}));
  ASSERT_TRUE(last.commit().ok());
  expect_holds(cache, {1, 2});
}

TEST(CacheLifetime, AssigningAStepAbortsTheOldOne) {
  CountingMemory memory;
  Cache first = make(memory), second = make(memory);
  auto step = first.begin(1);
  auto other = second.begin(3);
  *step = *std::move(other);
  EXPECT_TRUE(first.begin(1).ok());
  EXPECT_EQ(step->tokens(), 3);
  EXPECT_EQ(second.begin(1).status().code(), StatusCode::wrong_state);
}

TEST(CacheLifetime, CacheEndsBeforeItsStep) {
  CountingMemory memory;
  std::optional<Cache> cache(make(memory));
  auto step = cache->begin(1);
  cache.reset();
  EXPECT_FALSE(step->open());
  EXPECT_EQ(step->write(0, row(1, 0, 0, 0, 6)).code(), StatusCode::wrong_state);
  EXPECT_EQ(step->commit().code(), StatusCode::wrong_state);
  EXPECT_EQ(memory.held, 0);
}

TEST(CacheLifetime, AssigningACacheAbortsItsStep) {
  CountingMemory memory;
  Cache cache = make(memory), other = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(other, {7, 8, 9}));
  auto step = cache.begin(1);
  auto others = other.begin(2);
  cache = std::move(other);
  EXPECT_FALSE(step->open());
  ASSERT_TRUE(others->open());  // and came along
  ASSERT_NO_FATAL_FAILURE(write_all(*others, cache, {5, 6}));
  ASSERT_TRUE(others->commit().ok());
  EXPECT_EQ(cache.size(), 5);
  EXPECT_EQ(cache.keys(1).size(), 5);
}

TEST(CacheLifetime, EmptySteps) {
  CountingMemory memory;
  Cache cache = make(memory);
  auto step = cache.begin(0);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->keys(0).size(), 0);
  EXPECT_TRUE(step->write(0, std::span<const float>()).ok());
  EXPECT_TRUE(step->commit().ok());
  EXPECT_EQ(cache.size(), 0);
}

/// Streams of layers are independent memory, so an executor may write them all.
TEST(CacheStep, IsWrittenByManyThreads) {
  auto cache = heed::KvCache<Uneven, heed::F32, heed::Bf16>::create({}, {.layers = 8});
  auto pool = heed::ThreadPool::create(3);
  ASSERT_TRUE(cache.ok() && pool.ok());
  const Seeds tokens{4, 5, 6};
  for (int repeat = 0; repeat < 10; ++repeat) {
    auto step = cache->begin(ids(tokens));
    std::atomic<int> failures{0};
    (*pool)->parallel_for(8 * 3, [&](Index task, Index) {
      const Index layer = task / 3;
      const int stream = int(task % 3);
      const auto numbers = rows(tokens, layer, stream, cache->layout().streams[std::size_t(stream)]);
      failures += !step->write(layer, stream, numbers).ok();
    });
    ASSERT_EQ(failures.load(), 0);
    ASSERT_TRUE(step->commit().ok());
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, tokens));
    ASSERT_TRUE(cache->clear().ok());
  }
}

TEST(CacheLifetime, TokensWithoutIds) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {5}));
  auto step = cache.begin(2);
  ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, {6, 7}));
  ASSERT_TRUE(step->commit().ok());
  EXPECT_EQ(cache.token_id(0), 5);
  EXPECT_EQ(cache.token_id(1), heed::no_token_id);
  EXPECT_EQ(cache.token_id(2), heed::no_token_id);
}

}  // namespace
}  // namespace heed_test
