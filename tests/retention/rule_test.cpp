/// \file
/// Rules as values: what they refuse, how they are told apart, and what they cannot be combined with.
#include <cstring>
#include <set>

#include "retention/tracked_cache.hpp"

namespace heed_test::rule_test {
namespace {

using heed::AnyRule;
using heed::StatusCode;
using heed::StreamForm;

void expect_refused(const AnyRule& rule, const std::string& message) {
  const heed::Status status = rule.validate();
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), message);
  // A cache says the same.
  EXPECT_EQ(TrackedCache::create(tracked_policy, {}, rule).status().message(), message);
}

TEST(Rule, WindowsNameWhatIsWrong) {
  expect_refused(heed::SlidingWindow{0}, "window is 0, must be at least 1");
  expect_refused(heed::SinkWindow{-1, 4}, "initial is -1, must be at least 0");
  expect_refused(heed::SinkWindow{1, 0}, "window is 0, must be at least 1 and less than unlimited");
  expect_refused(heed::SinkWindow{1, heed::unlimited, heed::SinkForm::evict_after_step},
                 "window is 9223372036854775807, must be at least 1 and less than unlimited");
  EXPECT_TRUE(AnyRule(heed::SinkWindow{0, 1}).validate().ok());
  EXPECT_TRUE(AnyRule().validate().ok());
}
TEST(Rule, LandmarksNameWhatIsWrong) {
  expect_refused(heed::Anchors{}, "ids is empty, must have at least one id");
  expect_refused(heed::Anchors{{5, -3}}, "ids has the id -3");
  expect_refused(heed::Separators{-1, 4, {1}}, "initial is -1, must be at least 0");
  expect_refused(heed::Separators{3, 0, {1}}, "window is 0, must be at least 1");
  expect_refused(heed::Separators{3, 4, {}}, "ids is empty, must have at least one id");
  EXPECT_TRUE(AnyRule(heed::Separators{3, heed::unlimited, {1}}).validate().ok());
  expect_refused(heed::FixedGrid{-1, 4, 5, 0}, "initial is -1, must be at least 0");
  expect_refused(heed::FixedGrid{3, 0, 5, 0}, "window is 0, must be at least 1");
  expect_refused(heed::FixedGrid{3, 4, 0, 0}, "distance is 0, must be at least 1");
  expect_refused(heed::FixedGrid{3, 4, 5, -1}, "first is -1, must be at least 0");
}
TEST(Rule, StreamsNameWhatIsWrong) {
  const heed::SeparatorStream good{.initial = 4, .separators = 64, .local = 256, .capacity = 800, .ids = {13}};
  EXPECT_TRUE(good.validate().ok());
  const auto with = [&](auto change) {
    heed::SeparatorStream rule = good;
    change(rule);
    return AnyRule(rule);
  };
  expect_refused(with([](auto& r) { r.initial = -1; }), "initial is -1, must be in 0 .. 281474976710656");
  expect_refused(with([](auto& r) { r.separators = 0; }), "separators is 0, must be in 1 .. 281474976710656");
  expect_refused(with([](auto& r) { r.local = 0; }), "local is 0, must be in 1 .. 281474976710656");
  expect_refused(with([](auto& r) { r.capacity = 0; }), "capacity is 0, must be in 1 .. 281474976710656");
  expect_refused(with([](auto& r) { r.prompt = -5; }), "prompt is -5, must be in 0 .. 281474976710656");
  expect_refused(with([](auto& r) { r.local = heed::unlimited; }),
                 "local is 9223372036854775807, must be in 1 .. 281474976710656");
  expect_refused(with([](auto& r) { r.ids = {}; }), "ids is empty, must have at least one id");
  expect_refused(with([](auto& r) { r.capacity = 324; }),
                 "capacity is 324, must be more than initial + separators + local = 324");
  EXPECT_TRUE(with([](auto& r) { r.capacity = 325; }).validate().ok());
}

