/// \file
/// Size of fully parameterised bilinear attention.
#pragma once

#include <heed/analysis/costs.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// FPBA: the upper bound of softmax attention, with two full D x D matrices for each of D channels.
///
///     O_i = sum_c ( sum_j softmax_j( x_i W_c x_j^T / sqrt(D) ) x_j U_c )
///
///     KV elements per token and layer   2 D^2
///     parameters per layer              2 D^3
///     FLOPs per cached token            4 D^2, if the D channels' keys and values are cached
///     FRH = D      SLSD = D      TER = D^2
///
/// D is hidden_size. Source: the MFA paper (arXiv 2412.19255), known here through secondary summaries; the FLOPs are
/// derived. The parameters fit into 64 bits up to D = 1,664,510; above, they are count_limit.
struct FpbaShape {
  Index hidden_size = 0;  ///< D

  /// invalid_argument for a size below 1.
  [[nodiscard]] Status validate() const { return check_sizes(1, {{"hidden_size", hidden_size}}); }

  /// The counts above; count_limit if one does not fit into 64 bits.
  [[nodiscard]] constexpr AttentionCosts costs() const noexcept {
    const Count d = hidden_size;
    return {.keys = {.num_rows = hidden_size, .width = hidden_size},
            .values = {.num_rows = hidden_size, .width = hidden_size},
            .num_heads = hidden_size,
            .factorization_rank_per_head = hidden_size,
            .shared_latent_subspace_dim = hidden_size,
            .projection_parameters = (2 * d * d * d).value(),
            .flops_per_key = (4 * d * d).value()};
  }
};

}  // namespace heed::inline HEED_ABI::analysis
