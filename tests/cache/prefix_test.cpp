/// \file
/// Prompts that begin alike find each other: what is found, what is refused, what is held.
#include <atomic>
#include <set>
#include <thread>

#include <heed/cache/prefix.hpp>
#include <heed/cache/recurrent_state.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::prefix_test {
namespace {

using heed::AnyRule;
using heed::PrefixScope;
using heed::StatusCode;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
using Prefixes = heed::PrefixCache<Cache>;
using Ids = std::vector<std::int32_t>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};

Cache fed(const Ids& text, const AnyRule& rule = {}, heed::CacheOptions options = {}) {
  auto cache = heed::value_or_throw(Cache::create(policy, options, rule));
  append(cache, Seeds(text.begin(), text.end()));
  return cache;
}
/// A full layer and one with a window, as Gemma and gpt-oss have.
Cache hybrid(Index window, heed::CacheOptions options = {}) {
  options.layers = 2;
  const heed::LayerRule rules[] = {{heed::Causal{}, {0}}, {heed::SlidingWindow{window}, {1}}};
  return heed::value_or_throw(Cache::create(policy, options, rules));
}
/// One step more, which `prefixes` commits: `text` is all of it.
std::uint64_t commit(Prefixes& prefixes, Cache& cache, const Ids& text) {
  const Seeds added(text.begin() + std::ptrdiff_t(cache.seen()), text.end());
  auto step = heed::value_or_throw(cache.begin(ids(added)));
  write_all(step, cache, added);
  return heed::value_or_throw(prefixes.commit(text, step));
}
Ids numbers(Index count, std::int32_t first = 10) {
  Ids text;
  for (Index i = 0; i < count; ++i) text.push_back(first + std::int32_t(i));
  return text;
}
Ids joined(Ids text, const Ids& more) {
  text.insert(text.end(), more.begin(), more.end());
  return text;
}
/// The first `same` of `text`, then something else.
Ids parted(const Ids& text, Index same, Index others) {
  return joined(Ids(text.begin(), text.begin() + same), Ids(std::size_t(others), 5));
}
/// What both hold, row by row.
void expect_same(const Cache& a, const Cache& b) {
  ASSERT_EQ(a.seen(), b.seen());
  for (Index layer = 0; layer < a.layers(); ++layer) {
    ASSERT_EQ(a.size(layer), b.size(layer));
    for (Index key = 0; key < a.size(layer); ++key) {
      ASSERT_EQ(a.position(key, layer), b.position(key, layer));
      ASSERT_EQ(a.token_id(key, layer), b.token_id(key, layer));
      for (const int stream : {0, 1}) {
        const auto row = [&](const Cache& of) { return of.keys(layer).row_run(stream, 0, key, 1).data; };
        ASSERT_EQ(std::memcmp(row(a), row(b), 8), 0);
      }
    }
  }
}
Index found(Prefixes& prefixes, const Ids& prompt, Index leave = 1, const PrefixScope& scope = {}) {
  const auto match = heed::value_or_throw(prefixes.find(prompt, leave, scope));
  EXPECT_EQ(match.cache.has_value(), match.tokens > 0);
  EXPECT_EQ(match.key > 0, match.tokens > 0);
  if (match.cache) {
    EXPECT_EQ(match.cache->seen(), match.tokens);
  }
  return match.tokens;
}

// --- what is found ---------------------------------------------------------------------------------------------------

/// The next turn of a conversation is the last one and more.
TEST(Prefix, AConversationHits) {
  for (const Index n : {960, 1000, 1024}) {
    for (const AnyRule& rule : {AnyRule(), AnyRule(heed::SlidingWindow{128}), AnyRule(heed::SinkWindow{4, 100})}) {
      SCOPED_TRACE(rule.name());
      Prefixes prefixes;
      ASSERT_TRUE(prefixes.insert(numbers(n), fed(numbers(n), rule)).ok());
      EXPECT_EQ(found(prefixes, numbers(n + 30)), n);
      const auto match = heed::value_or_throw(prefixes.find(numbers(n + 30)));
      expect_same(*match.cache, fed(numbers(n), rule));
    }
  }
}

