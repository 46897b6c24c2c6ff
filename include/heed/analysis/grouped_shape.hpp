/// \file
/// Sizes of multi-head, grouped-query and multi-query attention.
#pragma once

#include <heed/analysis/costs.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// MHA (num_kv_heads = num_heads, arXiv 1706.03762), GQA (arXiv 2305.13245), MQA (num_kv_heads = 1, arXiv 1911.02150).
///
///     KV elements per token and layer   2 G dh
///     parameters per layer              2 D H dh + 2 D G dh
///     FLOPs per cached token            4 H dh
///     FRH = dh      SLSD = G dh      TER = H dh
///
/// D is hidden_size, H num_heads, G num_kv_heads, dh head_dim. With H dh = D there are (2 + 2 G/H) D^2 parameters, and
/// 4 D^2 for MHA. One summary of the MFA paper prints G dh as GQA's TER; by the definition that is its SLSD.
struct GroupedShape {
  Index hidden_size = 0;   ///< D
  Index num_heads = 0;     ///< H, query heads
  Index num_kv_heads = 0;  ///< G, heads of the cached keys and values
  Index head_dim = 0;      ///< dh, width of a key and of a value

  /// invalid_argument for a size below 1, or if num_kv_heads does not divide num_heads.
  [[nodiscard]] Status validate() const {
    if (Status status = check_sizes(1, {{"hidden_size", hidden_size},
                                        {"num_heads", num_heads},
                                        {"num_kv_heads", num_kv_heads},
                                        {"head_dim", head_dim}});
        !status.ok()) {
      return status;
    }
    if (num_heads % num_kv_heads != 0) {
      return fail(StatusCode::invalid_argument, "num_kv_heads is ", num_kv_heads, ", must divide num_heads ",
                  num_heads);
    }
    return {};
  }

  /// The counts above; count_limit if one does not fit into 64 bits.
  [[nodiscard]] constexpr AttentionCosts costs() const noexcept {
    const Count query_width = Count(num_heads) * head_dim, key_width = Count(num_kv_heads) * head_dim;
    return {.keys = {.num_rows = num_kv_heads, .width = head_dim},
            .values = {.num_rows = num_kv_heads, .width = head_dim},
            .num_heads = num_heads,
            .factorization_rank_per_head = head_dim,
            .shared_latent_subspace_dim = key_width.value(),
            .projection_parameters = (2 * (query_width + key_width) * hidden_size).value(),
            .flops_per_key = (4 * query_width).value()};
  }
};

/// MHA: num_kv_heads = num_heads.
[[nodiscard]] constexpr GroupedShape mha_shape(Index hidden_size, Index num_heads, Index head_dim) noexcept {
  return {.hidden_size = hidden_size, .num_heads = num_heads, .num_kv_heads = num_heads, .head_dim = head_dim};
}

/// MQA: num_kv_heads = 1.
[[nodiscard]] constexpr GroupedShape mqa_shape(Index hidden_size, Index num_heads, Index head_dim) noexcept {
  return {.hidden_size = hidden_size, .num_heads = num_heads, .num_kv_heads = 1, .head_dim = head_dim};
}

}  // namespace heed::inline HEED_ABI::analysis