/// A rule and each of its parameters: all have fingerprints of their own, and equal rules the same.
TEST(Rule, FingerprintsTellThemApart) {
  const heed::SeparatorStream stream{.initial = 4, .separators = 64, .local = 256, .capacity = 800, .ids = {13}};
  const auto with = [&](auto change) {
    heed::SeparatorStream rule = stream;
    change(rule);
    return AnyRule(rule);
  };
  const std::vector<AnyRule> rules{
      heed::Causal{},
      heed::SlidingWindow{4},
      heed::SlidingWindow{5},
      heed::SlidingWindow{Index{4} << 32},
      heed::SinkWindow{1, 4},
      heed::SinkWindow{4, 1},
      heed::SinkWindow{2, 4},
      heed::SinkWindow{1, 4, heed::SinkForm::evict_after_step},
      heed::Anchors{{1}},
      heed::Anchors{{2}},
      heed::Anchors{{1, 2}},
      heed::Anchors{{1}, true},
      heed::Separators{1, 4, {1}},
      heed::Separators{2, 4, {1}},
      heed::Separators{1, 5, {1}},
      heed::Separators{1, 4, {2}},
      heed::FixedGrid{1, 4, 5, 6},
      heed::FixedGrid{2, 4, 5, 6},
      heed::FixedGrid{1, 3, 5, 6},
      heed::FixedGrid{1, 4, 6, 5},
      heed::FixedGrid{1, 4, 5, 0},
      stream,
      with([](auto& r) { r.initial = 5; }),
      with([](auto& r) { r.separators = 63; }),
      with([](auto& r) { r.local = 255; }),
      with([](auto& r) { r.capacity = 801; }),
      with([](auto& r) {
        r.ids = {13, 14};
      }),
      with([](auto& r) { r.form = StreamForm::sep_cache; }),
      with([](auto& r) { r.accumulate = false; }),
      with([](auto& r) { r.bounded = false; }),
      with([](auto& r) { r.prompt = 1; }),
  };
  std::set<std::uint64_t> fingerprints;
  for (const AnyRule& rule : rules) {
    EXPECT_TRUE(fingerprints.insert(rule.fingerprint()).second) << rule.name();
    const AnyRule copy = rule;
    EXPECT_TRUE(copy.same_as(rule));
  }
  for (std::size_t i = 1; i < rules.size(); ++i) EXPECT_FALSE(rules[i].same_as(rules[i - 1]));
  EXPECT_TRUE(AnyRule(heed::Anchors{{2, 1, 2}}).same_as(heed::Anchors{{1, 2}}));
  // The same in every build: FNV-1a of "full" and a zero byte.
  EXPECT_EQ(AnyRule().fingerprint(), [] {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : {'f', 'u', 'l', 'l', '\0'}) hash = (hash ^ std::uint8_t(c)) * 0x100000001b3u;
    return hash;
  }());
}

TEST(Rule, DescribesItsParameters) {
  std::vector<std::pair<std::string, Index>> fields;
  const auto add = [&](const char* name, Index value) { fields.emplace_back(name, value); };
  AnyRule(heed::Separators{3, 256, {9, 4}}).describe(add);
  const std::vector<std::pair<std::string, Index>> want{
      {"initial", 3}, {"window", 256}, {"ids", 2}, {"ids", 4}, {"ids", 9}};
  EXPECT_EQ(fields, want);
}

/// A copy of an erased rule shares it, and outlives it.
TEST(Rule, CopiesShare) {
  AnyRule copy;
  {
    const AnyRule rule = heed::Anchors{{7}};
    copy = rule;
  }
  EXPECT_STREQ(copy.name(), "anchors");
  EXPECT_EQ(copy.role(0, 7), heed::Role::landmark);
  EXPECT_EQ(copy.role(0, 8), heed::Role::plain);
  EXPECT_FALSE(copy.sees_landmarks(0, 7));
}

TEST(Rule, RolesOfTheFirstTokens) {
  const heed::SinkWindow sinks{2, 4};
  EXPECT_EQ(sinks.role(1, 0), heed::Role::initial);
  EXPECT_EQ(sinks.role(2, 0), heed::Role::plain);
  const heed::Separators separators{2, 4, {5}};
  EXPECT_EQ(separators.role(1, 5), heed::Role::initial) << "never counted as a separator";
  EXPECT_EQ(separators.role(2, 5), heed::Role::landmark);
}

/// What StreamingLLM's evict_for_space leaves of a list, compacted by the engine.
TEST(Rule, RoomForWhatComes) {
  for (Index initial = 0; initial < 4; ++initial) {
    for (Index window = 1; window < 6; ++window) {
      for (Index cached = 0; cached < 14; ++cached) {
        for (Index coming = 0; coming < 8; ++coming) {
          const auto room = heed::SinkWindow{initial, window}.room_for(cached, coming);
          if (cached < initial || coming > window) continue;  // the code would take a token twice
          const Tokens list = oracle::range(0, cached);
          Tokens left(list.begin(), list.begin() + room.initial);
          left.insert(left.end(), list.end() - room.recent, list.end());
          const oracle::Sinks sinks{initial, window};
          ASSERT_EQ(left, sinks.evicted_for_space(list, coming));
        }
      }
    }
  }
}

TEST(TokenSet, IsASet) {
  const heed::TokenSet set{5, 3, 5, 0};
  EXPECT_EQ(Tokens(set.ids().begin(), set.ids().end()), (Tokens{0, 3, 5}));
  EXPECT_TRUE(set.contains(0) && set.contains(3) && set.contains(5));
  EXPECT_FALSE(set.contains(1) || set.contains(-1) || set.contains(6) || set.contains(heed::no_token_id));
  EXPECT_EQ(set, (heed::TokenSet{0, 3, 5}));
  EXPECT_TRUE(heed::TokenSet().empty());
  EXPECT_FALSE(heed::TokenSet().contains(0));
}

