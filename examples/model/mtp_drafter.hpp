/// \file
/// An MTP module as a drafter: keeps its slots in step with what the decoder has seen.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/drafter.hpp"
#include "model/mtp_head.hpp"

namespace heed_examples {

/// Drafts by the MTP module of a decoder, which must see the same text.
class MtpDrafter : public Drafter {
 public:
  /// Arguments as of MtpHead.
  MtpDrafter(const ModelConfig& config, TensorReader& tensors, const Decoder& decoder, const ModelOptions& options,
             const std::function<std::unique_ptr<Mixer>(TensorReader&)>& make_mixer)
      : decoder_(decoder), head_(config, tensors, decoder, options, make_mixer) {}

  [[nodiscard]] MtpHead& head() { return head_; }

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
    // The first token belongs to the hidden before it, which has it already unless it waits here, too.
    next_.insert(next_.end(), tokens.begin() + (before == 0 ? 1 : 0), tokens.end());
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
      drafts_.push_back(heed::value_or_throw(heed::greedy_token({row.data(), std::size_t(row.size())})));
      if (heed::Index(drafts_.size()) == count) return drafts_;
      own_ = head_.hidden().bottomRows(1);
      logits = &head_.extend(own_, std::span(drafts_).last(1));
    }
  }

 private:
  const Decoder& decoder_;
  MtpHead head_;
  heed::Index slots_ = 0;          // that were made from what is known
  Matrix hiddens_;                 // of later slots
  std::vector<heed::Token> next_;  // their tokens, but for the last one's
  std::vector<heed::Token> drafts_;
  Matrix own_;
};

}  // namespace heed_examples
