/// \file
/// Which drafts a verification accepts: those that greedy decoding would have chosen, or as many as rejection sampling
/// keeps (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <heed/floats.hpp>
#include <heed/speculative/draft_tree.hpp>

namespace heed::inline HEED_ABI {

/// A token id.
using Token = std::int32_t;

/// The greedy choice: the index of the largest logit, the first one of equals. invalid_argument naming a logit that is
/// NaN or +inf, or if no logit is above -inf.
[[nodiscard]] inline Result<Token> greedy_token(std::span<const float> logits) {
  constexpr float infinity = detail::infinity;
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < infinity)) {
      return fail(StatusCode::invalid_argument, "logit ", i, " is ", logits[i],
                  ", must be finite, or -inf for no chance");
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (logits.empty() || logits[best] == -infinity) {
    return fail(StatusCode::invalid_argument, "all ", logits.size(), " logits are -inf, one must be finite");
  }
  return Token(best);
}

/// What was decided about a chain of drafts.
struct Acceptance {
  Index accepted = 0;  ///< how many drafts are accepted, from the first one on
  Token bonus = 0;     ///< the next token, chosen by the target
};

namespace detail {

/// invalid_argument unless there are `wanted` tokens. `why` follows the number.
template <class... Why>
[[nodiscard]] Status check_tokens(const char* name, std::span<const Token> tokens, Index wanted, const Why&... why) {
  if (Index(tokens.size()) == wanted) return {};
  return fail(StatusCode::invalid_argument, name, " has ", tokens.size(), " tokens, must have ", wanted, why...);
}

}  // namespace detail

/// Greedy acceptance of a chain. targets[j] is the target's choice after the token before drafts[j]. Drafts are
/// accepted up to the first one with drafts[j] != targets[j]. `targets` has one entry more than `drafts`, for the bonus
/// token. invalid_argument for another number of targets.
[[nodiscard]] inline Result<Acceptance> accept_greedy(std::span<const Token> drafts, std::span<const Token> targets) {
  const auto num_drafts = Index(drafts.size());
  if (Status status = detail::check_tokens("targets", targets, num_drafts + 1, " for ", num_drafts, " drafts");
      !status.ok()) {
    return status;
  }
  Acceptance made;
  while (made.accepted < num_drafts && drafts[std::size_t(made.accepted)] == targets[std::size_t(made.accepted)]) {
    ++made.accepted;
  }
  made.bonus = targets[std::size_t(made.accepted)];
  return made;
}

/// Greedy acceptance of a tree. The path begins at node 0. It goes on to the first child whose token is the target's
/// choice, while there is one. tokens [nodes] are the drafts, targets [nodes] the target's choice after each. Returns
/// the nodes of the path, node 0 first, as Step::commit(accepted) takes them. The bonus token is targets[last of them].
/// Empty for an empty tree. invalid_argument for another number of tokens or targets.
[[nodiscard]] inline Result<std::vector<Index>> accept_greedy(const DraftTree& tree, std::span<const Token> tokens,
                                                              std::span<const Token> targets) {
  const Index nodes = tree.size();
  if (Status status = detail::check_tokens("tokens", tokens, nodes, " for ", nodes, " nodes"); !status.ok()) {
    return status;
  }
  if (Status status = detail::check_tokens("targets", targets, nodes, " for ", nodes, " nodes"); !status.ok()) {
    return status;
  }
  std::vector<Index> path;
  if (nodes == 0) return path;
  path.push_back(0);
  for (Index node = 1; node < nodes; ++node) {  // children come after their parents
    const bool child = tree.parent(node) == path.back();
    if (child && tokens[std::size_t(node)] == targets[std::size_t(path.back())]) path.push_back(node);
  }
  return path;
}

namespace detail {

/// The same failure with "name row number: " before its message.
[[nodiscard]] inline Status named(const char* name, std::size_t row, const Status& status) {
  return fail(status.code(), name, " row ", row, ": ", status.message());
}

/// Sums up weights; invalid_argument naming one that is negative or not finite, and if there is none above 0.
[[nodiscard]] inline Status add_weights(std::span<const double> weights, double& sum) {
  sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] >= 0 && is_finite(weights[i]))) {
      return fail(StatusCode::invalid_argument, "weight ", i, " is ", weights[i], ", must be finite and at least 0");
    }
    sum += weights[i];
  }
  if (sum > 0 && is_finite(sum)) return {};
  return fail(StatusCode::invalid_argument, "the ", weights.size(), " weights sum to ", sum,
              ", must be positive and finite");
}

/// How far a sum of probabilities may be from 1. Models may round many probabilities to 8 bits.
inline constexpr double probability_slack = 1e-2;

/// invalid_argument if the weights are not probabilities: negative, not finite, or with a sum that is not about 1.
[[nodiscard]] inline Status check_probabilities(std::span<const double> weights) {
  double sum = 0;
  if (Status status = add_weights(weights, sum); !status.ok()) return status;
  if (sum >= 1 - probability_slack && sum <= 1 + probability_slack) return {};
  return fail(StatusCode::invalid_argument, "the probabilities sum to ", sum, ", must sum to 1");
}

[[nodiscard]] inline Status check_uniform(double uniform) {
  if (uniform >= 0 && uniform < 1) return {};
  return fail(StatusCode::invalid_argument, "uniform is ", uniform, ", must be in [0, 1)");
}

