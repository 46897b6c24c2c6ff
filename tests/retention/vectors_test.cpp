/// \file
/// The traces that the official codes and the papers give, through a cache.
#include "retention/tracked_cache.hpp"

namespace heed_test::vectors_test {
namespace {

TrackedCache make(const heed::AnyRule& rule) {
  return heed::value_or_throw(TrackedCache::create(tracked_policy, {.page_tokens = 4}, rule));
}
/// A text's characters as ids.
Tokens characters(const std::string& text) { return {text.begin(), text.end()}; }

/// AnLLM: 18 tokens, anchors at 5, 11 and 17.
TEST(Vectors, AnchorsOfThreeSegments) {
  Tokens ids(18, 7);
  for (const std::size_t anchor : {5u, 11u, 17u}) ids[anchor] = 1;
  TrackedCache cache = make(heed::Anchors{{1}});
  auto step = heed::value_or_throw(cache.begin(as_ids(ids)));
  write_positions(step);
  Tokens counts;
  Int total = 0;
  for (const oracle::Step& query : seen_in_step(step)) {
    counts.push_back(Int(query.seen.size()));
    total += counts.back();
  }
  EXPECT_EQ(counts, (Tokens{1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 6, 3, 4, 5, 6, 7, 6}));
  EXPECT_EQ(total, 78);
  ASSERT_TRUE(step.commit().ok());
  EXPECT_EQ(positions_in_rows(cache.keys(0)), (Tokens{5, 11, 17}));
}

/// SepLLM's streaming code: initial 2, separators 2, local 4, capacity 11.
TEST(Vectors, SeparatorManager) {
  const heed::SeparatorStream rule{.initial = 2, .separators = 2, .local = 4, .capacity = 11, .ids = {'.', ',', '\n'}};
  const Tokens text = characters("AB.CDE\nFGHI\nJ,KLMN.OPQ");
  TrackedCache cache = make(rule);
  std::vector<Tokens> kept;
  for (const Int id : text) {
    append(cache, {id});
    kept.push_back(positions_in_rows(cache.keys(0)));
  }
  EXPECT_EQ(kept[10], oracle::range(0, 11));
  EXPECT_EQ(kept[11], (Tokens{0, 1, 2, 6, 8, 9, 10, 11}));
  EXPECT_EQ(kept[14].size(), 11u);
  EXPECT_EQ(kept[15], (Tokens{0, 1, 6, 11, 12, 13, 14, 15}));
  EXPECT_EQ(kept[19], (Tokens{0, 1, 11, 13, 16, 17, 18, 19}));
}

heed::SeparatorStream sep_cache(Index capacity) {
  return {.initial = 2,
          .separators = 3,
          .local = 2,
          .capacity = capacity,
          .ids = {2, 3, 4},
          .form = heed::StreamForm::sep_cache};
}

/// SepCache: the eighth token compresses before it attends.
TEST(Vectors, SepCache) {
  TrackedCache cache = make(sep_cache(8));
  append(cache, {10, 11, 9, 2, 8, 3, 7});
  EXPECT_EQ(cache.kept(), 7);
  auto step = heed::value_or_throw(cache.begin(as_ids({6})));
  write_positions(step);
  EXPECT_EQ(seen_in_step(step)[0].seen, (Tokens{0, 1, 3, 5, 6, 7}));
  ASSERT_TRUE(step.commit().ok());
  EXPECT_EQ(positions_in_rows(cache.keys(0)), (Tokens{0, 1, 3, 5, 6, 7}));
}

/// SepCache with two separators in its block and two new ones: what a run that compresses twice leaves of them. In the
/// run's numbers the old separators are 3 and 5, the list before the second compression has 10 keys, and the new
/// separators lie where 5 and 7 do in that list.
TEST(Vectors, SepCacheWithOldSeparators) {
  const auto second = [](bool accumulate, bool bounded) {
    heed::SeparatorStream rule = sep_cache(10);
    rule.accumulate = accumulate;
    rule.bounded = bounded;
    TrackedCache cache = make(rule);
    // After the tenth token [0 1 | 2 4 | 8 9]; four more make ten keys: 0 1 2 4 8 9 10 11 12 13.
    append(cache, {10, 11, 2, 9, 3, 9, 9, 9, 9, 4});
    EXPECT_EQ(positions_in_rows(cache.keys(0)), (Tokens{0, 1, 2, 4, 8, 9}));
    append(cache, {9, 3, 9});
    EXPECT_EQ(cache.kept(), 9);
    append(cache, {9});
    return positions_in_rows(cache.keys(0));
  };
  // Indices 0 1 2 3 5 7 8 9 of the ten keys: four separators, so the block and the capacity grow by one.
  EXPECT_EQ(second(true, false), (Tokens{0, 1, 2, 4, 9, 11, 12, 13}));
  // 0 1 3 5 7 8 9: the oldest separator goes.
  EXPECT_EQ(second(true, true), (Tokens{0, 1, 4, 9, 11, 12, 13}));
  // 0 1 5 7 8 9: all old ones go.
  EXPECT_EQ(second(false, true), (Tokens{0, 1, 9, 11, 12, 13}));
}

/// The block that grew stays grown: the next compression comes at the larger capacity.
TEST(Vectors, SepCacheGrows) {
  heed::SeparatorStream rule = sep_cache(8);
  rule.bounded = false;
  TrackedCache cache = make(rule);
  append(cache, {10, 11, 2, 2, 2, 2, 9, 9});
  EXPECT_EQ(positions_in_rows(cache.keys(0)), (Tokens{0, 1, 2, 3, 4, 5, 6, 7}));  // 4 separators: capacity is 9
  append(cache, {9});
  EXPECT_EQ(positions_in_rows(cache.keys(0)), (Tokens{0, 1, 2, 3, 4, 5, 7, 8}));
}

/// A prompt is stored whole, however long; the next token compresses it.
TEST(Vectors, PromptIsKeptWhole) {
  heed::SeparatorStream rule = sep_cache(8);
  rule.prompt = 20;
  TrackedCache cache = make(rule);
  append(cache, Tokens(20, 9));
  EXPECT_EQ(cache.kept(), 20);
  append(cache, {9});
  EXPECT_EQ(positions_in_rows(cache.keys(0)), (Tokens{0, 1, 19, 20}));

  rule.form = heed::StreamForm::manager;
  TrackedCache managed = make(rule);
  append(managed, Tokens(20, 9));
  EXPECT_EQ(managed.kept(), 20);
  append(managed, {9});
  EXPECT_EQ(positions_in_rows(managed.keys(0)), (Tokens{0, 1, 19, 20}));
}

}  // namespace
}  // namespace heed_test::vectors_test
