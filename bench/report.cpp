#include "report.hpp"

namespace bench {

void report(benchmark::State& state, const Work& work, double seconds, const LimitsAround& limits) {
  const Roof at_limits = roof(work, [&](Limit limit) { return limits.of(limit); });
  const double operations = work.total_operations();
  auto& out = state.counters;
  state.SetLabel(work.limit_names());
  out["GBps"] = work.bytes / seconds * 1e-9;
  out["GFLOPs"] = operations / seconds * 1e-9;
  if (at_limits.read > 0) {
    out["limit_GBps"] = limits.of(work.source);
    out["frac_bandwidth"] = at_limits.read / seconds;
  }
  if (at_limits.math > 0) {
    out["limit_GFLOPs"] = operations / at_limits.math * 1e-9;
    out["frac_peak"] = at_limits.math / seconds;
  }
  out["frac_roof"] = at_limits.seconds() / seconds;
}

}  // namespace bench
