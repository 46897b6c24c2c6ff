/// \file
/// Sizes of multi-head latent attention.
#pragma once

#include <algorithm>

#include <heed/analysis/costs.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// What is cached, and how many FLOPs are counted per head and cached token. Symbols as in MlaShape.
enum class MlaCount {
  absorbed,             ///< the latent row is cached as key and value: 2 (rk + dr) + 2 rk
  absorbed_full_width,  ///< the same cache; values are counted as wide as keys, as in the Step-3 report: 4 (rk + dr)
  expanded,             ///< every head's keys and values are cached: 2 (dn + dr) + 2 dv
};

/// MLA as DeepSeek-V2 and V3 deploy it (arXiv 2405.04434; deepseek-ai/DeepSeek-V3 inference/model.py).
///
///     KV elements per token and layer   rk + dr absorbed,   H (dn + dr + dv) expanded
///     parameters per layer              D rq + rq H (dn + dr) + D (rk + dr) + rk H (dn + dv) + H dv D, and rq + rk of
///                                       norms; D H (dn + dr) in place of the first two terms if rq = 0
///     FLOPs per cached token            see MlaCount
///     FRH = min(dn, dv), as the MFA paper counts: without the shared rope part      SLSD = rk      TER = H FRH
///
/// D is hidden_size, H num_heads, rq q_lora_rank, rk kv_lora_rank, dn qk_nope_head_dim, dr qk_rope_head_dim, dv
/// v_head_dim. The MFA paper's counts of MLA are in gmha.hpp.
struct MlaShape {
  Index hidden_size = 0;       ///< D
  Index num_heads = 0;         ///< H
  Index q_lora_rank = 0;       ///< rq; 0: queries are made from the hidden vector by one matrix, as in DeepSeek-V2-Lite
  Index kv_lora_rank = 0;      ///< rk, width of the latent
  Index qk_nope_head_dim = 0;  ///< dn, width of a head's query and key without the rotated part
  Index qk_rope_head_dim = 0;  ///< dr, width of the rotated part; its key is shared by all heads
  Index v_head_dim = 0;        ///< dv, width of a head's value

  /// invalid_argument for a size below 1; q_lora_rank and qk_rope_head_dim may be 0.
  [[nodiscard]] Status validate() const {
    Status status = check_sizes(1, {{"hidden_size", hidden_size},
                                    {"num_heads", num_heads},
                                    {"kv_lora_rank", kv_lora_rank},
                                    {"qk_nope_head_dim", qk_nope_head_dim},
                                    {"v_head_dim", v_head_dim}});
    return status.ok() ? check_sizes(0, {{"q_lora_rank", q_lora_rank}, {"qk_rope_head_dim", qk_rope_head_dim}})
                       : status;
  }

  /// The counts above in this form; count_limit if one does not fit into 64 bits.
  [[nodiscard]] constexpr AttentionCosts costs(MlaCount form) const noexcept {
    const bool expanded = form == MlaCount::expanded;
    const Index key_dim = (Count(qk_nope_head_dim) + qk_rope_head_dim).value();
    return {.keys = expanded ? KvRows{.num_rows = num_heads, .width = key_dim}
                             : KvRows{.num_rows = 1, .width = kv_lora_rank, .rope_width = qk_rope_head_dim},
            .values = expanded ? KvRows{.num_rows = num_heads, .width = v_head_dim} : KvRows{},
            .num_heads = num_heads,
            .factorization_rank_per_head = std::min(qk_nope_head_dim, v_head_dim),
            .shared_latent_subspace_dim = kv_lora_rank,
            .projection_parameters = (Count(query_parameters()) + latent_parameters() +
                                      up_parameters(qk_nope_head_dim) + up_parameters(v_head_dim) + output_parameters())
                                         .value(),
            .norm_parameters = (Count(q_lora_rank) + kv_lora_rank).value(),
            .flops_per_key = flops_per_key(form)};
  }

  /// FLOPs to expand one cached row into every head's key and value: 2 rk H (dn + dv). A decoder that caches latent
  /// rows and does not absorb expands the whole context in every step.
  [[nodiscard]] constexpr Index expansion_flops_per_key() const noexcept {
    return (2 * (Count(up_parameters(qk_nope_head_dim)) + up_parameters(v_head_dim))).value();
  }

  /// Number of weights of the query projection, D rq + rq H (dn + dr). Here and below one token's FLOPs are twice as
  /// many.
  [[nodiscard]] constexpr Index query_parameters() const noexcept {
    const Count width = Count(num_heads) * (Count(qk_nope_head_dim) + qk_rope_head_dim);
    return (q_lora_rank == 0 ? width * hidden_size : Count(hidden_size) * q_lora_rank + width * q_lora_rank).value();
  }
  /// Number of weights that make a row: D (rk + dr).
  [[nodiscard]] constexpr Index latent_parameters() const noexcept {
    return (Count(hidden_size) * (Count(kv_lora_rank) + qk_rope_head_dim)).value();
  }
  /// Number of weights of an up-projection, rk H head_dim: W_UK for head_dim = dn, W_UV for head_dim = dv.
  [[nodiscard]] constexpr Index up_parameters(Index head_dim) const noexcept {
    return (Count(num_heads) * kv_lora_rank * head_dim).value();
  }
  /// Number of weights of the output projection: H dv D.
  [[nodiscard]] constexpr Index output_parameters() const noexcept {
    return (Count(num_heads) * v_head_dim * hidden_size).value();
  }

 private:
  [[nodiscard]] constexpr Index flops_per_key(MlaCount form) const noexcept {
    const Count row = Count(kv_lora_rank) + qk_rope_head_dim;
    switch (form) {
      case MlaCount::absorbed: return (2 * Count(num_heads) * (row + kv_lora_rank)).value();
      case MlaCount::absorbed_full_width: return (4 * Count(num_heads) * row).value();
      case MlaCount::expanded: break;
    }
    return (2 * Count(num_heads) * (Count(qk_nope_head_dim) + qk_rope_head_dim + v_head_dim)).value();
  }
};

}  // namespace heed::inline HEED_ABI::analysis
