/// \file
/// Every mechanism twice: by its own formula, and as the two bilinear circuits per head that FPBA is made of. Linear
/// circuits only: no rotations and no norms inside.
#pragma once

#include <string>
#include <vector>

#include <heed/analysis/costs.hpp>
#include <heed/analysis/fpba_shape.hpp>
#include <heed/analysis/grouped_shape.hpp>
#include <heed/analysis/mfa_shape.hpp>
#include <heed/analysis/mla_shape.hpp>

#include "analysis/matrix.hpp"
#include "oracle/fpba.hpp"

namespace heed_test {

/// A mechanism with random weights.
struct Mechanism {
  std::string name;
  heed::analysis::AttentionCosts costs;
  std::size_t circuit_rank;                       ///< of every W_c
  double scale;                                   ///< softmax scale
  std::vector<Matrix> w, u;                       ///< per head, [D, D]: score = scale x_i W x_j^T, output = sum p x_j U
  std::vector<std::vector<double>> outputs = {};  ///< [tokens][D], by its own formula, in every form that it has
};

/// Softmax attention of rows q [tokens, heads dk], k [tokens, kv_heads dk], v [tokens, kv_heads dv].
inline Matrix softmax_attention(std::size_t heads, std::size_t kv_heads, double scale, const Matrix& q, const Matrix& k,
                                const Matrix& v) {
  oracle::Problem problem;
  problem.heads = oracle::Int(heads);
  problem.kv_heads = oracle::Int(kv_heads);
  problem.key_dim = oracle::Int(q.columns / heads);
  problem.value_dim = oracle::Int(v.columns / kv_heads);
  problem.scale = scale;
  problem.q = q.numbers;
  problem.k = k.numbers;
  problem.v = v.numbers;
  return {q.rows, heads * v.columns / kv_heads, oracle::attention(problem).o};
}

/// `b` to the right of `a`.
inline Matrix beside(const Matrix& a, const Matrix& b) { return transposed(stacked(transposed(a), transposed(b))); }

/// MHA, GQA and MQA: q = x Wq^T, k = x Wk^T, v = x Wv^T, y = concat(o) Wo^T.
inline Mechanism grouped(oracle::Random& random, const Matrix& x, const std::string& name, std::size_t heads,
                         std::size_t kv_heads, std::size_t dim) {
  const std::size_t hidden = x.columns;
  const Matrix wq = random_weight(random, heads * dim, hidden), wk = random_weight(random, kv_heads * dim, hidden);
  const Matrix wv = random_weight(random, kv_heads * dim, hidden), wo = random_weight(random, hidden, heads * dim);
  Mechanism m{.name = name,
              .costs = heed::analysis::GroupedShape{.hidden_size = heed::Index(hidden),
                                                    .num_heads = heed::Index(heads),
                                                    .num_kv_heads = heed::Index(kv_heads),
                                                    .head_dim = heed::Index(dim)}
                           .costs(),
              .circuit_rank = dim,
              .scale = 1 / std::sqrt(double(dim)),
              .w = {},
              .u = {}};
  for (std::size_t h = 0; h < heads; ++h) {
    const std::size_t g = h * kv_heads / heads;
    m.w.push_back(transposed(row_block(wq, h * dim, dim)) * row_block(wk, g * dim, dim));
    m.u.push_back(transposed(row_block(wv, g * dim, dim)) * transposed(column_block(wo, h * dim, dim)));
  }
  const Matrix o =
      softmax_attention(heads, kv_heads, m.scale, x * transposed(wq), x * transposed(wk), x * transposed(wv));
  m.outputs.push_back((o * transposed(wo)).numbers);
  return m;
}

/// MLA: c = x Wkv^T, kr = x Wkr^T, k_h = [c W_UK_h^T ; kr], v_h = c W_UV_h^T, queries with or without a LoRA (rank 0).
/// Outputs: naive, then absorbed.
inline Mechanism mla(oracle::Random& random, const Matrix& x, const std::string& name, std::size_t heads,
                     std::size_t q_rank, std::size_t rank, std::size_t nope, std::size_t rope, std::size_t value) {
  const std::size_t hidden = x.columns, key = nope + rope;
  const Matrix wq = q_rank == 0 ? random_weight(random, heads * key, hidden)
                                : random_weight(random, heads * key, q_rank) * random_weight(random, q_rank, hidden);
  const Matrix wkv = random_weight(random, rank, hidden), wkr = random_weight(random, rope, hidden);
  const Matrix uk = random_weight(random, heads * nope, rank), uv = random_weight(random, heads * value, rank);
  const Matrix wo = random_weight(random, hidden, heads * value);
  const heed::analysis::MlaShape shape{.hidden_size = heed::Index(hidden),
                                       .num_heads = heed::Index(heads),
                                       .q_lora_rank = heed::Index(q_rank),
                                       .kv_lora_rank = heed::Index(rank),
                                       .qk_nope_head_dim = heed::Index(nope),
                                       .qk_rope_head_dim = heed::Index(rope),
                                       .v_head_dim = heed::Index(value)};
  Mechanism m{.name = name,
              .costs = shape.costs(heed::analysis::MlaCount::absorbed),
              .circuit_rank = nope + rope,
              .scale = 1 / std::sqrt(double(key)),
              .w = {},
              .u = {}};
  const Matrix c = x * transposed(wkv), kr = x * transposed(wkr), q = x * transposed(wq);
  Matrix keys = zeros(x.rows, 0), absorbed_q = zeros(x.rows, 0);
  for (std::size_t h = 0; h < heads; ++h) {
    const Matrix uk_h = row_block(uk, h * nope, nope), uv_h = row_block(uv, h * value, value);
    const Matrix q_nope = row_block(wq, h * key, nope), q_rope = row_block(wq, h * key + nope, rope);
    m.w.push_back(transposed(q_nope) * uk_h * wkv + transposed(q_rope) * wkr);
    m.u.push_back(transposed(uv_h * wkv) * transposed(column_block(wo, h * value, value)));
    keys = beside(beside(keys, c * transposed(uk_h)), kr);
    const Matrix q_h = column_block(q, h * key, key);
    absorbed_q = beside(beside(absorbed_q, column_block(q_h, 0, nope) * uk_h), column_block(q_h, nope, rope));
  }
  const Matrix naive = softmax_attention(heads, heads, m.scale, q, keys, c * transposed(uv));
  m.outputs.push_back((naive * transposed(wo)).numbers);
  const Matrix z = softmax_attention(heads, 1, m.scale, absorbed_q, beside(c, kr), c);
  Matrix absorbed = zeros(x.rows, 0);
  for (std::size_t h = 0; h < heads; ++h) {
    absorbed = beside(absorbed, column_block(z, h * rank, rank) * transposed(row_block(uv, h * value, value)));
  }
  m.outputs.push_back((absorbed * transposed(wo)).numbers);
  return m;
}

/// MFA: q = x Wdq^T Wuq^T, k = x Wk^T, v = x Wv^T; with `key_reuse` v = k + alpha (N k) instead.
inline Mechanism mfa(oracle::Random& random, const Matrix& x, const std::string& name, std::size_t heads,
                     std::size_t dim, std::size_t rank, bool key_reuse = false) {
  const std::size_t hidden = x.columns;
  const Matrix wdq = random_weight(random, rank, hidden), wuq = random_weight(random, heads * dim, rank);
  const Matrix wk = random_weight(random, dim, hidden), wo = random_weight(random, hidden, heads * dim);
  Matrix wv = random_weight(random, dim, hidden);
  Matrix v = x * transposed(wv);
  const Matrix k = x * transposed(wk);
  if (key_reuse) {
    const Matrix n = random_weight(random, dim, dim);
    Matrix mixer = zeros(dim, dim);  // I + diag(alpha) N
    v = k;
    for (std::size_t r = 0; r < dim; ++r) {
      const double alpha = random.gaussian();
      for (std::size_t c = 0; c < dim; ++c) {
        mixer.at(r, c) = (r == c ? 1 : 0) + alpha * n.at(r, c);
        for (std::size_t t = 0; t < x.rows; ++t) v.at(t, r) += alpha * n.at(r, c) * k.at(t, c);
      }
    }
    wv = mixer * wk;
  }
  const heed::analysis::MfaShape shape{.hidden_size = heed::Index(hidden),
                                       .num_heads = heed::Index(heads),
                                       .head_dim = heed::Index(dim),
                                       .q_lora_rank = heed::Index(rank)};
  Mechanism m{.name = name,
              .costs = key_reuse ? heed::analysis::MfaKrShape{.mfa = shape}.costs() : shape.costs(),
              .circuit_rank = std::size_t(shape.circuit_rank()),
              .scale = 1 / std::sqrt(double(dim)),
              .w = {},
              .u = {}};
  for (std::size_t h = 0; h < heads; ++h) {
    m.w.push_back(transposed(row_block(wuq, h * dim, dim) * wdq) * wk);
    m.u.push_back(transposed(wv) * transposed(column_block(wo, h * dim, dim)));
  }
  const Matrix o = softmax_attention(heads, 1, m.scale, x * transposed(wdq) * transposed(wuq), k, v);
  m.outputs.push_back((o * transposed(wo)).numbers);
  return m;
}

}  // namespace heed_test
