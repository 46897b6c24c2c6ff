/// \file
/// Masks over keys that they were not made for: refused, or what was removed stays hidden.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/rule_mask.hpp>
#include <heed/cache/strided.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/retention/window.hpp>

#include "retention/tracked_cache.hpp"

namespace heed_test::other_keys_test {
namespace {

template <class Keys>
heed::Status attend(const Keys& keys, heed::MaskRef mask, std::vector<float>& out) {
  const std::vector<float> q{0.5f, 0.25f};
  out.assign(2, std::nanf(""));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  return heed::attend<heed::Scalar>(tracked_policy, q, keys, mask, out, workspace, serial);
}

TEST(MaskOfOtherKeys, AWholeTextsMaskOverACacheThatForgot) {
  const heed::SinkWindow rule{2, 8};
  auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {}, rule));
  ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(40, 3)));
  const auto whole = heed::value_or_throw(heed::RuleMask::create(rule, std::vector<std::int32_t>(40, 3)));
  std::vector<float> out;
  const heed::Status status = attend(cache.keys(0), whole.mask(), out);
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("every position from 0 on"), std::string::npos) << status.message();
  EXPECT_TRUE(std::isnan(out[0]));
}

TEST(MaskOfOtherKeys, AWholeTextsMaskOverALaterPart) {
  const auto whole =
      heed::value_or_throw(heed::RuleMask::create(heed::SinkWindow{2, 8}, std::vector<std::int32_t>(40, 3)));
  const std::vector<float> rows(9 * 2, 1.0f);
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 8, 8};
  std::vector<float> out;
  const heed::StridedSource<heed::F32> later(9, stream, stream, 31), from_start(9, stream, stream);
  EXPECT_EQ(attend(later, whole.mask(), out).code(), heed::StatusCode::invalid_argument);
  EXPECT_TRUE(attend(from_start, whole.mask(), out).ok());
}

/// A rule as a mask, with a number that no cache would take.
TEST(MaskOfOtherKeys, ARuleWithAWrongNumber) {
  const std::vector<float> rows(9 * 2, 1.0f);
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 8, 8};
  const heed::StridedSource<heed::F32> keys(9, stream, stream);
  std::vector<float> out;
  for (const Index window : {Index{0}, Index{-3}}) {
    const heed::Status status = attend(keys, heed::SlidingWindow{window}, out);
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    EXPECT_NE(status.message().find("mask: window is " + std::to_string(window)), std::string::npos)
        << status.message();
    EXPECT_TRUE(std::isnan(out[0]));
  }
  EXPECT_TRUE(attend(keys, heed::SlidingWindow{1}, out).ok());
}

/// A mask of two lists whose near keys must follow each other.
struct TwoLists {
  heed::NearKeys near_list;
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const { return key <= query; }
  [[nodiscard]] heed::Status fits(const heed::MaskedCall&) const { return {}; }
  [[nodiscard]] heed::NearKeys near_keys() const { return near_list; }
  [[nodiscard]] Index far_keys() const { return 0; }
  [[nodiscard]] Index far_key(Index) const { return 0; }
  [[nodiscard]] heed::Coverage near_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool near_visible(Index query, Index key) const { return key <= query; }
  [[nodiscard]] heed::Coverage far_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::none; }
  [[nodiscard]] bool far_visible(Index, Index) const { return false; }
};

TEST(MaskOfOtherKeys, NearKeysThatDoNotFollowEachOther) {
  auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {.undo_tokens = 1}, heed::SinkWindow{2, 8}));
  ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(40, 3)));
  std::vector<float> out;
  EXPECT_EQ(attend(cache.keys(0), TwoLists{{0, 0}}, out).code(), heed::StatusCode::invalid_argument);
  EXPECT_EQ(attend(cache.keys(0), TwoLists{{2, -5}}, out).code(), heed::StatusCode::invalid_argument);
  EXPECT_TRUE(attend(cache.keys(0), TwoLists{{2, 32}}, out).ok());
}

