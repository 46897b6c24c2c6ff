/// \file
/// PagePool: pages for one cache or for many, handed out again, counted, and given back.
#include <atomic>
#include <limits>
#include <set>
#include <thread>

#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::pool_test {
namespace {

using heed::PagePool;
using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};

TEST(PagePool, HandsPagesOutAgain) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  heed::Page* const first = heed::value_or_throw(pool.acquire(100));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first->rows()) % 64, 0u);
  EXPECT_FALSE(PagePool::shared(first));
  PagePool::share(first);
  EXPECT_TRUE(PagePool::shared(first));
  pool.release(first);
  EXPECT_EQ(pool.free_pages(100), 0) << "somebody holds it";
  pool.release(first);
  EXPECT_EQ(pool.free_pages(100), 1);
  EXPECT_EQ(heed::value_or_throw(pool.acquire(100)), first);
  pool.release(first);
  EXPECT_EQ(pool.bytes().held, memory.held);
  EXPECT_EQ(pool.bytes().free, PagePool::page_bytes(100));
  EXPECT_EQ(pool.page_bytes_held(), memory.held);
}

TEST(PagePool, GrowsBySlabs) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  std::vector<heed::Page*> pages;
  for (int i = 0; i < 100; ++i) pages.push_back(heed::value_or_throw(pool.acquire(100)));
  EXPECT_EQ(memory.allocations, 1 + 2 * 8) << "the size; headers and rows of 1 1 2 4 8 16 32 64 pages";
  for (heed::Page* const page : pages) pool.release(page);
  EXPECT_EQ(pool.free_pages(100), 128);
  // Large pages come one by one: a slab has at most 8 MiB.
  const Index large = Index{5} << 20;
  for (int i = 0; i < 3; ++i) pages[std::size_t(i)] = heed::value_or_throw(pool.acquire(large));
  EXPECT_EQ(pool.free_pages(large), 0);
  EXPECT_EQ(memory.allocations, 17 + 1 + 2 * 3);
  for (int i = 0; i < 3; ++i) pool.release(pages[std::size_t(i)]);
}

/// Who knows how many pages will be wanted gets no more.
TEST(PagePool, GrowsNoFurtherThanWanted) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  std::vector<heed::Page*> pages;
  for (Index i = 0; i < 9; ++i) pages.push_back(heed::value_or_throw(pool.acquire(100, 9 - i)));
  EXPECT_EQ(pool.free_pages(100), 0) << "slabs of 1 1 2 4 and 1 pages";
  for (heed::Page* const page : pages) pool.release(page);
}

/// A slab is reserved, not touched: the first page of a large one must not cost page faults for the rest.
TEST(PagePool, TouchesOnlyWhatIsHandedOut) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  ASSERT_TRUE(pool.reserve(100000, 20).ok());
  std::vector<heed::Page*> pages;
  for (int i = 0; i < 5; ++i) {
    pages.push_back(heed::value_or_throw(pool.acquire(100000)));
    EXPECT_LE(memory.touched(), (3 + i) * 64) << "the size, the slab, a header for each page";
  }
  for (heed::Page* const page : pages) pool.release(page);
}

TEST(PagePool, TrimGivesIdleSlabsBack) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  std::vector<heed::Page*> pages;
  for (int i = 0; i < 8; ++i) pages.push_back(heed::value_or_throw(pool.acquire(100)));  // slabs of 1 1 2 4
  const Index peak = memory.held;
  pool.trim();
  EXPECT_EQ(memory.blocks, 1 + 2 * 4) << "every slab is in use";
  for (const std::size_t i : {0u, 2u, 4u, 5u, 6u}) pool.release(pages[i]);
  pool.trim();
  EXPECT_EQ(memory.blocks, 1 + 2 * 3) << "the first page was a slab of its own";
  EXPECT_EQ(pool.free_pages(100), 4);
  for (const std::size_t i : {1u, 3u, 7u}) pool.release(pages[i]);
  pool.trim();
  EXPECT_EQ(memory.held, 0);
  EXPECT_EQ(pool.free_pages(100), 0);
  EXPECT_EQ(pool.bytes().peak, peak);
  pool.release(heed::value_or_throw(pool.acquire(100)));
}

