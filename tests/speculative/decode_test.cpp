// The speculative loop on small models: the text of plain decoding whatever is drafted and accepted, the lengths of a real
// cache on the way, statistics, failures, and the target's distribution when it samples.
#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <optional>
#include <string>

#include <heed/speculative/decode.hpp>

#include "speculative/subjects.hpp"

namespace heed_test::decode_test {
namespace {

using heed::Result;
using heed::Status;
using heed::StatusCode;
using heed::Token;
using Tokens = std::vector<Token>;

constexpr Index vocabulary = 5;

/// A model of callables; `text` is what was committed.
struct Model {
  std::function<std::vector<float>(const Tokens& text)> logits = {};  ///< of the token after it
  std::function<Tokens(Token token, Index count)> drafts = [](Token, Index) { return Tokens(); };
  std::function<Status()> draft_status = [] { return Status(); };
  std::function<Status()> verify_status = [] { return Status(); };
  std::function<Status()> commit_status = [] { return Status(); };
  Tokens text = {};
  std::vector<double> probabilities = {};

  std::vector<Index> asked = {}, verified = {}, committed = {};  ///< numbers in the calls
  Tokens guess = {}, step = {};
  std::vector<float> rows = {};

  [[nodiscard]] Index vocab_size() const { return vocabulary; }
  [[nodiscard]] Result<std::span<const Token>> draft(Token token, Index count) {
    asked.push_back(count);
    if (Status status = draft_status(); !status.ok()) return status;
    guess = drafts(token, count);
    return std::span<const Token>(guess);
  }
  [[nodiscard]] Result<std::span<const float>> verify(std::span<const Token> tokens) {
    verified.push_back(Index(tokens.size()));
    if (Status status = verify_status(); !status.ok()) return status;
    step.assign(tokens.begin(), tokens.end());
    rows.clear();
    Tokens read = text;
    for (const Token token : tokens) {
      read.push_back(token);
      const std::vector<float> row = logits(read);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return std::span<const float>(rows);
  }
  [[nodiscard]] Status commit(Index count) {
    committed.push_back(count);
    if (Status status = commit_status(); !status.ok()) return status;
    text.insert(text.end(), step.begin(), step.begin() + count);
    return {};
  }
  [[nodiscard]] std::span<const double> draft_probabilities() const { return probabilities; }
};
static_assert(heed::SpeculativeModel<Model> && heed::SamplingModel<Model>);

/// Some token that depends on the last three.
Token next_of(const Tokens& text) {
  std::uint64_t x = text.size();
  for (std::size_t i = text.size() < 3 ? 0 : text.size() - 3; i < text.size(); ++i) {
    x = (x * 31 + std::uint64_t(text[i]) + 7) * 0x9e3779b97f4a7c15u;
  }
  return Token((x >> 40) % vocabulary);
}
std::vector<float> certain(const Tokens& text) {
  std::vector<float> logits(std::size_t(vocabulary), -1.0f);
  logits[std::size_t(next_of(text))] = 2;
  return logits;
}
/// The `count` tokens after `text`.
Tokens plain(Tokens text, Index count) {
  Tokens all;
  for (Index i = 0; i < count; ++i) {
    all.push_back(next_of(text));
    text.push_back(all.back());
  }
  return all;
}

struct Made {
  Tokens tokens;
  Result<heed::SpeculativeStatistics> result;
};

/// `right` says how many drafts of step number n are right.
Made run(Model& model, Token token, Index count, Index drafts, const std::function<Index(Index step)>& right) {
  model.logits = certain;
  model.drafts = [&model, &right](Token first, Index most) {
    Tokens text = model.text;
    text.push_back(first);
    Tokens made = plain(text, most);
    const Index wrong = right(Index(model.verified.size()));
    if (wrong < most) made[std::size_t(wrong)] = (made[std::size_t(wrong)] + 1) % Token(vocabulary);
    return made;
  };
  Made made{{}, Status()};
  made.result = heed::speculate_greedy(model, token, count, drafts, [&](Token one) { made.tokens.push_back(one); });
  return made;
}

TEST(SpeculateGreedy, IsPlainGreedyDecodingWhateverIsAccepted) {
  for (const Index drafts : {0, 1, 2, 3, 7}) {
    for (Index right = 0; right <= drafts; ++right) {
      for (const Index count : {0, 1, 2, 5, 60}) {
        Model model{.text = {1, 2, 3}};
        const Made made = run(model, 4, count, drafts, [&](Index) { return right; });
        ASSERT_TRUE(made.result.ok()) << made.result.status().message();
        EXPECT_EQ(made.tokens, plain({1, 2, 3, 4}, count)) << drafts << " drafts, " << right << " right";
      }
    }
  }
}

TEST(SpeculateGreedy, IsPlainGreedyDecodingWhenAcceptanceChanges) {
  for (const Index drafts : {1, 2, 3, 7}) {
    oracle::Random random(1);
    Model model{.text = {0}};
    const Made made = run(model, 2, 300, drafts, [&](Index) { return random.below(drafts + 1); });
    EXPECT_EQ(made.tokens, plain({0, 2}, 300)) << drafts;
  }
}

TEST(SpeculateGreedy, CommitsAllButTheLastToken) {
  for (const Index drafts : {0, 3}) {
    for (const Index count : {1, 2, 3, 4, 5, 30}) {
      Model model{.text = {3}};
      const Made made = run(model, 1, count, drafts, [](Index step) { return step % 4; });
      Tokens want{3, 1};
      want.insert(want.end(), made.tokens.begin(), made.tokens.end() - 1);
      EXPECT_EQ(model.text, want) << count;
    }
  }
}

/// No more drafts are asked for than can still come out before the last token.
TEST(SpeculateGreedy, DraftsNoMoreThanIsWanted) {
  Model model;
  const Made made = run(model, 1, 6, 3, [](Index) { return 3; });
  EXPECT_EQ(model.asked, (std::vector<Index>{3, 1}));
  EXPECT_EQ(model.verified, (std::vector<Index>{4, 2}));
  EXPECT_EQ(model.committed, (std::vector<Index>{4, 2}));
  Model last;
  ASSERT_TRUE(run(last, 1, 1, 3, [](Index) { return 3; }).result.ok());
  EXPECT_EQ(last.asked, (std::vector<Index>{0}));
  Model none;
  ASSERT_TRUE(run(none, 1, 0, 3, [](Index) { return 3; }).result.ok());
  EXPECT_TRUE(none.asked.empty() && none.verified.empty());
}

TEST(SpeculateGreedy, AcceptsFewerDraftsThanItAskedFor) {
  Model model{.logits = certain};
  model.drafts = [&](Token token, Index count) {
    Tokens text = model.text;
    text.push_back(token);
    return plain(text, std::min<Index>(count, Index(text.size()) % 3));
  };
  Tokens tokens;
  const auto made = heed::speculate_greedy(model, 2, 50, 4, [&](Token token) { tokens.push_back(token); });
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(tokens, plain({2}, 50));
  EXPECT_EQ(made->acceptance(0), 1);
  EXPECT_EQ(made->acceptance(3), 0) << "never drafted";
}

TEST(SpeculateGreedy, CountsWhatHappened) {
  // Of 3 drafts a step accepts 0, 1, 2, 3, 0, 1, ...: tokens 1 + 2 + 3 + 4 each round.
  Model model;
  const Made made = run(model, 1, 40, 3, [](Index step) { return step % 4; });
  ASSERT_TRUE(made.result.ok());
  const heed::SpeculativeStatistics& s = *made.result;
  EXPECT_EQ(s.tokens, 40);
  EXPECT_EQ(s.steps, 16);
  EXPECT_EQ(s.drafted, (std::vector<Index>{16, 16, 16}));
  EXPECT_EQ(s.accepted, (std::vector<Index>{12, 8, 4}));
  EXPECT_EQ(s.acceptance(0), 0.75);
  EXPECT_EQ(s.acceptance(2), 0.25);
  EXPECT_EQ(s.acceptance(3), 0) << "there is no such draft";
  EXPECT_EQ(s.tokens_per_step(), 2.5);
  EXPECT_EQ(heed::SpeculativeStatistics{}.tokens_per_step(), 0);
}

TEST(SpeculateGreedy, RefusesDraftsOutOfRange) {
  for (const Index drafts : {-1, 4096}) {
    Model model{.logits = certain};
    const Made made = run(model, 1, 5, drafts, [](Index) { return 0; });
    EXPECT_EQ(made.result.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(made.result.status().message(), "drafts is " + std::to_string(drafts) + ", must be in 0 .. 4095");
    EXPECT_TRUE(model.asked.empty() && made.tokens.empty());
  }
  Model most;
  EXPECT_TRUE(run(most, 1, 5, 4095, [](Index) { return 0; }).result.ok());
}

TEST(SpeculateGreedy, EndsWithAFailureOfTheModel) {
  const auto fails_at = [](int& calls, int call) {
    return [&calls, call] { return ++calls == call ? heed::fail(StatusCode::out_of_memory, "no room") : Status(); };
  };
  for (const int call : {1, 3}) {
    for (const int part : {0, 1, 2}) {
      int calls = 0;
      Model model;
      (part == 0 ? model.draft_status : part == 1 ? model.verify_status : model.commit_status) = fails_at(calls, call);
      const Made made = run(model, 1, 20, 2, [](Index) { return 1; });
      EXPECT_EQ(made.result.status().code(), StatusCode::out_of_memory);
      EXPECT_EQ(made.result.status().message(), "no room");
      EXPECT_EQ(calls, call) << "nothing more was asked";
      EXPECT_EQ(made.tokens, plain({1}, 2 * (call - 1))) << "only what was committed came out";
    }
  }
}

TEST(SpeculateGreedy, RefusesAModelThatBreaksItsWord) {
  const auto message = [](Model& model) {
    Index emitted = 0;
    const auto made = heed::speculate_greedy(model, 1, 10, 2, [&](Token) { ++emitted; });
    EXPECT_EQ(made.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(emitted, 0);
    return made.status().message();
  };
  Model many{.logits = certain};
  many.drafts = [](Token, Index count) { return Tokens(std::size_t(count + 1), 0); };
  EXPECT_EQ(message(many), "draft() gave 3 tokens, must give at most 2");
  for (const Token bad : {-1, 5}) {
    Model wrong{.logits = certain};
    wrong.drafts = [=](Token, Index) { return Tokens{0, bad}; };
    EXPECT_EQ(message(wrong), "a token of draft() is " + std::to_string(bad) + ", must be in 0 .. 4");
  }
  Model few{.logits = [](const Tokens&) { return std::vector<float>(3); }};
  EXPECT_EQ(message(few), "verify() gave 3 logits, must give 5 for 1 token");
  EXPECT_EQ(few.committed, (std::vector<Index>{0})) << "its step is closed";
}

/// What verify() opened is closed, and the model can go on.
TEST(SpeculateGreedy, ClosesTheStepThatItCannotUse) {
  for (const bool sampled : {false, true}) {
    Model model;
    model.drafts = [](Token, Index count) { return Tokens(std::size_t(count), 1); };
    model.probabilities.assign(2 * vocabulary, 0.2);
    Index calls = 0;
    model.logits = [&](const Tokens&) { return std::vector<float>(std::size_t(vocabulary), ++calls > 3 ? nan : 1.0f); };
    Tokens out;
    const auto emit = [&](Token token) { out.push_back(token); };
    const auto made = sampled ? heed::speculate_sampled(
                                    model, 1, 10, 2, 1.0, [] { return 0.9; }, emit)
                              : heed::speculate_greedy(model, 1, 10, 2, emit);
    EXPECT_EQ(made.status().code(), StatusCode::invalid_argument);
    ASSERT_EQ(model.verified.size(), 2u);
    ASSERT_EQ(model.committed.size(), 2u);
    EXPECT_EQ(model.committed[0], Index(out.size()));
    EXPECT_EQ(model.committed[1], 0);
    EXPECT_EQ(model.text.size(), out.size());
  }
}

/// The right drafts but for one in each step, until `stop` tokens came out.
Made run_until(Model& model, Token token, Index count, Index drafts, Index right, Index stop) {
  model.logits = certain;
  model.drafts = [&model, right](Token first, Index most) {
    Tokens text = model.text;
    text.push_back(first);
    Tokens made = plain(text, most);
    if (right < most) made[std::size_t(right)] = (made[std::size_t(right)] + 1) % Token(vocabulary);
    return made;
  };
  Made made{{}, Status()};
  made.result = heed::speculate_greedy(model, token, count, drafts, [&](Token one) {
    made.tokens.push_back(one);
    return Index(made.tokens.size()) < stop;
  });
  return made;
}

/// As a draft, as the token after the drafts, as the last one that was wanted.
TEST(SpeculateGreedy, StopsAtTheTokenAtWhichEmitSaysSo) {
  const Tokens text{1, 2, 3};
  for (const Index drafts : {0, 1, 3, 7}) {
    for (Index right = 0; right <= drafts; ++right) {
      for (Index stop = 1; stop <= 20; ++stop) {
        Model model{.text = text};
        const Made made = run_until(model, 4, 20, drafts, right, stop);
        ASSERT_TRUE(made.result.ok()) << made.result.status().message();
        Tokens want{1, 2, 3, 4};
        const Tokens all = plain(want, 20);
        ASSERT_EQ(made.tokens, Tokens(all.begin(), all.begin() + stop)) << drafts << ", " << right << " right";
        want.insert(want.end(), made.tokens.begin(), made.tokens.end() - 1);
        ASSERT_EQ(model.text, want) << "committed: all but the last, " << drafts << ", " << right << " right";
        EXPECT_EQ(made.result->tokens, stop);
        EXPECT_TRUE(made.result->stopped);
        EXPECT_EQ(made.result->steps, (stop + right) / (right + 1));
        EXPECT_EQ(made.result->steps, Index(model.committed.size()));
        // It goes on from there as if nothing had been.
        const Made rest = run_until(model, made.tokens.back(), 20 - stop, drafts, right, 100);
        EXPECT_EQ(rest.tokens, Tokens(all.begin() + stop, all.end()));
        EXPECT_FALSE(rest.result->stopped);
      }
    }
  }
}

TEST(SpeculateGreedy, CountsWhatCameOutBeforeItStopped) {
  struct Row {
    Index stop, tokens, steps;
    std::vector<Index> drafted, accepted, committed;
  };
  for (const Row& row : std::vector<Row>{{1, 1, 1, {1, 1, 1}, {1, 0, 0}, {1}},        // a draft
                                         {3, 3, 1, {1, 1, 1}, {1, 1, 1}, {3}},        // the last draft
                                         {4, 4, 1, {1, 1, 1}, {1, 1, 1}, {4}},        // the token after it
                                         {5, 5, 2, {2, 2, 2}, {2, 1, 1}, {4, 1}}}) {  // the next step
    Model model;
    const Made made = run_until(model, 1, 30, 3, 3, row.stop);
    ASSERT_TRUE(made.result.ok());
    EXPECT_EQ(made.result->tokens, row.tokens);
    EXPECT_EQ(made.result->steps, row.steps);
    EXPECT_EQ(made.result->drafted, row.drafted);
    EXPECT_EQ(made.result->accepted, row.accepted);
    EXPECT_EQ(model.committed, row.committed);
  }
}

/// Rows of logits with one bad number.
std::vector<float> certain_but(const Tokens& text, Index length, float bad) {
  std::vector<float> logits = certain(text);
  if (Index(text.size()) == length) logits[2] = bad;
  if (Index(text.size()) == length && bad == -std::numeric_limits<float>::infinity()) {
    std::fill(logits.begin(), logits.end(), bad);
  }
  return logits;
}

TEST(Speculate, RefusesLogitsThatChooseNothing) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::pair<float, const char*> numbers[] = {{nan, "logit 2 is nan, must be finite, or -inf for no chance"},
                                                   {infinity, "logit 2 is inf, must be finite, or -inf for no chance"},
                                                   {-infinity, "all 5 logits are -inf, one must be finite"}};
  for (const auto& number : numbers) {
    for (const Index row : {0, 1, 3}) {
      for (const bool sampled : {false, true}) {
        Model model;
        run_until(model, 1, 30, 3, 3, 4);  // one good step of four tokens
        ASSERT_EQ(model.text.size(), 4u);
        const Tokens before = model.text;
        model.committed.clear();
        model.logits = [&](const Tokens& text) { return certain_but(text, 5 + row, number.first); };
        model.probabilities.clear();
        for (Index i = 0; i < 3; ++i) {
          Tokens text = before;
          text.push_back(next_of(text));
          const Tokens guesses = plain(text, i + 1);
          for (Token token = 0; token < vocabulary; ++token) model.probabilities.push_back(token == guesses.back());
        }
        Index emitted = 0;
        const auto emit = [&](Token) { ++emitted; };
        const Token token = next_of(before);
        const auto made = sampled ? heed::speculate_sampled(
                                        model, token, 10, 3, 1e-3, [] { return 0.5; }, emit)
                                  : heed::speculate_greedy(model, token, 10, 3, emit);
        EXPECT_EQ(made.status().code(), StatusCode::invalid_argument);
        EXPECT_EQ(made.status().message(), "logits row " + std::to_string(row) + ": " + number.second);
        EXPECT_EQ(emitted, 0);
        EXPECT_EQ(model.committed, (std::vector<Index>{0}));
        EXPECT_EQ(model.text, before);
      }
    }
  }
}

/// Decoding one by one would never have made them.
TEST(Speculate, DoesNotLookAtLogitsAfterARejection) {
  Model model;
  const Made made = run(model, 1, 40, 3, [](Index step) { return step % 3; });
  Model poisoned;
  poisoned.drafts = [&](Token first, Index most) {
    Tokens text = poisoned.text;
    text.push_back(first);
    Tokens guess = plain(text, most);
    if (most > 0) guess[0] = (guess[0] + 1) % Token(vocabulary);
    return guess;
  };
  poisoned.logits = [&](const Tokens& text) {
    std::vector<float> logits = certain(text);
    if (text.size() > poisoned.text.size() + 1) std::fill(logits.begin(), logits.end(), nan);
    return logits;
  };
  Tokens tokens;
  const auto greedy = heed::speculate_greedy(poisoned, 1, 40, 3, [&](Token token) { tokens.push_back(token); });
  ASSERT_TRUE(greedy.ok()) << greedy.status().message();
  EXPECT_EQ(tokens, made.tokens);
}

// --- over a cache -------------------------------------------------------------------------------------------------------

/// One layer of attention over a KvCache, and a second cache layer of its own length, as an MTP module has: what a token
/// brings depends on the token and its position, logits are products with what it gets.
class AttentionModel {
 public:
  AttentionModel() {
    oracle::Random random(9);
    head_ = random.gaussians(vocabulary * subject_.out_width);
  }

  [[nodiscard]] Index vocab_size() const { return vocabulary; }
  [[nodiscard]] Result<std::span<const Token>> draft(Token token, Index count) {
    guess_ = drafts(token, count);
    return std::span<const Token>(guess_);
  }
  [[nodiscard]] Result<std::span<const float>> verify(std::span<const Token> tokens) {
    Rows rows;
    for (std::size_t i = 0; i < tokens.size(); ++i) rows.append(rows_of(tokens[i], cache.seen() + Index(i)));
    step_.emplace(begin(cache, rows));
    in_step.push_back(step_->keys(0).size());
    const Output got = attend(subject_, rows, step_->keys(0));
    logits_.clear();
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      for (Index token = 0; token < vocabulary; ++token) {
        float sum = 0;
        for (Index d = 0; d < subject_.out_width; ++d) {
          sum += got.out[row * std::size_t(subject_.out_width) + std::size_t(d)] *
                 head_[std::size_t(token * subject_.out_width + d)];
        }
        logits_.push_back(sum);
      }
    }
    return std::span<const float>(logits_);
  }
  [[nodiscard]] Status commit(Index count) {
    std::vector<Index> accepted(static_cast<std::size_t>(count));
    std::iota(accepted.begin(), accepted.end(), Index{0});
    Status status = step_->commit(accepted);
    after.push_back(cache.size());
    return status;
  }

  heed::KvCache<heed::Gqa, heed::Bf16> cache = make_cache<heed::Bf16>(gqa(), {.layers = 2, .page_tokens = 32});
  std::function<Tokens(Token, Index)> drafts = [](Token, Index) { return Tokens(); };
  std::vector<Index> in_step, after;  ///< keys of the layer inside and after each step

 private:
  [[nodiscard]] Rows rows_of(Token token, Index position) const {
    oracle::Random random(std::uint64_t(token) * 100003 + std::uint64_t(position));
    Rows rows = random_rows(subject_, 1, random);
    rows.ids[0] = token;
    return rows;
  }

  Subject<heed::Gqa> subject_ = gqa();
  std::vector<float> head_, logits_;
  Tokens guess_;
  std::optional<heed::KvCache<heed::Gqa, heed::Bf16>::Step> step_;
};

struct Text {
  Tokens tokens;
  heed::SpeculativeStatistics statistics;
};

Text speculate(AttentionModel& model, Index count, Index drafts) {
  Text text;
  text.statistics = heed::value_or_throw(
      heed::speculate_greedy(model, 1, count, drafts, [&](Token token) { text.tokens.push_back(token); }));
  return text;
}

/// Drafts the plain text, but for one wrong token in each step.
void force(AttentionModel& model, const Tokens& text, const Tokens& made, const std::function<Index()>& right) {
  model.drafts = [&, right](Token, Index count) {
    const auto next = text.begin() + std::ptrdiff_t(made.size());
    Tokens guess(next, next + count);
    const Index wrong = right();
    if (wrong < count) guess[std::size_t(wrong)] = (guess[std::size_t(wrong)] + 1) % Token(vocabulary);
    return guess;
  };
}

TEST(SpeculateOverACache, IsPlainGreedyDecodingBitForBit) {
  AttentionModel alone;
  const Tokens want = speculate(alone, 320, 0).tokens;
  EXPECT_GT(std::count(want.begin(), want.end(), want[0]), 10);
  EXPECT_LT(std::count(want.begin(), want.end(), want[0]), 310) << "a text worth comparing";
  for (const Index drafts : {1, 2, 3, 7}) {
    for (Index right = 0; right <= drafts; ++right) {
      AttentionModel model;
      Tokens tokens;
      force(model, want, tokens, [&] { return right; });
      const auto made = heed::speculate_greedy(model, 1, 320, drafts, [&](Token token) { tokens.push_back(token); });
      ASSERT_TRUE(made.ok()) << made.status().message();
      ASSERT_EQ(tokens, want) << drafts << " drafts, " << right << " right";
      EXPECT_EQ(model.cache.size(), 320);
      EXPECT_EQ(made->steps, (320 + right) / (right + 1));
    }
  }
}

TEST(SpeculateOverACache, StopsWithTheCacheOfTheTextSoFar) {
  AttentionModel alone;
  const Tokens want = speculate(alone, 40, 0).tokens;
  for (Index stop = 1; stop <= 12; ++stop) {
    AttentionModel model;
    Tokens tokens;
    force(model, want, tokens, [] { return Index{3}; });
    const auto emit = [&](Token token) {
      tokens.push_back(token);
      return Index(tokens.size()) != stop;
    };
    ASSERT_TRUE(heed::speculate_greedy(model, 1, 40, 3, emit).ok());
    EXPECT_EQ(model.cache.size(), stop) << "the first token, and all that came out but the last";
    ASSERT_TRUE(heed::speculate_greedy(model, tokens.back(), 40 - stop, 3, emit).ok());
    EXPECT_EQ(tokens, want);
  }
}

/// n = 100, k = 3: 104 keys in the step; after it 101 + a. Both layers.
TEST(SpeculateOverACache, HasTheLengthsOfTheWorkedExample) {
  AttentionModel alone;
  const Tokens want = speculate(alone, 120, 0).tokens;
  for (Index right = 0; right <= 3; ++right) {
    AttentionModel model;
    Tokens tokens;
    const auto emit = [&](Token token) { tokens.push_back(token); };
    ASSERT_TRUE(heed::speculate_greedy(model, 1, 100, 0, emit).ok());
    ASSERT_EQ(model.cache.size(), 100);
    model.in_step.clear(), model.after.clear();
    force(model, want, tokens, [&] { return right; });
    const auto made = heed::speculate_greedy(model, tokens.back(), 4, 3, emit);
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(model.in_step[0], 104);
    EXPECT_EQ(model.after[0], 101 + right);
    EXPECT_EQ(model.cache.size(1), model.cache.size(0));
    EXPECT_EQ(tokens, Tokens(want.begin(), want.begin() + 104));
  }
}

/// Where the layers of a step are accepted, the MTP module's own cache is cut back and written anew.
TEST(SpeculateOverACache, LetsAnMtpLayerHaveALengthOfItsOwn) {
  const Subject<heed::Mla> subject = mla();
  oracle::Random random(3);
  auto main = make_cache<heed::F32>(subject), mtp = make_cache<heed::F32>(subject);
  const Rows text = random_rows(subject, 110, random);
  decode(subject, main, text.part(0, 100));
  decode(subject, mtp, text.part(0, 99));  // slot i needs token i + 1
  // Draft: the true slot 99, then two of the module's own. Verify 1 + 3 tokens and accept one draft.
  decode(subject, mtp, text.part(99, 1));
  Rows guessed = random_rows(subject, 2, random);
  guessed.poison(0), guessed.poison(1);
  decode(subject, mtp, guessed);
  EXPECT_EQ(mtp.size(), 102);
  Rows step_rows = text.part(100, 2);
  step_rows.append(guessed);
  auto step = begin(main, step_rows);
  EXPECT_EQ(step.keys(0).size(), 104);
  ASSERT_TRUE(step.commit(std::vector<Index>{0, 1}).ok());
  EXPECT_EQ(main.size(), 102);
  // Slots of accepted tokens are written anew from true hiddens.
  ASSERT_TRUE(mtp.truncate(100).ok());
  decode(subject, mtp, text.part(100, 2));
  EXPECT_EQ(mtp.size(), 102);
  auto fresh = make_cache<heed::F32>(subject);
  decode(subject, fresh, text.part(0, 102));
  const Output want = decode_one_by_one(subject, fresh, text.part(102, 8));
  EXPECT_TRUE(decode_one_by_one(subject, mtp, text.part(102, 8)) == want);
  EXPECT_TRUE(decode_one_by_one(subject, main, text.part(102, 8)) == want);
}

// --- sampling -----------------------------------------------------------------------------------------------------------

/// Row t: the distribution of the token after t.
using Table = std::array<std::array<double, vocabulary>, vocabulary>;
constexpr Table target_table{{{0.1, 0.2, 0.3, 0.25, 0.15},
                              {0.6, 0.1, 0.1, 0.1, 0.1},
                              {0.02, 0.08, 0.4, 0.25, 0.25},
                              {0.2, 0.5, 0.1, 0.1, 0.1},
                              {0.3, 0.3, 0.3, 0.05, 0.05}}};
constexpr Table draft_table{{{0.2, 0.2, 0.2, 0.2, 0.2},
                             {0.0, 0.5, 0.5, 0.0, 0.0},
                             {0.05, 0.05, 0.5, 0.2, 0.2},
                             {0.2, 0.5, 0.1, 0.1, 0.1},
                             {0.0, 0.0, 0.0, 0.0, 1.0}}};

/// softmax(logits / temperature) is the table's row; at this temperature only.
void make_sampling(Model& model, double temperature, const std::function<double()>& uniform) {
  model.logits = [=](const Tokens& text) {
    std::vector<float> logits;
    for (const double p : target_table[std::size_t(text.back())]) logits.push_back(float(temperature * std::log(p)));
    return logits;
  };
  model.drafts = [&model, uniform](Token token, Index count) {
    Tokens made;
    model.probabilities.clear();
    for (Index i = 0; i < count; ++i) {
      const auto& row = draft_table[std::size_t(token)];
      model.probabilities.insert(model.probabilities.end(), row.begin(), row.end());
      made.push_back(token = heed::value_or_throw(heed::sample(row, uniform())));
    }
    return made;
  };
}

TEST(SpeculateSampled, GivesTheTargetsTriplesOfTokens) {
  for (const auto& [drafts, temperature] : {std::pair<Index, double>{0, 1}, {1, 1}, {2, 0.7}, {3, 1.6}}) {
    oracle::Random random(std::uint64_t(10 + drafts));
    const std::function<double()> uniform = [&] { return random.uniform(); };
    Model model;
    make_sampling(model, temperature, uniform);
    std::vector<Index> counts(std::size_t(vocabulary * vocabulary * vocabulary));
    constexpr int runs = 70'000;
    for (int i = 0; i < runs; ++i) {
      model.text.clear();
      model.asked.clear(), model.verified.clear(), model.committed.clear();
      Index cell = 0, tokens = 0;
      const auto made = heed::speculate_sampled(model, 0, 3, drafts, temperature, uniform, [&](Token token) {
        cell = cell * vocabulary + token;
        ++tokens;
      });
      ASSERT_TRUE(made.ok()) << made.status().message();
      ASSERT_EQ(tokens, 3);
      ++counts[std::size_t(cell)];
    }
    double chi_square = 0;
    for (std::size_t cell = 0; cell < counts.size(); ++cell) {
      const std::size_t a = cell / 25, b = cell / 5 % 5, c = cell % 5;
      const double expected = runs * target_table[0][a] * target_table[a][b] * target_table[b][c];
      chi_square += (double(counts[cell]) - expected) * (double(counts[cell]) - expected) / expected;
    }
    EXPECT_LE(chi_square, 210) << drafts << " drafts";  // 124 degrees: one in a million is 208.6
  }
}

TEST(SpeculateSampled, ALowTemperatureIsGreedy) {
  oracle::Random random(5);
  Model model{.logits = certain};
  Tokens tokens;
  const auto made = heed::speculate_sampled(
      model, 2, 50, 3, 1e-3, [&] { return random.uniform(); }, [&](Token token) { tokens.push_back(token); });
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(tokens, plain({2}, 50));
}

TEST(SpeculateSampled, RefusesATemperatureThatIsNone) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, infinity, std::numeric_limits<double>::quiet_NaN()}) {
    Model model{.logits = certain};
    const auto made = heed::speculate_sampled(
        model, 2, 5, 3, bad, [] { return 0.5; }, [](Token) {});
    EXPECT_EQ(made.status().code(), StatusCode::invalid_argument);
    EXPECT_NE(made.status().message().find("temperature is "), std::string::npos) << made.status().message();
    EXPECT_TRUE(model.asked.empty());
  }
}

