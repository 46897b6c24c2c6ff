/// \file
/// Sizes of lightning attention, a linear attention with a state of constant size.
#pragma once

#include <heed/analysis/costs.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// A layer that keeps a head_dim x head_dim state per head instead of a cache (MiniMax-M1's layers without softmax).
///
///     KV elements per token and layer   0
///     parameters per layer              num_projections D H dh
///     FLOPs per step                    flops_per_state_element H dh dh
///     state bytes per step              state_element_bytes H dh dh
///
/// D is hidden_size, H num_heads, dh head_dim. Sources count flops_per_state_element and state_element_bytes
/// differently: take those of the source whose figures are computed. FRH, SLSD and TER are defined for softmax heads
/// and are 0 here.
struct LightningShape {
  Index hidden_size = 0;              ///< D
  Index num_heads = 0;                ///< H
  Index head_dim = 0;                 ///< dh: the state of a head is dh x dh
  Index num_projections = 0;          ///< matrices of D x H dh
  Index flops_per_state_element = 0;  ///< per step
  Index state_element_bytes = 0;      ///< read and written per step: 8 for float

  /// invalid_argument for a size below 1.
  [[nodiscard]] Status validate() const {
    return check_sizes(1, {{"hidden_size", hidden_size},
                           {"num_heads", num_heads},
                           {"head_dim", head_dim},
                           {"num_projections", num_projections},
                           {"flops_per_state_element", flops_per_state_element},
                           {"state_element_bytes", state_element_bytes}});
  }

  /// The counts above; count_limit if one does not fit into 64 bits.
  [[nodiscard]] constexpr AttentionCosts costs() const noexcept {
    const Count width = Count(num_heads) * head_dim, state = width * head_dim;
    return {.keys = {},
            .values = {},
            .num_heads = num_heads,
            .projection_parameters = (Count(num_projections) * hidden_size * width).value(),
            .flops_per_step = (state * flops_per_state_element).value(),
            .state_bytes_per_step = (state * state_element_bytes).value()};
  }
};

}  // namespace heed::inline HEED_ABI::analysis
