/// \file
/// remove(), compact() and resume_at(): a token that was removed is not seen again, as if a mask hid it, and what is left
/// is forgotten as if nothing had been removed.
#include "retention/tracked_cache.hpp"

namespace heed_test::remove_test {
namespace {

using heed::AnyRule;
using heed::StatusCode;
/// Rules without a history.

Tokens positions_of(const TrackedCache& cache) { return positions_in_rows(cache.keys(0)); }

TrackedCache tracked(const AnyRule& rule, const heed::CacheOptions& options = {.page_tokens = 4}) {
  return heed::value_or_throw(TrackedCache::create(tracked_policy, options, rule));
}
void feed(TrackedCache& cache, Index tokens) {
  for (Index i = 0; i < tokens; ++i) append(cache, {0});
}

// --- small cases -------------------------------------------------------------------------------------------------------

TEST(Remove, KeepsThePositionsOfTheOthers) {
  TrackedCache cache = tracked({});
  feed(cache, 10);
  ASSERT_TRUE(cache.remove(3, 5).ok());
  EXPECT_EQ(positions_of(cache), (Tokens{0, 1, 2, 5, 6, 7, 8, 9}));
  EXPECT_EQ(cache.seen(), 10);
  EXPECT_EQ(cache.evicted(), 2);
  ASSERT_TRUE(cache.remove(0, 1).ok());
  ASSERT_TRUE(cache.remove(4, 7).ok());
  feed(cache, 1);
  EXPECT_EQ(positions_of(cache), (Tokens{1, 2, 7, 8, 9, 10}));
}

/// A window of 16 sees 15 earlier tokens: one that was removed leaves no room for an older one, and nothing adds up.
TEST(Remove, AWindowGoesOnByPosition) {
  for (const Index removals : {1, 20}) {
    heed::PagePool pool;
    TrackedCache cache = tracked(heed::SlidingWindow{16}, {.page_tokens = 4, .pool = &pool});
    TrackedCache whole = tracked(heed::SlidingWindow{16}, {.page_tokens = 4, .pool = &pool});
    RuleModel model(window_case(16));
    const auto feed_both = [&](Index tokens) {
      for (Index i = 0; i < tokens; ++i) {
        append(cache, {0});
        model.append({0});
        ASSERT_EQ(positions_of(cache), model.held());
        ASSERT_EQ(cache.kept(), Index(model.held().size()));
        ASSERT_LE(cache.kept(), 15);
      }
    };
    feed_both(50);
    for (Index i = 0; i < removals; ++i) {
      const Index gone = cache.seen() - 8;
      ASSERT_TRUE(cache.remove(gone, gone + 1).ok());
      model.remove(gone, gone + 1);
      feed_both(i % 3);
    }
    feed_both(1000);
    EXPECT_EQ(cache.kept(), 15);
    feed(whole, cache.seen());
    EXPECT_EQ(cache.bytes().allocated_rows, whole.bytes().allocated_rows);
  }
}

/// compact() of what a window holds but one: 15 keys then, not 22.
TEST(Remove, CompactIsRemovingTheRest) {
  TrackedCache cache = tracked(heed::SlidingWindow{16});
  feed(cache, 50);
  std::vector<Index> keep;
  for (const Int position : positions_of(cache)) {
    if (position != 42) keep.push_back(position);
  }
  ASSERT_TRUE(cache.compact(keep).ok());
  EXPECT_EQ(cache.kept(), 14);
  feed(cache, 1000);
  EXPECT_EQ(positions_of(cache), oracle::range(1035, 1050));
}

/// An anchor ends its segment, also when it is gone.
TEST(Remove, OfAnchors) {
  TrackedCache cache = tracked(heed::Anchors{{1}});
  append(cache, {0, 0, 1, 0, 0, 1, 0});
  EXPECT_EQ(positions_of(cache), (Tokens{2, 5, 6}));
  ASSERT_TRUE(cache.remove(5, 6).ok());
  append(cache, {0});
  EXPECT_EQ(positions_of(cache), (Tokens{2, 6, 7}));
  append(cache, {1});
  EXPECT_EQ(positions_of(cache), (Tokens{2, 8}));
}

TEST(Remove, KnowsWhatIsIntact) {
  TrackedCache cache = tracked(heed::SlidingWindow{4});
  feed(cache, 10);
  EXPECT_EQ(cache.intact(), 10);
  ASSERT_TRUE(cache.remove(0, 6).ok());
  EXPECT_EQ(cache.intact(), 10) << "the window had dropped them";
  ASSERT_TRUE(cache.remove(9, 10).ok());
  EXPECT_EQ(cache.intact(), 9);
  ASSERT_TRUE(cache.remove(7, 8).ok());
  EXPECT_EQ(cache.intact(), 7);
  feed(cache, 20);
  EXPECT_EQ(cache.intact(), 7) << "what came later never saw it";
  ASSERT_TRUE(cache.clear().ok());
  EXPECT_EQ(cache.intact(), 0);
  feed(cache, 3);
  EXPECT_EQ(cache.intact(), 3);
}

// --- where text goes on --------------------------------------------------------------------------------------------------

TEST(Resume, GoesOnBehindTheLastTokenThatIsKept) {
  TrackedCache cache = tracked({});
  feed(cache, 10);
  ASSERT_TRUE(cache.compact(std::vector<Index>{0, 3, 4}).ok());
  EXPECT_EQ(cache.seen(), 10);
  const auto refused = [&](Index position) {
    const heed::Status status = cache.resume_at(position);
    EXPECT_EQ(status.code(), StatusCode::out_of_range);
    EXPECT_EQ(status.message(), "resume_at(): position is " + std::to_string(position) +
                                    ", must be in 5 .. 10: behind the last token that is kept");
  };
  refused(4);
  refused(-1);
  refused(11);
  ASSERT_TRUE(cache.resume_at(7).ok());
  EXPECT_EQ(cache.seen(), 7);
  ASSERT_TRUE(cache.resume_at(5).ok());
  EXPECT_EQ(cache.seen(), 5);
  {
    auto step = heed::value_or_throw(cache.begin(as_ids({0})));
    EXPECT_EQ(step.first_logical_position(), 5);
    EXPECT_EQ(step.positions(0)[0], 5);
    write_positions(step);
    EXPECT_EQ(seen_in_step(step)[0].seen, (Tokens{0, 3, 4, 5}));
    ASSERT_TRUE(step.commit().ok());
  }
  EXPECT_EQ(positions_of(cache), (Tokens{0, 3, 4, 5}));
  ASSERT_TRUE(cache.remove(0, 6).ok());
  ASSERT_TRUE(cache.resume_at(0).ok());
  EXPECT_EQ(cache.seen(), 0);
}

/// A window that goes back: what it had dropped does not come back, what it holds is seen by position.
TEST(Resume, UnderAWindow) {
  TrackedCache cache = tracked(heed::SlidingWindow{8});
  feed(cache, 30);
  EXPECT_EQ(positions_of(cache), oracle::range(23, 30));
  ASSERT_TRUE(cache.remove(27, 30).ok());
  EXPECT_EQ(cache.truncate(27).message(), "truncate(): tokens is 27, but evicted tokens leave only 0 and 30 .. 30");
  ASSERT_TRUE(cache.resume_at(27).ok());
  EXPECT_EQ(cache.intact(), 27);
  EXPECT_EQ(positions_of(cache), oracle::range(23, 27));
  for (Index t = 27; t < 40; ++t) {
    auto step = heed::value_or_throw(cache.begin(as_ids({0})));
    EXPECT_EQ(step.positions(0)[0], t);
    write_positions(step);
    EXPECT_EQ(seen_in_step(step)[0].seen, oracle::range(std::max<Int>(23, t - 7), t + 1));
    ASSERT_TRUE(step.commit().ok());
    ASSERT_LE(cache.rollback_floor(), cache.seen());
  }
}

/// With ranks a key's position is its index in what is left.
TEST(Remove, RanksMoveUp) {
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 100}));
  auto cache = heed::value_or_throw(
      RankCache::create({tracked_policy, &rope}, {.positions = heed::Positions::rank}, heed::SinkWindow{2, 6}));
  for (Index i = 0; i < 20; ++i) append(cache, {0});
  ASSERT_TRUE(cache.remove(1, 2).ok());
  ASSERT_TRUE(cache.remove(16, 18).ok());
  auto step = heed::value_or_throw(cache.begin(as_ids({0, 0})));
  write_positions(step);
  const oracle::Trace seen = seen_in_step(step);
  EXPECT_EQ(seen[0].seen, (Tokens{0, 15, 18, 19, 20}));
  EXPECT_EQ(step.positions(0)[0], 4);
  EXPECT_EQ(seen[1].seen, (Tokens{0, 18, 19, 20, 21}));
  EXPECT_EQ(step.positions(0)[1], 4);
}