/// Queries under a whole text's mask do not see a removed token, whatever the list it stands in.
TEST(MaskOfOtherKeys, ARemovedLandmarkStaysHidden) {
  const heed::Separators rule{.initial = 0, .window = 4, .ids = {7}};
  auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {.undo_tokens = 100}, rule));
  std::vector<std::int32_t> ids(50, 3);
  ids[10] = 7;
  ids[20] = 7;
  ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(ids.begin(), ids.end())));
  ASSERT_TRUE(cache.remove(10, 11).ok());
  const auto mask = heed::value_or_throw(heed::RuleMask::create(rule, ids));
  std::vector<float> out;
  ASSERT_TRUE(attend(cache.keys(0), mask.mask(), out).ok());
  // Rows are (p, -p): scores 0.25 p, values p.
  double sum = 0, weights = 0;
  for (const double p : {20.0, 46.0, 47.0, 48.0, 49.0}) {
    sum += std::exp(0.25 * (p - 49)) * p;
    weights += std::exp(0.25 * (p - 49));
  }
  const double with_removed = (sum + std::exp(0.25 * (10 - 49)) * 10) / (weights + std::exp(0.25 * (10 - 49)));
  EXPECT_NEAR(out[0], sum / weights, 1e-4);
  EXPECT_GT(std::abs(with_removed - sum / weights), 5e-4);
}

/// A mask of the user's that hides more than a rule, and asks the rule.
struct HidesMore {
  heed::LandmarkMask rule;
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const { return key % 2 == 1 && rule.visible(query, key); }
  [[nodiscard]] heed::Status fits(const heed::MaskedCall& call) const { return rule.fits(call); }
};
/// One that does not.
struct OddKeys {
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const { return key <= query && key % 2 == 1; }
};

/// A cache's mask says what its own tokens see. Another cache of the same rule and the same counts has other landmarks.
TEST(MaskOfOtherKeys, OneCachesMaskOverAnother) {
  const heed::Separators rule{.initial = 0, .window = 4, .ids = {7}};
  const auto filled = [&](std::initializer_list<std::size_t> separators) {
    auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {.undo_tokens = 100}, rule));
    Tokens ids(50, 3);
    for (const std::size_t at : separators) ids[at] = 7;
    append(cache, ids);
    return cache;
  };
  auto cache = filled({10, 20});
  const auto other = filled({12, 40}), fork = heed::value_or_throw(cache.fork());
  std::vector<float> out;
  const HidesMore more{cache.keys(0).mask()};
  for (const heed::MaskRef& mask : {heed::MaskRef(cache.keys(0).mask()), heed::MaskRef(more)}) {
    for (const auto* keys : {&other, &fork}) {
      const heed::Status status = attend(keys->keys(0), mask, out);
      EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
      EXPECT_EQ(status.message(), "sequence 0: keys are of another cache or layer group than mask");
      EXPECT_TRUE(std::isnan(out[0]));
    }
    EXPECT_TRUE(attend(cache.keys(0), mask, out).ok());
  }
  // Its own mask of before, which says the same counts.
  const heed::LandmarkMask before = cache.keys(0).mask();
  ASSERT_TRUE(cache.truncate(40).ok());
  Tokens last(10, 3);
  last[5] = 7;
  ASSERT_NO_FATAL_FAILURE(append(cache, last));
  const heed::Status status = attend(cache.keys(0), before, out);
  EXPECT_EQ(status.code(), heed::StatusCode::wrong_state);
  EXPECT_EQ(status.message(), "sequence 0: mask was taken before the cache of keys changed: take keys.mask()");
  EXPECT_TRUE(std::isnan(out[0]));
  // The cache that moves takes its mask along.
  const heed::LandmarkMask now = cache.keys(0).mask();
  const TrackedCache moved(std::move(cache));
  EXPECT_TRUE(attend(moved.keys(0), now, out).ok());
}

/// A cache that ended leaves its memory to the next one, which has changed as often and keeps as many tokens.
TEST(MaskOfOtherKeys, AMaskOfACacheThatEnded) {
  const heed::Separators rule{.initial = 0, .window = 4, .ids = {7}};
  bool met = false;
  for (int i = 0; i < 100 && !met; ++i) {
    std::optional<heed::LandmarkMask> mask;
    const void* ended = nullptr;
    for (const std::size_t separator : {std::size_t{10}, std::size_t{12}}) {
      auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {.undo_tokens = 100}, rule));
      Tokens ids(50, 3);
      ids[separator] = 7;
      ASSERT_NO_FATAL_FAILURE(append(cache, ids));
      if (!mask) {
        mask = cache.keys(0).mask();
        ended = cache.keys(0).tokens();
        continue;
      }
      met = cache.keys(0).tokens() == ended;
      std::vector<float> out;
      const heed::Status status = attend(cache.keys(0), *mask, out);
      EXPECT_EQ(status.message(), "sequence 0: keys are of another cache or layer group than mask");
      EXPECT_TRUE(std::isnan(out[0]));
    }
  }
  if (!met) GTEST_SKIP() << "this allocator gave no memory twice";
}

