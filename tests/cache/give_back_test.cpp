/// \file
/// What a cache holds after a step that failed or was aborted is what it held before; after a long prompt, it is what the
/// tokens need that are left.
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::give_back_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 0.3f};

/// Each way to keep tokens once: a run, a window, a list beside it, a history. A step is tried anew for every allocation.
std::vector<heed::AnyRule> rules() {
  return {heed::Causal{}, heed::SlidingWindow{20}, heed::SinkWindow{3, 9}, heed::Separators{2, 8, {1}},
          heed::SeparatorStream{.initial = 2, .separators = 4, .local = 6, .capacity = 18, .ids = {1}}};
}

/// Ids in 0 ... 3.
Seeds text(std::mt19937_64& random, Index count) {
  Seeds tokens = new_tokens(random, count);
  for (Seed& token : tokens) token = (token & ~Seed{0xffffffff}) | (token & 3);
  return tokens;
}

void expect_same(const heed::CacheBytes& now, const heed::CacheBytes& before) {
  EXPECT_EQ(now.live, before.live);
  EXPECT_EQ(now.allocated_rows, before.allocated_rows);
  EXPECT_EQ(now.allocated, before.allocated);
  EXPECT_EQ(now.shared, before.shared);
}

/// Whichever allocation of begin() fails, alone or with all that follow: pages and bookkeeping are those of before, and so is
/// what the memory resource has given, for a pool of the cache's own and for a caller's.
TEST(CacheGivesBack, WhatAFailedBeginTook) {
  std::mt19937_64 random(5);
  for (const bool own : {true, false}) {
    for (const Index failures : {1, 3, 1000}) {
      for (const heed::AnyRule& rule : rules()) {
        for (Index k = 0;; ++k) {
          SCOPED_TRACE(std::string(rule.name()) + ", allocation " + std::to_string(k) + " of begin(), " +
                       std::to_string(failures) + " fail");
          CountingMemory memory;
          heed::PagePool pool(memory.resource());
          const std::vector<heed::LayerRule> groups{{rule, {0}}, {heed::Causal{}, {1}}, {rule, {2}}};
          Cache cache = heed::value_or_throw(Cache::create(
              policy, {.layers = 3, .page_tokens = 4, .memory = memory.resource(), .pool = own ? nullptr : &pool},
              groups));
          const Seeds first = text(random, 50), more = text(random, 5000);
          ASSERT_NO_FATAL_FAILURE(append(cache, first));
          cache.trim();
          pool.trim();
          const heed::CacheBytes before = cache.bytes();
          const Index held = memory.held;
          memory.failing_from = memory.allocations + k;
          memory.failures = failures;
          auto step = cache.begin(ids(more));
          memory.failing_from = -1;
          if (step.ok()) {
            EXPECT_GE(k, 5) << "there were allocations to fail";
            break;
          }
          ASSERT_EQ(step.status().code(), StatusCode::out_of_memory);
          expect_same(cache.bytes(), before);
          if (own) {
            EXPECT_EQ(memory.held, held);
          }
          ASSERT_EQ(cache.seen(), 50);
          if (HasFailure()) return;
          if (k % 16 == 0) {
            ASSERT_NO_FATAL_FAILURE(append(cache, more));
            EXPECT_EQ(cache.seen(), 5050);
          }
          k += k / 8;
        }
      }
    }
  }
}

/// A begin() that fails after it copied pages that a fork shares: the copies stay this cache's, and the fork's rows the fork's.
TEST(CacheGivesBack, NoPageOfAForkAfterAFailedBegin) {
  std::mt19937_64 random(8);
  for (Index k = 0;; ++k) {
    SCOPED_TRACE("allocation " + std::to_string(k) + " of begin() fails");
    CountingMemory memory;
    heed::PagePool pool(memory.resource());
    const std::vector<heed::LayerRule> groups{{heed::Causal{}, {0}}, {heed::SlidingWindow{20}, {1}}};
    Cache cache = heed::value_or_throw(
        Cache::create(policy, {.layers = 2, .page_tokens = 4, .memory = memory.resource(), .pool = &pool}, groups));
    const Seeds first = text(random, 50), more = text(random, 500);
    ASSERT_NO_FATAL_FAILURE(append(cache, first));
    const Cache fork = heed::value_or_throw(cache.fork());
    pool.trim();
    memory.failing_from = memory.allocations + k;
    memory.failures = 1000;
    const bool enough = cache.begin(ids(more)).ok();
    memory.failing_from = -1;
    ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, 0, first, all_positions(50)));
    ASSERT_TRUE(cache.clear().ok());
    ASSERT_NO_FATAL_FAILURE(append(cache, more));  // into whatever pages are free now
    ASSERT_NO_FATAL_FAILURE(expect_keeps(fork, 0, first, all_positions(50)));
    ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, 0, more, all_positions(500)));
    if (!enough) continue;
    EXPECT_GE(k, 5) << "there were allocations to fail";
    break;
  }
}