/// Without eviction, all that the texts have in common.
TEST(Prefix, EveryCommonBeginning) {
  Prefixes prefixes;
  ASSERT_TRUE(prefixes.insert(numbers(30), fed(numbers(30))).ok());
  for (Index same = 0; same <= 30; ++same) {
    const Ids prompt = parted(numbers(30), same, 3);
    EXPECT_EQ(found(prefixes, prompt), same);
    if (same == 0) continue;
    const auto match = heed::value_or_throw(prefixes.find(prompt));
    expect_same(*match.cache, fed(numbers(same)));
  }
  EXPECT_EQ(found(prefixes, numbers(7)), 6);
  EXPECT_EQ(found(prefixes, numbers(30, 11)), 0);
  EXPECT_EQ(found(prefixes, {}), 0);
  EXPECT_EQ(found(prefixes, numbers(30), 0), 30);
}

/// The longest one may be that of a short entry: another text's end, or one that its rule can go back to.
TEST(Prefix, EveryEntryCounts) {
  Prefixes prefixes;
  const AnyRule rule = heed::SlidingWindow{8};
  const Ids text = numbers(100);
  for (const Index n : {40, 100, 60}) {
    ASSERT_TRUE(prefixes.insert(numbers(n), fed(numbers(n), rule)).ok());
  }
  ASSERT_TRUE(prefixes.insert(parted(text, 70, 1), fed(parted(text, 70, 1), rule)).ok());
  EXPECT_EQ(found(prefixes, numbers(39)), 0);
  EXPECT_EQ(found(prefixes, numbers(41)), 40);
  EXPECT_EQ(found(prefixes, parted(text, 55, 9)), 40);
  EXPECT_EQ(found(prefixes, parted(text, 99, 9)), 60);
  EXPECT_EQ(found(prefixes, parted(text, 70, 9)), 71);
  EXPECT_EQ(found(prefixes, numbers(101)), 100);
}

/// The same prompt again: the last token's logits are wanted, so it must be computed again.
TEST(Prefix, TheSamePromptLeavesATokenToCompute) {
  for (const bool window : {false, true}) {
    SCOPED_TRACE(window);
    Prefixes prefixes;
    const AnyRule rule = window ? AnyRule(heed::SlidingWindow{8}) : AnyRule();
    const Ids text = numbers(50);
    auto cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4}, rule));
    for (const Index n : {20, 45, 50}) commit(prefixes, cache, numbers(n));
    EXPECT_EQ(found(prefixes, text), 49);
    for (Index leave = 0; leave <= 50; ++leave) EXPECT_EQ(found(prefixes, text, leave), 50 - leave);
    EXPECT_EQ(found(prefixes, text, 51), 0);
    EXPECT_EQ(found(prefixes, text, heed::unlimited), 0);
    auto match = heed::value_or_throw(prefixes.find(text));
    append(*match.cache, Seeds{Seed(text.back())});
    auto plain = fed(text, rule);
    if (window) expect_same(*match.cache, plain);
  }
  // What is gone is gone: after a plain insert() of a cache with a window there is no way back by a token.
  Prefixes prefixes;
  ASSERT_TRUE(prefixes.insert(numbers(50), fed(numbers(50), heed::SlidingWindow{8})).ok());
  EXPECT_EQ(found(prefixes, numbers(50)), 0);
  EXPECT_EQ(found(prefixes, numbers(50), 0), 50);
  ASSERT_TRUE(
      prefixes.insert(numbers(60), fed(numbers(60), heed::SlidingWindow{8}, {.undo_tokens = 2})).status().code() ==
      StatusCode::invalid_argument);
  prefixes.clear();
  ASSERT_TRUE(prefixes.insert(numbers(60), fed(numbers(60), heed::SlidingWindow{8}, {.undo_tokens = 2})).ok());
  EXPECT_EQ(found(prefixes, numbers(60)), 59);
  EXPECT_EQ(found(prefixes, numbers(60), 3), 0);
}

