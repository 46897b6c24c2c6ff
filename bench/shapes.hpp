/// \file
/// The attention shapes of real models that are measured.
#pragma once

#include <algorithm>
#include <cmath>

#include <heed/layer/mla.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/mla.hpp>

#include "gaussian.hpp"

namespace bench {

template <class P>
struct PolicyShape {
  const char* name;
  P policy;
};

/// Llama-2 7B.
inline PolicyShape<heed::Mha> mha() {
  return {"mha", {.num_heads = 32, .head_dim = 128, .scale = heed::default_scale(128)}};
}
/// Llama-3 8B, Mistral 7B.
inline PolicyShape<heed::Gqa> gqa() {
  return {"gqa", {.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .scale = heed::default_scale(128)}};
}
/// The same with a single KV head.
inline PolicyShape<heed::Mqa> mqa() {
  return {"mqa", {.num_heads = 32, .head_dim = 128, .scale = heed::default_scale(128)}};
}
/// Step-3: 64 heads of 256 share one key and one value.
inline PolicyShape<heed::Mfa> mfa() {
  return {"mfa", {.num_heads = 64, .head_dim = 256, .scale = heed::default_scale(256)}};
}
/// The same with the un-rotated key as the value, its map folded away.
inline PolicyShape<heed::MfaKr> mfa_kr() {
  static const heed::Rope rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 256, .layout = heed::RopeLayout::half_split, .theta = 5e5}));
  return {"mfa_kr", {.num_heads = 64, .head_dim = 256, .scale = heed::default_scale(256), .rope = &rope}};
}
/// DeepSeek-V3 and Kimi-K2's shape with V3's 128 heads, and V2-Lite's 16.
inline heed::Mla mla_of(heed::Index heads) {
  return {.num_heads = heads,
          .kv_lora_rank = 512,
          .qk_rope_head_dim = 64,
          .qk_nope_head_dim = 128,
          .v_head_dim = 128,
          .scale = heed::default_scale(192)};
}
/// Absorbed, from absorbed queries to latent outputs, as peers measure it.
inline PolicyShape<heed::Mla> mla() { return {"mla", mla_of(128)}; }
inline PolicyShape<heed::Mla> mla16() { return {"mla16", mla_of(16)}; }
/// V2-Lite expanded inside the kernel, a chunk at a time.
inline PolicyShape<heed::MlaExpanded> mla16_tiles() {
  static const heed::PackedMlaWeights packed = [] {
    const heed::Mla mla = mla_of(16);
    const heed::Index rows = 16 * (128 + 128);
    Gaussians numbers(5);
    std::vector<float> kv_b;
    while (heed::Index(kv_b.size()) < rows * 512) {
      for (const float x : numbers.next(512)) kv_b.push_back(x / std::sqrt(512.0f));
    }
    return heed::value_or_throw(heed::PackedMlaWeights::create(mla, {kv_b, rows, 512}));
  }();
  heed::Mla mla = mla_of(16);
  mla.weights = packed.weights();
  return {"mla16_tiles", {mla}};
}
/// MLA of V2-Lite with keys and values expanded beforehand, as other engines do for prefill.
inline PolicyShape<heed::Mha> mla16_expanded() {
  return {"mla16_expanded", {.num_heads = 16, .head_dim = 192, .v_head_dim = 128, .scale = heed::default_scale(192)}};
}

/// Calls f with the shape of every mechanism.
template <class F>
void for_each_shape(const F& f) {
  f(mha());
  f(gqa());
  f(mqa());
  f(mla());
  f(mla16());
  f(mfa());
  f(mfa_kr());
}

/// What a query of `kv_head` reads of a stored row, in float64: by default the policy's views.
template <class P>
void read_row(const P& policy, heed::Index /*kv_head*/, heed::Index /*position*/, const float* row_of_key,
              const float* row_of_value, double* k, double* v) {
  const heed::AttentionLayout layout = policy.layout();
  std::copy_n(row_of_key + layout.key.offset, layout.key.width, k);
  std::copy_n(row_of_value + layout.value.offset, layout.value.width, v);
}
inline void read_row(const heed::MfaKr& policy, heed::Index, heed::Index position, const float* row, const float*,
                     double* k, double* v) {
  const heed::Index pairs = policy.head_dim / 2;
  for (heed::Index i = 0; i < pairs; ++i) {
    const double angle = double(position) * policy.rope->frequencies()[std::size_t(i)];
    k[i] = row[i] * std::cos(angle) - row[pairs + i] * std::sin(angle);
    k[pairs + i] = row[i] * std::sin(angle) + row[pairs + i] * std::cos(angle);
  }
  std::copy_n(row, policy.head_dim, v);
}
inline void read_row(const heed::MlaExpanded& policy, heed::Index head, heed::Index, const float* row, const float*,
                     double* k, double* v) {
  const heed::Mla& mla = policy.mla;
  const heed::Index nope = mla.qk_nope_head_dim, width = nope + mla.v_head_dim;
  const heed::Index at = head * mla.kv_lora_rank * width;
  const heed::Matrix to_keys = mla.to_keys().moved(at), to_values = mla.to_values().moved(at);
  std::fill_n(k, nope, 0.0);
  std::fill_n(v, mla.v_head_dim, 0.0);
  for (heed::Index r = 0; r < mla.kv_lora_rank; ++r) {
    for (heed::Index n = 0; n < nope; ++n) k[n] += double(row[r]) * double(to_keys.number(r, n));
    for (heed::Index n = 0; n < mla.v_head_dim; ++n) v[n] += double(row[r]) * double(to_values.number(r, n));
  }
  std::copy_n(row + mla.kv_lora_rank, mla.qk_rope_head_dim, k + nope);
}

/// Operations beside those on (query, key) pairs: making keys and values.
template <class P>
double preparation_flops(const P&, heed::Index) {
  return 0;
}
inline double preparation_flops(const heed::MlaExpanded& policy, heed::Index keys) {
  const heed::Mla& mla = policy.mla;
  return 2.0 * double(mla.num_heads) * double(keys) * double(mla.kv_lora_rank) *
         double(mla.qk_nope_head_dim + mla.v_head_dim);
}

}  // namespace bench
