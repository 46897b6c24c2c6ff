/// \file
/// The Step-3 report's cost model: what a decoded token costs on accelerators, attention and FFN on one kind each.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include <heed/analysis/count.hpp>

namespace heed::inline HEED_ABI::analysis {

/// Prices of an accelerator at full use (Step-3 report, arXiv 2507.19427, three digits).
struct Accelerator {
  const char* name = "";
  double usd_per_flop = 0;      ///< U_f
  double usd_per_byte = 0;      ///< U_b, of memory traffic
  double printed_roofline = 0;  ///< FLOP per byte, as the report prints it

  /// FLOP per byte at which both cost the same: U_b / U_f. It is the roofline within the digits of the printed prices:
  /// 592.9 for H800's 591, 174.4 for 910B's 175.
  [[nodiscard]] constexpr double priced_roofline() const noexcept { return usd_per_byte / usd_per_flop; }
};

/// Work of one decoded token.
struct DecodeWork {
  Index attention_flops = 0;
  Index kv_bytes = 0;
  Index linear_flops = 0;
  Index ffn_flops = 0;
};

/// USD per decoded token with attention and its projections on one device, the FFN on another.
///
///     max(attention_flops U_f, kv_bytes U_b) + linear_flops U_f   on the attention's,   ffn_flops U_f   on the FFN's
[[nodiscard]] constexpr double usd_per_token(const DecodeWork& work, const Accelerator& attention,
                                             const Accelerator& ffn) noexcept {
  const double reading = double(work.kv_bytes) * attention.usd_per_byte;
  const double computing = double(work.attention_flops) * attention.usd_per_flop;
  return std::max(computing, reading) + double(work.linear_flops) * attention.usd_per_flop +
         double(work.ffn_flops) * ffn.usd_per_flop;
}

/// Which device does what, and what a token costs there.
struct Placement {
  Accelerator attention;
  Accelerator ffn;
  double usd_per_token = std::numeric_limits<double>::infinity();
};

/// The cheapest pair of `devices`, the first one of equals; infinitely dear if there are none.
[[nodiscard]] constexpr Placement best_placement(const DecodeWork& work,
                                                 std::span<const Accelerator> devices) noexcept {
  Placement best;
  for (const Accelerator& attention : devices) {
    for (const Accelerator& ffn : devices) {
      const double usd = usd_per_token(work, attention, ffn);
      if (usd < best.usd_per_token) best = {.attention = attention, .ffn = ffn, .usd_per_token = usd};
    }
  }
  return best;
}

}  // namespace heed::inline HEED_ABI::analysis