/// Full layers and layers with a window at once: 48 of 55 tokens are shared.
TEST(Prefix, LayerGroupsHitTogether) {
  const Ids first = numbers(55), second = parted(numbers(55), 48, 7);
  for (const Index calls : {1, 5, 55}) {
    SCOPED_TRACE(calls);
    Prefixes prefixes;
    Cache cache = hybrid(8, {.page_tokens = 16});
    for (Index at = 55 / calls; at <= 55; at += 55 / calls) commit(prefixes, cache, numbers(at));
    EXPECT_EQ(found(prefixes, second), 48);
    auto match = heed::value_or_throw(prefixes.find(second));
    Cache plain = hybrid(8);
    append(plain, Seeds(second.begin(), second.end()));
    append(*match.cache, Seeds(second.begin() + 48, second.end()));
    expect_same(*match.cache, plain);
    for (Index same = 1; same < 55; ++same) EXPECT_EQ(found(prefixes, parted(first, same, 2)), same);
  }
  // At borders of one's own, without slack.
  Prefixes prefixes;
  Cache cache = hybrid(8, {.page_tokens = 16});
  for (const Index border : {16, 32, 48, 55}) {
    append(cache, Seeds(first.begin() + std::ptrdiff_t(cache.seen()), first.begin() + border));
    ASSERT_TRUE(prefixes.insert(numbers(border), cache).ok());
  }
  EXPECT_EQ(found(prefixes, second), 48);
  EXPECT_EQ(found(prefixes, parted(first, 47, 2)), 32);
}

/// A step that evicts later holds its own tokens until the next one, and no more.
TEST(Prefix, WhatWaitsGoesWithTheNextCommit) {
  const Ids text = numbers(100);
  Prefixes prefixes;
  auto cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4}, heed::SlidingWindow{8}));
  for (Index n = 20; n <= 100; n += 20) {
    commit(prefixes, cache, numbers(n));
    EXPECT_EQ(cache.size(), std::min<Index>(n, 20 + 7));
    EXPECT_EQ(cache.rollback_floor(), n == 20 ? 0 : n - 20);
  }
  append(cache, {7});
  EXPECT_EQ(cache.size(), 7);
  expect_same(cache, fed(joined(text, {7}), heed::SlidingWindow{8}));
}

/// A step knows its cache and the ids it was given.
TEST(Prefix, AStepSaysWhatItIs) {
  Cache cache = fed(numbers(20), heed::SlidingWindow{8});
  auto step = heed::value_or_throw(cache.begin(Ids{4, 9, 2}));
  EXPECT_EQ(step.cache(), &cache);
  EXPECT_EQ((Ids{step.token_id(0), step.token_id(1), step.token_id(2)}), (Ids{4, 9, 2}));
  step.abort();
  EXPECT_EQ(step.cache(), nullptr);
  EXPECT_EQ(step.token_id(0), heed::no_token_id);
  EXPECT_EQ(step.commit(heed::Eviction::later).code(), StatusCode::wrong_state);
  auto counted = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  EXPECT_EQ(counted.token_id(0), heed::no_token_id);
  EXPECT_EQ(counted.commit(heed::Eviction::later).code(), StatusCode::wrong_state) << "not written";
  EXPECT_TRUE(counted.open());
}

/// Whoever has no ids may have prefixes: what is not known is not compared.
TEST(Prefix, OfCachesWithoutIds) {
  auto cache = heed::value_or_throw(Cache::create(policy, {}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(5)));
  write_all(step, cache, Seeds{10, 11, 12, 13, 14});
  Prefixes prefixes;
  ASSERT_TRUE(prefixes.commit(numbers(5), step).ok());
  EXPECT_EQ(found(prefixes, numbers(9)), 5);
}

TEST(Prefix, TheSameIdsAreOneEntry) {
  Prefixes prefixes;
  const Ids text = numbers(60);
  const AnyRule rule = heed::SlidingWindow{8};
  const auto key = heed::value_or_throw(prefixes.insert(text, fed(text, rule)));
  const auto bytes = prefixes.bytes();
  EXPECT_EQ(heed::value_or_throw(prefixes.insert(text, fed(text, rule))), key);
  EXPECT_EQ(prefixes.size(), 1u);
  EXPECT_EQ(prefixes.bytes().total(), bytes.total());
  EXPECT_EQ(found(prefixes, text), 0);
  // The one that can go back further stays, whichever came first.
  auto cache = heed::value_or_throw(Cache::create(policy, {}, rule));
  EXPECT_EQ(commit(prefixes, cache, text), key);
  EXPECT_EQ(found(prefixes, text), 59);
  EXPECT_EQ(heed::value_or_throw(prefixes.insert(text, fed(text, rule))), key);
  EXPECT_EQ(found(prefixes, text), 59);
  EXPECT_EQ(prefixes.size(), 1u);
  EXPECT_TRUE(prefixes.erase(key));
  EXPECT_FALSE(prefixes.erase(key));
  EXPECT_EQ(prefixes.bytes().total(), 0);
  EXPECT_EQ(found(prefixes, text), 0);
}

