/// \file
/// The attention layer of DeepSeek-V2, V3, R1 and Kimi-K2, from a checkpoint's tensors to queries, cache rows and outputs.
///
///     q = RMSNorm(x Wqa^T) Wqb^T, or x Wq^T      per head [nope | rope], the rope part rotated
///     row = [RMSNorm(l) | RoPE(k)],  [l | k] = x Wkva^T
///     y = concat_h(o_h) Wo^T
///
/// Sources: deepseek-ai/DeepSeek-V3 inference/model.py, and the modelling code of the models on Hugging Face.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include <heed/attend.hpp>
#include <heed/floats.hpp>
#include <heed/layer/check.hpp>
#include <heed/layer/head_rope.hpp>
#include <heed/layer/rms_norm.hpp>
#include <heed/policy/mla.hpp>
#include <heed/rope/rope.hpp>

namespace heed::inline HEED_ABI {

/// Sizes and options of a layer; names are those of the checkpoint's config.
struct MlaLayerOptions {
  Index hidden_size = 0;                       ///< width of x and y
  Index num_attention_heads = 0;               ///< query heads
  Index q_lora_rank = 0;                       ///< 0: queries are made by q_proj alone (V2-Lite)
  Index kv_lora_rank = 0;                      ///< width of the latent, the rope key not counted
  Index qk_nope_head_dim = 0;                  ///< width of the part of a query head that is not rotated
  Index qk_rope_head_dim = 0;                  ///< width of the rotated part
  Index v_head_dim = 0;                        ///< width of a head's value
  double q_a_layernorm_eps = 1e-6;             ///< eps of the query latent's norm
  double kv_a_layernorm_eps = 1e-6;            ///< eps of the KV latent's norm
  RopeLayout rope_layout = RopeLayout::unset;  ///< DeepSeek's own code: interleaved
  double rope_theta = 0;                       ///< base of the frequencies; must be set
  std::optional<Yarn> yarn = {};               ///< rope_scaling of type "yarn"; empty: none
  Index table_positions = 65536;               ///< see RopeOptions
  WeightType weights = WeightType::f32;        ///< how the projections and the up-projections are stored
  /// One for several layers; its head_dim is qk_rope_head_dim. rope_layout, rope_theta and yarn must then be unset. Not
  /// owned; must outlive the layer.
  const Rope* shared_rope = nullptr;
};

/// The tensors of a layer; names are Hugging Face's without "self_attn." and ".weight". Shapes [out, in]; norms [1,
/// width].
struct MlaTensors {
  Tensor q_proj;              ///< [num_heads * qk_head_dim, hidden_size], if q_lora_rank is 0
  Tensor q_a_proj;            ///< [q_lora_rank, hidden_size]
  Tensor q_a_layernorm;       ///< [q_lora_rank]
  Tensor q_b_proj;            ///< [num_heads * qk_head_dim, q_lora_rank]
  Tensor kv_a_proj_with_mqa;  ///< [kv_lora_rank + qk_rope_head_dim, hidden_size]
  Tensor kv_a_layernorm;      ///< [kv_lora_rank]
  Tensor kv_b_proj;           ///< [num_heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank]
  Tensor o_proj;              ///< [hidden_size, num_heads * v_head_dim]
};

/// Owns the up-projections of a layer as MlaWeights with panels: num_heads * kv_lora_rank * (2 nope + v) numbers of a
/// WeightType.
class PackedMlaWeights {
 public:
  PackedMlaWeights() = default;

  /// From kv_b_proj: per head, qk_nope_head_dim rows of W_UK, then v_head_dim rows of W_UV. invalid_argument naming a
  /// wrong shape, or out_of_memory.
  [[nodiscard]] static Result<PackedMlaWeights> create(const Mla& shape, const Tensor& kv_b_proj,
                                                       WeightType type = WeightType::f32) {
    const Index heads = shape.num_heads, rank = shape.kv_lora_rank;
    const Index nope = shape.qk_nope_head_dim, width = (Count(nope) + shape.v_head_dim).value();
    const Index rows = (Count(heads) * width).value();
    if (Status s = detail::check_shape("kv_b_proj", rows, rank); !s.ok()) return s;
    if (Status s = check_tensor("kv_b_proj", kv_b_proj, rows, rank); !s.ok()) return s;
    if (nope < 0 || nope > width) return detail::check_range("qk_nope_head_dim", nope, 0, width);
    PackedMlaWeights packed;
    Status s = detail::take(packed.uk_, detail::Weights::create(Count(heads) * nope * rank, type, "kv_b_proj"));
    if (s.ok()) s = detail::take(packed.ukv_, detail::Weights::create(Count(heads) * rank * width, type, "kv_b_proj"));
    if (!s.ok()) return s;
    for (Index h = 0; h < heads; ++h) {
      const float* const from = kv_b_proj.data.data() + h * width * rank;
      packed.uk_.set_panels_transposed(h * nope * rank, from, rank, nope);
      packed.ukv_.set_panels(h * rank * width, from, nope, rank);
      packed.ukv_.set_panels(h * rank * width + rank * nope, from + nope * rank, width - nope, rank);
    }
    return packed;
  }