// --- refusals ------------------------------------------------------------------------------------------------------------

TEST(Remove, NamesWhatIsWrong) {
  TrackedCache cache = tracked({});
  feed(cache, 6);
  const auto refused = [&](Index begin, Index end) {
    const heed::Status status = cache.remove(begin, end);
    EXPECT_EQ(status.code(), StatusCode::out_of_range);
    EXPECT_EQ(status.message(), "remove(): positions are " + std::to_string(begin) + " .. " + std::to_string(end) +
                                    ", must ascend and lie in 0 .. 6");
    EXPECT_EQ(positions_of(cache), oracle::range(0, 6));
  };
  constexpr Index most = std::numeric_limits<Index>::max();
  refused(-1, 3);
  refused(3, 2);
  refused(0, 7);
  refused(-most - 1, most);
  refused(most, most);
  ASSERT_TRUE(cache.remove(6, 6).ok() && cache.remove(0, 0).ok());
  EXPECT_EQ(cache.intact(), 6);
  auto step = cache.begin(as_ids({0, 0}));
  const std::string open = ": a step of 2 tokens is open; commit or abort it";
  EXPECT_EQ(cache.remove(0, 1).message(), "remove()" + open);
  EXPECT_EQ(cache.resume_at(3).message(), "resume_at()" + open);
}

