/// \file
/// The speculative loop: draft, verify, accept, commit. The model is the caller's.
///
///     known: n committed tokens, and token t that follows them but is not cached yet
///     draft      d_1 .. d_k after t
///     verify     the model on [t, d_1 .. d_k] in one call: logits after each
///     accept     the longest run of drafts that the target agrees with, and one token of its own
///     commit     t and the accepted drafts; the target's token is the next t
#pragma once

#include <cmath>
#include <vector>

#include <heed/speculative/accept.hpp>

namespace heed::inline HEED_ABI {

/// What the loop asks of a model. `draft(t, k)` gives at most k tokens that may follow t, none if it has no idea; they live
/// until the next call. `verify(tokens)` opens a step of these tokens and gives logits [tokens][vocab_size]; `commit(n)`
/// ends it and keeps the first n, so that the model is as if only they had come. A failure ends the loop.
template <class M>
concept SpeculativeModel = requires(M& model, Token token, Index count, std::span<const Token> tokens) {
  { model.vocab_size() } -> std::same_as<Index>;
  { model.draft(token, count) } -> std::same_as<Result<std::span<const Token>>>;
  { model.verify(tokens) } -> std::same_as<Result<std::span<const float>>>;
  { model.commit(count) } -> std::same_as<Status>;
};

/// The same, and the distributions that the drafts of the last draft() were drawn from: [drafts][vocab_size], rows sum to 1.
template <class M>
concept SamplingModel = SpeculativeModel<M> && requires(M& model) {
  { model.draft_probabilities() } -> std::same_as<std::span<const double>>;
};

/// What a run of the loop came to.
struct SpeculativeStatistics {
  Index steps = 0;              ///< calls of verify()
  Index tokens = 0;             ///< that came out
  std::vector<Index> drafted;   ///< [k]: how often there was a draft number j
  std::vector<Index> accepted;  ///< [k]: how often it was accepted

