/// \file
/// compact(): only the named tokens stay, in order and at their positions.
#include <limits>

#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::compact_test {
namespace {

using heed::StatusCode;
using Positions = std::vector<Index>;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};

Cache make(CountingMemory& memory, const heed::AnyRule& rule = {}, Index page_tokens = 4) {
  return heed::value_or_throw(
      Cache::create(policy, {.layers = 2, .page_tokens = page_tokens, .memory = memory.resource()}, rule));
}
void expect_kept(const Cache& cache, const Seeds& tokens, const Positions& positions) {
  for (Index layer = 0; layer < 2; ++layer) ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, layer, tokens, positions));
}

TEST(CacheCompact, KeepsWhatIsNamed) {
  CountingMemory memory;
  Cache cache = make(memory);
  const Seeds tokens{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  const Index live = cache.bytes().live;
  EXPECT_EQ(heed::value_or_throw(cache.compact(Positions{0, 3, 4, 8, 9})), 3) << "the last two stay where they are";
  expect_kept(cache, tokens, {0, 3, 4, 8, 9});
  EXPECT_EQ(cache.bytes().live, live / 2);
  EXPECT_EQ(cache.evicted(), 5);
  EXPECT_EQ(heed::value_or_throw(cache.compact(Positions{0, 3, 4, 8, 9})), 0);
  expect_kept(cache, tokens, {0, 3, 4, 8, 9});
  EXPECT_EQ(heed::value_or_throw(cache.compact(Positions{3, 9})), 1);
  expect_kept(cache, tokens, {3, 9});
}

/// Nothing is lost, so nothing is forbidden afterwards, and the rule goes on as if compact() had not been called.
TEST(CacheCompact, KeepingEverythingChangesNothing) {
  for (const heed::AnyRule& rule :
       {heed::AnyRule(heed::Causal{}), heed::AnyRule(heed::SlidingWindow{9}),
        heed::AnyRule(heed::Separators{0, 1, {1}}), heed::AnyRule(heed::Separators{0, 3, {1}})}) {
    SCOPED_TRACE(rule.name());
    CountingMemory memory;
    Cache cache = make(memory, rule), same = make(memory, rule);
    for (Cache* one : {&cache, &same}) ASSERT_NO_FATAL_FAILURE(append(*one, {1, 1, 1, 1, 1, 1}));
    EXPECT_EQ(heed::value_or_throw(cache.compact(all_positions(6))), 0);
    const auto expect_same = [&] {
      ASSERT_EQ(cache.rollback_floor(), same.rollback_floor());
      ASSERT_EQ(cache.kept(), same.kept());
      for (Index query = 0; query < cache.seen() + 2; ++query) {
        for (Index key = 0; key < cache.kept(); ++key) {
          const Index position = cache.position(key);
          ASSERT_EQ(position, same.position(key));
          ASSERT_EQ(cache.keys(0).mask().visible(query, position), same.keys(0).mask().visible(query, position))
              << "query " << query << ", position " << position;
        }
      }
    };
    ASSERT_NO_FATAL_FAILURE(expect_same());
    for (Cache* one : {&cache, &same}) ASSERT_TRUE(one->truncate(2).ok());
    ASSERT_NO_FATAL_FAILURE(expect_same());
    // Token 2 is no separator: only the window shows it.
    for (Cache* one : {&cache, &same}) ASSERT_NO_FATAL_FAILURE(append(*one, {5, 1}));
    ASSERT_NO_FATAL_FAILURE(expect_same());
    for (Cache* one : {&cache, &same}) {
      if (one->rollback_floor() <= 3) {
        ASSERT_TRUE(one->truncate(3).ok());
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_same());
  }
}

TEST(CacheCompact, GoesOnWhereTheSequenceEnds) {
  CountingMemory memory;
  Cache cache = make(memory);
  Seeds tokens{1, 2, 3, 4, 5, 6};
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  ASSERT_TRUE(cache.compact(Positions{}).ok());
  expect_kept(cache, tokens, {});
  EXPECT_EQ(cache.rollback_floor(), 0) << "a rule that keeps everything has lost nothing";
  for (Seed token = 7; token < 12; ++token) {
    ASSERT_NO_FATAL_FAILURE(append(cache, {token}));
    tokens.push_back(token);
  }
  expect_kept(cache, tokens, {6, 7, 8, 9, 10});
  ASSERT_TRUE(cache.compact(Positions{7, 10}).ok());
  ASSERT_NO_FATAL_FAILURE(append(cache, {12}));
  tokens.push_back(12);
  expect_kept(cache, tokens, {7, 10, 11});
  ASSERT_TRUE(cache.truncate(11).ok());
  tokens.pop_back();
  expect_kept(cache, tokens, {7, 10});
  ASSERT_TRUE(cache.truncate(9).ok());
  tokens.resize(9);
  expect_kept(cache, tokens, {7});
  ASSERT_NO_FATAL_FAILURE(append(cache, {13}));
  tokens.push_back(13);
  expect_kept(cache, tokens, {7, 9});
}

/// What is kept apart from the latest run is forgotten by position, as if nothing had been removed.
TEST(CacheCompact, TheRuleGoesOn) {
  CountingMemory memory;
  Cache cache = make(memory, heed::Separators{.initial = 1, .window = 6, .ids = {3}}, 3);
  Seeds tokens{1, 2, 3, 4, 5, 6, 7, 8};
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  expect_kept(cache, tokens, {0, 2, 3, 4, 5, 6, 7});
  ASSERT_TRUE(cache.compact(Positions{0, 2, 4, 6}).ok());
  expect_kept(cache, tokens, {0, 2, 4, 6});
  const std::vector<Positions> then{{0, 2, 4, 6, 8},      {0, 2, 6, 8, 9},          {0, 2, 6, 8, 9, 10},
                                    {0, 2, 8, 9, 10, 11}, {0, 2, 8, 9, 10, 11, 12}, {0, 2, 9, 10, 11, 12, 13}};
  for (const Positions& kept : then) {
    tokens.push_back(20);
    ASSERT_NO_FATAL_FAILURE(append(cache, {20}));
    ASSERT_NO_FATAL_FAILURE(expect_kept(cache, tokens, kept));
  }
}

TEST(CacheCompact, GivesPagesBack) {
  CountingMemory memory;
  Cache cache = make(memory, {}, 1);
  std::mt19937_64 random(3);
  ASSERT_NO_FATAL_FAILURE(append(cache, new_tokens(random, 64)));
  const Index full = cache.bytes().allocated_rows;
  ASSERT_TRUE(cache.compact(Positions{62, 63}).ok());
  cache.trim();
  EXPECT_LT(cache.bytes().allocated_rows, full);
  EXPECT_EQ(cache.bytes().allocated, memory.held);
}

TEST(CacheCompact, RefusesHostileLists) {
  CountingMemory memory;
  Cache cache = make(memory, heed::Separators{.initial = 1, .window = 3, .ids = {3}});
  const Seeds tokens{1, 2, 3, 4, 5, 6};
  ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
  const Positions held{0, 2, 4, 5};
  expect_kept(cache, tokens, held);
  const auto refused = [&](const Positions& keep, Index at) {
    const auto result = cache.compact(keep);
    EXPECT_EQ(result.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(result.status().message(), "compact(): keep[" + std::to_string(at) + "] is " +
                                             std::to_string(keep[std::size_t(at)]) +
                                             ", must be a position that is held, and ascending");
    ASSERT_NO_FATAL_FAILURE(expect_kept(cache, tokens, held));
  };
  refused({1}, 0);
  refused({0, 2, 3}, 2);
  refused({-1, 0}, 0);
  refused({0, 0}, 1);
  refused({2, 0}, 1);
  refused({4, 5, 6}, 2);
  refused({0, std::numeric_limits<Index>::max()}, 1);
  refused({std::numeric_limits<Index>::min()}, 0);
  refused({0, 2, 4, 5, 5}, 4);
}

/// A stream counts what it holds: dropping would change the rule's answers.
TEST(CacheCompact, RefusesRulesThatCount) {
  CountingMemory memory;
  Cache stream =
      make(memory, heed::SeparatorStream{.initial = 1, .separators = 1, .local = 1, .capacity = 4, .ids = {3}});
  ASSERT_NO_FATAL_FAILURE(append(stream, {1, 2}));
  const heed::Status of_stream = stream.compact(Positions{0}).status();
  EXPECT_EQ(of_stream.code(), StatusCode::unsupported);
  EXPECT_EQ(of_stream.message(), "compact(): rule separator_stream has a history that counts what the cache holds");
}

TEST(CacheCompact, NotWhileAStepIsOpen) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2}));
  auto step = cache.begin(heed::NumTokens(3));
  EXPECT_EQ(cache.compact(Positions{0}).status().message(),
            "compact(): a step of 3 tokens is open; commit or abort it");
}

TEST(CacheCompact, EveryAllocationMayFail) {
  for (Index k = 0;; ++k) {
    CountingMemory memory;
    Cache cache = make(memory, {}, 1);
    Seeds tokens{1, 2, 3, 4, 5, 6, 7, 8};
    ASSERT_NO_FATAL_FAILURE(append(cache, tokens));
    const Cache fork = heed::value_or_throw(cache.fork());
    memory.failing_from = memory.allocations + k;
    memory.failures = 2;  // a slab, and then a single page
    const auto moved = cache.compact(Positions{1, 2, 4, 5, 7});
    if (moved.ok()) {
      EXPECT_GE(k, 2);
      EXPECT_EQ(*moved, 4);
      break;
    }
    EXPECT_EQ(moved.status().code(), StatusCode::out_of_memory);
    ASSERT_NO_FATAL_FAILURE(expect_holds(cache, tokens));
    ASSERT_NO_FATAL_FAILURE(expect_holds(fork, tokens));
    EXPECT_EQ(cache.bytes().allocated, memory.held);
  }
}

}  // namespace
}  // namespace heed_test::compact_test
