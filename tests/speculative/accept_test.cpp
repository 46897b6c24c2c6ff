// What a verification accepts: greedy against a plain model, and rejection sampling against the target's distribution.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <heed/speculative/accept.hpp>

#include "oracle/random.hpp"

namespace heed_test::accept_test {
namespace {

using heed::Acceptance;
using heed::DraftTree;
using heed::Index;
using heed::Token;
using Tokens = std::vector<Token>;
using Weights = std::vector<double>;

Token sample(std::span<const double> weights, double uniform) {
  return heed::value_or_throw(heed::sample(weights, uniform));
}
template <class Uniform>
Acceptance accept_sampled(std::span<const Token> drafts, std::span<const double> draft, std::span<const double> target,
                          Index vocabulary, Uniform&& uniform) {
  return heed::value_or_throw(heed::accept_sampled(drafts, draft, target, vocabulary, uniform));
}

TEST(GreedyToken, IsTheFirstLargest) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto of = [](const std::vector<float>& logits) { return heed::value_or_throw(heed::greedy_token(logits)); };
  EXPECT_EQ(of({1}), 0);
  EXPECT_EQ(of({1, 3, 2}), 1);
  EXPECT_EQ(of({1, 3, 3, 3}), 1);
  EXPECT_EQ(of({-5, -2, -3}), 1);
  EXPECT_EQ(of({-infinity, -infinity, -7}), 2);
}

/// A number that orders nothing is an error of the model, not a token.
TEST(GreedyToken, RefusesWhatIsNoChoice) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const auto message = [](const std::vector<float>& logits) {
    const auto token = heed::greedy_token(logits);
    EXPECT_EQ(token.status().code(), heed::StatusCode::invalid_argument);
    return token.status().message();
  };
  EXPECT_EQ(message({nan, 1, 2}), "logit 0 is nan, must be finite, or -inf for no chance");
  EXPECT_EQ(message({1, 3, nan}), "logit 2 is nan, must be finite, or -inf for no chance");
  EXPECT_EQ(message({0, infinity, 5}), "logit 1 is inf, must be finite, or -inf for no chance");
  EXPECT_EQ(message({-infinity, -infinity}), "all 2 logits are -inf, one must be finite");
  EXPECT_EQ(message({}), "all 0 logits are -inf, one must be finite");
}

// --- greedy -------------------------------------------------------------------------------------------------------------

TEST(AcceptGreedy, TakesTheLongestRunThatTheTargetAgreesWith) {
  struct Row {
    Tokens drafts, targets;
    Index accepted;
    Token bonus;
  };
  for (const Row& row : std::vector<Row>{{{}, {7}, 0, 7},
                                         {{1}, {1, 2}, 1, 2},
                                         {{1}, {3, 2}, 0, 3},
                                         {{1, 2, 3}, {1, 2, 3, 4}, 3, 4},
                                         {{1, 2, 3}, {1, 9, 3, 4}, 1, 9},
                                         {{1, 2, 3}, {1, 2, 9, 4}, 2, 9},
                                         {{5, 5, 5}, {4, 5, 5, 5}, 0, 4}}) {
    const Acceptance got = heed::value_or_throw(heed::accept_greedy(row.drafts, row.targets));
    EXPECT_EQ(got.accepted, row.accepted);
    EXPECT_EQ(got.bonus, row.bonus);
  }
}

/// The naive model: walk down while a child is what the target says.
std::vector<Index> walked(const std::vector<Index>& parents, const Tokens& tokens, const Tokens& targets) {
  std::vector<Index> path{0};
  for (bool found = true; found;) {
    found = false;
    for (Index node = 0; node < Index(parents.size()) && !found; ++node) {
      if (parents[std::size_t(node)] != path.back()) continue;
      if (tokens[std::size_t(node)] != targets[std::size_t(path.back())]) continue;
      path.push_back(node);
      found = true;
    }
  }
  return path;
}

