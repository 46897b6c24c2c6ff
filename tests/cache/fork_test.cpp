/// \file
/// fork(): the same tokens in shared pages, and nothing that one does is seen by the other.
#include <optional>
#include <thread>

#include <heed/retention/separators.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::fork_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};

Cache make(CountingMemory& memory, Index page_tokens = 4) {
  return heed::value_or_throw(
      Cache::create(policy, {.layers = 2, .page_tokens = page_tokens, .memory = memory.resource()}));
}
/// Bytes of one page of four tokens.
Index page_bytes(const Cache& cache) {
  const Index slack = heed::detail::read_slack;
  return heed::PagePool::page_bytes(4 * cache.row_bytes_per_token() + slack + cache.layers() * 2 * 8);
}

TEST(CacheFork, HoldsTheSameAndCopiesNoRow) {
  CountingMemory memory;
  Cache cache = make(memory);
  const Seeds tokens{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  const heed::CacheBytes before = cache.bytes();
  EXPECT_EQ(before.shared, 0);
  auto fork = cache.fork();
  ASSERT_TRUE(fork.ok()) << fork.status().message();
  expect_holds(*fork, tokens);
  expect_holds(cache, tokens);
  EXPECT_EQ(fork->bytes().allocated_rows, before.allocated_rows);
  EXPECT_EQ(fork->bytes().allocated, memory.held);
  EXPECT_EQ(fork->bytes().live, before.live);
  EXPECT_EQ(fork->bytes().shared, 3 * page_bytes(cache));
  EXPECT_EQ(cache.bytes().shared, 3 * page_bytes(cache));
}

TEST(CacheFork, WritesAreNotShared) {
  CountingMemory memory;
  Cache cache = make(memory);
  const Seeds tokens{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  Cache fork = heed::value_or_throw(cache.fork());
  Seeds left = tokens, right = tokens;
  left.push_back(11);
  right.push_back(12);
  ASSERT_NO_FATAL_FAILURE(append(fork, {12}));  // only the page that it writes to is copied
  EXPECT_EQ(fork.bytes().shared, 2 * page_bytes(cache));
  EXPECT_EQ(cache.bytes().shared, 2 * page_bytes(cache));
  expect_holds(cache, tokens);
  ASSERT_NO_FATAL_FAILURE(append(cache, {11}));
  expect_holds(cache, left);
  expect_holds(fork, right);
  EXPECT_EQ(cache.bytes().shared, 2 * page_bytes(cache));
}

/// A full page is never written again.
TEST(CacheFork, FullPagesStayShared) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3, 4}));
  Cache fork = heed::value_or_throw(cache.fork());
  ASSERT_NO_FATAL_FAILURE(append(cache, {5, 6}));
  ASSERT_NO_FATAL_FAILURE(append(fork, {7}));
  EXPECT_EQ(cache.bytes().shared, page_bytes(cache));
  expect_holds(cache, {1, 2, 3, 4, 5, 6});
  expect_holds(fork, {1, 2, 3, 4, 7});
}

/// An open step of the parent is not part of a fork, so there is none then.
TEST(CacheFork, NotWhileAStepIsOpen) {
  CountingMemory memory;
  Cache cache = make(memory);
  auto step = cache.begin(heed::NumTokens(2));
  const heed::Status status = cache.fork().status();
  EXPECT_EQ(status.code(), StatusCode::wrong_state);
  EXPECT_EQ(status.message(), "fork(): a step of 2 tokens is open; commit or abort it");
}

TEST(CacheFork, OutlivesItsParent) {
  CountingMemory memory;
  {
    std::optional<Cache> cache(make(memory));
    ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3, 4, 5}));
    std::optional<Cache> fork(heed::value_or_throw(cache->fork()));
    std::optional<Cache> other(heed::value_or_throw(fork->fork()));
    cache.reset();
    ASSERT_NO_FATAL_FAILURE(append(*fork, {6}));
    expect_holds(*fork, {1, 2, 3, 4, 5, 6});
    fork.reset();
    expect_holds(*other, {1, 2, 3, 4, 5});
    EXPECT_EQ(other->bytes().shared, 0);
    EXPECT_EQ(other->bytes().allocated, memory.held);
  }
  EXPECT_EQ(memory.held, 0);
  EXPECT_EQ(memory.blocks, 0);
}

/// What only the fork held is free for the parent.
TEST(CacheFork, GivesItsPagesBack) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3, 4, 5, 6}));
  for (int i = 0; i < 20; ++i) {
    Cache fork = heed::value_or_throw(cache.fork());
    ASSERT_NO_FATAL_FAILURE(append(fork, {7, 8, 9}));
  }
  EXPECT_EQ(cache.bytes().shared, 0);
  EXPECT_LE(cache.bytes().allocated_rows, 4 * page_bytes(cache) + 4 * 64) << "twenty forks, one after the other";
  cache.trim();
  EXPECT_EQ(cache.bytes().allocated, memory.held);
  expect_holds(cache, {1, 2, 3, 4, 5, 6});
}

