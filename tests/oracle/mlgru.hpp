/// \file
/// The token mixer of the MatMul-free language model (MLGRU, "HGRN bit"; arXiv 2406.02528) in float64, for one layer.
///
///     f = sigmoid(F u),  f <- lb + (1 - lb) f where the layer has a lower bound      F, I, G, O: BitLinear
///     c = SiLU(I u) (1 - f),  0 where u is padding
///     h_t = f_t h_(t-1) + c_t,  h_(-1) = 0
///     y = O gate(G u, h)
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "oracle/bitlinear.hpp"

namespace oracle {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }

/// The bounds [layers][width] of f, from the parameter [layers][width]: what a softmax over the layers has summed up to
/// a layer, without the first one's part. The first layer's bound is 0.
inline Numbers lower_bounds(const Numbers& parameter, Int width) {
  Numbers bounds(parameter.size(), 0.0);
  const std::size_t step = std::size_t(width);
  for (std::size_t column = 0; column < step; ++column) {
    double max = -infinity, sum = 0, until = 0;
    for (std::size_t i = column; i < parameter.size(); i += step) max = std::max(max, parameter[i]);
    for (std::size_t i = column; i < parameter.size(); i += step) sum += std::exp(parameter[i] - max);
    for (std::size_t i = column + step; i < parameter.size(); i += step) {
      until += std::exp(parameter[i] - max) / sum;
      bounds[i] = until;
    }
  }
  return bounds;
}

/// What becomes of g = G u and the state h. RMSNorm has the gains g_norm.
enum class GateOrder {
  norm_gate_swish_h,  ///< RMSNorm(g) SiLU(h): the authors' code, and so their checkpoints
  norm_h_swish_gate,  ///< RMSNorm(h) SiLU(g): flash-linear-attention after its fix
  sigmoid_gate,       ///< sigmoid(g) h: the paper's equation
};

inline Numbers gated(GateOrder order, const Numbers& g, const Numbers& h, const Numbers& g_norm, double eps) {
  const bool norms_g = order == GateOrder::norm_gate_swish_h;
  Numbers o = order == GateOrder::sigmoid_gate ? h : rms_norm(norms_g ? g : h, g_norm, eps);
  for (std::size_t i = 0; i < o.size(); ++i) {
    if (order == GateOrder::norm_gate_swish_h) o[i] *= silu(h[i]);
    if (order == GateOrder::norm_h_swish_gate) o[i] *= silu(g[i]);
    if (order == GateOrder::sigmoid_gate) o[i] *= sigmoid(g[i]);
  }
  return o;
}

struct Mlgru {
  BitLinear i_proj = {}, f_proj = {}, g_proj = {}, o_proj = {};
  Numbers g_norm = {};
  double g_norm_eps = 1e-6;
  Numbers lower_bound = {};  ///< [width], or empty
  GateOrder order = GateOrder::norm_gate_swish_h;

  [[nodiscard]] Int width() const { return o_proj.weights.cols; }

  /// Rows of one token or many, [tokens][width].
  struct Steps {
    Numbers f = {}, c = {}, g = {}, h = {}, out = {};
  };

  /// One token's u [width], which may be padding. An empty state is that before the first token.
  [[nodiscard]] Steps step(const Numbers& u, Numbers& state, bool padding = false) const {
    state.resize(std::size_t(width()), 0.0);
    Steps one;
    const Numbers i = i_proj(u);
    one.f = f_proj(u);
    one.g = g_proj(u);
    for (std::size_t d = 0; d < state.size(); ++d) {
      one.f[d] = sigmoid(one.f[d]);
      if (!lower_bound.empty()) one.f[d] = lower_bound[d] + (1 - lower_bound[d]) * one.f[d];
      one.c.push_back(padding ? 0 : silu(i[d]) * (1 - one.f[d]));
      state[d] = one.f[d] * state[d] + one.c[d];
    }
    one.h = state;
    one.out = o_proj(gated(order, one.g, one.h, g_norm, g_norm_eps));
    return one;
  }

  /// Tokens u [tokens][width] one after the other; `padding` says which of them are none, empty: all are tokens.
  [[nodiscard]] Steps scan(const Numbers& u, Numbers& state, const std::vector<bool>& padding = {}) const {
    Steps all;
    const Int in = i_proj.weights.cols, tokens = Int(u.size()) / in;
    for (Int t = 0; t < tokens; ++t) {
      const Steps one =
          step({u.begin() + t * in, u.begin() + (t + 1) * in}, state, !padding.empty() && padding[std::size_t(t)]);
      for (const auto part : {&Steps::f, &Steps::c, &Steps::g, &Steps::h, &Steps::out}) {
        (all.*part).insert((all.*part).end(), (one.*part).begin(), (one.*part).end());
      }
    }
    return all;
  }
};

}  // namespace oracle