  /// The packed weights. They point into memory of this object, also after it is moved.
  [[nodiscard]] MlaWeights weights() const noexcept {
    return {uk_.floats(), ukv_.floats(), uk_.bf16(), ukv_.bf16(), true};
  }

 private:
  detail::Weights uk_, ukv_;
};

/// attend() with MLA in the given form; automatic is mla_expands(). Both forms read the same cache. Their results agree
/// within rounding but not in every bit: choose one form if calls of different sizes must agree bit for bit. Arguments
/// and errors as in attend(). The expanded form needs weights; without weights automatic absorbs. A GroupedMask needs a
/// form: automatic is invalid_argument, because the number of KV heads depends on it.
template <SimdBackend Backend, KeyValueSource S, Executor E>
Status attend_mla(const Mla& mla, MlaForm form, std::span<const float> q, const S& keys, MaskRef mask,
                  std::span<float> out, Workspace& workspace, E& executor, const AttendOptions& options = {},
                  std::span<float> lse = {}, std::span<const Index> query_positions = {}) {
  if (Status s = mla.validate(); !s.ok()) return s;
  if (mask.grouped() && form == MlaForm::automatic) {
    return fail(StatusCode::invalid_argument,
                "mask depends on the KV head, of which absorbed MLA has 1 and expanded MLA ", mla.num_heads,
                ": choose a form");
  }
  const Index queries = Index(q.size()) / (mla.num_heads * mla.query_map().in_width());
  const bool expand = form == MlaForm::expanded ||
                      (form == MlaForm::automatic && !mla.weights.empty() && mla_expands(mla, queries, keys.size()));
  if (expand) {
    return attend<Backend>(MlaExpanded{mla}, q, keys, mask, out, workspace, executor, options, lse, query_positions);
  }
  return attend<Backend>(mla, q, keys, mask, out, workspace, executor, options, lse, query_positions);
}

/// The same with a mask that MaskRef does not copy. It only has to live as long as the call.
template <SimdBackend Backend, KeyValueSource S, KernelMask M, Executor E>
  requires(!MaskRef::copies<M>)
Status attend_mla(const Mla& mla, MlaForm form, std::span<const float> q, const S& keys, const M& mask,
                  std::span<float> out, Workspace& workspace, E& executor, const AttendOptions& options = {},
                  std::span<float> lse = {}, std::span<const Index> query_positions = {}) {
  return attend_mla<Backend>(mla, form, q, keys, MaskRef(mask), out, workspace, executor, options, lse,
                             query_positions);
}

/// One attention layer: project(), write the rows to the cache, attend(), then output(). Owns its weights. Immutable:
/// threads may share it. If it was moved from, its calls return wrong_state, and its policy is Mla().
class MlaLayer {
 public:
  /// invalid_argument naming a tensor or option, or out_of_memory.
  [[nodiscard]] static Result<MlaLayer> create(const MlaLayerOptions& options, const MlaTensors& tensors) {
    const Index heads = options.num_attention_heads, hidden = options.hidden_size, q_rank = options.q_lora_rank;
    const Index rank = options.kv_lora_rank, rope = options.qk_rope_head_dim;
    MlaLayer layer;
    Mla mla{.num_heads = heads,
            .kv_lora_rank = rank,
            .qk_rope_head_dim = rope,
            .qk_nope_head_dim = options.qk_nope_head_dim,
            .v_head_dim = options.v_head_dim};
    const Rope* const shared = options.shared_rope;
    const std::optional<Yarn> yarn = shared != nullptr ? shared->options().yarn : options.yarn;
    const double yarn_factor = yarn ? yarn->softmax_factor() : 1;
    mla.scale = float(yarn_factor / std::sqrt(double(options.qk_nope_head_dim) + double(rope)));
    const WeightType type = options.weights;
    Status s = detail::first_failure({detail::check_width("hidden_size", hidden),
                                      detail::check_width("qk_rope_head_dim", rope), mla.validate(),
                                      detail::check_range("q_lora_rank", q_rank, 0, detail::most_width)});
    if (!s.ok()) return s;
    std::optional<RopeOptions> own;
    if (shared == nullptr || options.rope_layout != RopeLayout::unset || options.rope_theta != 0 || options.yarn) {
      own = RopeOptions{.head_dim = rope,
                        .layout = options.rope_layout,
                        .theta = options.rope_theta,
                        .yarn = options.yarn,
                        .table_positions = options.table_positions};
    }
    s = detail::take(layer.rope_, detail::HeadRope::create(own, shared, rope));
    const Index q_width = heads * mla.qk_head_dim();
    if (q_rank == 0) {
      if (s.ok()) s = detail::take(layer.q_b_, Projection::create("q_proj", tensors.q_proj, q_width, hidden, type));
    } else {
      if (s.ok()) s = detail::take(layer.q_a_, Projection::create("q_a_proj", tensors.q_a_proj, q_rank, hidden, type));
      if (s.ok()) {
        s = detail::take(layer.q_norm_,
                         RmsNorm::create("q_a_layernorm", tensors.q_a_layernorm, q_rank, options.q_a_layernorm_eps));
      }
      if (s.ok()) s = detail::take(layer.q_b_, Projection::create("q_b_proj", tensors.q_b_proj, q_width, q_rank, type));
    }
    if (s.ok()) {
      s = detail::take(layer.kv_a_, Projection::create("kv_a_proj_with_mqa", tensors.kv_a_proj_with_mqa,
                                                       mla.row_width(), hidden, type));
    }
    if (s.ok()) {
      s = detail::take(layer.kv_norm_,
                       RmsNorm::create("kv_a_layernorm", tensors.kv_a_layernorm, rank, options.kv_a_layernorm_eps));
    }
    if (s.ok()) s = detail::take(layer.weights_, PackedMlaWeights::create(mla, tensors.kv_b_proj, type));
    if (s.ok()) {
      s = detail::take(layer.o_, Projection::create("o_proj", tensors.o_proj, hidden, heads * mla.v_head_dim, type));
    }
    if (!s.ok()) return s;
    mla.weights = layer.weights_.weights();
    layer.policy_ = mla;
    return layer;
  }

