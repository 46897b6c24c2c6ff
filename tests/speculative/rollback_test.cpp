// Histories of drafts accepted and rejected leave no trace: a KvCache, and a RecurrentState, equal fresh ones that saw only
// what was accepted.
#include <algorithm>
#include <string>

#include <heed/cache/recurrent_state.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "speculative/subjects.hpp"

namespace heed_test::rollback_test {
namespace {

using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;

Subject<heed::Gqa> small() {
  return {{.num_heads = 2, .num_kv_heads = 1, .head_dim = 8, .v_head_dim = 4, .scale = 0.3f}, 2 * 8, 2 * 4};
}

/// One way of ending a step of drafts.
enum class Way { commit_all, accept_prefix, accept_some, abort, truncate };

/// A cache under a rule, with drafts accepted and rejected at random; `text` is what it should have seen.
class History {
 public:
  History(const heed::AnyRule& rule, const heed::CacheOptions& options, std::uint64_t seed)
      : rule_(rule), options_(options), random_(seed), cache_(make_cache<heed::Bf16>(small(), options, rule)) {}

  void step() {
    const Index count = random_.below(7);
    const Rows rows = drafts(count);
    auto step = begin(cache_, rows);
    if (random_.below(2) == 0) (void)attend(small(), rows, step.keys(0));  // reading changes nothing
    switch (Way(random_.below(5))) {
      case Way::commit_all:
        heed::check(step.commit());
        text_.append(rows);
        break;
      case Way::accept_prefix: return accept(step, rows, [&rows](Index i) { return i < rows.size() / 2; });
      case Way::accept_some: return accept(step, rows, [this](Index) { return random_.below(2) == 0; });
      case Way::abort: step.abort(); break;
      case Way::truncate: {
        heed::check(step.commit());
        text_.append(rows);
        // What cannot be taken back is refused, and stays.
        const Index kept = text_.size() - random_.below(count + 1);
        const heed::Status status = cache_.truncate(kept);
        ASSERT_EQ(status.ok(), kept == 0 || kept >= cache_.rollback_floor());
        if (status.ok()) {
          text_ = text_.part(0, kept);
          ++truncated_;
        } else {
          ++refused_;
        }
      }
    }
  }

  /// Against a cache that never saw a rejected token, one token at a time. Slack that was used to truncate is not there
  /// again until as many tokens have come: then the cache holds less of what the rule has already let go.
  void expect_equals_fresh() {
    Cache fresh =
        make_cache<heed::Bf16>(small(), {.layers = options_.layers, .undo_tokens = options_.undo_tokens}, rule_);
    for (Index t = 0; t < text_.size(); ++t) heed::check(begin(fresh, text_.part(t, 1)).commit());
    const bool slack_used = options_.undo_tokens > 0 && truncated_ > 0;
    ASSERT_EQ(cache_.seen(), fresh.seen());
    ASSERT_EQ(cache_.retention().seen, fresh.retention().seen);
    for (Index layer = 0; layer < cache_.layers(); ++layer) {
      if (!slack_used) {
        ASSERT_EQ(cache_.kept(layer), fresh.kept(layer));
      }
      ASSERT_EQ(cache_.evicted(layer), cache_.seen() - cache_.kept(layer));
      ASSERT_EQ(cache_.retention(layer).kept, cache_.kept(layer));
      for (Index key = 0, same = 0; key < cache_.kept(layer); ++key, ++same) {
        while (same < fresh.kept(layer) && fresh.position(same, layer) < cache_.position(key, layer)) ++same;
        ASSERT_LT(same, fresh.kept(layer));
        ASSERT_EQ(cache_.position(key, layer), fresh.position(same, layer));
        ASSERT_EQ(cache_.token_id(key, layer), fresh.token_id(same, layer));
        for (int stream = 0; stream < 2; ++stream) {
          const std::size_t bytes = stream == 0 ? 8 * 2 : 4 * 2;
          ASSERT_EQ(std::memcmp(cache_.keys(layer).row_run(stream, 0, key, 1).data,
                                fresh.keys(layer).row_run(stream, 0, same, 1).data, bytes),
                    0)
              << "layer " << layer << ", stream " << stream << ", key " << key;
        }
      }
    }
    ASSERT_GE(cache_.rollback_floor(), fresh.rollback_floor());
    if (!slack_used) {
      ASSERT_EQ(cache_.rollback_floor(), fresh.rollback_floor());
    }
    // And both go on alike, in any calls.
    const Rows more = drafts(12);
    const Output one_by_one = decode_one_by_one(small(), fresh, more);
    auto fork = heed::value_or_throw(cache_.fork());
    ASSERT_TRUE(decode(small(), fork, more) == one_by_one);
    ASSERT_TRUE(decode_one_by_one(small(), cache_, more) == one_by_one);
    for (const Cache* one : {&fork, &cache_}) {
      ASSERT_EQ(one->kept(), fresh.kept());
      ASSERT_EQ(one->rollback_floor(), fresh.rollback_floor());
    }
  }

