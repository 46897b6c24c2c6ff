/// \file
/// The speculative loop: draft, verify, accept, emit, commit. The caller supplies the model.
///
///     known      n committed tokens, and the token t after them, which is not cached yet
///     draft      d_1 .. d_k, guesses of what follows t
///     verify     one call of the model on [t, d_1 .. d_k] gives the logits after each
///     accept     the longest run of drafts that the model agrees with, and one token chosen by the model
///     emit       the accepted drafts and that token, one by one; the caller may stop at any of them
///     commit     t and all emitted tokens except the last, which is the next t
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include <heed/floats.hpp>
#include <heed/memory.hpp>
#include <heed/speculative/accept.hpp>

namespace heed::inline HEED_ABI {

/// What the loop asks of a model.
///
///     draft(t, k)       returns at most k guesses of what follows t, possibly none; they must live until the next call
///     verify(tokens)    opens a step of these tokens and returns logits [tokens][vocab_size()]
///     commit(n)         ends the step and keeps its first n tokens, as if only these had come
///
/// A failure ends the loop. If verify() has opened a step, commit(0) closes it, unless it was commit() that failed.
template <class M>
concept SpeculativeModel = requires(M& model, Token token, Index count, std::span<const Token> tokens) {
  { model.vocab_size() } -> std::same_as<Index>;
  { model.draft(token, count) } -> std::same_as<Result<std::span<const Token>>>;
  { model.verify(tokens) } -> std::same_as<Result<std::span<const float>>>;
  { model.commit(count) } -> std::same_as<Status>;
};

/// A SpeculativeModel that also has draft_probabilities(): the distributions from which the drafts of the last draft()
/// were drawn, [drafts][vocab_size()]. Rows sum to 1.
template <class M>
concept SamplingModel = SpeculativeModel<M> && requires(M& model) {
  { model.draft_probabilities() } -> std::same_as<std::span<const double>>;
};

/// The counts of one run of the loop.
struct SpeculativeStatistics {
  Index steps = 0;              ///< calls of verify()
  Index tokens = 0;             ///< tokens that were emitted
  std::vector<Index> drafted;   ///< [k]: entry j counts the steps that had a draft number j
  std::vector<Index> accepted;  ///< [k]: entry j counts the steps whose draft number j was accepted and emitted
  bool stopped = false;         ///< true: emit() ended the run

