/// \file
/// What one attention layer costs. Every mechanism's shape (GroupedShape, MlaShape, MfaShape, ...) computes an
/// AttentionCosts from its sizes. The functions here compute everything else from that. Results that do not fit into 64
/// bits are count_limit.
#pragma once

#include <heed/analysis/count.hpp>
#include <heed/analysis/row_format.hpp>

namespace heed::inline HEED_ABI::analysis {

/// One layer of one mechanism, in numbers. A multiply-add counts as 2 FLOPs.
///
///     FRH    factorisation rank per head: rank of the bilinear map W_c with which a head scores two hidden vectors
///     SLSD   shared latent subspace dimension: dimension of the space that the keys and values of all heads lie in
///     TER    total effective rank: heads x FRH
///
/// All three are nominal: what the sizes allow, not what trained weights have. They are defined in the MFA paper, arXiv
/// 2412.19255, known here through secondary summaries of it.
struct AttentionCosts {
  KvRows keys;                            ///< cached key rows of a token
  KvRows values;                          ///< cached value rows; none if values are a view of keys or made from them
  Index num_heads = 0;                    ///< query heads
  Index factorization_rank_per_head = 0;  ///< FRH
  Index shared_latent_subspace_dim = 0;   ///< SLSD
  Index projection_parameters = 0;        ///< weights of the projections of q, k, v and o, each used once per token
  Index norm_parameters = 0;              ///< weights of norms inside the attention
  Index flops_per_key = 0;                ///< scores and values of one query token, all heads, and one cached token
  Index flops_per_step = 0;               ///< FLOPs per step that do not depend on the context: update of a state
  Index state_bytes_per_step = 0;         ///< bytes of a state read and written per step
};

/// KV elements that a token leaves in the layer.
[[nodiscard]] constexpr Index kv_elements_per_token(const AttentionCosts& layer) noexcept {
  return (Count(layer.keys.elements()) + layer.values.elements()).value();
}

/// KV bytes that a token leaves in the layer, scales of the format included.
[[nodiscard]] constexpr Index kv_bytes_per_token(const AttentionCosts& layer, const RowFormat& format) noexcept {
  return (Count(format.bytes(layer.keys)) + format.bytes(layer.values)).value();
}

/// Number of weights of the layer's attention, norms included.
[[nodiscard]] constexpr Index parameters(const AttentionCosts& layer) noexcept {
  return (Count(layer.projection_parameters) + layer.norm_parameters).value();
}

/// FLOPs of the attention of one decoded token over `context` tokens, its own included: flops_per_key context +
/// flops_per_step. Here and below, softmax, rotations and norms are not counted, as in the papers' figures.
[[nodiscard]] constexpr Index attention_flops(const AttentionCosts& layer, Index context) noexcept {
  return (Count(layer.flops_per_key) * context + layer.flops_per_step).value();
}

/// FLOPs of one token's projections: 2 projection_parameters.
[[nodiscard]] constexpr Index linear_flops(const AttentionCosts& layer) noexcept {
  return (2 * Count(layer.projection_parameters)).value();
}

/// FLOPs of one decoded token in the layer's attention, projections included.
[[nodiscard]] constexpr Index decode_flops(const AttentionCosts& layer, Index context) noexcept {
  return (Count(attention_flops(layer, context)) + linear_flops(layer)).value();
}

/// Cache bytes of one decoded token in the layer: kv_bytes_per_token context + state_bytes_per_step.
[[nodiscard]] constexpr Index decode_kv_bytes(const AttentionCosts& layer, Index context,
                                              const RowFormat& format) noexcept {
  return (Count(kv_bytes_per_token(layer, format)) * context + layer.state_bytes_per_step).value();
}

/// Bytes that one decoded token reads in the layer with batch size 1: the cache, and every weight once, of
/// `weight_bytes` bytes each.
[[nodiscard]] constexpr Index decode_bytes(const AttentionCosts& layer, Index context, const RowFormat& format,
                                           Index weight_bytes) noexcept {
  return (Count(decode_kv_bytes(layer, context, format)) + Count(parameters(layer)) * weight_bytes).value();
}

/// FLOPs of attention per cache byte read: flops_per_key / KV bytes per token, the same for any context; 0 without a
/// cache. For MFA it is 2 m / b, with m heads and b bytes per element (Step-3 report, arXiv 2507.19427).
[[nodiscard]] constexpr double arithmetic_intensity(const AttentionCosts& layer, const RowFormat& format) noexcept {
  return ratio(layer.flops_per_key, kv_bytes_per_token(layer, format));
}

/// TER: heads x FRH.
[[nodiscard]] constexpr Index total_effective_rank(const AttentionCosts& layer) noexcept {
  return (Count(layer.num_heads) * layer.factorization_rank_per_head).value();
}

}  // namespace heed::inline HEED_ABI::analysis
