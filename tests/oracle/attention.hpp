/// \file
/// The answer: attention in float64, two passes, one query row at a time. It shares nothing with heed, not even masks
/// or types, so that one mistake cannot be on both sides of a comparison.
///
///     s_j = scale (q . k_j) + bias;  s_j <- cap tanh(s_j / cap);  s_j <- s_j - slope_h |i - j|;  visible j only
///     o = sum_j e^(s_j) v_j / (sum_j e^(s_j) + e^(sink_h));   lse = ln sum_j e^(s_j)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace oracle {

using Int = std::int64_t;
inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// Whether the query at position `query` sees the key at position `key`.
using Visible = std::function<bool(Int query, Int key)>;

/// What is added to a logit before the soft-cap.
using Bias = std::function<double(Int head, Int query, Int key)>;

inline Visible causal() {
  return [](Int query, Int key) { return key <= query; };
}
/// The last `width` keys, the query's own included.
inline Visible window(Int width) {
  return [width](Int query, Int key) { return key <= query && query - key < width; };
}

/// Queries and keys, row-major. Query head h reads KV head floor(h * kv_heads / heads).
struct Problem {
  Int heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
  double scale = 1;
  std::vector<double> q = {};  ///< [queries][heads][key_dim]
  std::vector<double> k = {};  ///< [keys][kv_heads][key_dim]
  std::vector<double> v = {};  ///< [keys][kv_heads][value_dim]
  Visible visible = causal();
  double soft_cap = 0;                    ///< 0: none
  std::vector<double> slopes = {};        ///< [heads] ALiBi, or empty
  std::vector<double> sinks = {};         ///< [heads] sink logits, or empty
  std::vector<Int> query_positions = {};  ///< empty: the queries' keys are the last ones
  std::vector<Int> key_positions = {};    ///< empty: 0, 1, 2, ...
  Bias bias = {};                         ///< empty: none
};

/// What attention gives, and the two sizes its error bound needs.
struct Answer {
  std::vector<double> o;           ///< [queries][heads][value_dim]
  std::vector<double> lse;         ///< [queries][heads], without the sink; -inf if nothing is visible
  std::vector<double> abs_values;  ///< [queries][heads][value_dim]: sum_j p_j |v_j|
  std::vector<double> logit_size;  ///< [queries][heads]: max_j (scale sum_d |q_d k_jd| + |biases|)
};

inline Answer attention(const Problem& p) {
  const Int queries = Int(p.q.size()) / (p.heads * p.key_dim), keys = Int(p.k.size()) / (p.kv_heads * p.key_dim);
  const auto key_position = [&](Int j) { return p.key_positions.empty() ? j : p.key_positions[std::size_t(j)]; };
  const auto query_position = [&](Int i) {
    if (!p.query_positions.empty()) return p.query_positions[std::size_t(i)];
    return (keys == 0 ? -1 : key_position(keys - 1)) + 1 - queries + i;
  };
  Answer answer;
  answer.o.assign(std::size_t(queries * p.heads * p.value_dim), 0.0);
  answer.abs_values = answer.o;
  answer.lse.assign(std::size_t(queries * p.heads), -infinity);
  answer.logit_size.assign(std::size_t(queries * p.heads), 0.0);
  std::vector<double> s(std::size_t(keys), 0.0);

  for (Int row = 0; row < queries * p.heads; ++row) {
    const Int i = query_position(row / p.heads), h = row % p.heads, g = h * p.kv_heads / p.heads;
    const double* q = p.q.data() + row * p.key_dim;
    double max = -infinity;
    bool any = false;
    for (Int j = 0; j < keys; ++j) {
      if (!p.visible(i, key_position(j))) continue;
      const double* k = p.k.data() + (j * p.kv_heads + g) * p.key_dim;
      double dot = 0, size = 0;
      for (Int d = 0; d < p.key_dim; ++d) dot += q[d] * k[d], size += std::abs(q[d] * k[d]);
      const double added = p.bias ? p.bias(h, i, key_position(j)) : 0, logit = dot * p.scale + added;
      const double capped = p.soft_cap > 0 ? p.soft_cap * std::tanh(logit / p.soft_cap) : logit;
      const double bias = p.slopes.empty() ? 0 : -p.slopes[std::size_t(h)] * std::abs(double(i - key_position(j)));
      s[std::size_t(j)] = capped + bias;
      max = std::max(max, capped + bias);
      double& largest = answer.logit_size[std::size_t(row)];
      largest = std::max(largest, size * std::abs(p.scale) + std::abs(added) + std::abs(bias));
      any = true;
    }
    if (!any) continue;
    double sum = 0;
    double* o = answer.o.data() + row * p.value_dim;
    double* abs_values = answer.abs_values.data() + row * p.value_dim;
    for (Int j = 0; j < keys; ++j) {
      if (!p.visible(i, key_position(j))) continue;
      const double weight = std::exp(s[std::size_t(j)] - max);
      const double* v = p.v.data() + (j * p.kv_heads + g) * p.value_dim;
      sum += weight;
      for (Int d = 0; d < p.value_dim; ++d) o[d] += weight * v[d], abs_values[d] += weight * std::abs(v[d]);
    }
    answer.lse[std::size_t(row)] = max + std::log(sum);
    const double sink = p.sinks.empty() ? 0 : std::exp(p.sinks[std::size_t(h)] - max);
    for (Int d = 0; d < p.value_dim; ++d) o[d] /= sum + sink, abs_values[d] /= sum + sink;
  }
  return answer;
}

}  // namespace oracle