  /// accepted[j] / drafted[j]; 0 if there was no draft number j (from 0 on).
  [[nodiscard]] double acceptance(Index j) const noexcept {
    const auto i = std::size_t(j);
    return i < drafted.size() && drafted[i] > 0 ? double(accepted[i]) / double(drafted[i]) : 0;
  }
  /// tokens / steps; 0 without a step.
  [[nodiscard]] double tokens_per_step() const noexcept { return steps == 0 ? 0 : double(tokens) / double(steps); }
};

namespace detail {

/// Emits the tokens of a step, drafts and then `bonus`. Returns how many were emitted: fewer than all if `emit`
/// stopped.
template <class Emit>
[[nodiscard]] Index emit_step(std::span<const Token> drafts, Token bonus, const Emit& emit, bool& stopped) {
  for (std::size_t j = 0; j <= drafts.size(); ++j) {
    const Token token = j < drafts.size() ? drafts[j] : bonus;
    if constexpr (std::is_void_v<std::invoke_result_t<const Emit&, Token>>) {
      emit(token);
    } else {
      stopped = !emit(token);
      if (stopped) return Index(j) + 1;
    }
  }
  return Index(drafts.size()) + 1;
}

/// What `accept(drafts, row)` makes of the logits of a step: `row(j)` are those of row j.
template <class Accept>
[[nodiscard]] Result<Acceptance> decide(std::span<const Token> drafts, std::span<const float> logits, Index vocabulary,
                                        const Accept& accept) {
  const Index rows = Index(drafts.size()) + 1;
  if (Index(logits.size()) != rows * vocabulary) {
    return fail(StatusCode::invalid_argument, "verify() gave ", logits.size(), " logits, must give ", rows * vocabulary,
                " for ", rows, " tokens");
  }
  const auto width = std::size_t(vocabulary);
  return accept(drafts, [logits, width](std::size_t row) { return logits.subspan(row * width, width); });
}

/// The loop; `accept(drafts, row)` accepts, `emit(token)` takes the tokens.
template <SpeculativeModel M, class Accept, class Emit>
Result<SpeculativeStatistics> speculate(M& model, Token token, Index count, Index drafts, const Accept& accept,
                                        const Emit& emit) {
  using Emitted = std::invoke_result_t<const Emit&, Token>;
  static_assert(std::is_void_v<Emitted> || std::is_same_v<Emitted, bool>,
                "emit(token) must return nothing, or bool: false stops after this token");
  if (Status status = check_range("drafts", drafts, 0, DraftTree::max_nodes - 1); !status.ok()) return status;
  const Index vocabulary = model.vocab_size();
  constexpr Index most_tokens_known = std::numeric_limits<Token>::max();
  if (Status status = check_range("vocab_size()", vocabulary, 1, most_tokens_known); !status.ok()) return status;
  SpeculativeStatistics made;
  made.drafted.resize(std::size_t(drafts));
  made.accepted.resize(std::size_t(drafts));
  std::vector<Token> tokens;
  while (made.tokens < count && !made.stopped) {
    // Drafts and the token after them must not be more than the tokens that are still wanted.
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
    const auto guesses = std::span<const Token>(tokens).subspan(1);
    const Result<Acceptance> decision = detail::decide(guesses, *logits, vocabulary, accept);
    if (!decision.ok()) {
      static_cast<void>(model.commit(0));  // closes the step; what failed first is what the caller must know
      return decision.status();
    }
    const Acceptance acceptance = *decision;
    const auto accepted = guesses.first(std::size_t(acceptance.accepted));
    Index came = acceptance.accepted + 1;
    if constexpr (!std::is_void_v<Emitted>) came = emit_step(accepted, acceptance.bonus, emit, made.stopped);
    // Commits the token before the drafts, and all emitted tokens except the last.
    if (Status status = model.commit(came); !status.ok()) return status;
    if constexpr (std::is_void_v<Emitted>) came = emit_step(accepted, acceptance.bonus, emit, made.stopped);
    ++made.steps;
    for (std::size_t j = 0; j < guesses.size(); ++j) {
      ++made.drafted[j];
      made.accepted[j] += Index(j) < std::min(came, acceptance.accepted) ? 1 : 0;
    }
    made.tokens += came;
    token = acceptance.bonus;
  }
  return made;
}

}  // namespace detail

/// Greedy decoding with drafts: emits the `count` tokens after `token`, with up to `drafts` drafts a step. emit(token)
/// is called for each token. It returns nothing, or a bool: false ends the run after this token, at an end-of-text
/// token for example, and later drafts are discarded.
///
/// The text is the same as without drafts if verify() gives a row the bits that it has alone. heed's kernel and
/// projections do. Use one form of MLA (MlaForm). Afterwards the model has committed all emitted tokens except the
/// last, also if emit() ended the run.
///
/// Errors: those of the model; invalid_argument for `drafts` outside 0 .. 4095, for more drafts than allowed, a token
/// outside the vocabulary, a wrong number of logits, a logit that is NaN or +inf and a row of nothing but -inf, naming
/// row and logit. No token of that step is then emitted or committed, and commit(0) closes the step. Rows after a
/// rejected draft are not read. If commit() fails, the step's tokens were emitted before if emit() returns bool, and
/// are not emitted if it returns nothing.
template <SpeculativeModel M, class Emit>
Result<SpeculativeStatistics> speculate_greedy(M& model, Token token, Index count, Index drafts, const Emit& emit) {
  const auto accept = [](std::span<const Token> guesses, const auto& logits) -> Result<Acceptance> {
    for (std::size_t row = 0;; ++row) {
      const Result<Token> target = greedy_token(logits(row));
      if (!target.ok()) return detail::named("logits", row, target.status());
      if (row == guesses.size() || guesses[row] != *target) return Acceptance{Index(row), *target};
    }
  };
  return detail::speculate(model, token, count, drafts, accept, emit);
}

/// Sampling with drafts: as speculate_greedy(), but tokens are drawn from softmax(logits / temperature) by rejection
/// sampling, and are distributed as if drawn one by one. temperature > 0. `uniform()` returns random numbers in [0, 1).
/// invalid_argument also for a row of draft probabilities that is not a distribution, naming row and token, and for a
/// number of uniform() outside [0, 1).
template <SamplingModel M, class Uniform, class Emit>
Result<SpeculativeStatistics> speculate_sampled(M& model, Token token, Index count, Index drafts, double temperature,
                                                Uniform&& uniform, const Emit& emit) {
  if (!(temperature > 0 && detail::is_finite(temperature))) {
    return fail(StatusCode::invalid_argument, "temperature is ", temperature, ", must be positive");
  }
  Buffer scratch;
  const auto accept = [&](std::span<const Token> guesses, const auto& logits) -> Result<Acceptance> {
    const std::size_t vocabulary = logits(0).size();
    const std::span<const double> draft = model.draft_probabilities();
    if (draft.size() < guesses.size() * vocabulary) {  // there may be room for more drafts
      return fail(StatusCode::invalid_argument, "draft_probabilities() gave ", draft.size(), " numbers, must give ",
                  guesses.size() * vocabulary, " for ", guesses.size(), " drafts");
    }
    const Count bytes = Count(Index(vocabulary)) * Index(sizeof(double));
    if (scratch.size() != bytes.value()) {
      Result<Buffer> made = Buffer::allocate(default_memory(), bytes.value(), "probabilities");
      if (!made.ok()) return made.status();
      scratch = *std::move(made);
    }
    const std::span<double> target(reinterpret_cast<double*>(scratch.data()), vocabulary);
    const auto softmax = [&](std::size_t row) -> Result<std::span<const double>> {
      const std::span<const float> from = logits(row);
      const Result<Token> largest = greedy_token(from);
      if (!largest.ok()) return detail::named("logits", row, largest.status());
      const double most = double(from[std::size_t(*largest)]);
      double sum = 0;
      for (std::size_t i = 0; i < vocabulary; ++i) sum += target[i] = std::exp((double(from[i]) - most) / temperature);
      for (double& probability : target) probability /= sum;
      return std::span<const double>(target);
    };
    return detail::accept_sampled(guesses, draft, softmax, Index(vocabulary), uniform);
  };
  return detail::speculate(model, token, count, drafts, accept, emit);
}

}  // namespace heed::inline HEED_ABI