TEST(AcceptGreedyTree, IsAWalkFromTheFirstNode) {
  oracle::Random random(1);
  Index longest = 0;
  for (int repeat = 0; repeat < 3000; ++repeat) {
    const Index nodes = 1 + random.below(30);
    std::vector<Index> parents{-1};
    Tokens tokens, targets;
    for (Index i = 1; i < nodes; ++i) parents.push_back(random.below(12) == 0 ? -1 : random.below(i));
    for (Index i = 0; i < nodes; ++i) {
      tokens.push_back(Token(random.below(3)));
      targets.push_back(Token(random.below(3)));
    }
    const DraftTree tree = heed::value_or_throw(DraftTree::create(parents));
    const std::vector<Index> got = heed::value_or_throw(heed::accept_greedy(tree, tokens, targets));
    ASSERT_EQ(got, walked(parents, tokens, targets));
    EXPECT_EQ(got, tree.path(got.back()));
    longest = std::max(longest, Index(got.size()));
  }
  EXPECT_GE(longest, 6);
}

TEST(AcceptGreedyTree, OfAChainIsTheChain) {
  oracle::Random random(2);
  for (int repeat = 0; repeat < 500; ++repeat) {
    const Index drafts = random.below(8);
    Tokens tokens{9}, targets;
    for (Index i = 0; i < drafts; ++i) tokens.push_back(Token(random.below(2)));
    for (Index i = 0; i <= drafts; ++i) targets.push_back(Token(random.below(2)));
    const DraftTree chain = heed::value_or_throw(DraftTree::chain(drafts + 1));
    const auto path = heed::value_or_throw(heed::accept_greedy(chain, tokens, targets));
    const Acceptance acceptance =
        heed::value_or_throw(heed::accept_greedy(std::span<const Token>(tokens).subspan(1), targets));
    ASSERT_EQ(Index(path.size()), acceptance.accepted + 1);
    EXPECT_EQ(targets[std::size_t(path.back())], acceptance.bonus);
  }
}

TEST(AcceptGreedyTree, TakesTheFirstOfEqualChildren) {
  // Nodes 1 and 2 are both what the target says after node 0; only node 2's child would go on.
  const DraftTree tree = heed::value_or_throw(DraftTree::create(std::vector<Index>{-1, 0, 0, 2}));
  EXPECT_EQ(*heed::accept_greedy(tree, Tokens{0, 5, 5, 6}, Tokens{5, 6, 6, 0}), (std::vector<Index>{0, 1}));
}

TEST(AcceptGreedyTree, OfNothingIsNothing) {
  const DraftTree none = heed::value_or_throw(DraftTree::create({}));
  EXPECT_TRUE(heed::value_or_throw(heed::accept_greedy(none, {}, {})).empty());
}

TEST(AcceptGreedy, NamesSpansOfAnotherSize) {
  const DraftTree tree = heed::value_or_throw(DraftTree::create(std::vector<Index>{-1, 0, 0}));
  const auto expect = [](const heed::Status& status, const std::string& message) {
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    EXPECT_EQ(status.message(), message);
  };
  for (const std::size_t size : {0u, 1u, 2u, 4u}) {
    const Tokens some(size, 7);
    const std::string has = " has " + std::to_string(size) + (size == 1 ? " token" : " tokens");
    expect(heed::accept_greedy(Tokens{7, 7}, some).status(), "targets" + has + ", must have 3 for 2 drafts");
    expect(heed::accept_greedy(tree, some, Tokens(3)).status(), "tokens" + has + ", must have 3 for 3 nodes");
    expect(heed::accept_greedy(tree, Tokens(3), some).status(), "targets" + has + ", must have 3 for 3 nodes");
  }
}

// --- sampling -----------------------------------------------------------------------------------------------------------

TEST(Sample, PicksWhereTheUniformNumberFalls) {
  const Weights weights{0, 0.25, 0, 0.5, 0.25, 0};
  EXPECT_EQ(sample(weights, 0), 1);
  EXPECT_EQ(sample(weights, 0.2499), 1);
  EXPECT_EQ(sample(weights, 0.25), 3);
  EXPECT_EQ(sample(weights, 0.7499), 3);
  EXPECT_EQ(sample(weights, 0.75), 4);
  EXPECT_EQ(sample(weights, std::nextafter(1.0, 0.0)), 4);
}

TEST(Sample, NeedsNoSumOfOne) {
  EXPECT_EQ(sample(Weights{3, 1}, 0.7499), 0);
  EXPECT_EQ(sample(Weights{3, 1}, 0.7501), 1);
  EXPECT_EQ(sample(Weights{1e-300, 3e-300}, 0.2), 0);
  EXPECT_EQ(sample(Weights{1e-300, 3e-300}, 0.3), 1);
}