// --- memory --------------------------------------------------------------------------------------------------------------

/// A rule that keeps everything gives the rows of what was removed back, and going back far below needs few pages.
TEST(Remove, FreesRows) {
  heed::PagePool pool;
  TrackedCache cache = tracked({}, {.page_tokens = 4, .pool = &pool});
  feed(cache, 4);
  const Index page = cache.bytes().allocated_rows;
  feed(cache, 3996);
  EXPECT_EQ(cache.bytes().allocated_rows, 1000 * page);
  ASSERT_TRUE(cache.remove(10, 3990).ok());
  EXPECT_EQ(cache.bytes().allocated_rows, 6 * page) << "0 to 9 in three far pages, 3990 to 3999 in three";
  ASSERT_TRUE(cache.truncate(8).ok());
  EXPECT_EQ(positions_of(cache), oracle::range(0, 8));
  EXPECT_EQ(cache.bytes().allocated_rows, 2 * page);
}

// --- everything at random ------------------------------------------------------------------------------------------------

class RemoveWalk : public testing::TestWithParam<const char*> {
 protected:
  Index pick(Index least, Index most) { return least + Index(random() % std::uint64_t(most - least + 1)); }
  Tokens text(Index tokens) {
    Tokens ids(static_cast<std::size_t>(tokens));
    for (Int& id : ids) id = pick(0, 6);
    return ids;
  }