  /// Share of the drafts number j (from 0) that were accepted.
  [[nodiscard]] double acceptance(Index j) const noexcept {
    const auto i = std::size_t(j);
    return i < drafted.size() && drafted[i] > 0 ? double(accepted[i]) / double(drafted[i]) : 0;
  }
  [[nodiscard]] double tokens_per_step() const noexcept { return steps == 0 ? 0 : double(tokens) / double(steps); }
};

namespace detail {

/// The loop; `decide(drafts, logits)` accepts, `emit(token)` takes the tokens.
template <SpeculativeModel M, class Decide, class Emit>
Result<SpeculativeStatistics> speculate(M& model, Token token, Index count, Index drafts, const Decide& decide,
                                        const Emit& emit) {
  if (Status status = check_range("drafts", drafts, 0, DraftTree::max_nodes - 1); !status.ok()) return status;
  SpeculativeStatistics made;
  made.drafted.resize(std::size_t(drafts));
  made.accepted.resize(std::size_t(drafts));
  std::vector<Token> tokens;
  const Index vocabulary = model.vocab_size();
  while (made.tokens < count) {
    // Of drafts and the token after them, no more than are still wanted.
    const Index most = std::min(drafts, count - made.tokens - 1);
    const Result<std::span<const Token>> guess = model.draft(token, most);
    if (!guess.ok()) return guess.status();
    if (Index(guess->size()) > most) {
      return fail(StatusCode::invalid_argument, "draft() gave ", guess->size(), " tokens, must give at most ", most);
    }
    for (const Token one : *guess) {
      if (Status status = check_range("a token of draft()", one, 0, vocabulary - 1); !status.ok()) return status;
    }
    tokens.assign(1, token);
    tokens.insert(tokens.end(), guess->begin(), guess->end());
    const Result<std::span<const float>> logits = model.verify(tokens);
    if (!logits.ok()) return logits.status();
    if (Index(logits->size()) != Index(tokens.size()) * vocabulary) {
      return fail(StatusCode::invalid_argument, "verify() gave ", logits->size(), " logits, must give ",
                  Index(tokens.size()) * vocabulary, " for ", tokens.size(), " tokens");
    }
    const auto guesses = std::span<const Token>(tokens).subspan(1);
    const Result<Acceptance> decision = decide(guesses, *logits);
    if (!decision.ok()) return decision.status();
    const Acceptance acceptance = *decision;
    if (Status status = model.commit(1 + acceptance.accepted); !status.ok()) return status;
    ++made.steps;
    for (std::size_t j = 0; j < guesses.size(); ++j) {
      ++made.drafted[j];
      if (Index(j) >= acceptance.accepted) continue;
      ++made.accepted[j];
      emit(guesses[j]);
    }
    emit(acceptance.bonus);
    made.tokens += acceptance.accepted + 1;
    token = acceptance.bonus;
  }
  return made;
}

}  // namespace detail

/// The `count` tokens after `token` that greedy decoding gives, with up to `drafts` drafts a step; emit(token) is called for
/// each. The text is that of decoding one by one if verify() gives a row the bits it has alone, which heed's kernel does:
/// pin MLA's form (MlaForm) and project rows one by one. Afterwards the model has committed all but the last token.
/// Failures are the model's, or invalid_argument for drafts outside 0 .. 1023 and for a model that gives more drafts than
/// it may, a token that is none, or another number of logits.
template <SpeculativeModel M, class Emit>
Result<SpeculativeStatistics> speculate_greedy(M& model, Token token, Index count, Index drafts, const Emit& emit) {
  const auto vocabulary = std::size_t(model.vocab_size());
  std::vector<Token> targets;
  const auto decide = [&](std::span<const Token> guesses, std::span<const float> logits) -> Result<Acceptance> {
    targets.clear();
    for (std::size_t row = 0; row <= guesses.size(); ++row) {
      targets.push_back(greedy_token(logits.subspan(row * vocabulary, vocabulary)));
    }
    return accept_greedy(guesses, targets);
  };
  return detail::speculate(model, token, count, drafts, decide, emit);
}

/// The same with tokens drawn from softmax(logits / temperature), by rejection sampling: distributed as if drawn one by
/// one. temperature > 0. `uniform()` gives numbers in [0, 1).
template <SamplingModel M, class Uniform, class Emit>
Result<SpeculativeStatistics> speculate_sampled(M& model, Token token, Index count, Index drafts, double temperature,
                                                Uniform&& uniform, const Emit& emit) {
  if (!(temperature > 0 && std::isfinite(temperature))) {
    return fail(StatusCode::invalid_argument, "temperature is ", temperature, ", must be positive");
  }
  const auto vocabulary = std::size_t(model.vocab_size());
  std::vector<double> target;
  const auto decide = [&](std::span<const Token> guesses, std::span<const float> logits) -> Result<Acceptance> {
    const std::span<const double> draft = model.draft_probabilities();
    if (draft.size() < guesses.size() * vocabulary) {
      return fail(StatusCode::invalid_argument, "draft_probabilities() gave ", draft.size(), " numbers, must give ",
                  guesses.size() * vocabulary, " for ", guesses.size(), " drafts");
    }
    target.resize((guesses.size() + 1) * vocabulary);
    for (std::size_t row = 0; row <= guesses.size(); ++row) {
      const auto from = logits.subspan(row * vocabulary, vocabulary);
      const double most = double(*std::max_element(from.begin(), from.end()));
      double sum = 0;
      for (std::size_t i = 0; i < vocabulary; ++i) {
        sum += target[row * vocabulary + i] = std::exp((double(from[i]) - most) / temperature);
      }
      for (std::size_t i = 0; i < vocabulary; ++i) target[row * vocabulary + i] /= sum;
    }
    return accept_sampled(guesses, draft, target, Index(vocabulary), uniform);
  };
  return detail::speculate(model, token, count, drafts, decide, emit);
}

}  // namespace heed::inline HEED_ABI