TEST(Prefix, ScopesDoNotMix) {
  using namespace std::string_view_literals;
  const std::byte bytes[] = {std::byte{7}, std::byte{0}};
  const PrefixScope scopes[] = {
      PrefixScope(),      PrefixScope(7),       PrefixScope(8),        PrefixScope(""sv),
      PrefixScope("7"sv), PrefixScope("7\0"sv), PrefixScope("\7\0"sv), PrefixScope("\7\0\0\0\0\0\0\0"sv)};
  Prefixes prefixes;
  std::set<std::uint64_t> keys;
  Index n = 20;
  for (const PrefixScope& scope : scopes) {
    EXPECT_EQ(found(prefixes, numbers(40), 1, scope), 0);
    keys.insert(heed::value_or_throw(prefixes.insert(numbers(n), fed(numbers(n)), scope)));
    EXPECT_EQ(found(prefixes, numbers(40), 1, scope), n++);
  }
  EXPECT_EQ(keys.size(), std::size(scopes));
  EXPECT_EQ(found(prefixes, numbers(40), 1, PrefixScope(std::span(bytes))), 26) << "the same bytes as the seventh";
  n = 20;
  for (const PrefixScope& scope : scopes) EXPECT_EQ(found(prefixes, numbers(40), 1, scope), n++);
}

/// A thousand texts that begin with the same 8192 tokens: those are compared once.
TEST(Prefix, ComparesWhatManyShareOnce) {
  Prefixes prefixes;
  constexpr Index shared = 8192;
  Cache common = fed(numbers(shared), {}, {.page_tokens = 256});
  for (std::int32_t i = 0; i < 1000; ++i) {
    auto cache = heed::value_or_throw(common.fork());
    append(cache, {Seed(i)});
    ASSERT_TRUE(prefixes.insert(joined(numbers(shared), {i}), cache).ok());
  }
  EXPECT_EQ(prefixes.size(), 1000u);
  EXPECT_EQ(found(prefixes, joined(numbers(shared), {5000, 1})), shared);
  EXPECT_EQ(found(prefixes, joined(numbers(shared), {777, 1})), shared + 1);
  EXPECT_LE(prefixes.counters().compared, 2 * (shared + 4));
  EXPECT_EQ(prefixes.counters().finds, 2);
  EXPECT_EQ(prefixes.counters().hits, 2);
  EXPECT_EQ(prefixes.counters().asked_tokens, 2 * (shared + 2));
  EXPECT_EQ(prefixes.counters().found_tokens, 2 * shared + 1);
}

// --- what is held ----------------------------------------------------------------------------------------------------

/// Measured by the pool: nothing but the entries holds pages.
TEST(Prefix, BytesArePagesOnceAndBookkeeping) {
  CountingMemory memory;
  {
    heed::PagePool pool(memory.resource());
    Prefixes prefixes;
    const auto expect_measured = [&] {
      const heed::PoolBytes held = pool.bytes();
      const Index pages = pool.page_bytes_held() - held.free;
      const Index slabs = pages - prefixes.bytes().pages;
      EXPECT_GE(slabs, 0);
      EXPECT_LE(slabs, 64 * 200) << "their headers";
      EXPECT_EQ(slabs % 64, 0);
      const Index beside = held.held - pool.page_bytes_held();
      const Index own = prefixes.bytes().bookkeeping - beside;  // ids and nodes, on the C++ heap
      EXPECT_GE(own, 4 * 40);
      EXPECT_LE(own, 4 * 400 + 1000 * Index(prefixes.size()));
    };
    std::uint64_t shortest = 0;
    {
      Cache cache = hybrid(8, {.page_tokens = 4, .pool = &pool});
      for (const Index n : {40, 60, 61, 90}) {
        const auto key = commit(prefixes, cache, numbers(n));
        if (n == 40) shortest = key;
      }
      Cache other = hybrid(8, {.page_tokens = 4, .pool = &pool});
      append(other, Seeds{1, 2, 3, 4, 5});
      ASSERT_TRUE(prefixes.insert(Ids{1, 2, 3, 4, 5}, other).ok());
    }
    expect_measured();
    // 92 tokens in pages of 4 are 23: once in the full layer, once under the window. 60 is a multiple of 4; where 61 was
    // stored and the cache went on, there are two copies of a page in each. The other text has two pages in each.
    const Index page = heed::PagePool::page_bytes(4 * 2 * 16 + heed::detail::read_slack + 2 * 8);
    EXPECT_EQ(prefixes.bytes().pages, 2 * (23 + 1 + 2) * page);
    EXPECT_TRUE(prefixes.erase(shortest));
    expect_measured();
    prefixes.clear();
    EXPECT_EQ(prefixes.bytes().total(), 0);
    EXPECT_LE(pool.page_bytes_held() - pool.bytes().free, 64 * 200) << "all pages are free";
  }
  EXPECT_EQ(memory.held, 0);
}

