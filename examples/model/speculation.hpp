/// \file
/// Greedy continuation with drafts: a network as heed's speculative loop wants it, and where drafts come from.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include <heed/speculative/decode.hpp>

#include "model/decoder.hpp"
#include "model/mtp_head.hpp"

namespace heed_examples {

/// Guesses what comes next in a text that it is told of.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual void clear() = 0;
  /// These tokens are now part of the text.
  virtual void extend(std::span<const heed::Token> tokens) = 0;
  /// At most `count` tokens that may follow `token`, which follows the text.
  [[nodiscard]] virtual std::span<const heed::Token> draft(heed::Token token, heed::Index count) = 0;
};

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

/// The MTP module of a decoder, which must see the same text.
template <heed::SimdBackend B>
class MtpDrafter : public Drafter {
 public:
  MtpDrafter(const Decoder& decoder, MtpHead<B>& head) : decoder_(decoder), head_(head) {}

  void clear() override {
    head_.truncate(0);
    slots_ = 0;
    hiddens_.resize(0, 0);
    next_.clear();
  }
  /// The tokens are the first ones of the decoder's last call.
  void extend(std::span<const heed::Token> tokens) override {
    const auto count = heed::Index(tokens.size()), before = hiddens_.rows();
    hiddens_.conservativeResize(before + count, decoder_.hidden().cols());
    hiddens_.bottomRows(count) = decoder_.hidden().topRows(count);
    // The first token belongs to the hidden before it; at the beginning of a text there is none.
    next_.insert(next_.end(), tokens.begin() + (before + slots_ == 0 ? 1 : 0), tokens.end());
  }
  [[nodiscard]] std::span<const heed::Token> draft(heed::Token token, heed::Index count) override {
    drafts_.clear();
    if (count == 0) return drafts_;
    head_.truncate(slots_);  // slots of drafts were made from guesses
    next_.push_back(token);
    slots_ += hiddens_.rows();
    const Matrix* logits = &head_.extend(hiddens_, next_);
    hiddens_.resize(0, hiddens_.cols());
    next_.clear();
    for (;;) {
      const auto row = logits->row(logits->rows() - 1);
      drafts_.push_back(heed::greedy_token({row.data(), std::size_t(row.size())}));
      if (heed::Index(drafts_.size()) == count) return drafts_;
      own_ = head_.hidden().bottomRows(1);
      logits = &head_.extend(own_, std::span(drafts_).last(1));
    }
  }

 private:
  const Decoder& decoder_;
  MtpHead<B>& head_;
  heed::Index slots_ = 0;          // that were made from what is known
  Matrix hiddens_;                 // of later slots
  std::vector<heed::Token> next_;  // their tokens, but for the last one's
  std::vector<heed::Token> drafts_;
  Matrix own_;
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
    return heed::greedy_token({last.data(), std::size_t(last.size())});
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
