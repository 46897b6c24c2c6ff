/// \file
/// A decoder in the shape of Llama or DeepSeek: embedding, layers, norm, head. The maths is examples/train.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "model/decoder_layer.hpp"
#include "model/network.hpp"

namespace heed_examples {

class Decoder : public Network {
 public:
  /// `make_mixer(tensors)` takes the mixer's tensors.
  Decoder(const ModelConfig& config, TensorReader& tensors,
          const std::function<std::unique_ptr<Mixer>(TensorReader&)>& make_mixer)
      : config_(config) {
    embedding_ = tensors.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
    for (heed::Index layer = 0; layer < config_.num_layers; ++layer) layers_.emplace_back(config, tensors, layer);
    norm_ = tensors.vector("model.norm.weight", config_.hidden_size);
    head_ = config_.tied_head ? projection_of("lm_head.weight", embedding_)
                              : tensors.projection("lm_head.weight", config_.vocab_size, config_.hidden_size);
    mixer_ = make_mixer(tensors);
  }

  void verify(std::span<const std::uint8_t> bytes, Matrix& logits) override {
    ids_.assign(bytes.begin(), bytes.end());
    x_.resize(heed::Index(bytes.size()), config_.hidden_size);
    for (std::size_t i = 0; i < bytes.size(); ++i) x_.row(heed::Index(i)) = embedding_.row(bytes[i]);
    mixer_->begin(ids_);
    for (heed::Index layer = 0; layer < config_.num_layers; ++layer) {
      layers_[std::size_t(layer)].forward(*mixer_, layer, x_);
    }
    rms_norm(x_, norm_, config_.rms_norm_eps, hidden_);
    linear(hidden_, head_, logits);
  }
  void accept(heed::Index count) override { mixer_->commit(count); }
  void clear() override { mixer_->clear(); }
  [[nodiscard]] const SequenceMemory& memory() const override { return *mixer_; }

  [[nodiscard]] Drafter* drafter() override { return drafter_.get(); }
  /// The module that guesses ahead for this decoder.
  void set_drafter(std::unique_ptr<Drafter> drafter) { drafter_ = std::move(drafter); }

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  /// Of the bytes of the last verify(), after the last norm: what the head saw.
  [[nodiscard]] const Matrix& hidden() const { return hidden_; }
  [[nodiscard]] const Matrix& embedding() const { return embedding_; }
  [[nodiscard]] const heed::Projection& head() const { return head_; }

 private:
  ModelConfig config_;
  Matrix embedding_;
  heed::Projection head_;
  std::vector<DecoderLayer> layers_;
  Vector norm_;
  std::unique_ptr<Mixer> mixer_;
  std::unique_ptr<Drafter> drafter_;
  std::vector<std::int32_t> ids_;
  Matrix x_, hidden_;
};

}  // namespace heed_examples
