/// \file
/// The attention layers of MFA (Step-3, arXiv 2507.19427) and MFA-KR (arXiv 2412.19255), from a checkpoint's tensors to
/// queries, cache rows and outputs.
///
///     u = x Wdq^T,   q_c = RoPE(RMSNorm(u) Wuq_c^T),   k = x Wk^T,   v = x Wv^T,   y = concat_c(o_c) Wo^T
///
/// There is one norm, over the whole query latent; k and v have none. MFA caches RoPE(k) and v. MFA-KR caches k; its
/// value is M k with M = I + diag(alpha) N.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include <heed/layer/check.hpp>
#include <heed/layer/head_rope.hpp>
#include <heed/layer/rms_norm.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// Sizes and options of a layer; names are those of Step-3's config.
struct MfaLayerOptions {
  Index hidden_size = 0;                 ///< width of x and y
  Index num_attention_heads = 0;         ///< query heads
  Index head_dim = 0;                    ///< width of a query head, of the key and of the value
  Index share_q_dim = 0;                 ///< width of the query latent
  double inter_norm_eps = 1e-5;          ///< eps of inter_norm
  std::optional<RopeOptions> rope = {};  ///< rotation of a head; empty: none
  WeightType weights = WeightType::f32;  ///< how the projections are stored
  const Rope* shared_rope = nullptr;     ///< in place of `rope`: one for several layers. Not owned; must outlive them

  /// head_dim^-1/2, times YaRN's factor on the logit if the model has one.
  [[nodiscard]] float scale() const noexcept {
    const std::optional<Yarn> yarn = rope                     ? rope->yarn
                                     : shared_rope != nullptr ? shared_rope->options().yarn
                                                              : std::optional<Yarn>();
    const double factor = yarn ? yarn->softmax_factor() : 1;
    return float(factor / std::sqrt(double(head_dim)));
  }
};

/// The tensors of a layer; names are Hugging Face's for Step-3 without "self_attn." and ".weight". Shapes [out, in];
/// norms [1, width].
struct MfaTensors {
  Tensor q_proj;      ///< [share_q_dim, hidden_size]
  Tensor inter_norm;  ///< [share_q_dim]
  Tensor wq;          ///< [num_heads * head_dim, share_q_dim]
  Tensor k_proj;      ///< [head_dim, hidden_size]
  Tensor v_proj;      ///< [head_dim, hidden_size]; MFA only
  Tensor o_proj;      ///< [hidden_size, num_heads * head_dim]
  Tensor kr_n;        ///< N [head_dim, head_dim]; MFA-KR only
  Tensor kr_alpha;    ///< alpha [1, head_dim]; MFA-KR only
};

namespace detail {

/// The common part of both layers: queries through a normalised latent, one key, the output projection.
class MfaProjections {
 public:
  [[nodiscard]] static Result<MfaProjections> create(const MfaLayerOptions& options, const MfaTensors& tensors) {
    const Index hidden = options.hidden_size, latent = options.share_q_dim, dim = options.head_dim;
    const Index heads_width = (Count(options.num_attention_heads) * dim).value();
    MfaProjections made;
    made.num_heads_ = options.num_attention_heads;
    Status s = first_failure({check_width("hidden_size", hidden), check_width("share_q_dim", latent),
                              validate_heads(options.num_attention_heads, 1, dim, dim, 1.0f)});
    HeadRope rope;
    if (s.ok()) s = take(rope, HeadRope::create(options.rope, options.shared_rope, dim));
    if (rope.get() != nullptr) made.rope_ = std::make_unique<const HeadRope>(std::move(rope));
    if (s.ok()) s = take(made.q_down_, Projection::create("q_proj", tensors.q_proj, latent, hidden, options.weights));
    if (s.ok()) s = take(made.norm_, RmsNorm::create("inter_norm", tensors.inter_norm, latent, options.inter_norm_eps));
    if (s.ok()) s = take(made.q_up_, Projection::create("wq", tensors.wq, heads_width, latent, options.weights));
    if (s.ok()) s = take(made.k_, Projection::create("k_proj", tensors.k_proj, dim, hidden, options.weights));
    if (s.ok()) s = take(made.o_, Projection::create("o_proj", tensors.o_proj, hidden, heads_width, options.weights));
    if (!s.ok()) return s;
    return made;
  }