TEST(Prefix, EntriesShareWhatTheyForked) {
  CountingMemory memory;
  {
    Prefixes prefixes;
    auto cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4, .memory = memory.resource()}));
    const Ids text = numbers(16);
    append(cache, Seeds(text.begin(), text.end()));
    const Index rows = cache.bytes().allocated_rows;
    ASSERT_TRUE(prefixes.insert(text, cache).ok());
    EXPECT_EQ(cache.bytes().allocated_rows, rows) << "no row is copied";
    EXPECT_GT(cache.bytes().shared, 0);
    append(cache, {7});  // the stored one does not see it
    EXPECT_EQ(found(prefixes, numbers(20)), 16);
    Prefixes moved = std::move(prefixes);
    EXPECT_EQ(found(moved, numbers(20)), 16);
    append(cache, {8});
    ASSERT_TRUE(moved.insert(joined(text, {7, 8}), cache).ok());
    EXPECT_EQ(found(moved, joined(text, {7, 8, 9})), 18);
  }
  EXPECT_EQ(memory.held, 0);
}

/// The least recently used entries go, one by one, and no more than needed.
TEST(Prefix, EvictsWhatWasNotUsed) {
  heed::PagePool pool;
  Prefixes prefixes;
  const auto text = [](std::int32_t i) { return numbers(20, 100 * i); };
  const auto insert = [&](std::int32_t i) {
    return heed::value_or_throw(prefixes.insert(text(i), fed(text(i), {}, {.page_tokens = 4, .pool = &pool})));
  };
  const auto holds = [&](std::int32_t i) { return found(prefixes, text(i), 0) == 20; };
  insert(1);
  const Index one = prefixes.bytes().total();
  EXPECT_GT(one, 5 * heed::PagePool::page_bytes(4 * 2 * 16 + heed::detail::read_slack + 2 * 8) + 20 * 4);
  ASSERT_TRUE(prefixes.set_max_bytes(3 * one).ok());
  insert(2);
  insert(3);
  EXPECT_EQ(prefixes.size(), 3u);
  EXPECT_TRUE(holds(1));  // a use: now 2 is the oldest
  insert(4);
  EXPECT_EQ(prefixes.size(), 3u);
  EXPECT_EQ(prefixes.counters().evicted, 1);
  EXPECT_LE(prefixes.bytes().total(), 3 * one);
  EXPECT_FALSE(holds(2));
  insert(3);  // again: a use
  EXPECT_EQ(prefixes.size(), 3u);
  insert(5);
  EXPECT_FALSE(holds(1));
  EXPECT_TRUE(holds(4) && holds(3) && holds(5));
  const Ids big = numbers(100, 1000);
  const auto refused = prefixes.insert(big, fed(big, {}, {.page_tokens = 4, .pool = &pool}));
  EXPECT_EQ(refused.status().code(), StatusCode::out_of_range);
  EXPECT_NE(refused.status().message().find("an entry of 100 tokens holds "), std::string::npos);
  EXPECT_NE(refused.status().message().find("max_bytes is " + std::to_string(3 * one)), std::string::npos);
  EXPECT_TRUE(holds(3) && holds(4) && holds(5)) << "nothing went for it";
  ASSERT_TRUE(prefixes.set_max_bytes(one).ok());
  EXPECT_EQ(prefixes.size(), 1u);
  EXPECT_TRUE(holds(5));
  EXPECT_EQ(prefixes.bytes().total(), one);
  insert(6);
  EXPECT_TRUE(holds(6) && !holds(5));
  ASSERT_TRUE(prefixes.set_max_bytes(0).ok());
  insert(7);
  insert(8);
  EXPECT_EQ(prefixes.size(), 3u);
  ASSERT_TRUE(prefixes.set_max_bytes(1).ok());
  EXPECT_EQ(prefixes.size(), 0u);
  EXPECT_EQ(prefixes.set_max_bytes(-1).message(), "set_max_bytes(): bytes is -1, must be at least 0");
}

