/// \file
/// A decoder in the shape of Llama: RMSNorm, a mixer, SwiGLU. The maths is examples/train/model.py.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "model/mixer.hpp"
#include "model/network.hpp"

namespace heed_examples {

class Decoder : public Network {
 public:
  /// `make_mixer(tensors)` takes the mixer's tensors.
  Decoder(const ModelConfig& config, TensorReader& tensors,
          const std::function<std::unique_ptr<Mixer>(TensorReader&)>& make_mixer)
      : config_(config) {
    const heed::Index hidden = config_.hidden_size, inner = config_.intermediate_size;
    embedding_ = tensors.matrix("model.embed_tokens.weight", config_.vocab_size, hidden);
    for (heed::Index layer = 0; layer < config_.num_layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      layers_.push_back({.input_norm = tensors.vector(prefix + "input_layernorm.weight", hidden),
                         .mlp_norm = tensors.vector(prefix + "post_attention_layernorm.weight", hidden),
                         .gate = tensors.matrix(prefix + "mlp.gate_proj.weight", inner, hidden),
                         .up = tensors.matrix(prefix + "mlp.up_proj.weight", inner, hidden),
                         .down = tensors.matrix(prefix + "mlp.down_proj.weight", hidden, inner)});
    }
    norm_ = tensors.vector("model.norm.weight", hidden);
    if (!config_.tied_head) head_ = tensors.matrix("lm_head.weight", config_.vocab_size, hidden);
    mixer_ = make_mixer(tensors);
  }

  void forward(std::span<const std::uint8_t> bytes, Matrix& logits) override {
    ids_.assign(bytes.begin(), bytes.end());
    x_.resize(heed::Index(bytes.size()), config_.hidden_size);
    for (std::size_t i = 0; i < bytes.size(); ++i) x_.row(heed::Index(i)) = embedding_.row(bytes[i]);
    mixer_->begin(ids_);
    for (heed::Index layer = 0; layer < config_.num_layers; ++layer) {
      const Layer& weights = layers_[std::size_t(layer)];
      rms_norm(x_, weights.input_norm, config_.rms_norm_eps, normed_);
      mixer_->mix(layer, normed_, branch_);
      x_ += branch_;
      rms_norm(x_, weights.mlp_norm, config_.rms_norm_eps, normed_);
      linear(normed_, weights.gate, gate_);
      linear(normed_, weights.up, up_);
      gate_.array() *= up_.array() / (1 + (-gate_.array()).exp());  // silu(gate) * up
      linear(gate_, weights.down, branch_);
      x_ += branch_;
    }
    mixer_->commit();
    rms_norm(x_, norm_, config_.rms_norm_eps, normed_);
    linear(normed_, config_.tied_head ? embedding_ : head_, logits);
  }

  void clear() override { mixer_->clear(); }
  [[nodiscard]] const SequenceMemory& memory() const override { return *mixer_; }

 private:
  struct Layer {
    Vector input_norm, mlp_norm;
    Matrix gate, up, down;
  };

  ModelConfig config_;
  Matrix embedding_, head_;
  std::vector<Layer> layers_;
  Vector norm_;
  std::unique_ptr<Mixer> mixer_;
  std::vector<std::int32_t> ids_;
  Matrix x_, normed_, branch_, gate_, up_;
};

}  // namespace heed_examples
