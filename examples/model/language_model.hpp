/// \file
/// A byte-level decoder in the shape of Llama: RMSNorm, a mixer, SwiGLU. The maths is examples/train/model.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/mechanisms.hpp"

namespace heed_examples {

class LanguageModel {
 public:
  /// Reads a model file. Throws SafetensorsError, ModelError or heed::Error, whose messages name the file.
  [[nodiscard]] static LanguageModel open(const std::filesystem::path& path, MakeMixer make,
                                          const MixerOptions& options) {
    return LanguageModel(Safetensors::open(path), path.filename().string(), make, options);
  }

  /// The same from a file in memory; `name` is for messages.
  LanguageModel(const Safetensors& file, const std::string& name, MakeMixer make, const MixerOptions& options)
      : config_(ConfigKeys(file, name)) {
    TensorReader tensors(file, name);
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
    try {
      mixer_ = make(config_, tensors, options);
    } catch (const heed::Error& error) {  // knows its arguments, but not the file they came from
      config_.keys.fail(error.what());
    }
    tensors.finish();
    parameters_ = tensors.parameters();
    trained_bits_per_byte_ = trained_bits_per_byte(file);
  }

  /// Appends bytes to the text seen so far. Returns logits [bytes][256] for the byte after each of them; they live until
  /// the next call. Throws heed::Error beyond config().max_positions bytes, and has then seen nothing.
  const Matrix& forward(std::span<const std::uint8_t> bytes) {
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
    linear(normed_, config_.tied_head ? embedding_ : head_, logits_);
    return logits_;
  }

  /// Forgets the text.
  void clear() { mixer_->clear(); }

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const Mixer& mixer() const { return *mixer_; }
  [[nodiscard]] heed::Index parameters() const { return parameters_; }
  /// What the trainer measured on the held-out text, if the file says so.
  [[nodiscard]] std::optional<double> trained_bits_per_byte() const { return trained_bits_per_byte_; }

 private:
  struct Layer {
    Vector input_norm, mlp_norm;
    Matrix gate, up, down;
  };

  [[nodiscard]] static std::optional<double> trained_bits_per_byte(const Safetensors& file) {
    const auto found = file.metadata().find("training");
    if (found == file.metadata().end()) return {};
    const auto json = nlohmann::json::parse(found->second, nullptr, false);
    const auto value = json.is_object() ? json.find("heldout_bits_per_byte") : json.end();
    if (value == json.end() || !value->is_number()) return {};
    return value->get<double>();
  }

  ModelConfig config_;
  Matrix embedding_, head_;
  std::vector<Layer> layers_;
  Vector norm_;
  std::unique_ptr<Mixer> mixer_;
  heed::Index parameters_ = 0;
  std::optional<double> trained_bits_per_byte_;
  std::vector<std::int32_t> ids_;
  Matrix x_, normed_, branch_, gate_, up_, logits_;
};

}  // namespace heed_examples
