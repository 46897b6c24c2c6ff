/// \file
/// The attention layer of BitNet b1.58 (arXiv 2402.17764; the 2B4T model): grouped-query attention between ternary
/// projections. The cache, the rules and the kernel are those of any other GQA.
///
///     q = RoPE(BitLinear_q(x)),  k = RoPE(BitLinear_k(x)),  v = BitLinear_v(x),   y = BitLinear_o(concat_h(o_h))
#pragma once

#include <optional>

#include <heed/layer/head_rope.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/ternary/bit_linear.hpp>

namespace heed::inline HEED_ABI {

/// The projections of a layer; names are Hugging Face's without "self_attn.". The norms of a BitNet block are inner
/// norms of these projections: q, k and v have input_layernorm, so x is quantised once for all three; o has
/// attn_sub_norm. 2B4T's eps is 1e-5.
template <TernaryLayout L>
struct BitNetProjections {
  BitLinear<L> q_proj;  ///< [num_heads * head_dim, hidden_size]
  BitLinear<L> k_proj;  ///< [num_kv_heads * head_dim, hidden_size]
  BitLinear<L> v_proj;  ///< [num_kv_heads * v_head_dim, hidden_size]
  BitLinear<L> o_proj;  ///< [hidden_size, num_heads * v_head_dim]
};

/// One attention layer: project(), write k and v to the cache, attend() with policy(), then output(). Owns its weights.
/// Immutable: threads may share it. If it was moved from, its calls return wrong_state, and its policy is Gqa().
template <TernaryLayout L = TwoBit>
class BitNetAttention {
 public:
  /// `rope` is the rotation of a head; empty if the model has none. `shared_rope` takes its place in models whose layers
  /// share one; it is not owned and must outlive the layer. invalid_argument naming a projection or option, or
  /// out_of_memory.
  [[nodiscard]] static Result<BitNetAttention> create(Index hidden_size, const Gqa& shape,
                                                      const std::optional<RopeOptions>& rope,
                                                      BitNetProjections<L> projections,
                                                      const Rope* shared_rope = nullptr) {
    if (Status s = detail::first_failure({detail::check_width("hidden_size", hidden_size), shape.validate()});
        !s.ok()) {
      return s;
    }
    const Index queries = shape.num_heads * shape.head_dim, keys = shape.num_kv_heads * shape.head_dim;
    const Index values = shape.num_kv_heads * shape.v_head_dim, heads = shape.num_heads * shape.v_head_dim;
    const auto check = [](const char* name, const BitLinear<L>& linear, Index out, Index in) -> Status {
      if (linear.out() == out && linear.in() == in) return {};
      return fail(StatusCode::invalid_argument, name, " has shape [", linear.out(), ", ", linear.in(), "], must be [",
                  out, ", ", in, "]");
    };
    if (Status s = detail::first_failure({check("q_proj", projections.q_proj, queries, hidden_size),
                                          check("k_proj", projections.k_proj, keys, hidden_size),
                                          check("v_proj", projections.v_proj, values, hidden_size),
                                          check("o_proj", projections.o_proj, hidden_size, heads)});
        !s.ok()) {
      return s;
    }
    BitNetAttention layer;
    layer.policy_ = shape;
    if (Status s = detail::take(layer.rope_, detail::HeadRope::create(rope, shared_rope, shape.head_dim)); !s.ok()) {
      return s;
    }
    layer.projections_ = std::move(projections);
    return layer;
  }

  /// The policy for caches of rotated keys, and for a layer without rotation.
  [[nodiscard]] const Gqa& policy() const noexcept { return policy_; }
  /// The policy for caches of un-rotated keys. It points into this layer, which must not move or end before it. Not
  /// valid if the layer has no rotation.
  [[nodiscard]] RotatedKeys<Gqa> unrotated_policy() const noexcept { return {.policy = *policy_, .rope = rope_.get()}; }
  /// Width of x and y.
  [[nodiscard]] Index hidden_size() const noexcept { return projections_.q_proj.in(); }
  /// As given to create().
  [[nodiscard]] const BitNetProjections<L>& projections() const noexcept { return projections_; }

  /// Queries and cache rows of tokens at `positions`: x [tokens][hidden_size] gives q [tokens][num_heads][head_dim], k
  /// [tokens][num_kv_heads][head_dim] and v [tokens][num_kv_heads][v_head_dim]. Queries are rotated, keys as `keys`
  /// says. invalid_argument naming a wrong size, or out_of_memory. After an error nothing has been written.
  template <TernaryBackend Backend, Executor E>
  Status project(std::span<const float> x, std::span<const Index> positions, std::span<float> q, std::span<float> k,
                 std::span<float> v, Workspace& workspace, E& executor, CachedKeys keys = CachedKeys::rotated) const {
    const auto tokens = Index(positions.size());
    if (Status s = detail::first_failure({detail::check_made("BitNetAttention", hidden_size()),
                                          detail::check_rows("x", x.size(), tokens, hidden_size()),
                                          detail::check_rows("q", q.size(), tokens, projections_.q_proj.out()),
                                          detail::check_rows("k", k.size(), tokens, projections_.k_proj.out()),
                                          detail::check_rows("v", v.size(), tokens, projections_.v_proj.out())});
        !s.ok()) {
      return s;
    }
    const BitLinearOutput<L> outputs[] = {
        {&projections_.q_proj, q}, {&projections_.k_proj, k}, {&projections_.v_proj, v}};
    Status s = bit_linear<Backend>(std::span<const BitLinearOutput<L>>(outputs), x, workspace, executor);
    if (const Rope* const rope = rope_.get(); s.ok() && rope != nullptr) {
      rope->rotate(positions.data(), tokens, policy_->num_heads, q.data());
      if (keys == CachedKeys::rotated) rope->rotate(positions.data(), tokens, policy_->num_kv_heads, k.data());
    }
    return s;
  }

  /// y [tokens][hidden_size] from the outputs of the heads, `heads` [tokens][num_heads][v_head_dim]. Errors as
  /// project().
  template <TernaryBackend Backend, Executor E>
  Status output(std::span<const float> heads, std::span<float> y, Workspace& workspace, E& executor) const {
    if (Status s = detail::check_made("BitNetAttention", hidden_size()); !s.ok()) return s;
    return bit_linear<Backend>(projections_.o_proj, heads, y, workspace, executor);
  }

 private:
  BitNetAttention() = default;

  detail::UntilMoved<Gqa> policy_;
  detail::HeadRope rope_;
  BitNetProjections<L> projections_;
};

}  // namespace heed::inline HEED_ABI