/// The index that `uniform` picks from n weights, weight(i) each, of this sum.
template <class Weight>
[[nodiscard]] Token pick(std::size_t n, const Weight& weight, double sum, double uniform) noexcept {
  double rest = uniform * sum;
  std::size_t last = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double w = weight(i);
    if (!(w > 0)) continue;
    last = i;
    if (rest < w) return Token(i);
    rest -= w;
  }
  return Token(last);
}

}  // namespace detail

/// Picks an index with probability weights[i] / sum, by the number `uniform` in [0, 1). The weights need not sum to 1.
/// An index with weight 0 is never picked. invalid_argument naming a weight that is negative or not finite, if no
/// weight is above 0, or for a `uniform` outside [0, 1).
[[nodiscard]] inline Result<Token> sample(std::span<const double> weights, double uniform) {
  if (Status status = detail::check_uniform(uniform); !status.ok()) return status;
  double sum = 0;
  if (Status status = detail::add_weights(weights, sum); !status.ok()) return status;
  return detail::pick(
      weights.size(), [&](std::size_t i) { return weights[i]; }, sum, uniform);
}

namespace detail {

/// accept_sampled() with the target's row j from `target(j)`, a Result. Rows after a rejection are not asked for.
template <class Target, class Uniform>
[[nodiscard]] Result<Acceptance> accept_sampled(std::span<const Token> drafts, std::span<const double> draft,
                                                const Target& target, Index vocabulary, Uniform&& uniform) {
  const auto ended = [&](std::size_t row, std::span<const double> weights) -> Result<Acceptance> {
    const Result<Token> bonus = sample(weights, double(uniform()));
    if (!bonus.ok()) return named("target", row, bonus.status());
    return Acceptance{Index(row), *bonus};
  };
  for (std::size_t j = 0; j < drafts.size(); ++j) {
    const Result<std::span<const double>> given = target(j);
    if (!given.ok()) return given.status();
    const std::span<const double> p = *given;
    const auto q = draft.subspan(j * std::size_t(vocabulary), std::size_t(vocabulary));
    if (Status status = check_probabilities(q); !status.ok()) return named("draft", j, status);
    const auto token = std::size_t(drafts[j]);
    if (!(q[token] > 0)) {
      return fail(StatusCode::invalid_argument, "draft row ", j, ": the probability of token ", token,
                  ", which was drawn, is 0");
    }
    const auto u = double(uniform());
    if (Status status = check_uniform(u); !status.ok()) return status;
    if (u * q[token] < p[token]) continue;
    const auto rest = [&](std::size_t i) { return larger(0.0, p[i] - q[i]); };
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) sum += rest(i);
    if (!(sum > 0)) return ended(j, p);  // the draft is larger everywhere, which only rounding makes it
    const auto drawn = double(uniform());
    if (Status status = check_uniform(drawn); !status.ok()) return named("target", j, status);
    return Acceptance{Index(j), pick(p.size(), rest, sum, drawn)};
  }
  const Result<std::span<const double>> last = target(drafts.size());
  if (!last.ok()) return last.status();
  return ended(drafts.size(), *last);
}

}  // namespace detail

/// Rejection sampling. The result is distributed as if tokens were drawn from `target`, one by one.
///
///     accept draft j with probability min(1, target_j(token) / draft_j(token)), until the first rejection
///     bonus token    from max(0, target_j - draft_j) after a rejection of draft j, else from the last row of target
///
/// draft [drafts][vocabulary]: the distribution from which each draft was drawn. target [drafts + 1][vocabulary]. Rows
/// sum to 1. `uniform()` returns random numbers in [0, 1). Rows after a rejection are not read. invalid_argument for a
/// wrong size, a draft outside the vocabulary or of probability 0, and a row that is not a distribution, naming row and
/// token.
template <class Uniform>
[[nodiscard]] Result<Acceptance> accept_sampled(std::span<const Token> drafts, std::span<const double> draft,
                                                std::span<const double> target, Index vocabulary, Uniform&& uniform) {
  const auto rows = Index(drafts.size());
  Status status = detail::check_range("vocabulary", vocabulary, 1, std::numeric_limits<Token>::max());
  for (std::size_t j = 0; status.ok() && j < drafts.size(); ++j) {
    status = detail::check_range("a draft", drafts[j], 0, vocabulary - 1);
  }
  const auto check_size = [&](const char* name, std::span<const double> numbers, Index needed) {
    const Count wanted = Count(needed) * vocabulary;
    if (!status.ok() || detail::has_size(numbers.size(), wanted)) return;
    status = fail(StatusCode::invalid_argument, name, " has ", numbers.size(), " numbers, must have ", wanted, " for ",
                  rows, " drafts");
  };
  check_size("draft", draft, rows);
  check_size("target", target, rows + 1);
  if (!status.ok()) return status;
  const auto row = [&](std::size_t j) -> Result<std::span<const double>> {
    const auto p = target.subspan(j * std::size_t(vocabulary), std::size_t(vocabulary));
    if (Status bad = detail::check_probabilities(p); !bad.ok()) return detail::named("target", j, bad);
    return p;
  };
  return detail::accept_sampled(drafts, draft, row, vocabulary, uniform);
}

}  // namespace heed::inline HEED_ABI
