/// \file
/// A layer of a decoder: what is around the mixer.
///
///     x <- x + mixer(RMSNorm(x)),   x <- x + feed_forward(RMSNorm(x))
#pragma once

#include <memory>
#include <string>

#include "model/feed_forward.hpp"
#include "model/mixer.hpp"
#include "model/moe.hpp"

namespace heed_examples {

class DecoderLayer {
 public:
  /// Layer number `layer` of the file.
  DecoderLayer(const ModelConfig& config, TensorReader& tensors, heed::Index layer) : eps_(config.rms_norm_eps) {
    const std::string name = "model.layers." + std::to_string(layer) + ".";
    input_norm_ = tensors.vector(name + "input_layernorm.weight", config.hidden_size);
    mlp_norm_ = tensors.vector(name + "post_attention_layernorm.weight", config.hidden_size);
    const bool routes =
        config.keys.has("n_routed_experts") && layer >= config.keys.integer("first_k_dense_replace", 0, 1 << 10);
    if (routes) {
      feed_forward_ = std::make_unique<MixtureOfExperts>(config, tensors, name + "mlp.");
    } else {
      feed_forward_ = std::make_unique<SwiGlu>(tensors, name + "mlp.", config.hidden_size, config.intermediate_size);
    }
  }

  /// x [tokens][hidden] in place, inside a step of `mixer`, whose layer number `mixed` is this one's.
  void forward(Mixer& mixer, heed::Index mixed, Matrix& x) {
    rms_norm(x, input_norm_, eps_, normed_);
    mixer.mix(mixed, normed_, branch_);
    x += branch_;
    rms_norm(x, mlp_norm_, eps_, normed_);
    feed_forward_->apply(normed_, branch_);
    x += branch_;
  }

 private:
  float eps_;
  Vector input_norm_, mlp_norm_;
  std::unique_ptr<FeedForward> feed_forward_;
  Matrix normed_, branch_;
};

}  // namespace heed_examples
