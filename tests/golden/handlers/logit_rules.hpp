/// \file
/// What happens to a logit between the product and the softmax, and which keys a query sees: options every mechanism has.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include <heed/attend.hpp>
#include <heed/retention/window.hpp>

#include "golden/case.hpp"
#include "oracle/attention.hpp"
#include "oracle/random.hpp"

namespace heed_golden {

struct LogitRules {
  std::optional<Int> window;
  double soft_cap = 0;
  std::vector<float> slopes, sinks;  ///< per head, or empty

  [[nodiscard]] heed::AttendOptions options() const {
    return {.soft_cap = float(soft_cap), .alibi_slopes = slopes, .sink_logits = sinks};
  }
  /// The same for the oracle.
  [[nodiscard]] oracle::Problem problem() const {
    oracle::Problem p;
    if (window) p.visible = oracle::window(*window);
    p.soft_cap = float(soft_cap);
    p.slopes = oracle::doubles(slopes);
    p.sinks = oracle::doubles(sinks);
    return p;
  }
  /// Calls f with the retention rule.
  template <class F>
  auto with_retention(F&& f) const {
    return window ? f(heed::SlidingWindow{*window}) : f(heed::Causal{});
  }
};

/// Slopes of heads.md: powers of 2^(-8/p) for the largest power of two p <= H, then every other one of 2p.
inline std::vector<float> default_slopes(Int heads) {
  const Int p = Int{1} << Int(std::log2(double(heads)));
  std::vector<float> slopes;
  for (Int h = 0; h < heads; ++h) {
    slopes.push_back(float(h < p ? std::exp2(-8.0 * double(h + 1) / double(p))
                                 : std::exp2(-4.0 * double(2 * (h - p) + 1) / double(p))));
  }
  return slopes;
}

inline LogitRules read_logit_rules(Case& one, Int heads) {
  Config& config = one.config;
  LogitRules rules;
  if (!config.get_or("causal", true)) throw Unusable("causal is false, this handler runs causal attention only");
  rules.window = config.maybe<Int>("sliding_window");
  rules.soft_cap = config.get_or<double>("attn_logit_softcapping", 0);
  if (config.get_or("alibi", false)) {
    rules.slopes = one.has("alibi_slopes") ? one.get<float>("alibi_slopes", {heads}) : default_slopes(heads);
  }
  if (config.get_or("attention_sink_logits", false)) rules.sinks = one.get<float>("sink_logits", {heads});
  return rules;
}

}  // namespace heed_golden
