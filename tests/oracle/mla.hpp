/// \file
/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) in float64, from a checkpoint's tensors to its outputs.
///
///     q      = RMSNorm(x Wqa^T) Wqb^T, or x Wq^T        per head [nope ; rope], the rope part rotated
///     row    = [RMSNorm(l) ; rotated kr],  [l ; kr] = x Wkva^T        what a token leaves in the cache
///     k_h    = [c W_UK^h T ; rope],  v_h = c W_UV^h T        of every row [c ; rope]
///     o_h    = softmax(scale q_h . k_h) v_h,  y = concat(o_h) Wo^T
///
/// Absorbed: q_h = [nope W_UK^h ; rope] reads the rows themselves, z_h = softmax(scale q_h . row) c, o_h = z_h W_UV^h T.
#pragma once

#include <utility>
#include <vector>

#include "oracle/layer.hpp"

namespace oracle {

/// One layer. Weights are [out, in] and have their Hugging Face names. Names of sizes are those of the config, too.
struct Mla {
  Int num_heads = 1, kv_lora_rank = 1, qk_nope_head_dim = 1, qk_rope_head_dim = 1, v_head_dim = 1;
  double scale = 1;
  Rotation rotation = {};
  double q_a_eps = 0, kv_a_eps = 0;
  Numbers q_proj = {};                                       ///< without query compression
  Numbers q_a_proj = {}, q_a_layernorm = {}, q_b_proj = {};  ///< with it
  Numbers kv_a_proj_with_mqa = {}, kv_a_layernorm = {};
  Numbers kv_b_proj = {};  ///< per head, rows of W_UK [qk_nope_head_dim], then of W_UV [v_head_dim]
  Numbers o_proj = {};

  [[nodiscard]] Int row_width() const { return kv_lora_rank + qk_rope_head_dim; }
  [[nodiscard]] Int query_width() const { return qk_nope_head_dim + qk_rope_head_dim; }
  [[nodiscard]] Int hidden_size() const { return Int(kv_a_proj_with_mqa.size()) / row_width(); }

  /// [tokens][heads][nope + rope]
  [[nodiscard]] Numbers queries(const Numbers& x, const std::vector<Int>& positions) const {
    const Numbers q = q_proj.empty() ? from_compressed(x) : linear(x, q_proj, hidden_size());
    const Numbers nope = columns(q, query_width(), 0, qk_nope_head_dim);
    const Numbers rope = columns(q, query_width(), qk_nope_head_dim, qk_rope_head_dim);
    return joined(nope, qk_nope_head_dim, rotation.rotated(rope, qk_rope_head_dim, positions), qk_rope_head_dim);
  }

  /// [tokens][latent + rope], what is cached. The norm is over the latent only.
  [[nodiscard]] Numbers rows(const Numbers& x, const std::vector<Int>& positions) const {
    const Numbers both = linear(x, kv_a_proj_with_mqa, hidden_size());
    const Numbers normed = rms_norm(columns(both, row_width(), 0, kv_lora_rank), kv_a_layernorm, kv_a_eps);
    const Numbers rope = columns(both, row_width(), kv_lora_rank, qk_rope_head_dim);
    return joined(normed, kv_lora_rank, rotation.rotated(rope, qk_rope_head_dim, positions), qk_rope_head_dim);
  }

  /// o [queries][heads][v_head_dim], with keys and values made from the rows. `p` brings masks and the like.
  [[nodiscard]] Answer naive(const Numbers& q, const Numbers& rows, Problem p = {}) const {
    p.heads = p.kv_heads = num_heads, p.key_dim = query_width(), p.value_dim = v_head_dim, p.scale = scale;
    const Int up_width = qk_nope_head_dim + v_head_dim, keys = Int(rows.size()) / row_width();
    const Numbers up = linear(columns(rows, row_width(), 0, kv_lora_rank), kv_b_proj, kv_lora_rank);
    Numbers rope;  // the one of a token is that of all its heads
    for (Int i = 0; i < keys * num_heads; ++i) {
      const auto row = rows.begin() + i / num_heads * row_width();
      rope.insert(rope.end(), row + kv_lora_rank, row + row_width());
    }
    p.q = q;
    p.k = joined(columns(up, up_width, 0, qk_nope_head_dim), qk_nope_head_dim, rope, qk_rope_head_dim);
    p.v = columns(up, up_width, qk_nope_head_dim, v_head_dim);
    return attention(p);
  }

