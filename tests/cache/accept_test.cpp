/// \file
/// commit(accepted): of a step's tokens only some stay, as if they alone had come.
#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "retention/rule_model.hpp"

namespace heed_test::accept_test {
namespace {

using heed::StatusCode;
using Accepted = std::vector<Index>;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 4, .scale = 0.25f};

Seeds text(std::mt19937_64& random, Index count) {
  Seeds tokens = new_tokens(random, count);
  for (Seed& one : tokens) one = (one & ~Seed{0xffffffff}) | (random() % 5);
  return tokens;
}

TEST(Accept, LeavesWhatTheAcceptedTokensWouldHave) {
  std::mt19937_64 random(1);
  for (const char* kind : rule_kinds) {
    for (int repeat = 0; repeat < 12; ++repeat) {
      const RuleCase rule = random_case(kind, random);
      const heed::CacheOptions options{
          .layers = 2, .undo_tokens = pick(random, 0, 1) * 3, .page_tokens = pick(random, 1, 5)};
      Cache cache = heed::value_or_throw(Cache::create(policy, options, rule.rule));
      RuleModel model(rule, options.undo_tokens);
      Seeds tokens;
      for (int round = 0; round < 12; ++round) {
        const Seeds draft = text(random, pick(random, 0, 12));
        auto step = cache.begin(ids(draft));
        ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, draft));
        Accepted accepted;
        Tokens accepted_ids;
        for (std::size_t i = 0; i < draft.size(); ++i) {
          if (random() % 2 == 0) continue;
          accepted.push_back(Index(i));
          tokens.push_back(draft[i]);
          accepted_ids.push_back(Int(draft[i] & 0x7fffffff));
        }
        const heed::Status status = step->commit(accepted);
        ASSERT_TRUE(status.ok()) << status.message();
        EXPECT_FALSE(step->open());
        model.append(accepted_ids);
        for (Index layer = 0; layer < 2; ++layer) {
          ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, layer, tokens, model.held())) << kind;
        }
        ASSERT_EQ(cache.rollback_floor(), model.floor()) << kind;
      }
    }
  }
}

TEST(Accept, OfNoneIsAnAbort) {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2}));
  auto step = cache.begin(heed::NumTokens(2));
  ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, {3, 4}));
  ASSERT_TRUE(step->commit(Accepted{}).ok());
  expect_holds(cache, {1, 2});
  EXPECT_EQ(cache.retention().calls, 1);
}

TEST(Accept, LeavesForksAlone) {
  Cache cache = heed::value_or_throw(Cache::create(policy, {.page_tokens = 4}));
  ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2}));
  Cache fork = heed::value_or_throw(cache.fork());
  auto step = cache.begin(ids({3, 4, 5}));
  ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, {3, 4, 5}));
  auto other = fork.begin(ids({6}));
  ASSERT_NO_FATAL_FAILURE(write_all(*other, fork, {6}));
  ASSERT_TRUE(step->commit(Accepted{0, 2}).ok());
  ASSERT_TRUE(other->commit().ok());
  expect_holds(cache, {1, 2, 3, 5});
  expect_holds(fork, {1, 2, 6});
}

TEST(Accept, BadIndicesAreNamed) {
  Cache cache = heed::value_or_throw(Cache::create(policy, {}));
  auto step = cache.begin(ids({3, 4, 5}));
  EXPECT_EQ(step->commit(Accepted{0}).message(), "commit(): layer 0, stream 0 was not written in this step");
  ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, {3, 4, 5}));
  const auto refused = [&](const Accepted& accepted, Index at) {
    const heed::Status status = step->commit(accepted);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_EQ(status.message(), "commit(): accepted[" + std::to_string(at) + "] is " +
                                    std::to_string(accepted[std::size_t(at)]) +
                                    ", must be ascending and less than the step's 3 tokens");
    EXPECT_TRUE(step->open());
  };
  refused({0, 3}, 1);
  refused({-1}, 0);
  refused({1, 1}, 1);
  refused({2, 0}, 1);
  ASSERT_TRUE(step->commit(Accepted{1, 2}).ok());
  expect_holds(cache, {4, 5});
  EXPECT_EQ(step->commit(Accepted{}).message(), "commit(): the step is closed");
}