  [[nodiscard]] Index hidden_size() const noexcept { return k_.in(); }
  /// Null without rotation. It keeps its address as long as the layer lives, because policies point to it.
  [[nodiscard]] const Rope* rope() const noexcept { return rope_ == nullptr ? nullptr : rope_->get(); }

  /// Makes rotated queries and the un-rotated key. `layer` is for messages.
  template <SimdBackend Backend, Executor E>
  Status project(const char* layer, std::span<const float> x, std::span<const Index> positions, std::span<float> q,
                 std::span<float> k, Workspace& workspace, E& executor) const {
    const auto tokens = Index(positions.size());
    if (Status s = first_failure({check_made(layer, hidden_size()), check_rows("x", x.size(), tokens, hidden_size()),
                                  check_rows("q", q.size(), tokens, q_up_.out()),
                                  check_rows("k", k.size(), tokens, k_.out())});
        !s.ok()) {
      return s;
    }
    if (Status s = workspace.reserve(std::uint64_t(tokens * q_down_.out()) * sizeof(float)); !s.ok()) return s;
    auto* const latent = reinterpret_cast<float*>(workspace.data());
    q_down_.template apply<Backend>(tokens, x.data(), latent, executor);
    norm_.apply(tokens, latent, q_down_.out());
    q_up_.template apply<Backend>(tokens, latent, q.data(), executor);
    k_.template apply<Backend>(tokens, x.data(), k.data(), executor);
    if (rope() != nullptr) rope()->rotate(positions.data(), tokens, num_heads_, q.data());
    return {};
  }

  template <SimdBackend Backend, Executor E>
  Status output(const char* layer, std::span<const float> heads, std::span<float> y, E& executor) const {
    return apply_checked<Backend>(layer, o_, "heads", heads, y, executor);
  }

 private:
  Index num_heads_ = 0;
  std::unique_ptr<const HeadRope> rope_;
  Projection q_down_, q_up_, k_, o_;
  RmsNorm norm_;
};

}  // namespace detail

/// One layer of MFA: project(), write k and v to the cache, attend(), then output(). Owns its weights. Immutable:
/// threads may share it. If it was moved from, its calls return wrong_state, and its policy is Mfa().
class MfaLayer {
 public:
  /// invalid_argument naming a tensor or option, or out_of_memory.
  [[nodiscard]] static Result<MfaLayer> create(const MfaLayerOptions& options, const MfaTensors& tensors) {
    MfaLayer layer;
    layer.policy_ =
        Mfa{.num_heads = options.num_attention_heads, .head_dim = options.head_dim, .scale = options.scale()};
    Status s = detail::take(layer.shared_, detail::MfaProjections::create(options, tensors));
    if (s.ok()) {
      s = detail::take(layer.v_, Projection::create("v_proj", tensors.v_proj, options.head_dim, options.hidden_size,
                                                    options.weights));
    }
    if (!s.ok()) return s;
    return layer;
  }

  /// The policy for caches of rotated keys, and for a layer without rotation.
  [[nodiscard]] const Mfa& policy() const noexcept { return policy_; }
  /// The policy for caches of un-rotated keys. It must not outlive this layer. Not valid if the layer has no rotation.
  [[nodiscard]] RotatedKeys<Mfa> unrotated_policy() const noexcept {
    return {.policy = *policy_, .rope = shared_.rope()};
  }
  /// Width of x and y.
  [[nodiscard]] Index hidden_size() const noexcept { return shared_.hidden_size(); }

