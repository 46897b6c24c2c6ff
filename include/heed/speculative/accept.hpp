/// \file
/// Which drafts a verification accepts: those that greedy decoding would have chosen, or as many as rejection sampling
/// keeps (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <heed/speculative/draft_tree.hpp>

namespace heed::inline HEED_ABI {

using Token = std::int32_t;

/// The first index of the largest logit; 0 if all are NaN. What every greedy choice here means.
[[nodiscard]] inline Token greedy_token(std::span<const float> logits) noexcept {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || (logits[best] != logits[best] && logits[i] == logits[i])) best = i;
  }
  return Token(best);
}

/// What became of a chain of drafts.
struct Acceptance {
  Index accepted = 0;  ///< drafts, from the first on
  Token bonus = 0;     ///< the token after them, from the target itself
};

/// Greedy: drafts[j] is accepted while it is targets[j], the target's choice after the token before it. targets has one
/// entry more than drafts, for the bonus token.
[[nodiscard]] inline Acceptance accept_greedy(std::span<const Token> drafts, std::span<const Token> targets) noexcept {
  Acceptance made;
  while (made.accepted < Index(drafts.size()) &&
         drafts[std::size_t(made.accepted)] == targets[std::size_t(made.accepted)]) {
    ++made.accepted;
  }
  made.bonus = targets[std::size_t(made.accepted)];
  return made;
}

/// Greedy on a tree: from node 0 down to the child that is the target's choice, while there is one. Returns the nodes,
/// node 0 first: what Step::commit(accepted) takes. The bonus token is targets[last of them]. Of equal children the first
/// counts. Empty for an empty tree.
[[nodiscard]] inline std::vector<Index> accept_greedy(const DraftTree& tree, std::span<const Token> tokens,
                                                      std::span<const Token> targets) {
  std::vector<Index> path;
  if (tree.size() == 0) return path;
  path.push_back(0);
  for (Index node = 1; node < tree.size(); ++node) {  // children come after their parents
    const bool child = tree.parent(node) == path.back();
    if (child && tokens[std::size_t(node)] == targets[std::size_t(path.back())]) path.push_back(node);
  }
  return path;
}

/// The index that `uniform` in [0, 1) picks from weights, which need not sum to 1. The last one with a weight if rounding
/// leaves a rest.
[[nodiscard]] inline Token sample(std::span<const double> weights, double uniform) noexcept {
  double sum = 0;
  for (const double w : weights) sum += w;
  double rest = uniform * sum;
  std::size_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0)) continue;
    last = i;
    if (rest < weights[i]) return Token(i);
    rest -= weights[i];
  }
  return Token(last);
}

/// Rejection sampling: draft j, which was drawn from `draft` [drafts][vocabulary], is accepted with probability
/// min(1, target_j(token) / draft_j(token)); after the first rejection the bonus token is drawn from
/// max(0, target_j - draft_j), and from the last target row if none was rejected. The tokens that come out are distributed
/// as if drawn from `target` [drafts + 1][vocabulary] one by one. Rows sum to 1. `uniform()` gives numbers in [0, 1).
template <class Uniform>
[[nodiscard]] Acceptance accept_sampled(std::span<const Token> drafts, std::span<const double> draft,
                                        std::span<const double> target, Index vocabulary, Uniform&& uniform) {
  const auto row = [vocabulary](std::span<const double> rows, std::size_t j) {
    return rows.subspan(j * std::size_t(vocabulary), std::size_t(vocabulary));
  };
  for (std::size_t j = 0; j < drafts.size(); ++j) {
    const auto p = row(target, j), q = row(draft, j);
    const auto token = std::size_t(drafts[j]);
    if (uniform() * q[token] < p[token]) continue;
    std::vector<double> rest(p.begin(), p.end());
    double sum = 0;
    for (std::size_t i = 0; i < rest.size(); ++i) sum += rest[i] = std::max(0.0, p[i] - q[i]);
    // Nothing is left where the draft is larger everywhere, which only rounding makes it.
    return {Index(j), sample(sum > 0 ? std::span<const double>(rest) : p, uniform())};
  }
  return {Index(drafts.size()), sample(row(target, drafts.size()), uniform())};
}

}  // namespace heed::inline HEED_ABI