/// Evicting, truncating and compacting in one leaves the other alone.
TEST(CacheFork, EvictionIsNotShared) {
  CountingMemory memory;
  std::mt19937_64 random(8);
  for (int repeat = 0; repeat < 40; ++repeat) {
    auto cache = heed::value_or_throw(
        Cache::create(policy, {.layers = 1, .page_tokens = pick(random, 1, 5), .memory = memory.resource()},
                      heed::Separators{.initial = 1, .window = 4, .ids = {7}}));
    Seeds tokens;
    const auto grow = [&](Cache& grown, Seeds& all, Index count) {
      Seeds more = new_tokens(random, count);
      for (Seed& one : more) {
        if (random() % 3 == 0) one = (one & ~Seed{0xffffffff}) | 7;  // a separator
      }
      all.insert(all.end(), more.begin(), more.end());
      append(grown, more);
    };
    const auto kept = [](const Seeds& all) {
      std::vector<Index> positions;
      const Index size = Index(all.size());
      for (Index p = 0; p < size; ++p) {
        if (p < 1 || p > size - 4 || (all[std::size_t(p)] & 0x7fffffff) == 7) positions.push_back(p);
      }
      return positions;
    };
    grow(cache, tokens, pick(random, 1, 20));
    Cache fork = heed::value_or_throw(cache.fork());
    Seeds forked = tokens;
    grow(fork, forked, pick(random, 1, 20));
    expect_keeps(cache, 0, tokens, kept(tokens));
    grow(cache, tokens, pick(random, 1, 20));
    expect_keeps(fork, 0, forked, kept(forked));
    ASSERT_TRUE(fork.compact(std::vector<Index>{fork.position(0)}).ok());
    expect_keeps(cache, 0, tokens, kept(tokens));
    expect_keeps(fork, 0, forked, {0});
    ASSERT_TRUE(cache.clear().ok());
    expect_keeps(fork, 0, forked, {0});
  }
}

/// capacity() knows that a shared page must be copied before it is written.
TEST(CacheFork, ReservedTokensNeedNoAllocation) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3, 4, 5}));
  Cache fork = heed::value_or_throw(cache.fork());
  EXPECT_EQ(fork.capacity(), 5) << "one page is needed for the sixth token";
  ASSERT_TRUE(fork.reserve(12).ok());
  EXPECT_EQ(fork.capacity(), 12);
  const Index allocations = memory.allocations;
  for (Seed token = 6; token < 13; ++token) ASSERT_NO_FATAL_FAILURE(append(fork, {token}));
  EXPECT_EQ(memory.allocations, allocations);
  expect_holds(cache, {1, 2, 3, 4, 5});
}

TEST(CacheFork, RemembersWhatWasKept) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3}));
  ASSERT_NO_FATAL_FAILURE(append(cache, {4}));
  const Cache fork = heed::value_or_throw(cache.fork());
  EXPECT_EQ(fork.retention().calls, 2);
  EXPECT_EQ(fork.retention().kept_sum, 7);
  EXPECT_EQ(fork.retention().last_seen, 4);
  ASSERT_TRUE(cache.clear().ok());
  EXPECT_EQ(cache.retention().calls, 0) << "another sequence";
  EXPECT_EQ(fork.retention().calls, 2);
}

TEST(CacheFork, EveryAllocationMayFail) {
  for (Index k = 0;; ++k) {
    CountingMemory memory;
    Cache cache = make(memory);
    ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3, 4, 5, 6}));
    const Index held = memory.held;
    memory.failing_from = memory.allocations + k;
    const auto fork = cache.fork();
    if (fork.ok()) {
      EXPECT_GE(k, 3);
      break;
    }
    EXPECT_EQ(fork.status().code(), StatusCode::out_of_memory);
    EXPECT_EQ(memory.held, held);
    EXPECT_EQ(cache.bytes().shared, 0);
    expect_holds(cache, {1, 2, 3, 4, 5, 6});
  }
}

TEST(CacheFork, ForksBelongToDifferentThreads) {
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 1, .page_tokens = 2}));
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3}));
  std::vector<Cache> forks;
  for (int i = 0; i < 3; ++i) forks.push_back(heed::value_or_throw(cache.fork()));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < forks.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        Cache own = heed::value_or_throw(forks[i].fork());
        heed::check(own.truncate(3));
        for (Seed token = 0; token < 10; ++token) append(own, {100 * (i + 1) + token});
        forks[i] = std::move(own);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect_holds(cache, {1, 2, 3});
  for (std::size_t i = 0; i < forks.size(); ++i) {
    Seeds tokens{1, 2, 3};
    for (Seed token = 0; token < 10; ++token) tokens.push_back(100 * (i + 1) + token);
    expect_holds(forks[i], tokens);
  }
}

}  // namespace
}  // namespace heed_test::fork_test
