/// \file
/// How far a cache can go back under each rule, and that going back leaves no trace.
#include "cache/counting_memory.hpp"
#include "retention/tracked_cache.hpp"

namespace heed_test::rollback_test {
namespace {

using heed::StatusCode;

TrackedCache make(const heed::AnyRule& rule, Index undo = 0) {
  return heed::value_or_throw(TrackedCache::create(tracked_policy, {.undo_tokens = undo, .page_tokens = 3}, rule));
}

/// Floors after each of `tokens` tokens with these ids, fed one at a time.
Tokens floors(const heed::AnyRule& rule, const Tokens& ids, Index undo = 0) {
  TrackedCache cache = make(rule, undo);
  Tokens result;
  for (const Int id : ids) {
    append(cache, {id});
    result.push_back(cache.rollback_floor());
  }
  return result;
}
Tokens plain(Index tokens) { return Tokens(std::size_t(tokens), 0); }

TEST(RollbackFloor, OfFull) { EXPECT_EQ(floors(heed::Causal{}, plain(4)), (Tokens{0, 0, 0, 0})); }

/// Once something was evicted: min(N, e + n), where e is the latest that was.
TEST(RollbackFloor, OfWindows) {
  EXPECT_EQ(floors(heed::SlidingWindow{3}, plain(6)), (Tokens{0, 0, 3, 4, 5, 6}));
  EXPECT_EQ(floors(heed::SlidingWindow{1}, plain(3)), (Tokens{1, 2, 3}));
  EXPECT_EQ(floors(heed::SinkWindow{2, 3}, plain(7)), (Tokens{0, 0, 0, 0, 5, 6, 7}));
  EXPECT_EQ(floors(heed::SinkWindow{2, 3, heed::SinkForm::evict_after_step}, plain(8)),
            (Tokens{0, 0, 0, 0, 0, 6, 7, 8}));
}
/// Where landmarks leave the window, nothing is lost and the floor stays.
TEST(RollbackFloor, OfSeparators) {
  const heed::Separators rule{.initial = 1, .window = 3, .ids = {1}};
  //                     e:            -  -  -  1  1  1  4  5
  EXPECT_EQ(floors(rule, {0, 0, 1, 1, 0, 0, 0, 0}), (Tokens{0, 0, 0, 4, 4, 4, 7, 8}));
  const heed::FixedGrid grid{.initial = 0, .window = 2, .distance = 2, .first = 0};
  EXPECT_EQ(floors(grid, plain(6)), (Tokens{0, 0, 3, 3, 5, 5}));
}
/// The latest anchor + 1, if its segment had anything to evict.
TEST(RollbackFloor, OfAnchors) {
  const heed::Anchors rule{.ids = {1}};
  EXPECT_EQ(floors(rule, {0, 0, 1, 0, 0, 1, 0}), (Tokens{0, 0, 3, 3, 3, 6, 6}));
  EXPECT_EQ(floors(rule, plain(3)), (Tokens{0, 0, 0}));
  EXPECT_EQ(floors(rule, {1, 1, 0}), (Tokens{0, 0, 0})) << "one-token segments lose nothing";
}
/// Tokens at the last compression.
TEST(RollbackFloor, OfStreams) {
  heed::SeparatorStream rule{.initial = 1, .separators = 1, .local = 1, .capacity = 4, .ids = {1}};
  EXPECT_EQ(floors(rule, {0, 0, 0, 0, 0, 0, 0, 0}), (Tokens{0, 0, 0, 0, 5, 5, 5, 8}));
  rule.form = heed::StreamForm::sep_cache;
  EXPECT_EQ(floors(rule, {0, 0, 0, 0, 0, 0, 0, 0}), (Tokens{0, 0, 0, 4, 4, 6, 6, 8}));
}
/// A compression that finds only separators evicts nothing, but it counts them.
TEST(RollbackFloor, OfAStreamOfSeparators) {
  const heed::SeparatorStream rule{
      .initial = 0, .separators = 3, .local = 1, .capacity = 5, .ids = {1}, .bounded = false};
  EXPECT_EQ(floors(rule, {1, 1, 1, 1, 1, 1, 1}), (Tokens{0, 0, 0, 0, 0, 6, 6}));
}

/// With slack of r tokens, the floor of N tokens is that of N - r without: at least r tokens can always be undone.
TEST(RollbackFloor, DropsBySlack) {
  std::mt19937_64 random(4);
  for (const char* kind : rule_kinds) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const RuleCase rule = random_case(kind, random);
      Tokens ids(60);
      for (Int& id : ids) id = Int(random() % 6);
      const Tokens without = floors(rule.rule, ids);
      for (const Index slack : {1, 5, 40, 70}) {
        const Tokens with = floors(rule.rule, ids, slack);
        for (Index n = 0; n < 60; ++n) {
          const Int want = n < slack ? 0 : without[std::size_t(n - slack)];
          ASSERT_EQ(with[std::size_t(n)], want) << kind << ", slack " << slack << ", " << n + 1 << " tokens";
          ASSERT_LE(want, std::max<Index>(0, n + 1 - slack));
        }
      }
    }
  }
}

