/// \file
/// The course of a benchmark: check, time the layers in turn between two looks at the limits, check again.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>

#include <heed/status.hpp>

#include "check.hpp"
#include "report.hpp"

namespace bench {

/// Calls of one size on many layers. The right answer of layer 0 is known.
struct LayerCalls {
  Index layers = 1;
  Index threads = 1;
  Work work;                ///< of a call
  int limit_samples = 3;    ///< passes of each limit, before and after
  std::span<float> out;     ///< where a call puts its answer
  bool* checked = nullptr;  ///< whether an earlier repetition has checked layer 0
};

/// Calls `call(layer)`, which returns a Status, for the layers in turn, from the last to layer 0, and reports the time of a
/// call. `error()` is the error in `out`, as a multiple of what is permitted. The last iteration is layer 0's: what was timed
/// is checked as well. Returns false if an answer was wrong or a call failed; the benchmark is then skipped.
template <class Call, class Error>
bool run_layers(benchmark::State& state, const LayerCalls& calls, const Call& call, const Error& error) {
  double worst = 0;
  if (!*calls.checked) {
    heed::check(call(0));
    if (!check_answer(state, error(), worst)) return false;
    *calls.checked = true;
  }
  std::fill(calls.out.begin(), calls.out.end(), std::nanf(""));

  LimitsAround limits(calls.threads, calls.limit_samples, calls.work.limits());
  if (calls.work.source != Limit::read_dram && calls.layers > 1) {  // the limits have pushed layers out of the caches
    for (Index layer = calls.layers - 1; layer >= 0; --layer) heed::check(call(layer));
  }
  Index layer = Index(state.max_iterations) % calls.layers;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    layer = layer == 0 ? calls.layers - 1 : layer - 1;
    if (const heed::Status status = call(layer); !status.ok()) {
      count_failure();
      state.SkipWithError(status.message().c_str());
      return false;
    }
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  limits.close();
  if (!check_answer(state, error(), worst)) return false;
  report(state, calls.work, elapsed.count() / double(state.iterations()), limits);
  state.counters["err_bound"] = worst;
  return true;
}

}  // namespace bench
