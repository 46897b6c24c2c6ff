/// \file
/// MLA: a token leaves a normed latent and one rotated key part, a single row that all heads share. The maths is
/// examples/train/mla.py in the absorbed form: no key or value is ever expanded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <heed/layer/mla.hpp>

#include "model/cached_mixer.hpp"
#include "model/rope.hpp"

namespace heed_examples {

/// The policy of a config, without the weights, which differ from layer to layer.
[[nodiscard]] inline heed::Mla mla_policy(const AttentionConfig& config) {
  // In these files head_dim is that of the rotated part.
  const heed::Index rope = config.keys.integer("qk_rope_head_dim", config.head_dim, config.head_dim);
  const heed::Index nope = config.keys.integer("qk_nope_head_dim", 1, 1 << 12);
  return {.num_heads = config.num_heads,
          .kv_lora_rank = config.keys.integer("kv_lora_rank", 1, 1 << 14),
          .qk_rope_head_dim = rope,
          .qk_nope_head_dim = nope,
          .v_head_dim = config.keys.integer("v_head_dim", 1, 1 << 12),
          .scale = heed::default_scale(nope + rope)};
}

template <heed::Codec C, heed::SimdBackend B>
class MlaMixer final : public CachedMixer<heed::Mla, C, B> {
 public:
  MlaMixer(const AttentionConfig& config, TensorReader& tensors, const ModelOptions& options)
      : CachedMixer<heed::Mla, C, B>(mla_policy(config), config, options),
        eps_(config.rms_norm_eps),
        q_rope_(make_rope(config, rotated_tail(shape().qk_nope_head_dim))),
        row_rope_(make_rope(config, rotated_tail(shape().kv_lora_rank))) {
    const heed::Mla& mla = shape();
    const heed::Index hidden = config.hidden_size, rank = mla.kv_lora_rank;
    const heed::Index q_rank = config.keys.integer("q_lora_rank", 1, 1 << 14);
    const heed::Index q_width = mla.num_heads * mla.qk_head_dim();
    const heed::Index kv_width = mla.num_heads * (mla.qk_nope_head_dim + mla.v_head_dim);
    for (heed::Index layer = 0; layer < config.num_layers; ++layer) {
      const std::string name = "model.layers." + std::to_string(config.first_layer + layer) + ".self_attn.";
      Weights& w = layers_.emplace_back();
      w.q_a = tensors.projection(name + "q_a_proj.weight", q_rank, hidden);
      w.q_norm = tensors.vector(name + "q_a_layernorm.weight", q_rank);
      w.q_b = tensors.projection(name + "q_b_proj.weight", q_width, q_rank);
      w.kv_a = tensors.projection(name + "kv_a_proj_with_mqa.weight", mla.row_width(), hidden);
      w.kv_norm = tensors.vector(name + "kv_a_layernorm.weight", rank);
      const Matrix kv_b = tensors.matrix(name + "kv_b_proj.weight", kv_width, rank);
      w.kv_b = heed::value_or_throw(heed::PackedMlaWeights::create(mla, {this->numbers(kv_b), kv_width, rank}));
      w.o = tensors.projection(name + "o_proj.weight", hidden, mla.num_heads * mla.v_head_dim);
    }
  }

  void mix(heed::Index layer, const Matrix& x, Matrix& out) override {
    const Weights& w = layers_[std::size_t(layer)];
    heed::Mla policy = shape();
    policy.weights = w.kv_b.weights();

    linear(x, w.q_a, latent_);
    rms_norm(latent_, w.q_norm, eps_, normed_);
    linear(normed_, w.q_b, q_);
    heed::check(q_rope_.apply_rows(this->positions(layer), policy.num_heads, this->numbers(q_)));

    linear(x, w.kv_a, row_);
    latent_ = row_.leftCols(policy.kv_lora_rank);
    rms_norm(latent_, w.kv_norm, eps_, normed_);
    row_.leftCols(policy.kv_lora_rank) = normed_;
    heed::check(row_rope_.apply_rows(this->positions(layer), 1, this->numbers(row_)));

    heads_.resize(x.rows(), policy.num_heads * policy.v_head_dim);
    this->attend_with(policy, layer, q_, heads_, row_);
    linear(heads_, w.o, out);
  }

  /// layers x encoded row of latent and rotated key.
  [[nodiscard]] heed::Index formula_bytes(heed::Index kept) const override {
    return kept * heed::Index(layers_.size()) * C::row_bytes(shape().row_width());
  }

 private:
  struct Weights {
    heed::Projection q_a, q_b, kv_a, o;
    Vector q_norm, kv_norm;
    heed::PackedMlaWeights kv_b;
  };

  [[nodiscard]] const heed::Mla& shape() const { return this->policy(); }

  /// Rows of `before` numbers that stay as they are, then qk_rope_head_dim that turn.
  [[nodiscard]] heed::RopeOptions rotated_tail(heed::Index before) const {
    const heed::Index width = shape().qk_rope_head_dim;
    return {.head_dim = before + width, .rotary_dim = width, .rotary_offset = before};
  }

  float eps_;
  heed::Rope q_rope_, row_rope_;
  std::vector<Weights> layers_;
  Matrix latent_, normed_, q_, row_, heads_;
};

template <heed::Codec C, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Mixer> make_mla(const AttentionConfig& config, TensorReader& tensors,
                                              const ModelOptions& options) {
  return std::make_unique<MlaMixer<C, B>>(config, tensors, options);
}

}  // namespace heed_examples
