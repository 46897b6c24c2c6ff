/// \file
/// The reference of the MTP module with the weights of a golden case.
#pragma once

#include <string>

#include "oracle/mla_of.hpp"
#include "oracle/mtp.hpp"

namespace oracle::golden {

[[nodiscard]] inline Mtp mtp_of(const nlohmann::json& config, const Safetensors& file) {
  const auto weight = [&](const std::string& name) { return file.get<double>(name + ".weight"); };
  return {.attention = mla_of(config, file, "self_attn."),
          .eps = config["rms_norm_eps"],
          .zero_first_embedding = true,
          .embed_tokens = weight("embed_tokens"),
          .enorm = weight("enorm"),
          .hnorm = weight("hnorm"),
          .eh_proj = weight("eh_proj"),
          .input_layernorm = weight("input_layernorm"),
          .post_attention_layernorm = weight("post_attention_layernorm"),
          .gate_proj = weight("mlp.gate_proj"),
          .up_proj = weight("mlp.up_proj"),
          .down_proj = weight("mlp.down_proj"),
          .shared_head_norm = weight("shared_head.norm"),
          .shared_head = weight("shared_head.head")};
}

}  // namespace oracle::golden