/// The same two for each KV head, of which these keys have one.
struct HidesMoreOfHead : HidesMore {
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval, Index) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key, Index head) const {
    return key % 2 == 1 - head && rule.visible(query, key);
  }
};
struct OddKeysOfHead {
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval, Index) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key, Index head) const { return key <= query && key % 2 == 1 - head; }
};

/// Whatever mask is given, a query sees nothing that the rule of its cache hides: the mask is refused by the rule's name.
/// All tokens are still here, so a mask could show them.
TEST(MaskOfOtherKeys, ShowsNothingThatTheRuleHides) {
  std::vector<std::int32_t> ids(30, 3);
  ids[5] = 7;
  const heed::SlidingWindow window{4};
  const std::vector<heed::AnyRule> rules{heed::Causal{}, window, heed::SinkWindow{2, 4},
                                         heed::Separators{.initial = 0, .window = 4, .ids = {7}}};
  std::vector<heed::RuleMask> whole;
  for (const heed::AnyRule& rule : rules) whole.push_back(heed::value_or_throw(heed::RuleMask::create(rule, ids)));
  const auto among = [](std::initializer_list<Int> some) {
    return [keys = Tokens(some)](Int key) { return key >= 26 || oracle::contains(keys, key); };
  };
  const std::vector<std::function<bool(Int)>> shows{[](Int) { return true; }, among({}), among({0, 1}), among({5})};
  for (std::size_t r = 0; r < rules.size(); ++r) {
    auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {.undo_tokens = 100}, rules[r]));
    ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(ids.begin(), ids.end())));
    const auto keys = cache.keys(0);
    ASSERT_EQ(keys.size(), 30);
    struct Given {
      const char* name;
      heed::MaskRef mask;
      bool fits;
      std::function<bool(Int)> shows;
    };
    const bool all = r == 0;
    const HidesMore more{keys.mask()};
    const HidesMoreOfHead more_of_head{more};
    const auto odd = [](Int key) { return key % 2 == 1; };
    std::vector<Given> masks{{"none", {}, true, shows[0]},
                             {"Causal", heed::Causal{}, all, shows[0]},
                             {"Unmasked", heed::Unmasked{}, all, shows[0]},
                             {"window 4", window, all || r == 1, shows[1]},
                             {"window 9", heed::SlidingWindow{9}, all, [](Int key) { return key > 20; }},
                             {"its own", keys.mask(), true, shows[0]},
                             {"a user's that asks", more, true, odd},
                             {"a user's", OddKeys{}, all, odd},
                             {"a KV head's that asks", more_of_head, true, odd},
                             {"a KV head's", OddKeysOfHead{}, all, odd}};
    for (std::size_t m = 0; m < whole.size(); ++m)
      masks.push_back({"a text's", whole[m].mask(), all || m == r, shows[m]});
    for (const Given& given : masks) {
      SCOPED_TRACE(std::string(rules[r].name()) + " with mask " + given.name);
      std::vector<float> out;
      const heed::Status status = attend(keys, given.mask, out);
      ASSERT_EQ(status.ok(), given.fits) << status.message();
      if (!status.ok()) {
        EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
        EXPECT_NE(status.message().find(std::string("rule ") + rules[r].name()), std::string::npos) << status.message();
        continue;
      }
      double sum = 0, weights = 0;  // rows are (p, -p): scores 0.25 p, values p
      for (Int key = 0; key < 30; ++key) {
        if (!shows[r](key) || !given.shows(key)) continue;
        sum += std::exp(0.25 * double(key - 29)) * double(key);
        weights += std::exp(0.25 * double(key - 29));
      }
      EXPECT_NEAR(out[0], sum / weights, 1e-5);
    }
  }
}

}  // namespace
}  // namespace heed_test::other_keys_test
