/// \file
/// Greedy continuation with drafts: a network as heed's speculative loop wants it, and where drafts come from.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include <heed/speculative/decode.hpp>

#include "model/drafter.hpp"
#include "model/network.hpp"

namespace heed_examples {

/// What followed the last time: the continuation of the latest place in the text whose last bytes are those at its end.
class LookupDrafter : public Drafter {
 public:
  void clear() override { text_.clear(); }
  void extend(std::span<const heed::Token> tokens) override { text_.insert(text_.end(), tokens.begin(), tokens.end()); }
  [[nodiscard]] std::span<const heed::Token> draft(heed::Token token, heed::Index count) override {
    text_.push_back(token);
    drafts_.clear();
    for (std::size_t length = 8; length >= 2 && drafts_.empty(); --length) {
      if (text_.size() <= length) continue;
      const auto end = text_.end(), tail = end - std::ptrdiff_t(length);
      const auto found = std::find_end(text_.begin(), end - 1, tail, end);
      if (found == end - 1) continue;
      for (auto next = found + std::ptrdiff_t(length); next != end && heed::Index(drafts_.size()) < count; ++next) {
        drafts_.push_back(*next);
      }
    }
    text_.pop_back();
    return drafts_;
  }

 private:
  std::vector<heed::Token> text_, drafts_;
};

/// A heed::SpeculativeModel of a network and a drafter.
class SpeculativeText {
 public:
  SpeculativeText(Network& network, Drafter& drafter) : network_(network), drafter_(drafter) {}

  /// Reads a prompt and returns the greedy token after it.
  [[nodiscard]] heed::Token start(std::span<const std::uint8_t> prompt) {
    network_.clear();
    drafter_.clear();
    tokens_.assign(prompt.begin(), prompt.end());
    network_.forward(prompt, logits_);
    drafter_.extend(tokens_);
    const auto last = logits_.row(logits_.rows() - 1);
    return heed::value_or_throw(heed::greedy_token({last.data(), std::size_t(last.size())}));
  }

  [[nodiscard]] heed::Index vocab_size() const { return 256; }
  [[nodiscard]] heed::Result<std::span<const heed::Token>> draft(heed::Token token, heed::Index count) {
    return drafter_.draft(token, std::min(count, max_drafts));
  }
  [[nodiscard]] heed::Result<std::span<const float>> verify(std::span<const heed::Token> tokens) {
    tokens_.assign(tokens.begin(), tokens.end());
    bytes_.assign(tokens.begin(), tokens.end());
    network_.verify(bytes_, logits_);
    return std::span<const float>(logits_.data(), std::size_t(logits_.size()));
  }
  [[nodiscard]] heed::Status commit(heed::Index count) {
    network_.accept(count);
    drafter_.extend(std::span(tokens_).first(std::size_t(count)));
    return {};
  }

 private:
  Network& network_;
  Drafter& drafter_;
  std::vector<heed::Token> tokens_;
  std::vector<std::uint8_t> bytes_;
  Matrix logits_;
};

struct SpeculativeRun {
  std::vector<heed::Token> tokens;
  heed::SpeculativeStatistics statistics;
  std::chrono::nanoseconds time{0};  ///< after the prompt
};

/// The `count` bytes after a prompt, with up to `drafts` drafts a step; 0 drafts is plain greedy decoding. Throws heed::Error.
[[nodiscard]] inline SpeculativeRun speculate(Network& network, Drafter& drafter, std::span<const std::uint8_t> prompt,
                                              heed::Index count, heed::Index drafts) {
  SpeculativeText text(network, drafter);
  SpeculativeRun run;
  run.tokens.push_back(text.start(prompt));
  const auto begin = std::chrono::steady_clock::now();
  run.statistics = heed::value_or_throw(heed::speculate_greedy(
      text, run.tokens.front(), count - 1, drafts, [&](heed::Token token) { run.tokens.push_back(token); }));
  run.time = std::chrono::steady_clock::now() - begin;
  return run;
}

}  // namespace heed_examples