/// Rounding may leave a rest behind the last weight; it is never given to an index without one.
TEST(Sample, NeverPicksAnIndexWithoutAWeight) {
  oracle::Random random(3);
  const double last = std::nextafter(1.0, 0.0);
  for (int repeat = 0; repeat < 20000; ++repeat) {
    Weights weights(8);
    for (double& w : weights) w = random.below(3) == 0 ? 0 : random.uniform();
    weights[std::size_t(random.below(8))] = 1e-3;
    for (const double uniform : {0.0, random.uniform(), last}) {
      ASSERT_GT(weights[std::size_t(sample(weights, uniform))], 0);
    }
  }
}

struct Pair {
  const char* name;
  Weights target, draft;
};

const std::vector<Pair>& pairs() {
  static const std::vector<Pair> all{
      {"equal", {0.1, 0.2, 0.3, 0.25, 0.15}, {0.1, 0.2, 0.3, 0.25, 0.15}},
      {"uniform draft", {0.05, 0.5, 0.25, 0.15, 0.05}, {0.2, 0.2, 0.2, 0.2, 0.2}},
      {"certain draft", {0.05, 0.5, 0.25, 0.15, 0.05}, {0, 0, 1, 0, 0}},
      {"disjoint", {0.5, 0.3, 0.2, 0, 0, 0}, {0, 0, 0, 0.3, 0.6, 0.1}},
      {"overlapping", {0.4, 0.3, 0.3, 0, 0, 0}, {0, 0, 0.5, 0.3, 0.1, 0.1}},
      {"certain target", {0, 0, 0, 1, 0, 0, 0, 0}, {0.3, 0.1, 0.1, 0.2, 0.1, 0.1, 0.05, 0.05}},
      {"both certain", {0, 1, 0, 0, 0}, {0, 1, 0, 0, 0}},
      {"skewed", {0.6, 0.2, 0.1, 0.05, 0.03, 0.01, 0.007, 0.003}, {0.003, 0.007, 0.01, 0.03, 0.05, 0.1, 0.2, 0.6}},
      {"peaked draft", {0.2, 0.2, 0.2, 0.2, 0.1, 0.1}, {0.9, 0.02, 0.02, 0.02, 0.02, 0.02}},
  };
  return all;
}

/// Pearson's statistic; +inf if something came that cannot.
double chi_square(const std::vector<Index>& counts, const Weights& probabilities) {
  const double total = double(std::accumulate(counts.begin(), counts.end(), Index{0}));
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = total * probabilities[i];
    if (expected == 0 && counts[i] > 0) return std::numeric_limits<double>::infinity();
    if (expected > 0) sum += (double(counts[i]) - expected) * (double(counts[i]) - expected) / expected;
  }
  return sum;
}
/// Of the chi-square distribution, by Wilson and Hilferty: one in a million draws is farther out (4.75 deviations).
double one_in_a_million(double degrees) {
  const double t = 2 / (9 * degrees), root = 1 - t + 4.753 * std::sqrt(t);
  return degrees * root * root * root;
}
double degrees_of(const Weights& probabilities) {
  return std::max<double>(
      1, double(std::count_if(probabilities.begin(), probabilities.end(), [](double p) { return p > 0; })) - 1);
}

constexpr int draws = 200'000;

