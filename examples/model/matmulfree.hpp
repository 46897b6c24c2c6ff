/// \file
/// The MatMul-free language model (heed/ternary/matmulfree_lm.hpp) as a network: no attention, no KV cache, a state of
/// constant size.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <heed/ternary/matmulfree_lm.hpp>

#include "model/network.hpp"

namespace heed_examples {

/// The library's config of a model file's. Throws ModelError for what only other models have.
[[nodiscard]] inline heed::MatMulFreeConfig matmulfree_config(const ModelConfig& config) {
  const ConfigKeys& keys = config.keys;
  (void)keys.integer("num_heads", 1, 1);
  (void)keys.integer("expand_ratio", 1, 1);
  if (keys.flag("use_short_conv")) keys.fail("config 'use_short_conv' is true, must be false");
  if (config.tied_head) keys.fail("config 'tie_word_embeddings' is true, must be false");
  if (keys.text("hidden_act") != "swish") {
    keys.fail("config 'hidden_act' is \"" + keys.text("hidden_act") + "\", must be \"swish\"");
  }
  heed::MatMulFreeConfig made{.vocab_size = config.vocab_size,
                              .hidden_size = config.hidden_size,
                              .num_hidden_layers = config.num_layers,
                              .intermediate_size = config.intermediate_size,
                              .rms_norm_eps = keys.positive("rms_norm_eps"),
                              .bitlinear_norm_eps = keys.positive("bitlinear_norm_eps"),
                              .use_lower_bound = keys.flag("use_lower_bound")};
  const std::string order = keys.text("gate_order");
  if (order == "norm_gate_swish_h") {
    made.gate_order = heed::GateOrder::norm_gate_swish_h;
  } else if (order == "norm_h_swish_gate") {
    made.gate_order = heed::GateOrder::norm_h_swish_gate;
  } else if (order == "sigmoid_gate") {
    made.gate_order = heed::GateOrder::sigmoid_gate;
  } else {
    keys.fail("config 'gate_order' is \"" + order +
              "\", must be \"norm_gate_swish_h\", \"norm_h_swish_gate\" or \"sigmoid_gate\"");
  }
  return made;
}

/// On backend B. The embedding stays float32: files may hold more than bf16 keeps.
template <heed::TernaryBackend B>
class MatMulFree : public Network, private SequenceMemory {
 public:
  MatMulFree(const ModelConfig& config, TensorReader& tensors, const ModelOptions& options)
      : vocab_size_(config.vocab_size),
        model_(make_model(matmulfree_config(config), tensors)),
        state_(heed::value_or_throw(model_.make_state(
            {.max_tokens = config.max_positions, .undo_tokens = max_drafts, .memory = options.memory}))),
        executor_(*options.executor) {
    if (options.rule || options.positions != heed::Positions::absolute) {
      config.keys.fail("has no attention, so that no rule can drop its tokens, and no positions");
    }
  }

  void verify(std::span<const std::uint8_t> bytes, Matrix& logits) override {
    ids_.assign(bytes.begin(), bytes.end());
    logits.resize(heed::Index(bytes.size()), vocab_size_);
    step_.reset();
    step_.emplace(heed::value_or_throw(state_.begin(ids_)));
    heed::check(
        model_.template forward<B>(ids_, *step_, {logits.data(), std::size_t(logits.size())}, workspace_, executor_));
  }
  void accept(heed::Index count) override { heed::check(step_->commit(count)); }
  void clear() override {
    step_.reset();
    heed::check(state_.clear());
  }
  [[nodiscard]] const SequenceMemory& memory() const override { return *this; }

 private:
  [[nodiscard]] static heed::MatMulFreeLm<heed::TwoBit, heed::F32> make_model(const heed::MatMulFreeConfig& config,
                                                                              TensorReader& tensors) {
    std::vector<float> numbers;  // of one tensor at a time
    return heed::value_or_throw(heed::MatMulFreeLm<heed::TwoBit, heed::F32>::from_floats(
        config, [&](const char* name) -> heed::Result<heed::Tensor> {
          const auto shape = tensors.shape(name);
          numbers = tensors.numbers(name);
          if (shape.size() == 1) return heed::Tensor{numbers, 1, shape[0]};
          return heed::Tensor{numbers, shape.at(0), shape.at(1)};
        }));
  }

  [[nodiscard]] heed::CacheBytes bytes() const override { return state_.bytes(); }
  [[nodiscard]] heed::RetentionCounters retention() const override {
    return {.seen = state_.seen(), .kept = state_.seen()};  // every token has left its mark
  }
  [[nodiscard]] heed::Index formula_bytes(heed::Index) const override { return model_.config().state_bytes(); }
  [[nodiscard]] std::chrono::nanoseconds attention_time() const override { return {}; }

  heed::Index vocab_size_;
  heed::MatMulFreeLm<heed::TwoBit, heed::F32> model_;
  heed::RecurrentState state_;
  std::optional<heed::RecurrentState::Step> step_;  // after the state: it must go first
  heed::Workspace workspace_;
  heed::ThreadPool& executor_;
  std::vector<std::int32_t> ids_;
};

}  // namespace heed_examples
