/// \file
/// What one attention layer costs. Every mechanism's shape (GroupedShape, MlaShape, MfaShape, ...) turns its sizes into
/// these numbers; all that is asked about a layer is answered from them.
#pragma once

#include <heed/analysis/count.hpp>
#include <heed/analysis/row_format.hpp>

namespace heed::inline HEED_ABI::analysis {

/// One layer of one mechanism, in numbers. A FLOP counts a multiply-add as 2.
///
/// FRH (factorisation rank per head): rank of the bilinear map W_c with which a head scores two hidden vectors.
/// SLSD (shared latent subspace dimension): dimension of the space that the keys and values of all heads lie in.
/// TER (total effective rank) = heads x FRH. All three are nominal: what the sizes allow, not what weights have.
/// Defined in the MFA paper, arXiv 2412.19255, known here through secondary summaries of it.
struct AttentionCosts {
  KvRows keys;
  KvRows values;  ///< none where values are a view of the keys, or made from them
  Index num_heads = 0;
  Index factorization_rank_per_head = 0;
  Index shared_latent_subspace_dim = 0;
  Index projection_parameters = 0;  ///< weights of the products with q, k, v and o, each used once per token
  Index norm_parameters = 0;        ///< weights of norms inside the attention
  Index flops_per_key = 0;          ///< scores and values: one query token, all heads, against one cached token
  Index flops_per_step = 0;         ///< besides, whatever the context: a recurrent state's update
  Index state_bytes_per_step = 0;   ///< read and written per step, whatever the context
};

/// KV elements that a token leaves in the layer.
[[nodiscard]] constexpr Index kv_elements_per_token(const AttentionCosts& layer) noexcept {
  return (Count(layer.keys.elements()) + layer.values.elements()).value();
}

/// KV bytes that a token leaves in the layer: elements times their size for plain formats, else with the scales.
[[nodiscard]] constexpr Index kv_bytes_per_token(const AttentionCosts& layer, const RowFormat& format) noexcept {
  return (Count(format.bytes(layer.keys)) + format.bytes(layer.values)).value();
}

/// Weights of the layer's attention, those of its norms included.
[[nodiscard]] constexpr Index parameters(const AttentionCosts& layer) noexcept {
  return (Count(layer.projection_parameters) + layer.norm_parameters).value();
}

/// FLOPs of the softmax attention of one decoded token over `context` tokens, its own included: flops_per_key context.
/// Softmax, rotations and norms are not counted, here and below; they are not in the papers' figures either.
[[nodiscard]] constexpr Index attention_flops(const AttentionCosts& layer, Index context) noexcept {
  return (Count(layer.flops_per_key) * context + layer.flops_per_step).value();
}

/// FLOPs of the projections of one token: 2 projection_parameters.
[[nodiscard]] constexpr Index linear_flops(const AttentionCosts& layer) noexcept {
  return (2 * Count(layer.projection_parameters)).value();
}

/// FLOPs of one decoded token in the layer's attention, projections included.
[[nodiscard]] constexpr Index decode_flops(const AttentionCosts& layer, Index context) noexcept {
  return (Count(attention_flops(layer, context)) + linear_flops(layer)).value();
}

/// Cache bytes that one decoded token reads in the layer: kv_bytes_per_token context, plus the state's traffic.
[[nodiscard]] constexpr Index decode_kv_bytes(const AttentionCosts& layer, Index context,
                                              const RowFormat& format) noexcept {
  return (Count(kv_bytes_per_token(layer, format)) * context + layer.state_bytes_per_step).value();
}

/// Bytes that one decoded token reads in the layer if nobody shares them: the cache and every weight once.
[[nodiscard]] constexpr Index decode_bytes(const AttentionCosts& layer, Index context, const RowFormat& format,
                                           Index weight_bytes) noexcept {
  return (Count(decode_kv_bytes(layer, context, format)) + Count(parameters(layer)) * weight_bytes).value();
}

/// FLOPs of attention per cache byte read, at any context: flops_per_key / KV bytes per token; 0 without a cache.
/// Step-3 report (arXiv 2507.19427): 2 m / b for MFA, with m heads and b bytes per element.
[[nodiscard]] constexpr double arithmetic_intensity(const AttentionCosts& layer, const RowFormat& format) noexcept {
  return ratio(layer.flops_per_key, kv_bytes_per_token(layer, format));
}

/// TER: heads x FRH.
[[nodiscard]] constexpr Index total_effective_rank(const AttentionCosts& layer) noexcept {
  return (Count(layer.num_heads) * layer.factorization_rank_per_head).value();
}

}  // namespace heed::inline HEED_ABI::analysis