  /// Queries and cache rows of tokens at `positions`: x [tokens][hidden_size] gives q [tokens][num_heads][head_dim], k
  /// and v [tokens][head_dim]. Queries are rotated, keys as `keys` says. invalid_argument naming a wrong size, or
  /// out_of_memory. After an error nothing has been written.
  template <SimdBackend Backend, Executor E>
  Status project(std::span<const float> x, std::span<const Index> positions, std::span<float> q, std::span<float> k,
                 std::span<float> v, Workspace& workspace, E& executor, CachedKeys keys = CachedKeys::rotated) const {
    const auto tokens = Index(positions.size());
    if (Status s = detail::first_failure(
            {detail::check_made("MfaLayer", hidden_size()), detail::check_rows("v", v.size(), tokens, v_.out())});
        !s.ok()) {
      return s;
    }
    if (Status s = shared_.template project<Backend>("MfaLayer", x, positions, q, k, workspace, executor); !s.ok()) {
      return s;
    }
    if (shared_.rope() != nullptr && keys == CachedKeys::rotated) {
      shared_.rope()->rotate(positions.data(), tokens, 1, k.data());
    }
    v_.template apply<Backend>(tokens, x.data(), v.data(), executor);
    return {};
  }

  /// y [tokens][hidden_size] of the heads' outputs [tokens][num_heads][head_dim]. invalid_argument naming a wrong size.
  template <SimdBackend Backend, Executor E>
  Status output(std::span<const float> heads, std::span<float> y, E& executor) const {
    return shared_.template output<Backend>("MfaLayer", heads, y, executor);
  }

 private:
  MfaLayer() = default;

  detail::UntilMoved<Mfa> policy_;
  detail::MfaProjections shared_;
  Projection v_;
};

/// M transposed, for MfaKr::value_map, with M = I + diag(alpha) N, so that v = M k = k + alpha * (N k). `map` is
/// [head_dim][head_dim]. invalid_argument naming a wrong size.
inline Status make_value_map(const Tensor& n, const Tensor& alpha, Index head_dim, std::span<float> map) {
  if (Status s = detail::first_failure({check_tensor("kr_n", n, head_dim, head_dim),
                                        check_tensor("kr_alpha", alpha, 1, head_dim),
                                        detail::check_rows("map", map.size(), head_dim, head_dim)});
      !s.ok()) {
    return s;
  }
  for (Index i = 0; i < head_dim; ++i) {
    for (Index j = 0; j < head_dim; ++j) {
      map[std::size_t(j * head_dim + i)] =
          (i == j ? 1.0f : 0.0f) + alpha.data[std::size_t(i)] * n.data[std::size_t(i * head_dim + j)];
    }
  }
  return {};
}

/// Folds M into an output projection [hidden_size, num_heads * head_dim]: folded[h, c, j] = sum_i o[h, c, i] M[i, j],
/// summed in float64. MFA-KR then needs no value map: o_c = z_c. `folded` has the size of `o_proj` and may be its
/// memory. invalid_argument naming a wrong size, or out_of_memory; `folded` is then unchanged.
inline Status fold_value_map(std::span<const float> map, Index head_dim, std::span<const float> o_proj,
                             std::span<float> folded) {
  if (head_dim < 1 || !detail::has_size(map.size(), Count(head_dim) * head_dim)) {
    return fail(StatusCode::invalid_argument, "map has ", map.size(), " numbers, must have head_dim^2 for head_dim ",
                head_dim);
  }
  if (Index(o_proj.size()) % head_dim != 0 || folded.size() != o_proj.size()) {
    return fail(StatusCode::invalid_argument, "o_proj has ", o_proj.size(), " numbers and folded ", folded.size(),
                ", must be equal and a multiple of head_dim ", head_dim);
  }
  Result<detail::Floats> block = detail::Floats::create(head_dim, "fold");
  if (!block.ok()) return block.status();
  for (std::size_t at = 0; at < o_proj.size(); at += std::size_t(head_dim)) {
    for (Index j = 0; j < head_dim; ++j) {
      double sum = 0;
      for (Index i = 0; i < head_dim; ++i) {
        sum += double(o_proj[at + std::size_t(i)]) * double(map[std::size_t(j * head_dim + i)]);
      }
      block->data()[j] = float(sum);
    }
    std::memcpy(folded.data() + at, block->data(), std::size_t(head_dim) * sizeof(float));
  }
  return {};
}

