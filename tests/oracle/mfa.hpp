/// \file
/// Multi-matrix factorisation attention (arXiv 2412.19255) in float64, as Step-3 runs it, and its key-reuse form.
///
///     q = RMSNorm(x Wdq^T) Wuq^T  [m heads][C],  k = x Wk^T,  v = x Wv^T  one head of C;  q and k rotated in all C
///     o_c = softmax(q_c . k / sqrt(C)) v,  y = concat(o_c) Wo^T
///
/// MFA-KR: v = k + alpha * (N k) = M k of the un-rotated key, alpha on the output channels of N.
#pragma once

#include <utility>
#include <vector>

#include "oracle/layer.hpp"

namespace oracle {

/// One layer. Weights are [out, in] and have their Hugging Face names: q_proj goes down, wq up.
struct Mfa {
  Int num_heads = 1, head_dim = 1;
  double scale = 1;
  Rotation rotation = {};
  double eps = 0;
  Numbers q_proj = {}, inter_norm = {}, wq = {};  ///< no inter_norm: no norm between the two
  Numbers k_proj = {}, v_proj = {}, o_proj = {};

  [[nodiscard]] Int hidden_size() const { return Int(k_proj.size()) / head_dim; }
  [[nodiscard]] Int share_q_dim() const { return Int(q_proj.size()) / hidden_size(); }

  /// [tokens][heads][head_dim], rotated.
  [[nodiscard]] Numbers queries(const Numbers& x, const std::vector<Int>& positions) const {
    const Numbers shared = rms_norm(linear(x, q_proj, hidden_size()), inter_norm, eps);
    return rotation.rotated(linear(shared, wq, share_q_dim()), head_dim, positions);
  }
  /// [tokens][head_dim], not rotated.
  [[nodiscard]] Numbers keys(const Numbers& x) const { return linear(x, k_proj, hidden_size()); }
  [[nodiscard]] Numbers values(const Numbers& x) const { return linear(x, v_proj, hidden_size()); }

  /// o [queries][heads][head_dim] of rotated queries and keys. `p` brings masks and the like.
  [[nodiscard]] Answer attend(const Numbers& q, const Numbers& rotated_keys, const Numbers& values,
                              Problem p = {}) const {
    p.heads = num_heads, p.kv_heads = 1, p.key_dim = p.value_dim = head_dim, p.scale = scale;
    p.q = q, p.k = rotated_keys, p.v = values;
    return attention(p);
  }

  /// [queries][hidden_size]
  [[nodiscard]] Numbers output(const Numbers& o) const { return linear(o, o_proj, num_heads * head_dim); }
};

/// The value map of MFA-KR: M = I + diag(alpha) N.
struct KeyReuse {
  Numbers n = {};      ///< [C, C]; (N k)_e = sum_f n[e][f] k_f
  Numbers alpha = {};  ///< [C]

  /// M k of every row k: the values.
  [[nodiscard]] Numbers values(const Numbers& keys) const {
    Numbers v = linear(keys, n, Int(alpha.size()));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = keys[i] + alpha[i % alpha.size()] * v[i];
    return v;
  }
  /// Wo' = Wo blockdiag(M): the output weight that goes with values := un-rotated keys.
  [[nodiscard]] Numbers folded(const Numbers& o_proj) const {
    const std::size_t c = alpha.size();
    Numbers w = o_proj;  // [hidden][heads][C], so that every run of C numbers is one row to multiply with M
    for (std::size_t row = 0; row < w.size(); row += c) {
      for (std::size_t e = 0; e < c; ++e) {
        for (std::size_t f = 0; f < c; ++f) w[row + f] += o_proj[row + e] * alpha[e] * n[e * c + f];
      }
    }
    return w;
  }
};

}  // namespace oracle
