/// \file
/// MLA: a token leaves a normed latent and one rotated key part, a single row that all heads share. heed::MlaLayer
/// computes what examples/train/mla.py does, in the absorbed form: no key or value is ever expanded.
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

template <heed::Codec C>
class MlaMixer final : public CachedMixer<heed::Mla, C> {
 public:
  MlaMixer(const AttentionConfig& config, TensorReader& tensors, const ModelOptions& options)
      : CachedMixer<heed::Mla, C>(mla_policy(config), config, options) {
    const heed::Mla& mla = this->policy();
    const heed::RopeOptions rope = make_rope(config).options();  // a wrong rotation is named before a wrong tensor
    const heed::Index hidden = config.hidden_size, rank = mla.kv_lora_rank;
    const heed::Index q_rank = config.keys.integer("q_lora_rank", 1, 1 << 14);
    const heed::Index q_width = mla.num_heads * mla.qk_head_dim(), v_width = mla.num_heads * mla.v_head_dim;
    const heed::Index kv_width = mla.num_heads * (mla.qk_nope_head_dim + mla.v_head_dim);
    for (heed::Index layer = 0; layer < config.num_layers; ++layer) {
      const std::string name = this->prefix(config, layer);
      const Matrix q_a = tensors.matrix(name + "q_a_proj.weight", q_rank, hidden);
      const Vector q_norm = tensors.vector(name + "q_a_layernorm.weight", q_rank);
      const Matrix q_b = tensors.matrix(name + "q_b_proj.weight", q_width, q_rank);
      const Matrix kv_a = tensors.matrix(name + "kv_a_proj_with_mqa.weight", mla.row_width(), hidden);
      const Vector kv_norm = tensors.vector(name + "kv_a_layernorm.weight", rank);
      const Matrix kv_b = tensors.matrix(name + "kv_b_proj.weight", kv_width, rank);
      const Matrix o = tensors.matrix(name + "o_proj.weight", hidden, v_width);
      layers_.push_back(heed::value_or_throw(heed::MlaLayer::create({.hidden_size = hidden,
                                                                     .num_attention_heads = mla.num_heads,
                                                                     .q_lora_rank = q_rank,
                                                                     .kv_lora_rank = rank,
                                                                     .qk_nope_head_dim = mla.qk_nope_head_dim,
                                                                     .qk_rope_head_dim = mla.qk_rope_head_dim,
                                                                     .v_head_dim = mla.v_head_dim,
                                                                     .q_a_layernorm_eps = config.rms_norm_eps,
                                                                     .kv_a_layernorm_eps = config.rms_norm_eps,
                                                                     .rope_layout = rope.layout,
                                                                     .rope_theta = rope.theta,
                                                                     .table_positions = rope.table_positions},
                                                                    {.q_proj = {},
                                                                     .q_a_proj = tensor_of(q_a),
                                                                     .q_a_layernorm = tensor_of(q_norm),
                                                                     .q_b_proj = tensor_of(q_b),
                                                                     .kv_a_proj_with_mqa = tensor_of(kv_a),
                                                                     .kv_a_layernorm = tensor_of(kv_norm),
                                                                     .kv_b_proj = tensor_of(kv_b),
                                                                     .o_proj = tensor_of(o)})));
    }
  }

  void mix(heed::Index layer, const Matrix& x, Matrix& out) override {
    const heed::MlaLayer& attention = layers_[std::size_t(layer)];
    const heed::Mla& mla = attention.policy();
    heed::SerialExecutor executor;
    q_.resize(x.rows(), mla.num_heads * mla.qk_head_dim());
    row_.resize(x.rows(), mla.row_width());
    heads_.resize(x.rows(), mla.num_heads * mla.v_head_dim);
    out.resize(x.rows(), attention.hidden_size());
    heed::check(attention.project<heed::DefaultBackend>(this->numbers(x), this->positions(layer), this->numbers(q_),
                                                        this->numbers(row_), workspace_, executor));
    this->attend_with(mla, layer, q_, heads_, row_);
    heed::check(attention.output<heed::DefaultBackend>(this->numbers(heads_), this->numbers(out), executor));
  }

  /// layers x encoded row of latent and rotated key.
  [[nodiscard]] heed::Index formula_bytes(heed::Index kept) const override {
    return kept * heed::Index(layers_.size()) * C::row_bytes(this->policy().row_width());
  }

 private:
  std::vector<heed::MlaLayer> layers_;
  heed::Workspace workspace_;
  Matrix q_, row_, heads_;
};

template <heed::Codec C>
[[nodiscard]] std::unique_ptr<Mixer> make_mla(const AttentionConfig& config, TensorReader& tensors,
                                              const ModelOptions& options) {
  return std::make_unique<MlaMixer<C>>(config, tensors, options);
}

}  // namespace heed_examples