  [[nodiscard]] Index tokens() const { return text_.size(); }
  [[nodiscard]] Index truncated() const { return truncated_; }
  [[nodiscard]] Index refused() const { return refused_; }

 private:
  [[nodiscard]] Rows drafts(Index count) { return random_rows(small(), count, random_); }

  template <class Accepted>
  void accept(Cache::Step& step, const Rows& rows, const Accepted& accepted) {
    std::vector<Index> kept;
    for (Index i = 0; i < rows.size(); ++i) {
      if (accepted(i)) kept.push_back(i);
    }
    heed::check(step.commit(kept));
    text_.append(rows.picked(kept));
  }

  heed::AnyRule rule_;
  heed::CacheOptions options_;
  oracle::Random random_;
  Cache cache_;
  Rows text_ = random_rows(small(), 0, random_);
  Index truncated_ = 0, refused_ = 0;
};

struct RuleOf {
  const char* name;
  heed::AnyRule rule;
  bool forgets;
};
const std::vector<RuleOf>& rules() {
  static const std::vector<RuleOf> all{
      {"Causal", heed::Causal{}, false},
      {"SlidingWindow", heed::SlidingWindow{9}, true},
      {"SinkWindow", heed::SinkWindow{2, 6}, true},
      {"Separators", heed::Separators{.initial = 1, .window = 8, .ids = {1, 2}}, true},
      {"Anchors", heed::Anchors{.ids = {1, 2}}, true},
      {"SeparatorStream",
       heed::SeparatorStream{.initial = 2, .separators = 3, .local = 4, .capacity = 14, .ids = {1, 2}}, true},
  };
  return all;
}

class Rollback : public testing::TestWithParam<RuleOf> {};
INSTANTIATE_TEST_SUITE_P(Rules, Rollback, testing::ValuesIn(rules()),
                         [](const auto& one) { return std::string(one.param.name); });

/// 10,000 histories in all: 6 rules x 3 slacks x 556.
TEST_P(Rollback, OfDraftsLeavesACacheThatNeverSawThem) {
  for (const Index undo : {0, 3, 7}) {
    Index truncated = 0, refused = 0;
    for (int repeat = 0; repeat < 556; ++repeat) {
      History history(GetParam().rule, {.layers = 1 + repeat % 2, .undo_tokens = undo, .page_tokens = 1 + repeat % 5},
                      std::uint64_t(1000 * undo + repeat));
      const int steps = 1 + repeat % 14;
      for (int step = 0; step < steps; ++step) ASSERT_NO_FATAL_FAILURE(history.step());
      ASSERT_NO_FATAL_FAILURE(history.expect_equals_fresh()) << "undo " << undo << ", history " << repeat;
      truncated += history.truncated();
      refused += history.refused();
    }
    EXPECT_GT(truncated, 300);
    // A draft of at most 6 tokens can always be taken back with slack for 7.
    if (undo == 7 || !GetParam().forgets) {
      EXPECT_EQ(refused, 0);
    } else if (undo == 0) {
      EXPECT_GT(refused, 30);
    }
  }
}

// --- a recurrent state --------------------------------------------------------------------------------------------------

/// Some recurrence that forgets nothing: a trace of a rejected token would stay for good.
class Recurrent {
 public:
  static constexpr Index layers = 2, width = 5;

  explicit Recurrent(Index undo)
      : state(heed::value_or_throw(
            heed::RecurrentState::create({.layers = layers, .width = width, .undo_tokens = undo}))) {}

