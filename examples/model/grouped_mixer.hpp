/// \file
/// MHA, GQA and MQA: one code, three policies. Keys are rotated when they are written, or with in-cache rank positions
/// when they are read.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <heed/layer/grouped.hpp>

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

template <class P, class Base, heed::Codec C>
class GroupedMixer final : public CachedMixer<P, C> {
  static constexpr bool rotates_at_read = !std::same_as<P, Base>;

 public:
  GroupedMixer(const AttentionConfig& config, TensorReader& tensors, const ModelOptions& options,
               std::unique_ptr<const heed::Rope> rope)
      : CachedMixer<P, C>(grouped_policy<P>(grouped_policy<Base>(config), *rope), config, options),
        rope_(std::move(rope)) {
    const heed::AttentionLayout layout = this->policy().layout();
    const heed::Gqa shape{.num_heads = layout.num_heads,
                          .num_kv_heads = layout.num_kv_heads,
                          .head_dim = config.head_dim,
                          .scale = layout.scale};
    q_width_ = shape.num_heads * shape.head_dim;
    kv_width_ = shape.num_kv_heads * shape.head_dim;
    const heed::Index hidden = config.hidden_size;
    for (heed::Index layer = 0; layer < config.num_layers; ++layer) {
      const std::string name = this->prefix(config, layer);
      const Matrix q = tensors.matrix(name + "q_proj.weight", q_width_, hidden);
      const Matrix k = tensors.matrix(name + "k_proj.weight", kv_width_, hidden);
      const Matrix v = tensors.matrix(name + "v_proj.weight", kv_width_, hidden);
      const Matrix o = tensors.matrix(name + "o_proj.weight", hidden, q_width_);
      layers_.push_back(heed::value_or_throw(heed::GroupedLayer::create(
          hidden, shape, rope_options(config), {tensor_of(q), tensor_of(k), tensor_of(v), tensor_of(o)})));
    }
  }

  void mix(heed::Index layer, const Matrix& x, Matrix& out) override {
    const heed::GroupedLayer& attention = layers_[std::size_t(layer)];
    heed::SerialExecutor executor;
    q_.resize(x.rows(), q_width_);
    k_.resize(x.rows(), kv_width_);
    v_.resize(x.rows(), kv_width_);
    heads_.resize(x.rows(), q_width_);
    out.resize(x.rows(), attention.hidden_size());
    heed::check(attention.project<heed::DefaultBackend>(
        this->numbers(x), this->positions(layer), this->numbers(q_), this->numbers(k_), this->numbers(v_), executor,
        rotates_at_read ? heed::CachedKeys::unrotated : heed::CachedKeys::rotated));
    this->attend(layer, q_, heads_, k_, v_);
    heed::check(attention.output<heed::DefaultBackend>(this->numbers(heads_), this->numbers(out), executor));
  }

  /// layers x (keys and values) x KV heads x encoded head.
  [[nodiscard]] heed::Index formula_bytes(heed::Index kept) const override {
    const heed::AttentionLayout layout = this->policy().layout();
    return kept * heed::Index(layers_.size()) * 2 * layout.num_kv_heads * C::row_bytes(layout.key_width);
  }

 private:
  std::unique_ptr<const heed::Rope> rope_;  // at one address: the policy points at it
  heed::Index q_width_ = 0;
  heed::Index kv_width_ = 0;
  std::vector<heed::GroupedLayer> layers_;
  Matrix q_, k_, v_, heads_;
};

template <class P, heed::Codec C>
[[nodiscard]] std::unique_ptr<Mixer> make_grouped(const AttentionConfig& config, TensorReader& tensors,
                                                  const ModelOptions& options) {
  auto rope = std::make_unique<const heed::Rope>(make_rope(config));
  if (options.positions == heed::Positions::rank) {
    return std::make_unique<GroupedMixer<heed::RotatedKeys<P>, P, C>>(config, tensors, options, std::move(rope));
  }
  return std::make_unique<GroupedMixer<P, P, C>>(config, tensors, options, std::move(rope));
}

}  // namespace heed_examples
