/// \file
/// The attention layer of Llama-like models: MHA, GQA and MQA, from a checkpoint's tensors to queries, cache rows and
/// outputs.
///
///     q = RoPE(x Wq^T),  k = RoPE(x Wk^T),  v = x Wv^T,   y = concat_h(o_h) Wo^T
#pragma once

#include <optional>

#include <heed/layer/head_rope.hpp>
#include <heed/layer/projection.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>

namespace heed::inline HEED_ABI {

/// The tensors of a layer; names are Hugging Face's without "self_attn." and ".weight". Shapes [out, in].
struct GroupedTensors {
  Tensor q_proj;  ///< [num_heads * head_dim, hidden_size]
  Tensor k_proj;  ///< [num_kv_heads * head_dim, hidden_size]
  Tensor v_proj;  ///< [num_kv_heads * v_head_dim, hidden_size]
  Tensor o_proj;  ///< [hidden_size, num_heads * v_head_dim]
};

/// One attention layer: project(), write k and v to the cache, attend() with policy(), then output(). Owns its weights.
/// Immutable: threads may share it. If it was moved from, its calls return wrong_state, and its policy is Gqa().
class GroupedLayer {
 public:
  /// `rope` is the rotation of a head; empty if the model has none. `weights` says how the projections are stored.
  /// `shared_rope` takes the place of `rope` in models whose layers share one; it is not owned and must outlive the layer.
  /// invalid_argument naming a tensor or option, or out_of_memory.
  [[nodiscard]] static Result<GroupedLayer> create(Index hidden_size, const Gqa& shape,
                                                   const std::optional<RopeOptions>& rope,
                                                   const GroupedTensors& tensors, WeightType weights = WeightType::f32,
                                                   const Rope* shared_rope = nullptr) {
    if (Status s = detail::first_failure({detail::check_width("hidden_size", hidden_size), shape.validate()});
        !s.ok()) {
      return s;
    }
    GroupedLayer layer;
    layer.policy_ = shape;
    if (Status s = detail::take(layer.rope_, detail::HeadRope::create(rope, shared_rope, shape.head_dim)); !s.ok()) {
      return s;
    }
    const Index q = shape.num_heads * shape.head_dim, k = shape.num_kv_heads * shape.head_dim;
    const Index v = shape.num_kv_heads * shape.v_head_dim, o = shape.num_heads * shape.v_head_dim;
    Status s = detail::take(layer.q_, Projection::create("q_proj", tensors.q_proj, q, hidden_size, weights));
    if (s.ok()) s = detail::take(layer.k_, Projection::create("k_proj", tensors.k_proj, k, hidden_size, weights));
    if (s.ok()) s = detail::take(layer.v_, Projection::create("v_proj", tensors.v_proj, v, hidden_size, weights));
    if (s.ok()) s = detail::take(layer.o_, Projection::create("o_proj", tensors.o_proj, hidden_size, o, weights));
    if (!s.ok()) return s;
    return layer;
  }

  /// The policy for caches of rotated keys, and for a layer without rotation.
  [[nodiscard]] const Gqa& policy() const noexcept { return policy_; }
  /// The policy for caches of un-rotated keys. It points into this layer, which must not move or end before it. Not
  /// valid if the layer has no rotation.
  [[nodiscard]] RotatedKeys<Gqa> unrotated_policy() const noexcept { return {.policy = *policy_, .rope = rope_.get()}; }
  /// Width of x and y.
  [[nodiscard]] Index hidden_size() const noexcept { return q_.in(); }

  /// Queries and cache rows of tokens at `positions`: x [tokens][hidden_size] gives q [tokens][num_heads][head_dim], k
  /// [tokens][num_kv_heads][head_dim] and v [tokens][num_kv_heads][v_head_dim]. Queries are rotated, keys as `keys`
  /// says. invalid_argument naming a wrong size. After an error nothing has been written.
  template <SimdBackend Backend, Executor E>
  Status project(std::span<const float> x, std::span<const Index> positions, std::span<float> q, std::span<float> k,
                 std::span<float> v, E& executor, CachedKeys keys = CachedKeys::rotated) const {
    const auto tokens = Index(positions.size());
    if (Status s = detail::first_failure({detail::check_made("GroupedLayer", hidden_size()),
                                          detail::check_rows("x", x.size(), tokens, hidden_size()),
                                          detail::check_rows("q", q.size(), tokens, q_.out()),
                                          detail::check_rows("k", k.size(), tokens, k_.out()),
                                          detail::check_rows("v", v.size(), tokens, v_.out())});
        !s.ok()) {
      return s;
    }
    q_.apply<Backend>(tokens, x.data(), q.data(), executor);
    k_.apply<Backend>(tokens, x.data(), k.data(), executor);
    v_.apply<Backend>(tokens, x.data(), v.data(), executor);
    if (const Rope* const rope = rope_.get(); rope != nullptr) {
      rope->rotate(positions.data(), tokens, policy_->num_heads, q.data());
      if (keys == CachedKeys::rotated) rope->rotate(positions.data(), tokens, policy_->num_kv_heads, k.data());
    }
    return {};
  }

  /// y [tokens][hidden_size] from the outputs of the heads, `heads` [tokens][num_heads][v_head_dim]. invalid_argument
  /// naming a wrong size.
  template <SimdBackend Backend, Executor E>
  Status output(std::span<const float> heads, std::span<float> y, E& executor) const {
    return detail::apply_checked<Backend>("GroupedLayer", o_, "heads", heads, y, executor);
  }

 private:
  GroupedLayer() = default;

  detail::UntilMoved<Gqa> policy_;
  detail::HeadRope rope_;
  Projection q_, k_, v_, o_;
};

}  // namespace heed::inline HEED_ABI