  template <class C, class Restore>
  void walk(C cache, const heed::CacheOptions& options, const RuleCase& rule, const Restore& restore) {
    RuleModel model(rule, options.undo_tokens);
    Index most_seen = 0;
    bool resumed = false;
    for (int move = 0; move < 120; ++move) {
      switch (pick(0, 11)) {
        case 0: {
          const Index begin = pick(0, model.seen()), end = std::min(model.seen(), begin + pick(0, 6));
          ASSERT_TRUE(cache.remove(begin, end).ok());
          model.remove(begin, end);
          break;
        }
        case 1: {
          Tokens keep = model.held();
          const Index odds = pick(2, 9);
          std::erase_if(keep, [&](Int) { return pick(1, odds) == 1; });
          ASSERT_TRUE(cache.compact(keep).ok());
          model.compact(keep);
          break;
        }
        case 2: {
          const Index left = pick(cache.rollback_floor(), model.seen());
          ASSERT_TRUE(cache.truncate(left).ok());
          model.truncate(left);
          break;
        }
        case 3: {
          if (pick(0, 1) == 0 && model.seen() > 0) {
            const Index begin = std::max<Index>(0, model.seen() - pick(1, 5));
            ASSERT_TRUE(cache.remove(begin, model.seen()).ok());
            model.remove(begin, model.seen());
          }
          const Index last = model.held().empty() ? -1 : model.held().back();
          const Index position = pick(last + 1, model.seen());
          resumed |= position < cache.rollback_floor();
          ASSERT_TRUE(cache.resume_at(position).ok());
          model.truncate(position);
          break;
        }
        case 4: {
          auto fork = cache.fork();
          ASSERT_TRUE(fork.ok());
          if (pick(0, 1) == 0) cache = *std::move(fork);
          break;
        }
        case 5: {
          std::vector<std::byte> bytes(cache.snapshot_bytes()), again(bytes.size());
          ASSERT_TRUE(cache.snapshot(bytes).ok());
          auto restored = restore(bytes);
          ASSERT_TRUE(restored.ok()) << restored.status().message();
          ASSERT_EQ(restored->snapshot_bytes(), bytes.size());
          ASSERT_TRUE(restored->snapshot(again).ok());
          ASSERT_EQ(bytes, again);
          ASSERT_EQ(restored->rollback_floor(), cache.rollback_floor());
          ASSERT_EQ(restored->intact(), cache.intact());
          cache = *std::move(restored);
          break;
        }
        default: {
          const Tokens ids = text(pick(0, 3) == 0 ? pick(0, 25) : 1);
          auto step = cache.begin(as_ids(ids));
          ASSERT_TRUE(step.ok()) << step.status().message();
          ASSERT_NO_FATAL_FAILURE(write_positions(*step));
          RuleModel next = model;
          next.append(ids);
          ASSERT_NO_FATAL_FAILURE(expect_sees(*step, next, model.held()));
          Tokens available = model.held();
          for (Index i = 0; i < step->tokens(); ++i) {
            const Index query = step->first_logical_position() + i;
            available.push_back(query);
            const bool ranks = options.positions == heed::Positions::rank;
            ASSERT_EQ(step->positions(0)[std::size_t(i)],
                      ranks ? Index(next.seen_of(available, query).size()) - 1 : query);
          }
          if (pick(0, 9) == 0) break;  // and ends it
          ASSERT_TRUE(step->commit().ok());
          model = next;
        }
      }
      most_seen = model.seen() == 0 ? 0 : std::max(most_seen, model.seen());
      ASSERT_NO_FATAL_FAILURE(expect_holds(cache, model)) << "move " << move;
      ASSERT_LE(cache.rollback_floor(), std::min(model.seen(), std::max<Index>(0, most_seen - options.undo_tokens)));
      const Index intact = cache.intact();
      ASSERT_LE(intact, model.seen());
      resumed &= model.seen() > 0;
      ASSERT_TRUE(model.removed() || resumed || intact == model.seen());
    }
  }

  std::mt19937_64 random{std::hash<std::string>()(GetParam())};
};

TEST_P(RemoveWalk, IsAMask) {
  for (int repeat = 0; repeat < 40; ++repeat) {
    const RuleCase rule = random_case(GetParam(), random);
    const heed::CacheOptions options{.undo_tokens = pick(0, 1) * pick(0, 9), .page_tokens = pick(1, 9)};
    ASSERT_NO_FATAL_FAILURE(walk(tracked(rule.rule, options), options, rule, [&](std::span<const std::byte> bytes) {
      return TrackedCache::restore(tracked_policy, options, rule.rule, bytes);
    }));
  }
}
TEST_P(RemoveWalk, WithRanks) {
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 100}));
  for (int repeat = 0; repeat < 40; ++repeat) {
    const RuleCase rule = random_case(GetParam(), random);
    if (!rule.rule.has_ranks()) return;
    const heed::CacheOptions options{
        .positions = heed::Positions::rank, .undo_tokens = pick(0, 1) * pick(0, 9), .page_tokens = pick(1, 9)};
    const RankCache::Policy rotated{tracked_policy, &rope};
    ASSERT_NO_FATAL_FAILURE(
        walk(heed::value_or_throw(RankCache::create(rotated, options, rule.rule)), options, rule,
             [&](std::span<const std::byte> bytes) { return RankCache::restore(rotated, options, rule.rule, bytes); }));
  }
}
INSTANTIATE_TEST_SUITE_P(Rules, RemoveWalk, testing::ValuesIn(mask_kinds),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace heed_test::remove_test