TEST(Truncate, BelowTheFloorChangesNothing) {
  TrackedCache cache = make(heed::SinkWindow{2, 5});
  RuleModel model(sink_case(2, 5));
  for (Int t = 0; t < 30; ++t) {
    append(cache, {t});
    model.append({t});
  }
  const heed::CacheBytes before = cache.bytes();
  for (const Index tokens : {1, 29}) {
    const heed::Status status = cache.truncate(tokens);
    EXPECT_EQ(status.code(), StatusCode::out_of_range);
    EXPECT_EQ(status.message(),
              "truncate(): tokens is " + std::to_string(tokens) + ", but evicted tokens leave only 0 and 30 .. 30");
  }
  expect_holds(cache, model);
  EXPECT_EQ(cache.bytes().allocated, before.allocated);
  EXPECT_TRUE(cache.truncate(30).ok());
  expect_holds(cache, model);
  EXPECT_TRUE(cache.truncate(0).ok());
  model.truncate(0);
  expect_holds(cache, model);
  EXPECT_EQ(cache.rollback_floor(), 0);
}

/// Above the floor truncate() undoes appends: what is kept then, and all that comes later, is that of a cache that never
/// saw the truncated tokens.
TEST(Truncate, LeavesNoTrace) {
  std::mt19937_64 random(5);
  const auto text = [&](Index tokens) {
    Tokens ids(static_cast<std::size_t>(tokens));
    for (Int& id : ids) id = Int(random() % 6);
    return ids;
  };
  int undone = 0;
  for (const char* kind : rule_kinds) {
    for (int repeat = 0; repeat < 60; ++repeat) {
      const RuleCase rule = random_case(kind, random);
      TrackedCache cache = make(rule.rule), other = make(rule.rule);
      const Tokens first = text(Index(random() % 50)), tail = text(30);
      append(cache, first);
      append(other, first);
      append(cache, text(Index(random() % 8)));
      if (cache.rollback_floor() > Index(first.size())) continue;
      ASSERT_TRUE(cache.truncate(Index(first.size())).ok());
      ++undone;
      for (std::size_t t = 0; t <= tail.size(); ++t) {
        ASSERT_EQ(positions_in_rows(cache.keys(0)), positions_in_rows(other.keys(0))) << kind;
        ASSERT_EQ(cache.rollback_floor(), other.rollback_floor()) << kind;
        if (t == tail.size()) break;
        auto a = cache.begin(as_ids({tail[t]})), b = other.begin(as_ids({tail[t]}));
        write_positions(*a);
        write_positions(*b);
        ASSERT_EQ(seen_in_step(*a)[0].seen, seen_in_step(*b)[0].seen) << kind;
        ASSERT_TRUE(a->commit().ok() && b->commit().ok());
      }
    }
  }
  EXPECT_GT(undone, 150);
}

/// Speculative decoding: with slack, a draft of any length up to it can be taken back at any time.
TEST(Truncate, TakesBackADraft) {
  std::mt19937_64 random(6);
  for (const char* kind : rule_kinds) {
    const RuleCase rule = random_case(kind, random);
    TrackedCache cache = make(rule.rule, 4);
    RuleModel model(rule, 4);
    for (int round = 0; round < 60; ++round) {
      const Tokens draft{Int(random() % 4), Int(random() % 4), Int(random() % 4), Int(random() % 4)};
      append(cache, draft);
      model.append(draft);
      const Index accepted = cache.seen() - Index(random() % 5);
      ASSERT_TRUE(cache.truncate(accepted).ok()) << kind;
      model.truncate(accepted);
      ASSERT_NO_FATAL_FAILURE(expect_holds(cache, model)) << kind;
    }
  }
}

