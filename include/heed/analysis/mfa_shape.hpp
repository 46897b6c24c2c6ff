/// \file
/// Sizes of multi-matrix factorisation attention, with and without key reuse.
#pragma once

#include <algorithm>

#include <heed/analysis/costs.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// MFA: many query heads of size C on one key and one value of size C.
///
///     KV elements per token and layer   2 C
///     parameters per layer              D r + 2 D C + r m C + m C D, and r of the norm
///     FLOPs per cached token            4 m C
///     FRH = C      SLSD = C      TER = m C
///
/// D is hidden_size, m num_heads, C head_dim, r q_lora_rank. This is MFA as deployed in Step-3 (arXiv 2507.19427; vLLM
/// step3_text.py). The MFA paper's form (arXiv 2412.19255, known through secondary summaries) has r = C and no norm, so
/// D (3 C + m C) + m C^2 parameters. gmha.hpp has another count in circulation. If r < C, the rank of W_c is r.
struct MfaShape {
  Index hidden_size = 0;    ///< D
  Index num_heads = 0;      ///< m, query heads
  Index head_dim = 0;       ///< C, width of the key, of the value and of each query head
  Index q_lora_rank = 0;    ///< r, width of the query latent
  bool query_norm = false;  ///< RMSNorm over the query latent: Step-3 has it, the paper's form does not

  /// invalid_argument for a size below 1.
  [[nodiscard]] Status validate() const {
    return check_sizes(
        1,
        {{"hidden_size", hidden_size}, {"num_heads", num_heads}, {"head_dim", head_dim}, {"q_lora_rank", q_lora_rank}});
  }

  /// The largest rank that W_c can have: min(r, C).
  [[nodiscard]] constexpr Index circuit_rank() const noexcept { return std::min(q_lora_rank, head_dim); }

  /// The counts above; count_limit if one does not fit into 64 bits.
  [[nodiscard]] constexpr AttentionCosts costs() const noexcept {
    const Count query_width = Count(num_heads) * head_dim;
    return {.keys = {.num_rows = 1, .width = head_dim},
            .values = {.num_rows = 1, .width = head_dim},
            .num_heads = num_heads,
            .factorization_rank_per_head = head_dim,
            .shared_latent_subspace_dim = head_dim,
            .projection_parameters = (Count(hidden_size) * q_lora_rank + 2 * Count(hidden_size) * head_dim +
                                      query_width * q_lora_rank + query_width * hidden_size)
                                         .value(),
            .norm_parameters = query_norm ? q_lora_rank : 0,
            .flops_per_key = (4 * query_width).value()};
  }
};

/// The MFA paper's form: a square C x C query matrix per head, no norm.
[[nodiscard]] constexpr MfaShape mfa_theory(Index hidden_size, Index num_heads, Index head_dim) noexcept {
  return {.hidden_size = hidden_size, .num_heads = num_heads, .head_dim = head_dim, .q_lora_rank = head_dim};
}

/// MFA-KR: MFA whose value is made from the key, v = (I + diag(alpha) N) k.
///
///     KV elements per token and layer   C
///     parameters per layer              D r + D C + r m C + m C D, and C^2 + C while N and alpha are kept
///     FLOPs per cached token            4 m C; the key's rotation at read, about 3 C, is not counted
///     FRH = C      SLSD = C      TER = m C
///
/// Symbols as in MfaShape. N and alpha may be folded into the output projection. The counts are inferred from the
/// formulas; no source prints them.
struct MfaKrShape {
  MfaShape mfa;              ///< sizes
  bool keeps_mixer = false;  ///< true: N and alpha are stored, as in training; false: folded

  /// As MfaShape::validate().
  [[nodiscard]] Status validate() const { return mfa.validate(); }

  /// The counts above; count_limit if one does not fit into 64 bits.
  [[nodiscard]] constexpr AttentionCosts costs() const noexcept {
    const Count c = mfa.head_dim, query_width = Count(mfa.num_heads) * c, mixer = c * c + c;
    AttentionCosts layer = mfa.costs();
    layer.values = {};
    layer.projection_parameters =
        (Count(mfa.hidden_size) * mfa.q_lora_rank + Count(mfa.hidden_size) * c + query_width * mfa.q_lora_rank +
         query_width * mfa.hidden_size + (keeps_mixer ? mixer : Count(0)))
            .value();
    return layer;
  }
};

}  // namespace heed::inline HEED_ABI::analysis