/// Spec 3.4: ids as HKUDS/SepLLM has them.
TEST(TokenSet, KnowsPublishedSeparators) {
  namespace separators = heed::separators;
  const auto ids = [](const heed::TokenSet& set) { return std::set<std::int32_t>(set.ids().begin(), set.ids().end()); };
  using Ids = std::set<std::int32_t>;
  EXPECT_EQ(ids(separators::pythia()), (Ids{15, 13, 32, 2, 28, 27, 209, 186, 187}));
  EXPECT_EQ(ids(separators::pythia_streaming()), (Ids{15,   13,   32,   2,    28,   27,   209,   186, 187,  964,
                                                      1157, 3736, 2195, 3706, 1163, 2490, 50276, 586, 4928, 50275}));
  EXPECT_EQ(ids(separators::llama3()), (Ids{13, 11, 30, 0, 26, 25, 198, 220, 128000}));
  EXPECT_EQ(ids(separators::llama3_streaming()),
            (Ids{13, 11, 30, 0, 26, 25, 198, 220, 662, 1174, 949, 758, 2652, 551, 720, 256, 262}));
  EXPECT_EQ(ids(separators::llama3_sep_cache()),
            (Ids{13, 11, 30, 0, 26, 25, 198, 220, 662, 1174, 949, 758, 2652, 551, 720, 256, 262, 128000}));
  EXPECT_EQ(ids(separators::falcon()), (Ids{25, 23, 42, 12, 38, 37, 193, 4610, 204, 258, 1212, 23787, 466}));
  EXPECT_EQ(ids(separators::anllm_ep()), Ids{29889});
  EXPECT_EQ(ids(separators::anllm_ac()), Ids{32001});
}

/// In-cache ranks are StreamingLLM's and SepLLM streaming's; masks by position have none.
TEST(Combination, RanksNeedARuleWithRanks) {
  const auto rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 100}));
  const heed::CacheOptions ranks{.positions = heed::Positions::rank};
  const auto status = [&](const AnyRule& rule) {
    return RankCache::create({tracked_policy, &rope}, ranks, rule).status();
  };
  const std::pair<AnyRule, std::string> without[] = {{heed::Anchors{{1}}, "anchors"},
                                                     {heed::Separators{1, 4, {1}}, "separators"},
                                                     {heed::FixedGrid{1, 4, 5, 6}, "grid"}};
  for (const auto& [rule, name] : without) {
    EXPECT_EQ(status(rule).code(), StatusCode::unsupported);
    EXPECT_EQ(status(rule).message(),
              "positions are in-cache ranks, but rule " + name + " is defined for absolute positions");
  }
  for (const AnyRule& rule : {AnyRule(), AnyRule(heed::SlidingWindow{4}), AnyRule(heed::SinkWindow{1, 4}),
                              AnyRule(heed::SeparatorStream{.separators = 1, .local = 1, .capacity = 3, .ids = {1}})}) {
    EXPECT_TRUE(status(rule).ok()) << rule.name();
  }
}

/// A key that was rotated before it was stored has a position for ever.
TEST(Combination, RanksNeedKeysThatAreRotatedAtRead) {
  const heed::Status status =
      TrackedCache::create(tracked_policy, {.positions = heed::Positions::rank}, heed::SinkWindow{1, 4}).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(
      status.message(),
      "positions are in-cache ranks, but the policy stores rotated keys: wrap it in RotatedKeys (Mla: set rope), so "
      "that keys are stored un-rotated and turned when they are read");
}

TEST(Combination, IdsAreNeededWhereARuleLooksAtThem) {
  const std::pair<AnyRule, bool> rules[] = {
      {heed::Causal{}, false},
      {heed::SlidingWindow{4}, false},
      {heed::SinkWindow{1, 4}, false},
      {heed::FixedGrid{1, 4, 5, 6}, false},
      {heed::Anchors{{1}}, true},
      {heed::Separators{1, 4, {1}}, true},
      {heed::SeparatorStream{.separators = 1, .local = 1, .capacity = 3, .ids = {1}}, true}};
  for (const auto& [rule, needs] : rules) {
    auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {}, rule));
    const heed::Status status = cache.begin(heed::NumTokens(2)).status();
    EXPECT_EQ(status.ok(), !needs) << rule.name();
    if (!needs) continue;
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_EQ(status.message(), std::string("begin(): rule ") + rule.name() + " needs token ids; begin() got only their number, 2");
    EXPECT_TRUE(cache.begin(as_ids({1, 0})).ok());
  }
}

}  // namespace
}  // namespace heed_test::rule_test