// --- what is refused -------------------------------------------------------------------------------------------------

TEST(Prefix, RefusesIdsThatAreNotTheCaches) {
  Prefixes prefixes;
  Cache cache = fed(numbers(3));
  const auto message = [&](const Ids& ids) { return prefixes.insert(ids, cache).status().message(); };
  EXPECT_EQ(message(numbers(2)), "insert(): there are 2 ids, the cache has seen 3 tokens");
  EXPECT_EQ(message({10, 11, 13}), "insert(): ids[2] is 13, but the cache was given 12");
  EXPECT_EQ(message({10, -11, 12}), "insert(): ids[1] is -11");
  EXPECT_EQ(prefixes.insert({}, fed({})).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(prefixes.find(Ids{1, -1}).status().message(), "find(): ids[1] is -1");
  EXPECT_EQ(prefixes.find(Ids{1, 2}, -1).status().message(), "find(): leave is -1, must be at least 0");
  EXPECT_EQ(prefixes.size(), 0u);

  auto step = heed::value_or_throw(cache.begin(Ids{20, 21}));
  EXPECT_EQ(prefixes.insert(numbers(3), cache).status().code(), StatusCode::wrong_state);
  const auto committed = [&](const Ids& ids) {
    const auto result = prefixes.commit(ids, step);
    EXPECT_TRUE(step.open());
    EXPECT_EQ(cache.seen(), 3);
    EXPECT_EQ(prefixes.size(), 0u);
    return result.status();
  };
  EXPECT_EQ(committed({20, 21}).message(), "commit(): there are 2 ids, the cache and its step have 5 tokens");
  EXPECT_EQ(committed({10, 11, 12, 20, 22}).message(), "commit(): ids[4] is 22, but the cache was given 21");
  EXPECT_EQ(committed({10, 19, 12, 20, 21}).message(), "commit(): ids[1] is 19, but the cache was given 11");
  EXPECT_EQ(committed({10, 11, 12, -20, 21}).message(), "commit(): ids[3] is -20");
  EXPECT_EQ(committed({10, 11, 12, 20, 21}).code(), StatusCode::wrong_state) << "not written yet";
  write_all(step, cache, Seeds{20, 21});
  EXPECT_TRUE(prefixes.commit(Ids{10, 11, 12, 20, 21}, step).ok());
  EXPECT_EQ(prefixes.commit(Ids{10, 11, 12, 20, 21}, step).status().code(), StatusCode::wrong_state);
}

/// A cache that was edited, or is of another kind, would give wrong answers.
TEST(Prefix, RefusesOtherCaches) {
  Prefixes prefixes;
  ASSERT_TRUE(prefixes.insert(numbers(9), fed(numbers(9), heed::SlidingWindow{4})).ok());
  const auto code = [&](const Cache& cache) { return prefixes.insert(numbers(9), cache).status().code(); };
  EXPECT_EQ(code(fed(numbers(9), heed::SlidingWindow{5})), StatusCode::invalid_argument);
  EXPECT_EQ(code(fed(numbers(9), heed::SlidingWindow{4}, {.model_id = 3})), StatusCode::invalid_argument);
  EXPECT_EQ(code(fed(numbers(9), heed::SlidingWindow{4}, {.layers = 2})), StatusCode::invalid_argument);
  EXPECT_EQ(code(fed(numbers(9), heed::SlidingWindow{4}, {.page_tokens = 3})), StatusCode::ok);
  prefixes.clear();
  Cache edited = fed(numbers(9));
  ASSERT_TRUE(edited.compact(std::vector<Index>{0, 1, 5, 6, 7, 8}).ok());
  EXPECT_EQ(code(edited), StatusCode::unsupported);
  append(edited, Seeds{19});
  EXPECT_EQ(prefixes.insert(numbers(10), edited).status().code(), StatusCode::unsupported);
  EXPECT_EQ(prefixes.size(), 0u);
  ASSERT_TRUE(edited.clear().ok());
  append(edited, Seeds{19});
  EXPECT_TRUE(prefixes.insert(Ids{19}, edited).ok());
}

/// Whatever allocation fails: a status, and nothing has changed.
TEST(Prefix, SurvivesFailingMemory) {
  CountingMemory memory;
  {
    Prefixes prefixes;
    Cache cache = hybrid(8, {.page_tokens = 4, .memory = memory.resource()});
    commit(prefixes, cache, numbers(30));
    append(cache, Seeds{40, 41});
    for (Index fail = 0;; ++fail) {
      const auto before = prefixes.bytes().total();
      memory.failing_from = memory.allocations + fail;
      memory.failures = 1000;
      const auto stored = prefixes.insert(joined(numbers(30), {40, 41}), cache);
      const auto match = stored.ok() ? prefixes.find(parted(numbers(30), 22, 2)).status() : stored.status();
      memory.failing_from = -1;
      if (stored.ok() && match.ok()) break;
      EXPECT_EQ(match.code(), StatusCode::out_of_memory);
      if (!stored.ok()) {
        EXPECT_EQ(prefixes.bytes().total(), before);
      }
      EXPECT_EQ(prefixes.size(), stored.ok() ? 2u : 1u);
      EXPECT_EQ(found(prefixes, parted(numbers(30), 25, 2)), 25);
      ASSERT_LT(fail, 100);
    }
  }
  EXPECT_EQ(memory.held, 0);
}

/// Found caches go on in threads of their own, while others are found and evicted.
TEST(Prefix, CachesThatWereFoundBelongToAnyThread) {
  heed::PagePool pool;
  Prefixes prefixes;
  const Ids text = numbers(64);
  std::vector<std::thread> threads;
  std::atomic<int> same = 0;
  {
    Cache cache = hybrid(8, {.page_tokens = 4, .pool = &pool});
    for (const Index n : {30, 62, 64}) commit(prefixes, cache, numbers(n));
  }
  for (Index turn = 0; turn < 40; ++turn) {
    const Index cut = 1 + turn * 7 % 60;
    auto match = heed::value_or_throw(prefixes.find(parted(text, cut, 2)));
    ASSERT_EQ(match.tokens, cut);
    threads.emplace_back([&same, cut, mine = *std::move(match.cache)]() mutable {
      append(mine, Seeds{Seed(cut), 3, 4});
      const std::vector<float> want = row(Seed(cut), 0, 0, 0, 2);
      const std::byte* stored = mine.keys(0).row_run(0, 0, cut, 1).data;
      same += mine.seen() == cut + 3 && std::memcmp(stored, want.data(), 2 * sizeof(float)) == 0;
    });
    Cache other = hybrid(8, {.page_tokens = 4, .pool = &pool});
    commit(prefixes, other, numbers(20, 100 * std::int32_t(turn + 1)));
    if (turn % 10 == 9) {
      ASSERT_TRUE(prefixes.set_max_bytes(prefixes.bytes().total()).ok());
    }
    // Recently used, so that it stays.
    ASSERT_EQ(found(prefixes, text), 63);
    ASSERT_EQ(found(prefixes, numbers(40)), 39);
    ASSERT_EQ(found(prefixes, numbers(20)), 19);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, 40);
}

/// What has no rows has prefixes, too.
TEST(Prefix, OfARecurrentState) {
  auto state = heed::value_or_throw(heed::RecurrentState::create({.layers = 1, .width = 2, .undo_tokens = 3}));
  const auto feed = [&](Index count) {
    auto step = heed::value_or_throw(state.begin(std::span<const std::int32_t>(numbers(count))));
    ASSERT_TRUE(step.layer(0).ok());
    ASSERT_TRUE(step.commit().ok());
  };
  feed(20);
  heed::PrefixCache<heed::RecurrentState> prefixes;
  ASSERT_TRUE(prefixes.insert(numbers(20), state).ok());
  EXPECT_EQ(heed::value_or_throw(prefixes.find(numbers(30))).tokens, 20);
  EXPECT_EQ(heed::value_or_throw(prefixes.find(numbers(20))).tokens, 19);
  EXPECT_EQ(heed::value_or_throw(prefixes.find(numbers(20), 4)).tokens, 0);
  EXPECT_GE(prefixes.bytes().total(), state.bytes().allocated);
}

}  // namespace
}  // namespace heed_test::prefix_test
