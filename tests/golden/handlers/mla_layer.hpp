/// \file
/// An MLA layer of a case: the oracle's, and the library's of the same tensors.
#pragma once

#include <cmath>
#include <string>

#include <heed/layer/mla.hpp>

#include "golden/handlers/layer_run.hpp"
#include "golden/handlers/rope_config.hpp"
#include "oracle/mla.hpp"

namespace heed_golden {

struct MlaParts {
  oracle::Mla layer;  ///< the checkpoint's tensors
  RotationPair rotation;
  Int hidden = 0;
};

inline std::string mla_rope_layout(Config& config) {
  if (const auto layout = config.maybe<std::string>("rope_layout")) return *layout;
  return config.get_or("rope_interleave", true) ? "interleaved" : "half";
}

/// From the config, and the tensors whose names begin with `prefix`.
inline MlaParts read_mla(Case& one, const std::string& prefix = "") {
  Config& config = one.config;
  MlaParts c;
  c.hidden = config.get<Int>("hidden_size");
  oracle::Mla& m = c.layer;
  m.num_heads = config.get<Int>("num_attention_heads");
  m.kv_lora_rank = config.get<Int>("kv_lora_rank");
  m.qk_nope_head_dim = config.get<Int>("qk_nope_head_dim");
  m.qk_rope_head_dim = config.get<Int>("qk_rope_head_dim");
  m.v_head_dim = config.get<Int>("v_head_dim");
  const double eps = config.get_or("rms_norm_eps", 1e-6);
  m.q_a_eps = config.get_or("q_a_layernorm_eps", eps);
  m.kv_a_eps = config.get_or("kv_a_layernorm_eps", eps);
  config.skip("num_key_value_heads");  // files say num_attention_heads here
  if (config.get_or("attention_bias", false)) throw Unusable("attention_bias is not supported by this handler");
  c.rotation = read_rotation(config, m.qk_rope_head_dim, m.qk_rope_head_dim == 0 ? "none" : mla_rope_layout(config));
  m.rotation = c.rotation.exact;
  m.scale = config.get_or("softmax_scale", c.rotation.softmax_factor / std::sqrt(double(m.query_width())));

  const auto weight = [&](const char* name, const TensorShape& shape) {
    return one.get<double>(prefix + name + ".weight", shape);
  };
  const Int q_rows = m.num_heads * m.query_width();
  if (const auto q_rank = config.maybe<Int>("q_lora_rank")) {
    m.q_a_proj = weight("q_a_proj", {*q_rank, c.hidden});
    m.q_a_layernorm = weight("q_a_layernorm", {*q_rank});
    m.q_b_proj = weight("q_b_proj", {q_rows, *q_rank});
  } else {
    m.q_proj = weight("q_proj", {q_rows, c.hidden});
  }
  m.kv_a_proj_with_mqa = weight("kv_a_proj_with_mqa", {m.row_width(), c.hidden});
  m.kv_a_layernorm = weight("kv_a_layernorm", {m.kv_lora_rank});
  m.kv_b_proj = weight("kv_b_proj", {m.num_heads * (m.qk_nope_head_dim + m.v_head_dim), m.kv_lora_rank});
  m.o_proj = weight("o_proj", {c.hidden, m.num_heads * m.v_head_dim});
  return c;
}

/// The layer, made of float32 tensors.
inline heed::MlaLayer make_mla(const MlaParts& c) {
  const oracle::Mla& m = c.layer;
  heed::MlaLayerOptions options{.hidden_size = c.hidden,
                                .num_attention_heads = m.num_heads,
                                .q_lora_rank = Int(m.q_a_layernorm.size()),
                                .kv_lora_rank = m.kv_lora_rank,
                                .qk_nope_head_dim = m.qk_nope_head_dim,
                                .qk_rope_head_dim = m.qk_rope_head_dim,
                                .v_head_dim = m.v_head_dim,
                                .q_a_layernorm_eps = m.q_a_eps,
                                .kv_a_layernorm_eps = m.kv_a_eps};
  if (c.rotation.rope) {
    const heed::RopeOptions& rope = c.rotation.rope->options();
    if (rope.linear_factor != 1) throw Unusable("rope_scaling is linear, which MLA has not");
    options.rope_layout = rope.layout;
    options.rope_theta = rope.theta;
    options.yarn = rope.yarn;
  }
  FloatTensors tensor;
  return heed::value_or_throw(
      heed::MlaLayer::create(options, {.q_proj = tensor(m.q_proj, c.hidden),
                                       .q_a_proj = tensor(m.q_a_proj, c.hidden),
                                       .q_a_layernorm = tensor(m.q_a_layernorm),
                                       .q_b_proj = tensor(m.q_b_proj, options.q_lora_rank),
                                       .kv_a_proj_with_mqa = tensor(m.kv_a_proj_with_mqa, c.hidden),
                                       .kv_a_layernorm = tensor(m.kv_a_layernorm),
                                       .kv_b_proj = tensor(m.kv_b_proj, m.kv_lora_rank),
                                       .o_proj = tensor(m.o_proj, m.num_heads * m.v_head_dim)}));
}

/// The oracle's layer of the numbers that the library has.
inline oracle::Mla as_floats(oracle::Mla exact, const heed::Mla& mla) {
  exact.kv_b_proj = oracle::doubles(floats(exact.kv_b_proj));
  exact.scale = double(mla.scale);
  return exact;
}

}  // namespace heed_golden