class RejectionSampling : public testing::TestWithParam<Pair> {};
INSTANTIATE_TEST_SUITE_P(All, RejectionSampling, testing::ValuesIn(pairs()), [](const auto& one) {
  std::string name = one.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

/// The token after the prefix, accepted or not, and how often it is accepted: sum min(p, q).
TEST_P(RejectionSampling, GivesTheTargetsTokens) {
  const auto& [name, target, draft] = GetParam();
  oracle::Random random(4);
  const auto uniform = [&] { return random.uniform(); };
  Weights rows = target;  // of two rows; what follows does not matter here
  rows.insert(rows.end(), draft.begin(), draft.end());
  std::vector<Index> counts(target.size());
  Index accepted = 0;
  for (int i = 0; i < draws; ++i) {
    const Tokens drafts{sample(draft, uniform())};
    const Acceptance made = accept_sampled(drafts, draft, rows, Index(target.size()), uniform);
    ++counts[std::size_t(made.accepted == 1 ? drafts[0] : made.bonus)];
    accepted += made.accepted;
  }
  EXPECT_LE(chi_square(counts, target), one_in_a_million(degrees_of(target)));
  double rate = 0;
  for (std::size_t i = 0; i < target.size(); ++i) rate += std::min(target[i], draft[i]);
  EXPECT_NEAR(double(accepted) / draws, rate, 5 * std::sqrt(rate * (1 - rate) / draws) + 1e-12);
}

/// Two tokens, the second of a distribution that depends on the first: the joint distribution is the target's.
TEST_P(RejectionSampling, GivesTheTargetsPairsOfTokens) {
  const auto& [name, target, draft] = GetParam();
  const std::size_t vocabulary = target.size();
  oracle::Random random(5);
  const auto uniform = [&] { return random.uniform(); };
  // After token t both distributions are turned by t + 1 places.
  const auto after = [&](const Weights& weights, Token token) {
    Weights turned = weights;
    std::rotate(turned.begin(), turned.begin() + (token + 1) % Token(vocabulary), turned.end());
    return turned;
  };
  std::vector<Index> counts(vocabulary * vocabulary);
  for (int i = 0; i < draws; ++i) {
    Tokens drafts{sample(draft, uniform())};
    const Weights second = after(draft, drafts[0]);
    drafts.push_back(sample(second, uniform()));
    Weights draft_rows = draft, target_rows = target;
    draft_rows.insert(draft_rows.end(), second.begin(), second.end());
    for (const Weights& row : {after(target, drafts[0]), after(target, drafts[1])}) {
      target_rows.insert(target_rows.end(), row.begin(), row.end());
    }
    const Acceptance made = accept_sampled(drafts, draft_rows, target_rows, Index(vocabulary), uniform);
    Tokens out(drafts.begin(), drafts.begin() + made.accepted);
    out.push_back(made.bonus);
    if (out.size() == 1) out.push_back(sample(after(target, out[0]), uniform()));  // the next step's
    ++counts[std::size_t(out[0]) * vocabulary + std::size_t(out[1])];
  }
  Weights joint;
  for (std::size_t first = 0; first < vocabulary; ++first) {
    for (const double p : after(target, Token(first))) joint.push_back(target[first] * p);
  }
  EXPECT_LE(chi_square(counts, joint), one_in_a_million(degrees_of(joint)));
}

TEST(AcceptSampled, NeverAcceptsWhatTheTargetExcludes) {
  const Weights target{0.5, 0, 0.5, 0, 0.5, 0.5}, draft{0, 1, 0};  // two rows of three
  oracle::Random random(6);
  for (int i = 0; i < 1000; ++i) {
    const double first = i == 0 ? 0 : random.uniform();
    int calls = 0;
    const Acceptance made =
        accept_sampled(Tokens{1}, draft, target, 3, [&] { return calls++ == 0 ? first : random.uniform(); });
    ASSERT_EQ(made.accepted, 0);
    ASSERT_NE(made.bonus, 1);
  }
}

TEST(AcceptSampled, AlwaysAcceptsWhatBothWant) {
  const Weights row{0.25, 0.5, 0.25};
  const Weights target{0.25, 0.5, 0.25, 0, 0, 1};
  const double most = std::nextafter(1.0, 0.0);
  for (const Token token : {0, 1, 2}) {
    const Acceptance made = accept_sampled(Tokens{token}, row, target, 3, [&] { return most; });
    EXPECT_EQ(made.accepted, 1);
    EXPECT_EQ(made.bonus, 2) << "from the last row";
  }
}

TEST(AcceptSampled, StopsAtTheFirstRejection) {
  const Weights draft{1, 0, 1, 0, 1, 0}, target{1, 0, 0, 1, 1, 0, 1, 0};
  const Acceptance made = accept_sampled(Tokens{0, 0, 0}, draft, target, 2, [] { return 0.5; });
  EXPECT_EQ(made.accepted, 1);
  EXPECT_EQ(made.bonus, 1) << "from what the target has and the draft has not";
}

TEST(AcceptSampled, WithoutDraftsSamplesTheTarget) {
  const Acceptance made = accept_sampled({}, {}, Weights{0.3, 0.7}, 2, [] { return 0.4; });
  EXPECT_EQ(made.accepted, 0);
  EXPECT_EQ(made.bonus, 1);
}

/// Rows sum to 1 within rounding only, so that a draft may be likelier than the target for every token: then nothing is
/// left of their difference, and the target itself is sampled.
TEST(AcceptSampled, OfADraftThatIsLargerEverywhereSamplesTheTarget) {
  const double more = 1 + 1e-12;
  const Weights target{0, 0.5, 0.5, 0, 0.5, 0.5}, draft{0, 0.5 * more, 0.5 * more};
  const double most = std::nextafter(1.0, 0.0);
  const Acceptance made = accept_sampled(Tokens{1}, draft, target, 3, [&] { return most; });
  EXPECT_EQ(made.accepted, 0);
  EXPECT_EQ(made.bonus, 2) << "token 0 cannot come";
}

/// How many digits a message has is not what is tested here.
bool begins_with(const std::string& text, const std::string& beginning) { return text.starts_with(beginning); }

TEST(Sample, RefusesWhatIsNoWeight) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const auto message = [](const Weights& weights, double uniform) {
    const auto token = heed::sample(weights, uniform);
    EXPECT_EQ(token.status().code(), heed::StatusCode::invalid_argument);
    return token.status().message();
  };
  EXPECT_PRED2(begins_with, message({1, nan}, 0.5), "weight 1 is nan");
  EXPECT_PRED2(begins_with, message({-0.5, 2}, 0.5), "weight 0 is -0.5");
  EXPECT_PRED2(begins_with, message({1, infinity}, 0.5), "weight 1 is inf");
  EXPECT_PRED2(begins_with, message({0, 0}, 0.5), "the 2 weights sum to 0");
  EXPECT_PRED2(begins_with, message({}, 0.5), "the 0 weights sum to 0");
  EXPECT_PRED2(begins_with, message({1e308, 1e308}, 0.5), "the 2 weights sum to inf");
  EXPECT_PRED2(begins_with, message({1, 1}, 1), "uniform is 1");
  EXPECT_PRED2(begins_with, message({1, 1}, -0.25), "uniform is -0.25");
  EXPECT_PRED2(begins_with, message({1, 1}, nan), "uniform is nan");
}

/// Everything that would bend the distribution, by row and token; what comes after a rejection does not count.
TEST(AcceptSampled, RefusesWhatIsNoDistribution) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto message = [](const Tokens& drafts, const Weights& draft, const Weights& target, double uniform) {
    const auto made = heed::accept_sampled(drafts, draft, target, 2, [&] { return uniform; });
    EXPECT_EQ(made.status().code(), heed::StatusCode::invalid_argument);
    return made.status().message();
  };
  const Weights fair{0.5, 0.5}, two{0.5, 0.5, 0.5, 0.5}, three{0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
  EXPECT_PRED2(begins_with, message({0}, {nan, 0.5}, two, 0), "draft row 0: weight 0 is nan");
  EXPECT_PRED2(begins_with, message({0}, {1.5, -0.5}, two, 0), "draft row 0: weight 1 is -0.5");
  EXPECT_PRED2(begins_with, message({0, 1}, {0.5, 0.5, 0, 0}, three, 0), "draft row 1: the 2 weights sum to 0");
  EXPECT_PRED2(begins_with, message({0}, {0.5, 0.25}, two, 0), "draft row 0: the probabilities sum to 0.75");
  EXPECT_PRED2(begins_with, message({1}, {1, 0}, two, 0),
               "draft row 0: the probability of token 1, which was drawn, is 0");
  EXPECT_PRED2(begins_with, message({0}, fair, {0.5, nan, 0.5, 0.5}, 0), "target row 0: weight 1 is nan");
  EXPECT_PRED2(begins_with, message({0}, fair, {0.5, 0.5, 0.5, 0.25}, 0),
               "target row 1: the probabilities sum to 0.75");
  EXPECT_PRED2(begins_with, message({0}, fair, two, 1), "uniform is 1");
  EXPECT_PRED2(begins_with, message({2}, fair, two, 0), "a draft is 2, must be in 0 .. 1");
  EXPECT_PRED2(begins_with, message({-1}, fair, two, 0), "a draft is -1, must be in 0 .. 1");
  EXPECT_PRED2(begins_with, message({0}, {1}, two, 0), "draft has 1 number, must have 2 for 1 draft");
  EXPECT_PRED2(begins_with, message({0}, fair, fair, 0), "target has 2 numbers, must have 4 for 1 draft");
  // The first draft is rejected, so the rest is nobody's.
  const auto made =
      heed::accept_sampled(Tokens{0, 0}, Weights{1, 0, nan, 0}, Weights{0, 1, nan, nan, -1, 0}, 2, [] { return 0.5; });
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made->accepted, 0);
  EXPECT_EQ(made->bonus, 1);
}

}  // namespace
}  // namespace heed_test::accept_test
