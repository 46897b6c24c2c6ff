/// \file
/// An MLA layer of the oracle from a reference file: its config and the tensors whose names begin with `prefix`.
#pragma once

#include <cmath>
#include <string>

#include "oracle/golden_cases.hpp"
#include "oracle/mla.hpp"
#include "oracle/yarn.hpp"

namespace oracle::golden {

inline Mla mla_of(const nlohmann::json& config, const Safetensors& file, const std::string& prefix = "") {
  Mla mla{.num_heads = config["num_attention_heads"],
          .kv_lora_rank = config["kv_lora_rank"],
          .qk_nope_head_dim = config["qk_nope_head_dim"],
          .qk_rope_head_dim = config["qk_rope_head_dim"],
          .v_head_dim = config["v_head_dim"]};
  mla.q_a_eps = mla.kv_a_eps = config["rms_norm_eps"];
  mla.scale = 1 / std::sqrt(double(mla.query_width()));
  mla.rotation = {.frequencies = rope_frequencies(mla.qk_rope_head_dim, config["rope_theta"]),
                  .interleaved = config["rope_interleave"]};
  if (const auto& s = config["rope_scaling"]; !s.is_null()) {
    const YarnScaling yarn{s["factor"],    s["original_max_position_embeddings"],
                           s["beta_fast"], s["beta_slow"],
                           s["mscale"],    s["mscale_all_dim"]};
    mla.rotation.frequencies = yarn_frequencies(mla.qk_rope_head_dim, config["rope_theta"], yarn);
    mla.rotation.amplitude = yarn_amplitude(yarn);
    mla.scale *= yarn_softmax_factor(yarn);
  }
  const auto weight = [&](const char* name) { return file.get<double>(prefix + name + ".weight"); };
  if (config["q_lora_rank"].is_null()) {
    mla.q_proj = weight("q_proj");
  } else {
    mla.q_a_proj = weight("q_a_proj");
    mla.q_a_layernorm = weight("q_a_layernorm");
    mla.q_b_proj = weight("q_b_proj");
  }
  mla.kv_a_proj_with_mqa = weight("kv_a_proj_with_mqa");
  mla.kv_a_layernorm = weight("kv_a_layernorm");
  mla.kv_b_proj = weight("kv_b_proj");
  mla.o_proj = weight("o_proj");
  return mla;
}

}  // namespace oracle::golden
