// Tokens, logits, weights, positions and options at their ends, for what drafts are made of and judged by.
#include "extremes/numbers.hpp"

#include <cfloat>
#include <cmath>
#include <vector>

namespace heed_test::speculative_test {
namespace {

using heed::NumTokens, heed::Scalar, heed::Token;
using Source = heed::StridedSource<heed::F32>;

constexpr std::array<Token, 6> tokens_at_ends{INT32_MIN, -1, 0, 1, 2, INT32_MAX};

TEST(Extremes, GreedyAcceptance) {
  const heed::DraftTree chain = heed::value_or_throw(heed::DraftTree::chain(3));
  for (const Token a : tokens_at_ends) {
    for (const Token b : tokens_at_ends) {
      const auto one = heed::accept_greedy(std::vector<Token>{a, b}, std::vector<Token>{b, a, a});
      ASSERT_TRUE(one.ok());
      EXPECT_EQ(one->accepted, a == b ? 2 : 0);
      EXPECT_EQ(one->bonus, a == b ? a : b);
      const auto path = heed::accept_greedy(chain, std::vector<Token>{a, b, a}, std::vector<Token>{b, b, a});
      ASSERT_TRUE(path.ok());
      EXPECT_EQ(path->size(), a == b ? 3u : 2u);
      EXPECT_FALSE(heed::accept_greedy(std::vector<Token>{a}, std::vector<Token>{b}).ok());
      EXPECT_FALSE(heed::accept_greedy(chain, std::vector<Token>{a}, std::vector<Token>{b}).ok());
    }
  }
  EXPECT_FALSE(heed::accept_greedy({}, {}).ok());
  EXPECT_TRUE(heed::accept_greedy(heed::DraftTree(), {}, {})->empty());
}

TEST(Extremes, Choices) {
  EXPECT_FALSE(heed::greedy_token({}).ok());
  EXPECT_FALSE(heed::sample({}, 0).ok());
  for_extreme_floats([](double x, double y) {
    const auto f = float(std::clamp(x, -double(FLT_MAX), double(FLT_MAX))), g = std::isinf(x) ? float(x) : f;
    const auto chosen = heed::greedy_token(std::vector<float>{g, -1.0f});
    EXPECT_EQ(chosen.ok(), g < endless);
    if (chosen.ok()) {
      EXPECT_EQ(*chosen, g >= -1.0f ? 0 : 1);
    }
    expect_said(chosen);
    const auto right = [](double weight) { return weight >= 0 && std::isfinite(weight); };
    for (const double uniform : extreme_floats) {
      const auto drawn = heed::sample(std::vector<double>{x, y}, uniform);
      expect_said(drawn);
      EXPECT_EQ(drawn.ok(), uniform >= 0 && uniform < 1 && right(x) && right(y) && x + y > 0 && std::isfinite(x + y));
      if (drawn.ok()) {
        EXPECT_GT(*drawn == 0 ? x : y, 0);
      }
    }
  });
}

TEST(Extremes, SampledAcceptance) {
  const std::vector<double> halves(6, 0.5);
  for_extremes([&](Index vocabulary) {
    for (const Token draft : tokens_at_ends) {
      const auto uniform = [] { return 0.25; };
      const std::vector<Token> drafts{draft};
      const auto made =
          heed::accept_sampled(drafts, std::span(halves).first(2), std::span(halves).first(4), vocabulary, uniform);
      EXPECT_FALSE(made.ok());  // no vocabulary of 2 among the extremes
      expect_said(made);
      EXPECT_EQ(heed::accept_sampled({}, {}, std::vector<double>{1}, vocabulary, uniform).ok(), vocabulary == 1);
      EXPECT_EQ(heed::accept_sampled(drafts, std::span(halves).first(2), std::span(halves).first(4), 2, uniform).ok(),
                draft == 0 || draft == 1);
    }
  });
  for_extreme_floats([&](double x, double y) {
    for (const double u : extreme_floats) {
      const auto made = heed::accept_sampled(std::vector<Token>{0}, std::vector<double>{x, y},
                                             std::vector<double>{y, x, 0.5, 0.5}, 2, [u] { return u; });
      expect_said(made);
      const bool distribution = x >= 0 && y >= 0 && std::abs(x + y - 1) < 0.01;
      EXPECT_EQ(made.ok(), distribution && x > 0 && u >= 0 && u < 1);
    }
  });
}

/// A model of one logit row that says it has any vocabulary and any probabilities.
struct OneRow {
  Index vocabulary = 2;
  std::vector<float> logits = {};
  std::vector<double> probabilities = {};
  std::vector<Token> guesses = {};
  Index open = 0;
  Index vocab_size() const { return vocabulary; }
  heed::Result<std::span<const Token>> draft(Token, Index most) {
    return std::span<const Token>(guesses).first(std::min(guesses.size(), std::size_t(most)));
  }
  heed::Result<std::span<const float>> verify(std::span<const Token> tokens) {
    ++open;
    return std::span<const float>(logits).first(std::min(logits.size(), tokens.size() * 2));
  }
  heed::Status commit(Index) {
    --open;
    return {};
  }
  std::span<const double> draft_probabilities() const { return probabilities; }
};

TEST(Extremes, SampledLoop) {
  for_extreme_floats([](double temperature, double logit) {
    for (const double u : {0.0, 0.75, 1.0, not_a_number}) {
      OneRow model;
      const float number = std::abs(logit) > double(FLT_MAX) ? float(std::copysign(endless, logit)) : float(logit);
      model.logits = {number, 0.5f, 0.5f, number};
      model.probabilities = {0.5, 0.5};
      model.guesses = {1};
      Index emitted = 0;
      const auto emit = [&](Token token) {
        EXPECT_TRUE(token == 0 || token == 1);
        ++emitted;
      };
      const auto made = heed::speculate_sampled(
          model, 0, 2, 1, temperature, [u] { return u; }, emit);
      expect_said(made);
      EXPECT_EQ(model.open, 0);
      if (!(temperature > 0) || !std::isfinite(temperature) || !(u < 1)) {
        EXPECT_FALSE(made.ok());
        EXPECT_EQ(emitted, 0);
      } else if (number < endless) {
        EXPECT_TRUE(made.ok()) << made.status().message();
      }
    }
  });
  for_extremes([](Index count, Index drafts, Index vocabulary) {
    OneRow model{vocabulary};
    const auto made = heed::speculate_sampled(
        model, 0, count, drafts, 1.0, [] { return 0.5; }, [](Token) {});
    expect_said(made);
    EXPECT_EQ(model.open, 0);
    EXPECT_EQ(made.ok(), count <= 0 && drafts >= 0 && drafts < 4096 && vocabulary > 0 && vocabulary <= INT32_MAX);
  });
  const heed::SpeculativeStatistics statistics;
  for_extremes([&](Index j) { EXPECT_EQ(statistics.acceptance(j), 0); });
}

/// A tree over a source that has no cache.
TEST(Extremes, TreesOfForeignKeys) {
  const std::vector<float> rows(16, 0.5f);
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 0, 8};
  const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 2, .scale = 1};
  const heed::DraftTree tree = heed::value_or_throw(heed::DraftTree::create(std::vector<Index>{-1, 0, 0}));
  const std::vector<float> slope{0.5f};
  for_extremes([&](Index tokens, Index first, Index other) {
    const Source keys(tokens, stream, stream, first), others(3, stream, stream, other), usual(5, stream, stream, 7);
    const auto mask = heed::TreeMask::create(keys, tree, little_memory());
    const auto paths = heed::TreePaths::create(keys, tree, little_memory());
    expect_said(mask);
    expect_said(paths);
    const bool far = first > (Index{1} << 48) || first < -(Index{1} << 48);
    if (tokens < 3 || tokens > Index{1} << 48 || (far && tokens < Index{1} << 40)) {
      EXPECT_FALSE(mask.ok());
      EXPECT_FALSE(paths.ok());
    }
    const auto usual_mask = heed::value_or_throw(heed::TreeMask::create(usual, tree));
    const auto usual_paths = heed::value_or_throw(heed::TreePaths::create(usual, tree));
    std::ignore = usual_mask.visible(first, other);
    std::ignore = usual_mask.text_position(first);
    if (first < other) {
      std::ignore = usual_mask.coverage({first, other}, {first, other});
      std::ignore = usual_mask.coverage({first, first + 1}, {other - 1, other});
    }
    std::ignore = usual_mask.fits(
        {.queries = tokens, .positions = {first, other}, .slots = tokens, .end = first, .slots_end = other});
    std::vector<float> q(6, 1.0f), out(6);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    for (const Source& of : {keys, others}) {
      if (of.size() > 5) continue;
      expect_said(heed::attend<Scalar>(policy, q, of, usual_mask, out, workspace, executor));
      expect_said(heed::attend<Scalar>(policy, q, usual_paths.keys(of), {}, out, workspace, executor));
      if (mask.ok()) expect_said(heed::attend<Scalar>(policy, q, of, *mask, out, workspace, executor));
      if (paths.ok()) expect_said(heed::attend<Scalar>(policy, q, paths->keys(of), {}, out, workspace, executor));
    }
    // Three keys are all of them nodes; they are right at any place that is allowed.
    const auto three = heed::TreeMask::create(others, tree);
    const auto of_three = heed::TreePaths::create(others, tree);
    const bool right = other >= -(Index{1} << 48) && other <= (Index{1} << 48) - 2;
    if (other != Index{1} << 48) {
      EXPECT_EQ(three.ok(), right);
      EXPECT_EQ(of_three.ok(), right);
    }
    if (right && three.ok() && of_three.ok()) {
      heed::Status status =
          heed::attend<Scalar>(policy, q, others, *three, out, workspace, executor, {.alibi_slopes = slope});
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(out, std::vector<float>(6, 0.5f));
      status = heed::attend<Scalar>(policy, q, of_three->keys(others), {}, out, workspace, executor,
                                    {.alibi_slopes = slope});
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(out, std::vector<float>(6, 0.5f));
    }
  });
}

TEST(Extremes, Mtp) {
  const std::vector<float> one(1, 0.5f), two(2, 0.5f), none;
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  for_extremes([&](Index width, Index rows) {
    for_extreme_floats([&](double eps) {
      const heed::MtpTensors tensors{{one, 1, 1}, {one, 1, 1}, {two, rows, 2}, {one, 1, 1}};
      const auto made = heed::MtpModule::create({.hidden_size = width, .rms_norm_eps = eps}, tensors);
      expect_said(made);
      EXPECT_EQ(made.ok(), width == 1 && rows == 1 && eps >= 0 && std::isfinite(eps));
      if (!made.ok()) return;
      for (const Index position : extremes) {
        std::vector<float> x(1), y(1);
        const std::vector<Index> positions{position};
        EXPECT_TRUE(made->combine<Scalar>(one, one, positions, x, workspace, executor).ok());
        EXPECT_FALSE(std::isnan(x[0]));
        EXPECT_FALSE(made->combine<Scalar>(one, none, positions, x, workspace, executor).ok());
        EXPECT_TRUE(made->finish(x, y).ok());
        EXPECT_FALSE(made->finish(x, {}).ok());
      }
    });
  });
}

}  // namespace
}  // namespace heed_test::speculative_test
