// Greedy text with drafts is greedy text: for every mechanism, over the whole held-out text, however many drafts are right.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "demo/models.hpp"
#include "model/speculation.hpp"

namespace heed_test::speculation_test {
namespace {

using heed::Index;
using heed::Token;
using heed_examples::LookupDrafter;
using heed_examples::Network;

constexpr std::size_t window = 1024, prompt = 400;
constexpr Index continuation = 300;

std::vector<std::vector<std::uint8_t>> prompts() {
  std::ifstream file(data("heldout.txt"), std::ios::binary);
  const std::vector<std::uint8_t> text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::vector<std::uint8_t>> all;
  for (std::size_t begin = 0; begin + prompt <= text.size(); begin += window) {
    const auto first = text.begin() + std::ptrdiff_t(begin);
    all.emplace_back(first, first + prompt);
  }
  return all;
}

/// Byte by byte, without the loop that is tested.
std::vector<Token> plain(Network& network, const std::vector<std::uint8_t>& start) {
  network.clear();
  Matrix logits;
  network.forward(start, logits);
  std::vector<Token> text;
  for (;;) {
    const auto last = logits.row(logits.rows() - 1);
    text.push_back(heed::value_or_throw(heed::greedy_token({last.data(), std::size_t(last.size())})));
    if (Index(text.size()) == continuation) return text;
    const auto byte = std::uint8_t(text.back());
    network.forward({&byte, 1}, logits);
  }
}

/// What all runs of a mechanism came to.
struct Total {
  Index steps = 0, tokens = 0, drafted = 0, accepted = 0;
};

void expect_plain_text(Network& network, const std::vector<std::uint8_t>& start, const std::vector<Token>& want,
                       Index drafts, Total& total) {
  LookupDrafter drafter;
  const auto run = heed_examples::speculate(network, drafter, start, continuation, drafts);
  ASSERT_EQ(run.tokens, want) << drafts << " drafts";
  // All but the last token have been read, and no draft.
  ASSERT_EQ(network.memory().bytes().seen, Index(prompt) + continuation - 1);
  total.steps += run.statistics.steps;
  total.tokens += run.statistics.tokens;
  for (const Index count : run.statistics.drafted) total.drafted += count;
  for (const Index count : run.statistics.accepted) total.accepted += count;
}

class Speculation : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(data(GetParam() + ".safetensors"))) GTEST_SKIP() << "there is no such model";
  }
};
INSTANTIATE_TEST_SUITE_P(Mechanisms, Speculation, testing::ValuesIn(mechanism_names()),
                         [](const auto& parameter) { return parameter.param; });

/// Every window with one number of drafts.
TEST_P(Speculation, GivesTheGreedyText) {
  LanguageModel model = open_model(GetParam(), "bf16");
  const auto all = prompts();
  ASSERT_EQ(all.size(), 30u);
  Total total;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Index drafts = std::array<Index, 3>{1, 4, 15}[i % 3];
    const std::vector<Token> want = plain(model.network(), all[i]);
    ASSERT_NO_FATAL_FAILURE(expect_plain_text(model.network(), all[i], want, drafts, total)) << "window " << i;
  }
  // Both happened often enough to mean something.
  EXPECT_EQ(total.tokens, 30 * (continuation - 1));
  EXPECT_LT(total.steps, total.tokens * 4 / 5);
  EXPECT_GT(total.accepted, 1000);
  EXPECT_GT(total.drafted - total.accepted, 1000);
}

TEST_P(Speculation, LongGivesTheGreedyTextWithAnyDrafts) {
  for (const char* codec : {"f32", "f16"}) {
    LanguageModel model = open_model(GetParam(), codec);
    Total total;
    for (const auto& start : prompts()) {
      const std::vector<Token> want = plain(model.network(), start);
      for (const Index drafts : {0, 1, 2, 4, 7, 15}) {
        ASSERT_NO_FATAL_FAILURE(expect_plain_text(model.network(), start, want, drafts, total)) << codec;
      }
    }
  }
}

/// Drafts that are all wrong cost time only.
class Contrary : public heed_examples::Drafter {
 public:
  void clear() override {}
  void extend(std::span<const Token>) override {}
  std::span<const Token> draft(Token token, Index count) override {
    drafts_.assign(std::size_t(count), (token + 128) % 256);
    return drafts_;
  }

 private:
  std::vector<Token> drafts_;
};

TEST_P(Speculation, OfWrongDraftsGivesTheGreedyText) {
  LanguageModel model = open_model(GetParam());
  const std::vector<std::uint8_t> start = prompts()[3];
  const std::vector<Token> want = plain(model.network(), start);
  Contrary contrary;
  const auto run = heed_examples::speculate(model.network(), contrary, start, continuation, 3);
  EXPECT_EQ(run.tokens, want);
  EXPECT_LE(run.statistics.acceptance(0), 0.02);
}

/// Text and drafts of a network that others may use meanwhile: start() begins afresh.
TEST_P(Speculation, MayBeginAgain) {
  LanguageModel model = open_model(GetParam());
  const auto all = prompts();
  LookupDrafter drafter;
  const auto first = heed_examples::speculate(model.network(), drafter, all[0], 40, 4);
  std::ignore = heed_examples::speculate(model.network(), drafter, all[1], 40, 4);
  EXPECT_EQ(heed_examples::speculate(model.network(), drafter, all[0], 40, 4).tokens, first.tokens);
}

TEST(LookupDrafter, ContinuesTheLatestPlaceThatEndsAlike) {
  LookupDrafter drafter;
  const auto drafts = [&](Token token, Index count) {
    const auto got = drafter.draft(token, count);
    return std::vector<Token>(got.begin(), got.end());
  };
  using Tokens = std::vector<Token>;
  EXPECT_EQ(drafts(1, 4), Tokens()) << "there is no text";
  drafter.extend(Tokens{1, 2, 3, 4, 9, 1, 2, 7, 8, 5, 1});
  EXPECT_EQ(drafts(2, 3), (Tokens{7, 8, 5})) << "the latest 1 2";
  EXPECT_EQ(drafts(2, 2), (Tokens{7, 8})) << "asking changes nothing";
  EXPECT_EQ(drafts(6, 3), Tokens());
  EXPECT_EQ(drafts(2, 0), Tokens());
  drafter.extend(Tokens{2, 3});
  EXPECT_EQ(drafts(4, 2), (Tokens{9, 1})) << "1 2 3 4 is longer than 3 4";
  EXPECT_EQ(drafts(4, 100), (Tokens{9, 1, 2, 7, 8, 5, 1, 2, 3, 4})) << "to the end of the text";
  drafter.clear();
  EXPECT_EQ(drafts(2, 3), Tokens());
}

}  // namespace
}  // namespace heed_test::speculation_test
