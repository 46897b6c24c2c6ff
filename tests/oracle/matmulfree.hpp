/// \file
/// The MatMul-free language model (arXiv 2406.02528) in float64, from a checkpoint's tensors to its logits.
///
///     x = embedding of the token
///     x <- x + MLGRU(RMSNorm(x)),   x <- x + W_down( SiLU(gate) up ),  [gate ; up] = W_gate RMSNorm(x)     every layer
///     logits = W_head RMSNorm(x)
///
/// W_down, W_gate and W_head are BitLinear and have norms of their own inside. One state [width] per layer is all that
/// remains of the past.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "oracle/mlgru.hpp"

namespace oracle {

/// The width inside the channel mixer of the published models: 8/3 of the model's, up to a multiple of 256.
inline Int matmul_free_intermediate_size(Int hidden_size) { return (hidden_size * 8 / 3 + 255) / 256 * 256; }

/// The channel mixer. gate_proj is one BitLinear: one scale and one norm for both halves, the first of them the gate.
struct GluMixer {
  BitLinear gate_proj = {}, down_proj = {};

  [[nodiscard]] Numbers operator()(const Numbers& u) const {
    const Int inner = down_proj.weights.cols;
    const Numbers both = gate_proj(u);
    Numbers product = columns(both, 2 * inner, 0, inner);
    const Numbers up = columns(both, 2 * inner, inner, inner);
    for (std::size_t i = 0; i < product.size(); ++i) product[i] = silu(product[i]) * up[i];
    return down_proj(product);
  }
};

/// Names are those of the Hugging Face config, but for the gate order, which has none.
struct MatmulFreeConfig {
  Int hidden_size = 0, num_hidden_layers = 0;
  double rms_norm_eps = 1e-6, bitlinear_norm_eps = 1e-6;
  bool use_lower_bound = true;
  GateOrder gate_order = GateOrder::norm_gate_swish_h;
};

/// All numbers of the tensor with an official name, "model.layers.0.attn.i_proj.weight".
using NamedTensors = std::function<Numbers(const std::string& name)>;

struct MatmulFreeLm {
  struct Layer {
    Numbers attn_norm = {};
    Mlgru attn = {};
    Numbers mlp_norm = {};
    GluMixer mlp = {};
  };
  /// What one call gives, or many in a row.
  struct Answer {
    Numbers logits = {};        ///< [tokens][vocabulary]
    Numbers hidden_final = {};  ///< [tokens][width], after the last norm
    Numbers states = {};        ///< [calls][layers][width], after each call
  };
  using States = std::vector<Numbers>;  ///< [layers][width]; empty before the first token

  MatmulFreeConfig config = {};
  Numbers embeddings = {};
  std::vector<Layer> layers = {};
  Numbers norm = {};
  BitLinear lm_head = {};

  [[nodiscard]] static MatmulFreeLm load(const MatmulFreeConfig& config, const NamedTensors& tensor) {
    const auto projection = [&](const std::string& name) {
      return bit_linear(tensor(name + ".weight"), tensor(name + ".norm.weight"), config.bitlinear_norm_eps);
    };
    MatmulFreeLm lm{.config = config, .embeddings = tensor("model.embeddings.weight")};
    const Numbers bounds = lower_bounds(tensor("model.lower_bounds"), config.hidden_size);
    for (Int l = 0; l < config.num_hidden_layers; ++l) {
      const std::string name = "model.layers." + std::to_string(l);
      Layer layer;
      layer.attn_norm = tensor(name + ".attn_norm.weight");
      layer.attn.i_proj = projection(name + ".attn.i_proj");
      layer.attn.f_proj = projection(name + ".attn.f_proj");
      layer.attn.g_proj = projection(name + ".attn.g_proj");
      layer.attn.o_proj = projection(name + ".attn.o_proj");
      layer.attn.g_norm = tensor(name + ".attn.g_norm.weight");
      layer.attn.g_norm_eps = config.rms_norm_eps;
      layer.attn.order = config.gate_order;
      if (config.use_lower_bound && l > 0) {
        layer.attn.lower_bound = columns(bounds, Int(bounds.size()), l * config.hidden_size, config.hidden_size);
      }
      layer.mlp_norm = tensor(name + ".mlp_norm.weight");
      layer.mlp.gate_proj = projection(name + ".mlp.gate_proj");
      layer.mlp.down_proj = projection(name + ".mlp.down_proj");
      lm.layers.push_back(layer);
    }
    lm.norm = tensor("model.norm.weight");
    lm.lm_head = projection("lm_head");
    return lm;
  }

  /// The next tokens of a text whose past is in the states; `padding` says which are none, empty: all are tokens.
  [[nodiscard]] Answer call(const std::vector<Int>& ids, States& states, const std::vector<bool>& padding = {}) const {
    states.resize(layers.size());
    Numbers x;
    for (const Int id : ids) {
      const auto row = embeddings.begin() + id * config.hidden_size;
      x.insert(x.end(), row, row + config.hidden_size);
    }
    Answer answer;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const Layer& layer = layers[l];
      const Numbers u = rms_norm(x, layer.attn_norm, config.rms_norm_eps);
      x = sum(x, layer.attn.scan(u, states[l], padding).out);
      x = sum(x, layer.mlp(rms_norm(x, layer.mlp_norm, config.rms_norm_eps)));
      answer.states.insert(answer.states.end(), states[l].begin(), states[l].end());
    }
    answer.hidden_final = rms_norm(x, norm, config.rms_norm_eps);
    answer.logits = lm_head(answer.hidden_final);
    return answer;
  }

  /// A whole text in calls of `chunk_lens` tokens, whose sum is that of the text.
  [[nodiscard]] Answer forward(const std::vector<Int>& ids, const std::vector<Int>& chunk_lens,
                               const std::vector<bool>& padding = {}) const {
    Answer all;
    States states;
    Int first = 0;
    for (const Int tokens : chunk_lens) {
      std::vector<bool> absent;
      if (!padding.empty()) absent.assign(padding.begin() + first, padding.begin() + first + tokens);
      const Answer one = call({ids.begin() + first, ids.begin() + first + tokens}, states, absent);
      for (const auto part : {&Answer::logits, &Answer::hidden_final, &Answer::states}) {
        (all.*part).insert((all.*part).end(), (one.*part).begin(), (one.*part).end());
      }
      first += tokens;
    }
    return all;
  }

 private:
  [[nodiscard]] static Numbers sum(Numbers a, const Numbers& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
};

}  // namespace oracle
