/// \file
/// MHA, GQA and MQA: one code, three policies. Keys are rotated when they are written, or with in-cache rank positions
/// when they are read.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/cached_mixer.hpp"
#include "model/rope.hpp"

namespace heed_examples {

/// The policy of a config, or ModelError if num_key_value_heads is not what the mechanism means.
template <class P>
[[nodiscard]] P grouped_policy(const AttentionConfig& config) {
  const heed::Index heads = config.num_heads;
  const float scale = heed::default_scale(config.head_dim);
  if constexpr (std::same_as<P, heed::Gqa>) {
    const heed::Index kv_heads = config.keys.integer("num_key_value_heads", 1, heads);
    if (heads % kv_heads != 0) {
      config.keys.fail("config 'num_key_value_heads' is " + std::to_string(kv_heads) +
                       ", must divide num_attention_heads " + std::to_string(heads));
    }
    return {.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = config.head_dim, .scale = scale};
  } else {
    const heed::Index kv_heads = std::same_as<P, heed::Mha> ? heads : 1;
    (void)config.keys.integer("num_key_value_heads", kv_heads, kv_heads);
    return {.num_heads = heads, .head_dim = config.head_dim, .scale = scale};
  }
}

/// P as it is, or with keys that `rope` rotates at read.
template <class P, class Base>
[[nodiscard]] P grouped_policy(const Base& base, const heed::Rope& rope) {
  if constexpr (std::same_as<P, Base>) {
    return base;
  } else {
    return {.policy = base, .rope = &rope};
  }
}

template <class P, class Base, heed::Codec C, heed::SimdBackend B>
class GroupedMixer final : public CachedMixer<P, C, B> {
  static constexpr bool rotates_at_read = !std::same_as<P, Base>;

 public:
  GroupedMixer(const AttentionConfig& config, TensorReader& tensors, const ModelOptions& options,
               std::unique_ptr<const heed::Rope> rope)
      : CachedMixer<P, C, B>(grouped_policy<P>(grouped_policy<Base>(config), *rope), config, options),
        rope_(std::move(rope)) {
    const heed::AttentionLayout shape = this->policy().layout();
    num_heads_ = shape.num_heads;
    num_kv_heads_ = shape.num_kv_heads;
    const heed::Index hidden = config.hidden_size;
    const heed::Index q_width = num_heads_ * config.head_dim, kv_width = num_kv_heads_ * config.head_dim;
    for (heed::Index layer = 0; layer < config.num_layers; ++layer) {
      const std::string name = "model.layers." + std::to_string(config.first_layer + layer) + ".self_attn.";
      layers_.push_back({.q = tensors.projection(name + "q_proj.weight", q_width, hidden),
                         .k = tensors.projection(name + "k_proj.weight", kv_width, hidden),
                         .v = tensors.projection(name + "v_proj.weight", kv_width, hidden),
                         .o = tensors.projection(name + "o_proj.weight", hidden, q_width)});
    }
  }

  void mix(heed::Index layer, const Matrix& x, Matrix& out) override {
    const Weights& w = layers_[std::size_t(layer)];
    linear(x, w.q, q_);
    linear(x, w.k, k_);
    linear(x, w.v, v_);
    heed::check(rope_->apply_rows(this->positions(layer), num_heads_, this->numbers(q_)));
    if (!rotates_at_read) heed::check(rope_->apply_rows(this->positions(layer), num_kv_heads_, this->numbers(k_)));
    heads_.resize(q_.rows(), q_.cols());
    this->attend(layer, q_, heads_, k_, v_);
    linear(heads_, w.o, out);
  }

  /// layers x (keys and values) x KV heads x encoded head.
  [[nodiscard]] heed::Index formula_bytes(heed::Index kept) const override {
    return kept * heed::Index(layers_.size()) * 2 * num_kv_heads_ * C::row_bytes(rope_->options().head_dim);
  }

 private:
  struct Weights {
    heed::Projection q, k, v, o;
  };

  std::unique_ptr<const heed::Rope> rope_;  // at one address: the policy points at it
  heed::Index num_heads_ = 0;
  heed::Index num_kv_heads_ = 0;
  std::vector<Weights> layers_;
  Matrix q_, k_, v_, heads_;
};

template <class P, heed::Codec C, heed::SimdBackend B>
[[nodiscard]] std::unique_ptr<Mixer> make_grouped(const AttentionConfig& config, TensorReader& tensors,
                                                  const ModelOptions& options) {
  auto rope = std::make_unique<const heed::Rope>(make_rope(config, {.head_dim = config.head_dim}));
  if (options.positions == heed::Positions::rank) {
    return std::make_unique<GroupedMixer<heed::RotatedKeys<P>, P, C, B>>(config, tensors, options, std::move(rope));
  }
  return std::make_unique<GroupedMixer<P, P, C, B>>(config, tensors, options, std::move(rope));
}

}  // namespace heed_examples
