/// \file
/// Where text goes on before what a rule remembers, the cache says so for good.
#include <heed/retention/anchors.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/window.hpp>

#include "cache/instances.hpp"

namespace heed_test::resume_test {
namespace {

using heed::AnyRule;
using Cache = heed::KvCache<heed::Gqa, heed::F32>;
constexpr heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 2, .scale = 1};

/// All that is held of some tokens is removed, and text goes on at `position`, where the next ones lack what was evicted.
/// Going back to there again must not make the cache look whole.
void resume_and_go_back(const AnyRule& rule, Index undo, Index position) {
  Cache cache = heed::value_or_throw(Cache::create(policy, {.undo_tokens = undo}, rule));
  ASSERT_NO_FATAL_FAILURE(append(cache, {3, 3, 3, 3, 3, 3, 3, 1, 3, 3, 3, 3}));
  ASSERT_GT(cache.evicted(), 3);
  ASSERT_TRUE(cache.remove(0, 12).ok());
  ASSERT_TRUE(cache.resume_at(position).ok());
  for (int again = 0; again < 3; ++again) {
    ASSERT_NO_FATAL_FAILURE(append(cache, {5, 6}));
    if (!cache.truncate(position).ok()) {
      ASSERT_TRUE(cache.remove(position, position + 2).ok());
      ASSERT_TRUE(cache.resume_at(position).ok());
    }
    EXPECT_TRUE(cache.removed());
    EXPECT_EQ(cache.intact(), position);
  }
  ASSERT_NO_FATAL_FAILURE(append(cache, {7, 7, 7}));
  EXPECT_TRUE(cache.removed());
  EXPECT_EQ(cache.intact(), position);
  ASSERT_TRUE(cache.clear().ok());
  EXPECT_FALSE(cache.removed());
}

TEST(CacheResume, WhatIsLackingIsNotForgotten) {
  for (const AnyRule& rule : {AnyRule(heed::SlidingWindow{4}), AnyRule(heed::Separators{0, 4, {9}}),
                              AnyRule(heed::Anchors{.ids = {1}}), AnyRule(heed::Anchors{.ids = {1, 5}})}) {
    for (const Index undo : {0, 1, 4}) {
      for (Index position = 1; position < 5; ++position) {
        ASSERT_NO_FATAL_FAILURE(resume_and_go_back(rule, undo, position))
            << rule.name() << ", undo " << undo << ", position " << position;
      }
    }
  }
}

}  // namespace
}  // namespace heed_test::resume_test
