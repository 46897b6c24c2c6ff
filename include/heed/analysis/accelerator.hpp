/// \file
/// The Step-3 report's cost model: what a decoded token costs if attention and FFN each run on one kind of accelerator.
#pragma once

#include <span>

#include <heed/analysis/count.hpp>
#include <heed/floats.hpp>

namespace heed::inline HEED_ABI::analysis {

/// Prices of an accelerator at full use (Step-3 report, arXiv 2507.19427, printed with three digits).
struct Accelerator {
  const char* name = "";        ///< as the report names it
  double usd_per_flop = 0;      ///< U_f
  double usd_per_byte = 0;      ///< U_b, per byte of memory traffic
  double printed_roofline = 0;  ///< FLOP per byte, as the report prints it

  /// FLOP per byte at which computing and reading cost the same: U_b / U_f. Within the digits of the printed prices it
  /// is the roofline: 592.9 for H800's 591, 174.4 for 910B's 175.
  [[nodiscard]] constexpr double priced_roofline() const noexcept { return usd_per_byte / usd_per_flop; }
};

/// Work of one decoded token, in FLOPs and bytes.
struct DecodeWork {
  Index attention_flops = 0;  ///< scores and values
  Index kv_bytes = 0;         ///< cache bytes read
  Index linear_flops = 0;     ///< projections of the attention
  Index ffn_flops = 0;        ///< FFN
};

/// USD per decoded token, with attention and its projections on one device and the FFN on another: the sum of
///
///     max(attention_flops U_f, kv_bytes U_b) + linear_flops U_f      with the prices of `attention`
///     ffn_flops U_f                                                  with the price of `ffn`
[[nodiscard]] constexpr double usd_per_token(const DecodeWork& work, const Accelerator& attention,
                                             const Accelerator& ffn) noexcept {
  const double reading = double(work.kv_bytes) * attention.usd_per_byte;
  const double computing = double(work.attention_flops) * attention.usd_per_flop;
  return heed::detail::larger(computing, reading) + double(work.linear_flops) * attention.usd_per_flop +
         double(work.ffn_flops) * ffn.usd_per_flop;
}

/// Which device does what, and the price.
struct Placement {
  Accelerator attention;                                  ///< attention and its projections
  Accelerator ffn;                                        ///< the FFN
  double usd_per_token = double(heed::detail::infinity);  ///< USD per decoded token
};

/// Returns the cheapest pair of `devices` (the first of equally cheap ones). If `devices` is empty, the price is
/// infinity.
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