TEST(PagePool, ServesAnyNumberOfSizes) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  std::vector<heed::Page*> pages;
  for (Index size = 1; size <= 100; ++size) pages.push_back(heed::value_or_throw(pool.acquire(64 * size)));
  EXPECT_EQ(pool.bytes().held, memory.held);
  EXPECT_EQ(pool.page_bytes_held(), memory.held);
  for (Index size = 1; size <= 100; ++size) {
    EXPECT_EQ(pool.free_pages(64 * size), 0);
    pool.release(pages[std::size_t(size - 1)]);
    EXPECT_EQ(pool.free_pages(64 * size), 1);
  }
  pool.trim();
  EXPECT_EQ(memory.held, 0) << "sizes without a page are gone, too";
}

/// Pages of sizes that nobody uses any more are no reason to refuse one.
TEST(PagePool, DeadSizesMakeRoom) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  heed::Page* const held = heed::value_or_throw(pool.acquire(500));
  pool.release(heed::value_or_throw(pool.acquire(1000)));
  memory.most_held = memory.held + 700;
  heed::Page* const other = heed::value_or_throw(pool.acquire(900));
  EXPECT_EQ(pool.free_pages(1000), 0) << "given back";
  EXPECT_EQ(pool.acquire(600).status().code(), StatusCode::out_of_memory);
  pool.release(other);
  EXPECT_TRUE(pool.reserve(600, 1).ok());
  EXPECT_EQ(pool.free_pages(900), 0) << "given back";
  EXPECT_EQ(pool.bytes().held, memory.held);
  pool.release(held);
}

/// An engine that sets a capacity per request, on one pool, forever.
TEST(PagePool, AnyCapacityPerRequest) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  std::set<Index> sizes;
  for (Index capacity = 1; capacity <= 3000; capacity += 7) {
    auto cache = Cache::create(policy, {.layers = 2, .capacity = capacity, .pool = &pool});
    ASSERT_TRUE(cache.ok()) << "capacity " << capacity << ": " << cache.status().message();
    sizes.insert(heed::automatic_page_tokens({}, false, capacity, cache->row_bytes_per_token()));
    ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3}));
    EXPECT_GE(cache->capacity(), capacity);
  }
  EXPECT_LE(sizes.size(), 7u) << "requests share page sizes";
  for (Index tokens = 1; tokens <= 60; ++tokens) {  // and those who name other sizes are served as well
    auto cache = Cache::create(policy, {.layers = 2, .page_tokens = tokens, .pool = &pool});
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3}));
  }
  pool.trim();
  EXPECT_EQ(memory.held, 0);
}

/// Where there is no memory for a whole slab, there may be for a page.
TEST(PagePool, FailingAllocations) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  std::vector<heed::Page*> pages;
  for (int i = 0; i < 2; ++i) pages.push_back(heed::value_or_throw(pool.acquire(100)));
  memory.failing_from = memory.allocations;
  pages.push_back(heed::value_or_throw(pool.acquire(100)));
  EXPECT_EQ(pool.free_pages(100), 0) << "one page, not two";
  memory.failing_from = memory.allocations;
  memory.failures = 2;
  const auto refused = pool.acquire(100);
  EXPECT_EQ(refused.status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(refused.status().message(), "rows: cannot allocate 256 bytes");
  EXPECT_EQ(pool.bytes().held, memory.held);
  memory.failures = 1;
  memory.failing_from = memory.allocations;
  EXPECT_EQ(pool.reserve(100, 5).code(), StatusCode::out_of_memory);
  EXPECT_TRUE(pool.reserve(100, 5).ok());
  EXPECT_EQ(pool.free_pages(100), 5);
  EXPECT_TRUE(pool.reserve(100, 3).ok());
  EXPECT_EQ(pool.free_pages(100), 5);
  EXPECT_EQ(pool.reserve(100, std::numeric_limits<Index>::max() / 2).code(), StatusCode::out_of_memory);
  for (heed::Page* const page : pages) pool.release(page);
}

