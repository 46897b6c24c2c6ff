/// \file
/// Sizes of lightning attention, a linear attention with a state of constant size.
#pragma once

#include <heed/analysis/costs.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// A layer that keeps a head_dim x head_dim state per head instead of a cache (MiniMax-M1's other layers).
///
///     KV elements per token and layer   0
///     parameters per layer              num_projections D H dh
///     FLOPs per step                    flops_per_state_element H dh dh
///     state bytes per step              state_element_bytes H dh dh
///
/// The two factors belong to the source whose figures are computed. FRH, SLSD and TER are about softmax heads: 0 here.
struct LightningShape {
  Index hidden_size = 0;
  Index num_heads = 0;
  Index head_dim = 0;
  Index num_projections = 0;
  Index flops_per_state_element = 0;
  Index state_element_bytes = 0;  ///< read and written: 8 for float

  [[nodiscard]] Status validate() const {
    return check_sizes(1, {{"hidden_size", hidden_size},
                           {"num_heads", num_heads},
                           {"head_dim", head_dim},
                           {"num_projections", num_projections},
                           {"flops_per_state_element", flops_per_state_element},
                           {"state_element_bytes", state_element_bytes}});
  }

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
