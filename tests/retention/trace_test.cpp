/// \file
/// Every rule in a cache does what the oracle's rule does token by token: what each query sees, and what stays.
#include "retention/tracked_cache.hpp"

namespace heed_test::trace_test {
namespace {

class Trace : public testing::TestWithParam<const char*> {
 protected:
  Index pick(Index least, Index most) { return least + Index(random() % std::uint64_t(most - least + 1)); }
  Tokens text(Index tokens) {
    Tokens ids(static_cast<std::size_t>(tokens));
    const Index last = pick(2, 12);  // many marked tokens, or few
    for (Int& id : ids) id = pick(0, last);
    return ids;
  }
  heed::CacheOptions options() {
    constexpr Index pages[] = {1, 3, 7, 64};
    return {.undo_tokens = pick(0, 1) * pick(0, 9), .page_tokens = pages[random() % 4]};
  }

  /// A whole sequence in random chunks, with everything an engine does to a cache on the way.
  template <class Cache>
  void run(Cache cache, const heed::CacheOptions& options, const RuleCase& rule) {
    RuleModel model(rule, options.undo_tokens);
    const Index tokens = pick(1, 90);
    while (model.seen() < tokens) {
      const Tokens ids = text(std::min(tokens - model.seen(), pick(0, 3) == 0 ? pick(1, 30) : 1));
      auto step = cache.begin(as_ids(ids));
      ASSERT_TRUE(step.ok()) << step.status().message();
      ASSERT_NO_FATAL_FAILURE(write_positions(*step));
      RuleModel next = model;
      next.append(ids);
      ASSERT_NO_FATAL_FAILURE(expect_sees(*step, next, model.held()));
      const std::span<const Index> positions = step->positions(0);
      ASSERT_EQ(Index(positions.size()), step->tokens());
      for (Index i = 0; i < step->tokens(); ++i) {
        const Index query = step->first_logical_position() + i;
        const bool ranks = options.positions == heed::Positions::rank;
        ASSERT_EQ(positions[std::size_t(i)], ranks ? Index(next.seen_by(query).size()) - 1 : query);
      }
      if (pick(0, 9) == 0) {
        step->abort();
        ASSERT_NO_FATAL_FAILURE(expect_holds(cache, model));
        continue;
      }
      ASSERT_TRUE(step->commit().ok());
      model = next;
      ASSERT_NO_FATAL_FAILURE(expect_holds(cache, model));
      ASSERT_EQ(cache.rollback_floor(), model.floor());
      if (pick(0, 4) == 0) {
        const Index left = pick(0, 20) == 0 ? 0 : pick(cache.rollback_floor(), model.seen());
        ASSERT_TRUE(cache.truncate(left).ok());
        model.truncate(left);
        ASSERT_NO_FATAL_FAILURE(expect_holds(cache, model));
      }
      if (pick(0, 9) == 0) {
        auto fork = cache.fork();
        ASSERT_TRUE(fork.ok());
        if (pick(0, 1) == 0) cache = *std::move(fork);
      }
    }
  }

  std::mt19937_64 random{7};
};

TEST_P(Trace, IsTheOracles) {
  for (int repeat = 0; repeat < 300; ++repeat) {
    const RuleCase rule = random_case(GetParam(), random);
    const heed::CacheOptions made = options();
    auto cache = TrackedCache::create(tracked_policy, made, rule.rule);
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    ASSERT_NO_FATAL_FAILURE(run(*std::move(cache), made, rule)) << "repeat " << repeat;
  }
}

/// With in-cache ranks queries see the same keys; key k of a list has position k.
TEST_P(Trace, IsTheOraclesWithRanks) {
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 100}));
  for (int repeat = 0; repeat < 100; ++repeat) {
    const RuleCase rule = random_case(GetParam(), random);
    if (!rule.rule.has_ranks()) return;
    heed::CacheOptions made = options();
    made.positions = heed::Positions::rank;
    auto cache = RankCache::create({tracked_policy, &rope}, made, rule.rule);
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    ASSERT_NO_FATAL_FAILURE(run(*std::move(cache), made, rule)) << "repeat " << repeat;
  }
}

/// Lists of a step are read by rank with in-cache ranks, else by logical position.
TEST_P(Trace, StagesHavePositions) {
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 100}));
  const RuleCase rule = random_case(GetParam(), random);
  for (const auto positions : {heed::Positions::absolute, heed::Positions::rank}) {
    auto cache = RankCache::create({tracked_policy, &rope}, {.positions = positions}, rule.rule);
    if (!cache.ok()) continue;
    ASSERT_NO_FATAL_FAILURE(append(*cache, text(40)));
    const Tokens ids = text(30);
    auto step = cache->begin(as_ids(ids));
    ASSERT_NO_FATAL_FAILURE(write_positions(*step));
    const auto view = step->keys(0);
    EXPECT_EQ(view.stages() > 0, rule.rule.has_history() || positions == heed::Positions::rank);
    Index query = 0;
    for (Index stage = 0; stage < view.stages(); ++stage) {
      EXPECT_EQ(view.stage_queries(stage).begin, query);
      query = view.stage_queries(stage).end;
      const Tokens rows = positions_in_rows(view.stage_size(stage), [&](int stream, Index key, Index max) {
        return view.stage_row_run(stage, stream, 0, key, max);
      });
      for (Index key = 0; key < view.stage_size(stage); ++key) {
        const Index want = positions == heed::Positions::rank ? key : rows[std::size_t(key)];
        ASSERT_EQ(view.stage_position(stage, key), want);
      }
    }
    EXPECT_EQ(query, view.stages() > 0 ? 30 : 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, Trace, testing::ValuesIn(rule_kinds), [](const auto& kind) { return kind.param; });

}  // namespace
}  // namespace heed_test::trace_test