/// abort(), the end of a Step, and a commit of few tokens give the step's pages to the pool.
TEST(CacheGivesBack, WhatAStepTookThatDidNotStay) {
  std::mt19937_64 random(6);
  for (const heed::AnyRule& rule : rules()) {
    SCOPED_TRACE(rule.name());
    for (const int end : {0, 1, 2}) {
      CountingMemory memory;
      heed::PagePool pool(memory.resource());
      const std::vector<heed::LayerRule> groups{{rule, {0}}, {heed::Causal{}, {1}}};
      Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2, .page_tokens = 4, .pool = &pool}, groups));
      const Seeds first = text(random, 50), more = text(random, 300);
      ASSERT_NO_FATAL_FAILURE(append(cache, first));
      const Index rows = cache.bytes().allocated_rows, live = cache.bytes().live;
      {
        auto step = heed::value_or_throw(cache.begin(ids(more)));
        EXPECT_GT(cache.bytes().allocated_rows, rows);
        ASSERT_NO_FATAL_FAILURE(write_all(step, cache, more));
        if (end == 0) step.abort();
        if (end == 1) {
          ASSERT_TRUE(step.commit(std::span<const Index>()).ok());
        }
      }
      EXPECT_EQ(cache.bytes().live, live);
      EXPECT_EQ(cache.bytes().allocated_rows, rows);
    }
  }
}

/// truncate() and remove() prepare all groups: if one fails, no group keeps what it got.
TEST(CacheGivesBack, WhatAFailedCallTook) {
  std::mt19937_64 random(7);
  for (const bool truncates : {true, false}) {
    for (Index k = 0;; ++k) {
      CountingMemory memory;
      heed::PagePool pool(memory.resource());
      const std::vector<heed::LayerRule> groups{
          {heed::Separators{0, 2, {1}}, {0}}, {heed::Causal{}, {1}}, {heed::Separators{0, 3, {1}}, {2}}};
      Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 3, .page_tokens = 2, .pool = &pool}, groups));
      ASSERT_NO_FATAL_FAILURE(append(cache, Seeds(40, 1)));
      pool.trim();
      const heed::CacheBytes before = cache.bytes();
      memory.failing_from = memory.allocations + k;
      memory.failures = 1000;
      const heed::Status status = truncates ? cache.truncate(20) : cache.remove(30, 35);
      memory.failing_from = -1;
      if (status.ok()) {
        EXPECT_GE(k, 2);
        break;
      }
      ASSERT_EQ(status.code(), StatusCode::out_of_memory);
      EXPECT_EQ(cache.bytes().allocated_rows, before.allocated_rows) << "allocation " << k;
    }
  }
}

/// A prompt's lists go as the window forgets it, whoever else uses the pool.
TEST(CacheGivesBack, TheBookkeepingOfAPrompt) {
  struct Case {
    heed::AnyRule rule;
    Index capacity = 0;
  };
  std::vector<Case> cases{{heed::Causal{}},          {heed::SlidingWindow{64}},      {heed::SlidingWindow{64}, 100000},
                          {heed::SinkWindow{4, 64}}, {heed::Separators{4, 64, {1}}}, {heed::Anchors{.ids = {1}}}};
  for (const Case& c : cases) {
    for (const bool forks : {false, true}) {
      SCOPED_TRACE(std::string(c.rule.name()) + (forks ? ", forks" : ", a caller's pool"));
      CountingMemory memory;
      heed::PagePool pool(memory.resource());
      Cache cache = heed::value_or_throw(Cache::create(
          {.num_heads = 1, .num_kv_heads = 1, .head_dim = 1, .scale = 1},
          {.capacity = c.capacity, .memory = memory.resource(), .pool = forks ? nullptr : &pool}, c.rule));
      const Cache fork = heed::value_or_throw(cache.fork());
      std::vector<float> rows(50000);
      std::vector<std::int32_t> prompt(50000, 0);
      for (std::size_t i = 0; i < prompt.size(); i += 100) prompt[i] = 1;
      for (int i = 0; i < 201; ++i) {
        const std::size_t count = i == 0 ? prompt.size() : 1;
        auto step = heed::value_or_throw(cache.begin(std::span(prompt).first(count)));
        ASSERT_TRUE(step.write(0, std::span(rows).first(count), std::span(rows).first(count)).ok());
        ASSERT_TRUE(step.commit().ok());
      }
      // A token's id and a landmark's place, and 8 bytes a page.
      const Index held = cache.kept() * 4 + cache.kept() / 256 * 8;
      const Index landmarks = c.rule.needs_ids() ? 600 * 16 : 0;
      EXPECT_LE(cache.bookkeeping_bytes(), 2 * (held + landmarks) + 160 * 1024) << "kept " << cache.kept();
    }
  }
}

}  // namespace
}  // namespace heed_test::give_back_test