/// Where MFA-KR's value map is applied. The results agree within rounding.
enum class ValueMap {
  folded,     ///< folded into the output projection when the layer is created; costs nothing per query
  per_query,  ///< applied to every query's sum; the output projection is the checkpoint's
};

/// One layer of MFA-KR: project(), write k to the cache, attend(), then output(). Owns its weights. Immutable: threads
/// may share it. If it was moved from, its calls return wrong_state, and its policy is MfaKr().
class MfaKrLayer {
 public:
  /// invalid_argument naming a tensor or option, or out_of_memory.
  [[nodiscard]] static Result<MfaKrLayer> create(const MfaLayerOptions& options, const MfaTensors& tensors,
                                                 ValueMap value_map = ValueMap::folded) {
    const Index dim = options.head_dim, heads_width = (Count(options.num_attention_heads) * dim).value();
    MfaKrLayer layer;
    MfaTensors used = tensors;
    detail::Floats folded;
    Status s = detail::first_failure({detail::check_width("hidden_size", options.hidden_size),
                                      detail::validate_heads(options.num_attention_heads, 1, dim, dim, 1.0f),
                                      check_tensor("o_proj", tensors.o_proj, options.hidden_size, heads_width)});
    if (s.ok()) s = detail::take(layer.map_, detail::Floats::create(Count(dim) * dim, "kr_n"));
    if (!s.ok()) return s;
    const std::span<float> map{layer.map_.data(), std::size_t(dim * dim)};
    s = make_value_map(tensors.kr_n, tensors.kr_alpha, dim, map);
    if (s.ok() && value_map == ValueMap::folded) {
      s = detail::take(folded, detail::Floats::create(Count(options.hidden_size) * heads_width, "o_proj"));
      if (s.ok()) {
        s = fold_value_map(map, dim, tensors.o_proj.data,
                           {folded.data(), std::size_t(options.hidden_size * heads_width)});
      }
      used.o_proj.data = folded.span();
    }
    if (s.ok()) s = detail::take(layer.shared_, detail::MfaProjections::create(options, used));
    if (!s.ok()) return s;
    layer.policy_ = MfaKr{.num_heads = options.num_attention_heads,
                          .head_dim = dim,
                          .scale = options.scale(),
                          .rope = layer.shared_.rope(),
                          .value_map = value_map == ValueMap::folded ? std::span<const float>{} : layer.map_.span()};
    return layer;
  }

  /// The policy. It points into this layer and must not outlive it.
  [[nodiscard]] const MfaKr& policy() const noexcept { return policy_; }
  /// Width of x and y.
  [[nodiscard]] Index hidden_size() const noexcept { return shared_.hidden_size(); }

  /// Queries and cache rows of tokens at `positions`: x [tokens][hidden_size] gives q [tokens][num_heads][head_dim],
  /// rotated, and k [tokens][head_dim], not rotated. invalid_argument naming a wrong size, or out_of_memory; nothing is
  /// then written.
  template <SimdBackend Backend, Executor E>
  Status project(std::span<const float> x, std::span<const Index> positions, std::span<float> q, std::span<float> k,
                 Workspace& workspace, E& executor) const {
    return shared_.template project<Backend>("MfaKrLayer", x, positions, q, k, workspace, executor);
  }

  /// y [tokens][hidden_size] of the heads' outputs [tokens][num_heads][head_dim]. invalid_argument naming a wrong size.
  template <SimdBackend Backend, Executor E>
  Status output(std::span<const float> heads, std::span<float> y, E& executor) const {
    return shared_.template output<Backend>("MfaKrLayer", heads, y, executor);
  }

 private:
  MfaKrLayer() = default;

  detail::Floats map_;
  detail::MfaProjections shared_;
  detail::UntilMoved<MfaKr> policy_;
};

}  // namespace heed::inline HEED_ABI