/// A step that has no memory to accept stays open, and may be accepted again.
TEST(Accept, EveryAllocationMayFail) {
  // Ten tokens compress twice and forget the first separators; the first seven compress once and hold three of them.
  const heed::SeparatorStream rule{
      .initial = 0, .separators = 3, .local = 1, .capacity = 5, .ids = {1}, .accumulate = false};
  const Seeds draft{1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2};
  int failures = 0;
  for (Index k = 0; k < 12; ++k) {
    CountingMemory memory;
    const std::vector<heed::LayerRule> rules{{heed::Causal{}, {0}}, {rule, {1}}};
    Cache cache = heed::value_or_throw(
        Cache::create(policy, {.layers = 2, .page_tokens = 1, .memory = memory.resource()}, rules));
    auto step = cache.begin(ids(draft));
    ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, draft));
    cache.trim();
    memory.failing_from = memory.allocations + k;
    memory.failures = 4;
    const Accepted accepted{0, 1, 2, 3, 4, 5, 6};
    if (heed::Status status = step->commit(accepted); !status.ok()) {
      ++failures;
      EXPECT_EQ(status.code(), StatusCode::out_of_memory);
      ASSERT_TRUE(step->open());
      EXPECT_EQ(cache.seen(), 0);
      memory.failing_from = -1;
      status = step->commit(accepted);
      ASSERT_TRUE(status.ok()) << status.message();
    }
    const Seeds tokens(draft.begin(), draft.begin() + 7);
    expect_keeps(cache, 0, tokens, all_positions(7));
    expect_keeps(cache, 1, tokens, {0, 1, 2, 5, 6});
  }
  EXPECT_GE(failures, 1);
}

/// A rule whose landmarks are separators at even positions: which tokens are landmarks is not known before the path is.
struct EvenSeparators {
  Index window = 2;

  static constexpr const char* name = "even separators";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = false;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] bool needs_ids() const noexcept { return true; }
  [[nodiscard]] bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] heed::Role role(Index position, std::int32_t id) const noexcept {
    return id == 1 && position % 2 == 0 ? heed::Role::landmark : heed::Role::plain;
  }
  [[nodiscard]] bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] heed::Recall recall(const heed::History& h) const noexcept {
    return {.begin = std::max<Index>(0, h.next - window + 1)};
  }
  [[nodiscard]] Index rollback_floor(Index evicted, Index) const noexcept { return evicted + window; }
  template <class Field>
  void describe(Field&& field) const {
    field("window", window);
  }
};

/// The accepted tokens may be more landmarks than the draft had: there is room for them, or the step stays open.
TEST(Accept, MakesRoomForLandmarksThatWereNotPlanned) {
  for (Index k = 0;; ++k) {
    CountingMemory memory;
    Cache cache =
        heed::value_or_throw(Cache::create(policy, {.page_tokens = 2, .memory = memory.resource()}, EvenSeparators{}));
    Seeds draft(200, 0), stay;
    Accepted accepted;
    for (std::size_t i = 1; i < 200; i += 2) draft[i] = 1;  // at odd positions
    for (std::size_t i = 1; i < 200; ++i) accepted.push_back(Index(i)), stay.push_back(draft[i]);
    auto step = cache.begin(ids(draft));
    ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, draft));
    memory.failing_from = memory.allocations + k;
    memory.failures = 1000;
    const heed::Status status = step->commit(accepted);
    memory.failing_from = -1;
    if (status.ok()) {
      EXPECT_GE(k, 2);
      std::vector<Index> kept;
      for (Index position = 0; position < 198; position += 2) kept.push_back(position);
      kept.push_back(198);
      ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, 0, stay, kept));
      break;
    }
    ASSERT_EQ(status.code(), StatusCode::out_of_memory);
    ASSERT_TRUE(step->open());
    ASSERT_TRUE(step->commit().ok());
    ASSERT_NO_FATAL_FAILURE(expect_keeps(cache, 0, draft, {199}));
  }
}

}  // namespace
}  // namespace heed_test::accept_test
