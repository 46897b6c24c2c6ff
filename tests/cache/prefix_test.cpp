/// \file
/// Prompts that begin alike find each other, where the rule allows it.
#include <random>

#include <heed/cache/prefix.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test {
namespace {

using heed::AnyRule;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
using Ids = std::vector<std::int32_t>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};

Cache fed(const Ids& text, const AnyRule& rule) {
  auto cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4}, rule));
  append(cache, Seeds(text.begin(), text.end()));
  return cache;
}
Ids numbers(Index count, std::int32_t first = 10) {
  Ids text;
  for (Index i = 0; i < count; ++i) text.push_back(first + std::int32_t(i));
  return text;
}
/// What both hold, row by row.
void expect_same(const Cache& a, const Cache& b) {
  ASSERT_EQ(a.size(), b.size());
  for (Index key = 0; key < a.size(); ++key) {
    ASSERT_EQ(a.position(key), b.position(key));
    ASSERT_EQ(a.token_id(key), b.token_id(key));
    for (const int stream : {0, 1}) {
      ASSERT_EQ(std::memcmp(a.keys(0).tile(stream, 0, key, 1).data, b.keys(0).tile(stream, 0, key, 1).data, 8), 0);
    }
  }
}

TEST(Prefix, LongestCommonBeginningOfWholeBlocks) {
  heed::PrefixCache<Cache> prefixes(8);
  const Ids text = numbers(30);
  ASSERT_TRUE(prefixes.insert(text, fed(text, {})).ok());
  const Ids shorter = numbers(11);
  ASSERT_TRUE(prefixes.insert(shorter, fed(shorter, {})).ok());
  const auto found = [&](const Ids& prompt) {
    auto match = heed::value_or_throw(prefixes.find(prompt));
    EXPECT_EQ(match.cache.has_value(), match.tokens > 0);
    if (match.cache) {
      EXPECT_EQ(match.cache->seen(), match.tokens);
      expect_same(*match.cache, fed(Ids(prompt.begin(), prompt.begin() + match.tokens), {}));
    }
    return match.tokens;
  };
  EXPECT_EQ(found(numbers(40)), 24) << "30 is no multiple of 8, so a longer prompt cannot know of it";
  EXPECT_EQ(found(numbers(30)), 30) << "but the same prompt can";
  EXPECT_EQ(found(numbers(11)), 11);
  EXPECT_EQ(found(numbers(15)), 8);
  EXPECT_EQ(found(numbers(7)), 0);
  Ids other = numbers(30);
  other[20] = 5;
  EXPECT_EQ(found(other), 16);
  EXPECT_EQ(found(numbers(30, 11)), 0);
  EXPECT_EQ(found({}), 0);
}

/// Where tokens were evicted, a prefix is offered only where the cache can go back to, and then it is the real one.
TEST(Prefix, OnlyWhereTheRuleCanGoBack) {
  Ids text = numbers(40);
  for (const std::size_t at : {6, 17, 30}) text[at] = 1;
  const std::pair<AnyRule, Index> rules[] = {
      {heed::SlidingWindow{5}, 40},     // its floor is the end
      {heed::Anchors{.ids = {1}}, 40},  // 31 .. 40: 32 is the only block, 40 the end
      {heed::SinkWindow{2, 50}, 40},    // nothing was evicted
      {heed::SeparatorStream{.initial = 1, .separators = 1, .local = 2, .capacity = 12, .ids = {1}}, 40},
  };
  for (const auto& [rule, end] : rules) {
    SCOPED_TRACE(rule.name());
    heed::PrefixCache<Cache> prefixes(4);
    const Cache whole = fed(text, rule);
    ASSERT_TRUE(prefixes.insert(text, whole).ok());
    for (Index count = 1; count <= 44; ++count) {
      Ids prompt = text;
      prompt.resize(std::size_t(count), 99);
      const auto match = heed::value_or_throw(prefixes.find(prompt));
      const Index common = std::min<Index>(count, 40);
      Index want = common == 40 ? 40 : common / 4 * 4;
      if (want < whole.rollback_floor()) want = 0;
      ASSERT_EQ(match.tokens, want) << count;
      if (match.cache) {
        ASSERT_NO_FATAL_FAILURE(expect_same(*match.cache, fed(Ids(text.begin(), text.begin() + want), rule)));
      }
    }
    EXPECT_EQ(heed::value_or_throw(prefixes.find(text)).tokens, end);
  }
}

TEST(Prefix, EntriesShareWhatTheyForkedAndCanGo) {
  CountingMemory memory;
  {
    heed::PrefixCache<Cache> prefixes(4);
    auto cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4, .memory = memory.resource()}));
    const Ids text = numbers(16);
    append(cache, Seeds(text.begin(), text.end()));
    const Index rows = cache.bytes().allocated_rows;
    const auto key = heed::value_or_throw(prefixes.insert(text, cache));
    EXPECT_EQ(cache.bytes().allocated_rows, rows) << "no row is copied";
    EXPECT_GT(cache.bytes().shared, 0);
    append(cache, {7});  // the stored one does not see it
    EXPECT_EQ(heed::value_or_throw(prefixes.find(numbers(20))).tokens, 16);
    EXPECT_EQ(prefixes.size(), 1u);
    EXPECT_TRUE(prefixes.erase(key));
    EXPECT_FALSE(prefixes.erase(key));
    EXPECT_EQ(heed::value_or_throw(prefixes.find(text)).tokens, 0);
  }
  EXPECT_EQ(memory.held, 0);
}

TEST(Prefix, RefusesIdsThatAreNotTheCaches) {
  heed::PrefixCache<Cache> prefixes;
  const Cache cache = fed(numbers(3), {});
  EXPECT_EQ(prefixes.insert(numbers(2), cache).status().message(),
            "insert(): there are 2 ids, the cache has seen 3 tokens");
  EXPECT_FALSE(prefixes.insert({}, fed({}, {})).ok());
}

}  // namespace
}  // namespace heed_test