TEST(PagePool, IsForManyThreads) {
  CountingMemory memory;  // not for many threads itself, but the pool asks it under its lock
  PagePool pool(memory.resource());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 1; t <= 2; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<heed::Page*> mine;
      for (int i = 0; i < 3000; ++i) {
        if (mine.empty() || random() % 3 > 0) {
          mine.push_back(heed::value_or_throw(pool.acquire(64)));
          std::memset(mine.back()->rows(), t, 64);
        } else {
          wrong += mine.back()->rows()[random() % 64] != std::byte(t);
          pool.release(mine.back());
          mine.pop_back();
        }
      }
      for (heed::Page* const page : mine) pool.release(page);
    });
  }
  for (int i = 0; i < 300; ++i) {
    pool.trim();
    EXPECT_GE(pool.bytes().held, pool.bytes().free);
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  pool.trim();
  EXPECT_EQ(memory.held, 0);
}

/// What one sequence gives back another takes.
TEST(PagePool, IsSharedByCaches) {
  CountingMemory memory;
  PagePool pool(memory.resource());
  const heed::CacheOptions options{.layers = 2, .page_tokens = 4, .pool = &pool};
  {
    Cache first = heed::value_or_throw(Cache::create(policy, options));
    Cache second = heed::value_or_throw(Cache::create(policy, options, heed::SlidingWindow{5}));
    EXPECT_GE(first.bytes().peak, first.bytes().allocated);
    std::mt19937_64 random(1);
    const Seeds tokens = new_tokens(random, 30);
    ASSERT_NO_FATAL_FAILURE(append(first, tokens));
    EXPECT_GE(heed::value_or_throw(first.fork()).bytes().peak, first.bytes().allocated_rows);
    EXPECT_EQ(first.bytes().allocated_rows, 8 * PagePool::page_bytes(4 * first.row_bytes_per_token() + 64 + 2 * 2 * 8));
    EXPECT_GE(first.bytes().peak, first.bytes().allocated);
    EXPECT_LE(first.bytes().allocated + second.bytes().allocated, memory.held);
    expect_holds(first, tokens);
    ASSERT_TRUE(first.clear().ok());
    EXPECT_EQ(first.bytes().allocated_rows, 0);
    const Index pages = pool.page_bytes_held();
    first.trim();
    EXPECT_EQ(pool.page_bytes_held(), pages) << "the pool is not the cache's";
    for (const Seed token : tokens) ASSERT_NO_FATAL_FAILURE(append(second, {token}));
    EXPECT_EQ(pool.page_bytes_held(), pages);
    expect_keeps(second, 0, tokens, {26, 27, 28, 29});
  }
  EXPECT_EQ(pool.bytes().held, pool.page_bytes_held()) << "bookkeeping is gone with the caches";
  pool.trim();
  EXPECT_EQ(memory.held, 0);
}

/// Caches of other shapes have pages of other sizes.
TEST(PagePool, ShapesDoNotMix) {
  PagePool pool;
  Cache first = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4, .pool = &pool}));
  Cache second = heed::value_or_throw(Cache::create(policy, {.layers = 3, .page_tokens = 5, .pool = &pool}));
  std::mt19937_64 random(2);
  Seeds a, b;
  for (int i = 0; i < 20; ++i) {
    const Seeds one = new_tokens(random, 3);
    ASSERT_NO_FATAL_FAILURE(append(first, one));
    a.insert(a.end(), one.begin(), one.end());
    ASSERT_NO_FATAL_FAILURE(append(second, {one[0]}));
    b.push_back(one[0]);
  }
  expect_holds(first, a);
  expect_holds(second, b);
}

}  // namespace
}  // namespace heed_test::pool_test
