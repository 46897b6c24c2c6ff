#include <benchmark/benchmark.h>

#include <chrono>
#include <string>

#include "limits.hpp"

namespace bench {
namespace {

void run_limit(benchmark::State& state, Limit limit, Index threads) {
  pass(limit, threads);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) pass(limit, threads);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  state.counters[unit(limit)] = work(limit, threads) * double(state.iterations()) / elapsed.count() * 1e-9;
}

}  // namespace

const bool limits_added = [] {
  for (const Limit limit : all_limits) {
    for (const Index threads : thread_counts()) {
      if (!exists(limit)) continue;
      const std::string full = std::string("limit/") + name(limit) + "/threads:" + std::to_string(threads);
      benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) { run_limit(state, limit, threads); });
    }
  }
  return true;
}();

}  // namespace bench