  [[nodiscard]] heed::RecurrentState::Step begin(const std::vector<std::int32_t>& tokens) {
    auto step = heed::value_or_throw(state.begin(tokens));
    for (Index l = 0; l < layers; ++l) {
      const heed::RecurrentLayer layer = heed::value_or_throw(step.layer(l));
      std::vector<float> now(layer.before(), layer.before() + width);
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        for (Index i = 0; i < width; ++i) {
          float& x = now[std::size_t(i)];
          x = 0.75f * x + float(tokens[t] * (i + 1) + l) - 0.125f * now[std::size_t((i + 1) % width)];
        }
        if (float* const after = layer.after(Index(t)); after != nullptr) std::copy(now.begin(), now.end(), after);
      }
    }
    return step;
  }
  void append(const std::vector<std::int32_t>& tokens) { heed::check(begin(tokens).commit()); }

  heed::RecurrentState state;
};

std::vector<float> state_of(heed::RecurrentState& state) {
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
  std::vector<float> all;
  for (Index l = 0; l < state.layers(); ++l) {
    const float* const row = heed::value_or_throw(step.layer(l)).before();
    all.insert(all.end(), row, row + state.width());
  }
  return all;  // the step is aborted
}

TEST(RecurrentRollback, OfDraftsLeavesAStateThatNeverSawThem) {
  for (const Index undo : {0, 3, 7}) {
    oracle::Random random(std::uint64_t(40 + undo));
    Index truncated = 0, refused = 0;
    for (int repeat = 0; repeat < 3400; ++repeat) {
      Recurrent model(undo), fresh(undo);
      std::vector<std::int32_t> text;
      for (int step_number = 0; step_number < 1 + repeat % 12; ++step_number) {
        std::vector<std::int32_t> drafts;
        for (Index i = random.below(7); i > 0; --i) drafts.push_back(std::int32_t(random.below(9)));
        const auto count = Index(drafts.size());
        auto step = model.begin(drafts);
        const Index accepted = random.below(count + 1);
        const auto extend = [&](Index tokens) { text.insert(text.end(), drafts.begin(), drafts.begin() + tokens); };
        switch (random.below(4)) {
          case 0: step.abort(); break;
          case 1:
            heed::check(step.commit());
            extend(count);
            break;
          case 2: {
            const heed::Status status = step.commit(accepted);
            ASSERT_EQ(status.ok(), accepted == 0 || count - accepted <= undo) << accepted << " of " << count;
            if (status.ok()) {
              extend(accepted);
            } else {
              ++refused;
              ASSERT_EQ(status.code(), heed::StatusCode::out_of_range);
              ASSERT_TRUE(step.open());
            }
            break;
          }
          default: {
            heed::check(step.commit());
            extend(count);
            const Index kept = Index(text.size()) - accepted;
            const heed::Status status = model.state.truncate(kept);
            ASSERT_EQ(status.ok(), kept == 0 || kept >= model.state.rollback_floor());
            if (status.ok()) {
              text.resize(std::size_t(kept));
              ++truncated;
            } else {
              ++refused;
            }
          }
        }
      }
      for (const std::int32_t token : text) fresh.append({token});
      ASSERT_EQ(model.state.seen(), fresh.state.seen());
      ASSERT_EQ(state_of(model.state), state_of(fresh.state)) << "undo " << undo << ", history " << repeat;
      // It never claims to reach farther back than it does, and what it reaches is right.
      const Index floor = std::max<Index>(model.state.rollback_floor(), Index(text.size()) - 3);
      ASSERT_GE(model.state.rollback_floor(), fresh.state.rollback_floor());
      if (floor < Index(text.size()) && floor > 0) {
        heed::check(model.state.truncate(floor));
        Recurrent earlier(undo);
        for (Index t = 0; t < floor; ++t) earlier.append({text[std::size_t(t)]});
        ASSERT_EQ(state_of(model.state), state_of(earlier.state));
      }
      model.append({1, 2, 3});
    }
    EXPECT_GT(truncated, 1000);
    EXPECT_GT(refused, undo == 7 ? -1 : 500);
  }
}

/// With slack for every draft nothing is ever refused.
TEST(RecurrentRollback, NeverFailsWithSlackForAStep) {
  oracle::Random random(9);
  Recurrent model(6);
  for (int i = 0; i < 2000; ++i) {
    const Index count = 1 + random.below(7);
    auto step = model.begin(std::vector<std::int32_t>(std::size_t(count), 1));
    ASSERT_TRUE(step.commit(random.below(count + 1)).ok());
  }
}

}  // namespace
}  // namespace heed_test::rollback_test
