// Models under retention rules: what they keep, what it costs, and what the names of rules mean.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "demo/models.hpp"
#include "demo/rules.hpp"

namespace heed_test::retention_test {
namespace {

using heed::Index;
using heed::Positions;

LanguageModel open_under(const std::string& model, const std::string& rule, Positions positions) {
  ModelOptions options = default_options();
  options.rule = heed_examples::parse_rule(rule);
  options.positions = positions;
  return LanguageModel::open(data(model + ".safetensors"), options);
}
std::vector<std::uint8_t> heldout(std::size_t size) {
  std::ifstream file(data("heldout.txt"), std::ios::binary);
  std::vector<std::uint8_t> text{std::istreambuf_iterator<char>(file), {}};
  text.resize(std::min(size, text.size()));
  return text;
}

struct Case {
  std::string model, rule;
  Positions positions;
  double bits;  ///< of the whole held-out text, by PyTorch with the rule as a mask; 0: no mask says it
  Index kept;   ///< of 1023 bytes of the first window; -1: not known by formula
};

/// PyTorch's figures for the plain model under masks it was not trained with.
TEST(DemoRetention, BitsPerByteAreTheMasks) {
  const std::vector<Case> cases{
      {"mha", "full", Positions::absolute, 1.618423, 1023},
      {"mha", "window:128", Positions::absolute, 1.617972, 127},
      {"mha", "sinks:4,124", Positions::absolute, 1.617930, 127},
      {"mha", "separators:3,64", Positions::absolute, 1.625932, -1},
      {"mha", "anchors", Positions::absolute, 1.628418, -1},
  };
  const auto text = heldout(max_heldout_bytes);
  for (const Case& one : cases) {
    LanguageModel model = open_under(one.model, one.rule, one.positions);
    const auto got = evaluate(model, text, {.chunk = 256});
    EXPECT_NEAR(got.bits_per_byte, one.bits, 2e-5 + heldout_part_error) << one.rule;
    EXPECT_EQ(got.retention.seen, 1023);
    if (one.kept >= 0) {
      EXPECT_EQ(got.retention.kept, one.kept) << one.rule;
    }
    EXPECT_EQ(got.cache.live, model.memory().formula_bytes(got.retention.kept));
  }
}

/// With in-cache ranks too: the same bits for any calls, and a stream that never holds more than it may.
TEST(DemoRetention, RanksAndStreams) {
  const auto text = heldout(700);
  for (const char* rule : {"sinks:4,60", "stream:4,16,40,90", "full"}) {
    LanguageModel model = open_under("mha", rule, Positions::rank);
    std::vector<Matrix> all;
    for (const Index chunk : {1, 57, 700}) {
      model.clear();
      Matrix logits(Index(text.size()), 256);
      for (Index at = 0; at < Index(text.size()); at += chunk) {
        const Index count = std::min(chunk, Index(text.size()) - at);
        logits.middleRows(at, count) = model.forward(std::span(text).subspan(std::size_t(at), std::size_t(count)));
        if (chunk == 1 && rule[0] == 's') {
          ASSERT_LE(model.memory().retention().kept, 90);
        }
      }
      all.push_back(logits);
    }
    EXPECT_EQ(all[1], all[0]) << rule;
    EXPECT_EQ(all[2], all[0]) << rule;
  }
  // Ranks in a cache that keeps everything are the logical positions.
  LanguageModel ranks = open_under("mha", "full", Positions::rank),
                plain = open_under("mha", "full", Positions::absolute);
  EXPECT_LT((ranks.forward(text) - plain.forward(text)).cwiseAbs().maxCoeff(), 1e-3f);
}

TEST(DemoRetention, RanksNeedAMixerThatRotatesAtRead) {
  try {
    std::ignore = open_under("mla", "sinks:4,60", Positions::rank);
    FAIL();
  } catch (const heed_examples::ModelError& error) {
    EXPECT_NE(std::string(error.what()).find("in-cache ranks"), std::string::npos) << error.what();
  }
}

TEST(DemoRetention, RuleNames) {
  using heed_examples::parse_rule;
  EXPECT_FALSE(parse_rule("trained").has_value());
  EXPECT_TRUE(parse_rule("window:5")->same_as(heed::SlidingWindow{5}));
  EXPECT_TRUE(parse_rule("sinks:1,2")->same_as(heed::SinkWindow{1, 2}));
  for (const char* bad :
       {"", "window", "window:", "window:x", "window:5,6", "window:5,", "sinks:1", "anchors:1", "full:1",
        "stream:1,2,3", "nothing:1", "window:0", "window:99999999999999999999", "window:-1"}) {
    try {
      std::ignore = parse_rule(bad);
      FAIL() << bad;
    } catch (const heed_examples::UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(std::string("--rule")), std::string::npos) << error.what();
    }
  }
}

TEST(DemoRetention, ConfigsThatMeanNothingAreRefused) {
  const auto refused = [](const nlohmann::json& retention) -> std::string {
    ModelFile file = small_file("mha_ansan");
    file.config["retention"] = retention;
    try {
      std::ignore = load(file.bytes());
    } catch (const heed_examples::ModelError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refused(7), "small: config 'retention' is 7, must be an object");
  EXPECT_EQ(refused({{"rule", "dreams"}}),
            "small: config 'retention' has the rule \"dreams\", known are anchors, separators");
  EXPECT_EQ(refused({{"rule", "anchors"}, {"anchor_sees_anchors", false}}), "small: config has no 'anchor_ids'");
  EXPECT_EQ(refused({{"rule", "anchors"}, {"anchor_ids", {1, 300}}, {"anchor_sees_anchors", false}}),
            "small: config 'anchor_ids' is [1,300], must be a list of integers in 0 .. 255");
  EXPECT_EQ(refused({{"rule", "anchors"}, {"anchor_ids", nlohmann::json::array()}, {"anchor_sees_anchors", false}}),
            "small: config 'retention': ids is empty, must have at least one id");
  EXPECT_EQ(refused({{"rule", "separators"}, {"initial", 1}, {"window", 0}, {"separator_ids", {1}}}),
            "small: config 'window' is 0, must be an integer in 1 .. 20");
}

}  // namespace
}  // namespace heed_test::retention_test