/// The slack counts from the most tokens seen since the cache was empty, not from where a truncation left it.
TEST(Truncate, TakesBackTheSlackInAll) {
  TrackedCache cache = make(heed::SlidingWindow{16}, 4);
  append(cache, plain(100));
  ASSERT_TRUE(cache.truncate(98).ok());
  append(cache, plain(1));
  EXPECT_EQ(cache.truncate(95).message(), "truncate(): tokens is 95, but evicted tokens leave only 0 and 96 .. 99");
  ASSERT_TRUE(cache.truncate(96).ok());
  append(cache, plain(5));
  ASSERT_TRUE(cache.truncate(97).ok()) << "101 were seen now";
  EXPECT_EQ(cache.rollback_floor(), 97);
  ASSERT_TRUE(cache.clear().ok());
  append(cache, plain(30));
  ASSERT_TRUE(cache.truncate(26).ok()) << "another text";
}

/// Whatever happened before, within that no truncation is refused; removed tokens take nothing of it.
TEST(Truncate, IsNeverRefusedWithinTheSlack) {
  std::mt19937_64 random(7);
  const auto pick = [&](Index least, Index most) { return least + Index(random() % std::uint64_t(most - least + 1)); };
  for (const char* kind : rule_kinds) {
    for (int repeat = 0; repeat < 12; ++repeat) {
      const Index undo = pick(1, 9);
      const RuleCase rule = random_case(kind, random);
      TrackedCache cache = make(rule.rule, undo);
      RuleModel model(rule, undo);
      Index most = 0;
      for (int move = 0; move < 120; ++move) {
        if (pick(0, 2) == 0) {
          const Index tokens = pick(std::min(cache.seen(), std::max<Index>(0, most - undo)), cache.seen());
          ASSERT_TRUE(cache.truncate(tokens).ok()) << kind << ", back to " << tokens << ", most was " << most;
          model.truncate(tokens);
          if (tokens == 0) most = 0;
        } else if (!rule.rule.has_history() && pick(0, 4) == 0) {
          const Index begin = pick(std::max<Index>(0, cache.seen() - 12), cache.seen());
          ASSERT_TRUE(cache.remove(begin, std::min(cache.seen(), begin + 2)).ok());
          model.remove(begin, std::min(cache.seen(), begin + 2));
        } else {
          Tokens ids(std::size_t(pick(1, 6)));
          for (Int& id : ids) id = pick(0, 6);
          append(cache, ids);
          model.append(ids);
          most = std::max(most, cache.seen());
        }
        ASSERT_NO_FATAL_FAILURE(expect_holds(cache, model)) << kind;
      }
    }
  }
}

/// The memory that going back needs may be missing: then nothing has happened.
TEST(Truncate, MayRunOutOfMemory) {
  CountingMemory memory;
  heed::PagePool pool(memory.resource());
  constexpr Index page = 2 * 2 * 16 + heed::detail::read_slack + 2 * 8;  // two tokens, a key and a value each
  auto cache = heed::value_or_throw(
      TrackedCache::create(tracked_policy, {.page_tokens = 2, .pool = &pool}, heed::Separators{0, 4, {1}}));
  RuleModel model(separator_case(0, 4));
  for (const Tokens& ids : {Tokens{0, 0, 0, 1, 1, 1}, Tokens{1, 1, 1, 1}}) {
    append(cache, ids);
    model.append(ids);
  }
  ASSERT_EQ(cache.rollback_floor(), 6);
  std::vector<heed::Page*> taken;
  while (pool.free_pages(page) > 0) taken.push_back(*pool.acquire(page));
  memory.failing_from = memory.allocations;
  memory.failures = 1000;
  EXPECT_EQ(cache.truncate(6).code(), StatusCode::out_of_memory);
  expect_holds(cache, model);
  memory.failing_from = -1;
  EXPECT_TRUE(cache.truncate(6).ok());
  model.truncate(6);
  expect_holds(cache, model);
  for (heed::Page* const one : taken) pool.release(one);
}

}  // namespace
}  // namespace heed_test::rollback_test
