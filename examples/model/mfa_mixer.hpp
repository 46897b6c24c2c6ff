/// \file
/// MFA and MFA-KR: many query heads from one normed latent, one head of keys and values. MFA-KR caches the key alone, not
/// rotated, because its values are made of it: v = M k, M = I + diag(alpha) N. As M is linear, it goes into o_proj.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/layer/mfa.hpp>

#include "model/cached_mixer.hpp"
#include "model/rope.hpp"

namespace heed_examples {

template <class P, heed::Codec C>
class MfaMixer final : public CachedMixer<P, C> {
  static constexpr bool reuses_keys = std::same_as<P, heed::MfaKr>;
  using Layer = std::conditional_t<reuses_keys, heed::MfaKrLayer, heed::MfaLayer>;

 public:
  MfaMixer(const AttentionConfig& config, TensorReader& tensors, const ModelOptions& options,
           std::unique_ptr<const heed::Rope> rope)
      : CachedMixer<P, C>(make_policy(config, *rope), config, options),
        rope_(std::move(rope)) {
    const heed::Index hidden = config.hidden_size, dim = config.head_dim, q_width = config.num_heads * dim;
    const heed::Index q_rank = config.keys.integer("share_q_dim", 1, 1 << 14);
    const heed::MfaLayerOptions shape{.hidden_size = hidden,
                                      .num_attention_heads = config.num_heads,
                                      .head_dim = dim,
                                      .share_q_dim = q_rank,
                                      .inter_norm_eps = config.rms_norm_eps,
                                      .rope = rope_options(config)};
    for (heed::Index layer = 0; layer < config.num_layers; ++layer) {
      const std::string name = this->prefix(config, layer);
      const Matrix q_down = tensors.matrix(name + "q_proj.weight", q_rank, hidden);
      const Vector q_norm = tensors.vector(name + "inter_norm.weight", q_rank);
      const Matrix q_up = tensors.matrix(name + "wq.weight", q_width, q_rank);
      const Matrix k = tensors.matrix(name + "k_proj.weight", dim, hidden);
      const Matrix o = tensors.matrix(name + "o_proj.weight", hidden, q_width);
      heed::MfaTensors weights{.q_proj = tensor_of(q_down),
                               .inter_norm = tensor_of(q_norm),
                               .wq = tensor_of(q_up),
                               .k_proj = tensor_of(k),
                               .v_proj = {},
                               .o_proj = tensor_of(o),
                               .kr_n = {},
                               .kr_alpha = {}};
      if constexpr (reuses_keys) {
        const Matrix n = tensors.matrix(name + "n", dim, dim);
        const Vector alpha = tensors.vector(name + "alpha", dim);
        weights.kr_n = tensor_of(n);
        weights.kr_alpha = tensor_of(alpha);
        layers_.push_back(heed::value_or_throw(Layer::create(shape, weights)));
      } else {
        const Matrix v = tensors.matrix(name + "v_proj.weight", dim, hidden);
        weights.v_proj = tensor_of(v);
        layers_.push_back(heed::value_or_throw(Layer::create(shape, weights)));
      }
    }
  }

  void mix(heed::Index layer, const Matrix& x, Matrix& out) override {
    const Layer& attention = layers_[std::size_t(layer)];
    const heed::Index dim = this->policy().head_dim;
    heed::SerialExecutor executor;
    q_.resize(x.rows(), this->policy().num_heads * dim);
    k_.resize(x.rows(), dim);
    heads_.resize(x.rows(), q_.cols());
    out.resize(x.rows(), attention.hidden_size());
    if constexpr (reuses_keys) {
      heed::check(attention.template project<heed::DefaultBackend>(this->numbers(x), this->positions(layer),
                                                                   this->numbers(q_), this->numbers(k_), workspace_,
                                                                   executor));
      this->attend(layer, q_, heads_, k_);  // keys turn when they are read
    } else {
      v_.resize(x.rows(), dim);
      heed::check(attention.template project<heed::DefaultBackend>(this->numbers(x), this->positions(layer),
                                                                   this->numbers(q_), this->numbers(k_),
                                                                   this->numbers(v_), workspace_, executor));
      this->attend(layer, q_, heads_, k_, v_);
    }
    heed::check(attention.template output<heed::DefaultBackend>(this->numbers(heads_), this->numbers(out), executor));
  }

  /// layers x (key and value, or the key alone) x encoded head.
  [[nodiscard]] heed::Index formula_bytes(heed::Index kept) const override {
    return kept * heed::Index(layers_.size()) * (reuses_keys ? 1 : 2) * C::row_bytes(rope_->options().head_dim);
  }

 private:
  [[nodiscard]] static P make_policy(const AttentionConfig& config, const heed::Rope& rope) {
    P made{.num_heads = config.num_heads, .head_dim = config.head_dim, .scale = heed::default_scale(config.head_dim)};
    if constexpr (reuses_keys) made.rope = &rope;
    return made;
  }

  std::unique_ptr<const heed::Rope> rope_;  // the policy points at it
  std::vector<Layer> layers_;
  heed::Workspace workspace_;
  Matrix q_, k_, v_, heads_;
};

template <class P, heed::Codec C>
[[nodiscard]] std::unique_ptr<Mixer> make_mfa(const AttentionConfig& config, TensorReader& tensors,
                                              const ModelOptions& options) {
  auto rope = std::make_unique<const heed::Rope>(make_rope(config));
  return std::make_unique<MfaMixer<P, C>>(config, tensors, options, std::move(rope));
}

}  // namespace heed_examples