  /// The policy with this layer's weights. It must not outlive this layer.
  [[nodiscard]] const Mla& policy() const noexcept { return policy_; }
  /// The policy for caches of un-rotated rope keys. It also points to this layer's rope, so the layer must not move.
  [[nodiscard]] Mla unrotated_policy() const noexcept {
    Mla mla = policy_;
    mla.rope = rope_.get();
    return mla;
  }
  /// Width of x and y.
  [[nodiscard]] Index hidden_size() const noexcept { return kv_a_.in(); }

  /// Queries and cache rows of tokens at `positions`: x [tokens][hidden_size] gives q [tokens][num_heads][nope + rope]
  /// and rows [tokens][kv_lora_rank + qk_rope_head_dim]. Queries are rotated, rope keys as `keys` says.
  /// invalid_argument naming a wrong size, or out_of_memory. After an error nothing has been written.
  template <SimdBackend Backend, Executor E>
  Status project(std::span<const float> x, std::span<const Index> positions, std::span<float> q, std::span<float> rows,
                 Workspace& workspace, E& executor, CachedKeys keys = CachedKeys::rotated) const {
    const auto tokens = Index(positions.size());
    const Index rank = policy_->kv_lora_rank, width = policy_->row_width();
    if (Status s = detail::first_failure({detail::check_made("MlaLayer", hidden_size()),
                                          detail::check_rows("x", x.size(), tokens, hidden_size()),
                                          detail::check_rows("q", q.size(), tokens, q_b_.out()),
                                          detail::check_rows("rows", rows.size(), tokens, width)});
        !s.ok()) {
      return s;
    }
    if (q_a_.out() == 0) {
      q_b_.apply<Backend>(tokens, x.data(), q.data(), executor);
    } else {
      if (Status s = workspace.reserve(std::uint64_t(tokens * q_a_.out()) * sizeof(float)); !s.ok()) return s;
      auto* const latent = reinterpret_cast<float*>(workspace.data());
      q_a_.apply<Backend>(tokens, x.data(), latent, executor);
      q_norm_.apply(tokens, latent, q_a_.out());
      q_b_.apply<Backend>(tokens, latent, q.data(), executor);
    }
    kv_a_.apply<Backend>(tokens, x.data(), rows.data(), executor);
    kv_norm_.apply(tokens, rows.data(), width);
    const Rope& rope = *rope_.get();
    for (Index t = 0; t < tokens; ++t) {
      const Index position = positions[std::size_t(t)];
      if (keys == CachedKeys::rotated) rope.apply(position, rows.data() + t * width + rank);
      float* const query = q.data() + t * q_b_.out() + policy_->qk_nope_head_dim;
      for (Index h = 0; h < policy_->num_heads; ++h) rope.apply(position, query + h * policy_->qk_head_dim());
    }
    return {};
  }

  /// y [tokens][hidden_size] of the heads' outputs [tokens][num_heads][v_head_dim]. invalid_argument naming a wrong
  /// size.
  template <SimdBackend Backend, Executor E>
  Status output(std::span<const float> heads, std::span<float> y, E& executor) const {
    return detail::apply_checked<Backend>("MlaLayer", o_, "heads", heads, y, executor);
  }

 private:
  MlaLayer() = default;

  detail::UntilMoved<Mla> policy_;
  detail::HeadRope rope_;
  PackedMlaWeights weights_;
  Projection q_a_, q_b_, kv_a_, o_;
  RmsNorm q_norm_, kv_norm_;
};

}  // namespace heed::inline HEED_ABI
