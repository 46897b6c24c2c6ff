/// \file
/// MFA and MFA-KR: many query heads from one normed latent, one head of keys and values. MFA-KR caches the key alone, not
/// rotated, because its values are made of it: v = M k, M = I + diag(alpha) N. As M is linear, it goes into o_proj.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <heed/layer/mfa.hpp>

#include "model/cached_mixer.hpp"
#include "model/rope.hpp"

namespace heed_examples {

template <class P, heed::Codec C, heed::SimdBackend B>
class MfaMixer final : public CachedMixer<P, C, B> {
  static constexpr bool reuses_keys = std::same_as<P, heed::MfaKr>;

 public:
  MfaMixer(const AttentionConfig& config, TensorReader& tensors, const ModelOptions& options,
           std::unique_ptr<const heed::Rope> rope)
      : CachedMixer<P, C, B>(make_policy(config, *rope), config, options),
        eps_(config.rms_norm_eps),
        rope_(std::move(rope)) {
    const heed::Index hidden = config.hidden_size, dim = config.head_dim, q_width = config.num_heads * dim;
    const heed::Index q_rank = config.keys.integer("share_q_dim", 1, 1 << 14);
    for (heed::Index layer = 0; layer < config.num_layers; ++layer) {
      const std::string name = "model.layers." + std::to_string(config.first_layer + layer) + ".self_attn.";
      Weights& w = layers_.emplace_back();
      w.q_down = tensors.projection(name + "q_proj.weight", q_rank, hidden);
      w.q_norm = tensors.vector(name + "inter_norm.weight", q_rank);
      w.q_up = tensors.projection(name + "wq.weight", q_width, q_rank);
      w.k = tensors.projection(name + "k_proj.weight", dim, hidden);
      Matrix o = tensors.matrix(name + "o_proj.weight", hidden, q_width);
      if constexpr (reuses_keys) {
        const Matrix n = tensors.matrix(name + "n", dim, dim), alpha = tensors.vector(name + "alpha", dim);
        Matrix map(dim, dim);
        heed::check(heed::make_value_map({this->numbers(n), dim, dim}, {this->numbers(alpha), 1, dim}, dim,
                                         this->numbers(map)));
        heed::check(heed::fold_value_map(this->numbers(map), dim, this->numbers(o), this->numbers(o)));
      } else {
        w.v = tensors.projection(name + "v_proj.weight", dim, hidden);
      }
      w.o = projection_of(name + "o_proj.weight", o);
    }
  }

  void mix(heed::Index layer, const Matrix& x, Matrix& out) override {
    const Weights& w = layers_[std::size_t(layer)];
    linear(x, w.q_down, latent_);
    rms_norm(latent_, w.q_norm, eps_, normed_);
    linear(normed_, w.q_up, q_);
    heed::check(rope_->apply_rows(this->positions(layer), this->policy().num_heads, this->numbers(q_)));
    linear(x, w.k, k_);
    heads_.resize(q_.rows(), q_.cols());
    if constexpr (reuses_keys) {
      this->attend(layer, q_, heads_, k_);  // keys turn when they are read
    } else {
      heed::check(rope_->apply_rows(this->positions(layer), 1, this->numbers(k_)));
      linear(x, w.v, v_);
      this->attend(layer, q_, heads_, k_, v_);
    }
    linear(heads_, w.o, out);
  }

  /// layers x (key and value, or the key alone) x encoded head.
  [[nodiscard]] heed::Index formula_bytes(heed::Index kept) const override {
    return kept * heed::Index(layers_.size()) * (reuses_keys ? 1 : 2) * C::row_bytes(rope_->options().head_dim);
  }

 private:
  struct Weights {
    heed::Projection q_down, q_up, k, v, o;
    Vector q_norm;
  };

  [[nodiscard]] static P make_policy(const AttentionConfig& config, const heed::Rope& rope) {
    P made{.num_heads = config.num_heads, .head_dim = config.head_dim, .scale = heed::default_scale(config.head_dim)};
    if constexpr (reuses_keys) made.rope = &rope;
    return made;
  }

  float eps_;
  std::unique_ptr<const heed::Rope> rope_;  // the policy points at it
  std::vector<Weights> layers_;
  Matrix latent_, normed_, q_, k_, v_, heads_;
};

template <class P, heed::Codec C, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Mixer> make_mfa(const AttentionConfig& config, TensorReader& tensors,
                                              const ModelOptions& options) {
  auto rope = std::make_unique<const heed::Rope>(make_rope(config, {.head_dim = config.head_dim}));
  return std::make_unique<MfaMixer<P, C, B>>(config, tensors, options, std::move(rope));
}

}  // namespace heed_examples