TEST(SpeculateSampled, RefusesDraftsWithoutProbabilities) {
  Model model{.logits = certain};
  model.drafts = [](Token, Index count) { return Tokens(std::size_t(count), 0); };
  model.probabilities.resize(4);
  const auto made = heed::speculate_sampled(
      model, 2, 5, 3, 1.0, [] { return 0.5; }, [](Token) {});
  EXPECT_EQ(made.status().message(), "draft_probabilities() gave 4 numbers, must give 15 for 3 drafts");
}

TEST(SpeculateSampled, StopsAtTheTokenAtWhichEmitSaysSo) {
  oracle::Random random(7);
  const std::function<double()> uniform = [&] { return random.uniform(); };
  for (Index stop = 1; stop <= 9; ++stop) {
    Model model;
    make_sampling(model, 1, uniform);
    Tokens tokens;
    const auto made = heed::speculate_sampled(model, 0, 9, 3, 1.0, uniform, [&](Token token) {
      tokens.push_back(token);
      return Index(tokens.size()) < stop;
    });
    ASSERT_TRUE(made.ok()) << made.status().message();
    EXPECT_EQ(Index(tokens.size()), stop);
    Tokens want{0};
    want.insert(want.end(), tokens.begin(), tokens.end() - 1);
    EXPECT_EQ(model.text, want);
    EXPECT_TRUE(made->stopped);
  }
}

