/// \file
/// The attention shapes of real models that are measured.
#pragma once

#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>

namespace bench {

template <class P>
struct Shape {
  const char* name;
  P policy;
};

/// Llama-2 7B.
inline Shape<heed::Mha> mha() { return {"mha", {.num_heads = 32, .head_dim = 128, .scale = heed::default_scale(128)}}; }
/// Llama-3 8B, Mistral 7B.
inline Shape<heed::Gqa> gqa() {
  return {"gqa", {.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .scale = heed::default_scale(128)}};
}
/// The same with a single KV head.
inline Shape<heed::Mqa> mqa() { return {"mqa", {.num_heads = 32, .head_dim = 128, .scale = heed::default_scale(128)}}; }
/// The core of multi-matrix factorization attention in Step-3: 64 heads of 256 share one key and one value.
inline Shape<heed::Mqa> mfa() { return {"mfa", {.num_heads = 64, .head_dim = 256, .scale = heed::default_scale(256)}}; }
/// The core of absorbed MLA, DeepSeek-V3 (128 heads) and V2-Lite (16): latent 512 + RoPE 64, values are the latent.
/// The scale is that of the unabsorbed head, 128 + 64.
inline Shape<heed::SharedRow> mla() {
  return {"mla", {.num_heads = 128, .head_dim = 576, .v_head_dim = 512, .scale = heed::default_scale(192)}};
}
inline Shape<heed::SharedRow> mla16() {
  return {"mla16", {.num_heads = 16, .head_dim = 576, .v_head_dim = 512, .scale = heed::default_scale(192)}};
}
/// MLA of V2-Lite with keys and values expanded beforehand, as engines do for prefill.
inline Shape<heed::Mha> mla16_expanded() {
  return {"mla16_expanded", {.num_heads = 16, .head_dim = 192, .v_head_dim = 128, .scale = heed::default_scale(192)}};
}

}  // namespace bench