  /// z [queries][heads][kv_lora_rank] of absorbed queries.
  [[nodiscard]] Answer absorbed(const Numbers& q, const Numbers& rows, const Problem& p = {}) const {
    return latent(absorbed_queries(q), rows, p);
  }

  /// The same of queries [latent ; rope]: one KV head, whose keys are the rows and whose values are their latents.
  [[nodiscard]] Answer latent(const Numbers& q, const Numbers& rows, Problem p = {}) const {
    p.heads = num_heads, p.kv_heads = 1, p.key_dim = row_width(), p.value_dim = kv_lora_rank, p.scale = scale;
    p.q = q;
    p.k = rows;
    p.v = columns(rows, row_width(), 0, kv_lora_rank);
    return attention(p);
  }

  /// [nope ; rope] -> [nope W_UK ; rope] of every head.
  [[nodiscard]] Numbers absorbed_queries(const Numbers& q) const {
    Numbers absorbed;
    for (Int i = 0; i * query_width() < Int(q.size()); ++i) {
      const double* w_uk = up(i % num_heads);
      for (Int l = 0; l < kv_lora_rank; ++l) {
        double sum = 0;
        for (Int d = 0; d < qk_nope_head_dim; ++d) {
          sum += q[std::size_t(i * query_width() + d)] * w_uk[d * kv_lora_rank + l];
        }
        absorbed.push_back(sum);
      }
    }
    const Numbers rope = columns(q, query_width(), qk_nope_head_dim, qk_rope_head_dim);
    return joined(absorbed, kv_lora_rank, rope, qk_rope_head_dim);
  }

  /// z W_UV^T of every head.
  [[nodiscard]] Numbers from_latent(const Numbers& z) const {
    Numbers o;
    for (Int i = 0; i * kv_lora_rank < Int(z.size()); ++i) {
      const double* w_uv = up(i % num_heads) + qk_nope_head_dim * kv_lora_rank;
      for (Int e = 0; e < v_head_dim; ++e) {
        double sum = 0;
        for (Int l = 0; l < kv_lora_rank; ++l) {
          sum += z[std::size_t(i * kv_lora_rank + l)] * w_uv[e * kv_lora_rank + l];
        }
        o.push_back(sum);
      }
    }
    return o;
  }

  /// [queries][hidden_size]
  [[nodiscard]] Numbers output(const Numbers& o) const { return linear(o, o_proj, num_heads * v_head_dim); }

  /// The naive answer with sizes for a bound that both float32 forms keep, whose maps are rounded as well:
  ///     logit_size = max_j scale (sum_d |q_d| sum_l |W_UK,dl| |c_jl| + sum_d |q_d kr_jd|)
  ///     abs_values = sum_j p_j sum_l |W_UV,el| |c_jl|
  [[nodiscard]] Answer bounded(const Numbers& q, const Numbers& rows, const Problem& p = {}) const {
    Answer answer = naive(q, rows, p);
    Mla size = *this;
    size.kv_b_proj = absolute(kv_b_proj);
    answer.abs_values = size.from_latent(absorbed(q, rows, p).abs_values);
    answer.logit_size = size.naive(absolute(q), absolute(rows), p).logit_size;
    return answer;
  }

 private:
  [[nodiscard]] Numbers from_compressed(const Numbers& x) const {
    const Numbers compressed = rms_norm(linear(x, q_a_proj, hidden_size()), q_a_layernorm, q_a_eps);
    return linear(compressed, q_b_proj, Int(q_a_layernorm.size()));
  }

  /// Rows of a head in kv_b_proj.
  [[nodiscard]] const double* up(Int head) const {
    return kv_b_proj.data() + head * (qk_nope_head_dim + v_head_dim) * kv_lora_rank;
  }

  /// Row by row, a and then b.
  [[nodiscard]] static Numbers joined(const Numbers& a, Int a_width, const Numbers& b, Int b_width) {
    Numbers both;
    for (Int i = 0; i * a_width < Int(a.size()); ++i) {
      both.insert(both.end(), a.begin() + i * a_width, a.begin() + (i + 1) * a_width);
      both.insert(both.end(), b.begin() + i * b_width, b.begin() + (i + 1) * b_width);
    }
    return both;
  }
};

}  // namespace oracle
