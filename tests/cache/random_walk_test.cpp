/// \file
/// Thousands of random steps of everything an engine does to a cache.
#include "cache/walk.hpp"

namespace heed_test::random_walk_test {
namespace {

using Walked = testing::Types<heed::KvCache<heed::Gqa, heed::F32>, heed::KvCache<heed::Gqa, heed::Bf16>,
                              heed::KvCache<heed::SharedRow, heed::Bf16>, heed::KvCache<Uneven, heed::F32, heed::F16>>;
template <class Cache>
struct RandomWalk : testing::Test {
  void walk(const std::string& first_rule, const std::string& other_rule) { walks.walk(first_rule, other_rule); }
  CacheWalk<Cache> walks{2025};
};
TYPED_TEST_SUITE(RandomWalk, Walked);

/// Every rule in layer 0, beside some other rule in layers 1 and 2.
TYPED_TEST(RandomWalk, EveryRule) {
  for (const char* first : rule_kinds) {
    for (int repeat = 0; repeat < 6; ++repeat) {
      const char* const other = rule_kinds[this->walks.random() % std::size(rule_kinds)];
      ASSERT_NO_FATAL_FAILURE(this->walk(first, other)) << first << " and " << other;
    }
  }
}

/// The only rules with which a walk removes often.
TYPED_TEST(RandomWalk, RulesWithoutHistory) {
  for (const char* first : rule_kinds) {
    const char* const other = mask_kinds[this->walks.random() % mask_kinds.size()];
    ASSERT_NO_FATAL_FAILURE(this->walk(first, other)) << first << " and " << other;
  }
}

/// A window beyond every text: removed tokens go at once, as under the rule that keeps everything by its name.
TYPED_TEST(RandomWalk, RulesThatKeepEverything) {
  for (const char* first : endless_kinds) {
    const char* const other = mask_kinds[this->walks.random() % mask_kinds.size()];
    ASSERT_NO_FATAL_FAILURE(this->walk(first, other)) << first << " and " << other;
  }
}

}  // namespace
}  // namespace heed_test::random_walk_test