TEST(SpeculateSampled, RefusesDraftProbabilitiesThatAreNone) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  using Numbers = std::vector<double>;
  const std::pair<Numbers, const char*> rows[] = {
      {{none, 0, 0, 0, 1}, "draft row 0: weight 0 is nan"},
      {{1.25, 0, 0, -0.25, 0}, "draft row 0: weight 3 is -0.25"},
      {{0, 0, 0, 0, 0}, "draft row 0: the 5 weights sum to 0"},
      {{1, 1, 1, 1, 1}, "draft row 0: the probabilities sum to 5"},
      {{0, 0.5, 0.5, 0, 0}, "draft row 0: the probability of token 0, which was drawn, is 0"}};
  for (const auto& row : rows) {
    Model model{.logits = certain};
    model.drafts = [](Token, Index count) { return Tokens(std::size_t(std::min<Index>(count, 1)), 0); };
    model.probabilities = row.first;
    Index emitted = 0;
    const auto made = heed::speculate_sampled(
        model, 2, 5, 3, 1.0, [] { return 0.5; }, [&](Token) { ++emitted; });
    EXPECT_EQ(made.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(made.status().message().find(row.second), 0u) << made.status().message();
    EXPECT_EQ(emitted, 0);
    EXPECT_EQ(model.committed, (std::vector<Index>{0}));
  }
}

}  // namespace
}  // namespace heed_test::decode_test
