/// \file
/// One benchmark: a whole BitLinear, norm and quantiser included.
#pragma once

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "cold.hpp"
#include "limits.hpp"
#include "ternary_weights.hpp"

namespace bench {

struct TernaryTask {
  Index out = 0, in = 0;
  Index tokens = 1;
  bool cold = false;  ///< weights rotate over more than the processor's caches hold, as in a model with many layers
  bool smoke = false;
  std::vector<Index> threads = thread_counts();
};

/// Weights that are read in turn: eight times a 32 MiB L3.
inline constexpr Index cold_weight_bytes = Index{256} << 20;

/// Layers of one shape, with inputs and where the outputs go.
template <class L>
struct TernaryLayers {
  TernaryLayers(Index out, Index in, Index tokens, Index bytes) {
    Ternaries weights(4);
    Gaussians numbers(5);
    for (Index held = 0; held <= bytes; held += layers.back().bytes()) {
      layers.push_back(random_bit_linear<L>(out, in, weights, numbers));
    }
    for (Index t = 0; t < tokens; ++t) {
      const auto row = numbers.next(in);
      x.insert(x.end(), row.begin(), row.end());
    }
    y.resize(std::size_t(tokens * out));
    expected.emplace_back(layers[0], x);
  }
  std::vector<heed::BitLinear<L>> layers;
  std::vector<float> x, y;
  std::vector<ExpectedSums> expected;  ///< of layer 0
  heed::Workspace workspace;
};

template <class Backend, class L>
void run_bit_linear(benchmark::State& state, const TernaryTask& task, Index threads, bool& checked) {
  std::string kept = "ternary";
  for (const Index part : {task.out, task.in, task.tokens, Index(task.cold)}) kept += "/" + std::to_string(part);
  auto& fixture = keep_last<TernaryLayers<L>>(kept + L::name, task.out, task.in, task.tokens,
                                              task.cold ? cold_weight_bytes : Index{0});
  heed::ThreadPool& executor = pool(threads);
  const auto call = [&](std::size_t layer) {
    return heed::bit_linear<Backend>(fixture.layers[layer], fixture.x, fixture.y, fixture.workspace, executor);
  };
  double worst = 0;
  if (!checked) {
    heed::check(call(0));
    if (!check_answer(state, fixture.expected[0].worst(fixture.y), worst)) return;
    checked = true;
  }
  heed::check(call(0));  // the workspace may belong to other loops
  std::fill(fixture.y.begin(), fixture.y.end(), std::nanf(""));

  LimitsAround limits(threads, task.smoke ? 1 : 3, {Limit::read_dram, Limit::dot_int8});
  // The last iteration is layer 0's, whose answer is known: what was timed is checked too.
  std::size_t layer = std::size_t(state.max_iterations) % fixture.layers.size();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    layer = layer == 0 ? fixture.layers.size() - 1 : layer - 1;
    if (const heed::Status status = call(layer); !status.ok()) {
      count_failure();
      state.SkipWithError(status.message().c_str());
      break;
    }
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  if (state.error_occurred()) return;
  limits.close();
  if (!check_answer(state, fixture.expected[0].worst(fixture.y), worst)) return;

  const double calls = double(state.iterations()) / std::chrono::duration<double>(elapsed).count() * 1e-9;
  const double weights = double(task.out * task.in), operations = 2 * weights * double(task.tokens);
  const double peak = limits.of(Limit::dot_int8), bandwidth = limits.of(Limit::read_dram);
  auto& out = state.counters;
  out["GFLOPs"] = operations * calls;
  out["limit_int8"] = peak;
  if (peak > 0) out["frac_int8"] = operations * calls / peak;
  out["Gweights"] = weights * calls;
  out["GBps"] = double(fixture.layers[0].weights().bytes()) * calls;
  out["limit_GBps"] = bandwidth;
  if (task.cold) out["frac_bandwidth"] = double(fixture.layers[0].weights().bytes()) * calls / bandwidth;
  out["err_bound"] = worst;
}

/// Registers ternary/<gemv|gemm>/<layout>[/<loops>]/<cache|cold|n:N>/<out>x<in>/threads:T for every thread count.
/// `loops` names others than the backend's own.
template <class Backend, class L>
void add_bit_linear(const TernaryTask& task, const std::string& loops = "") {
  std::string name = std::string(task.smoke ? "smoke/" : "") + "ternary/" + (task.tokens == 1 ? "gemv/" : "gemm/");
  name += L::name + ("/" + loops) + (loops.empty() ? "" : "/");
  name += task.tokens > 1 ? "n:" + std::to_string(task.tokens) : task.cold ? "cold" : "cache";
  name += "/" + std::to_string(task.out) + "x" + std::to_string(task.in);
  for (const Index threads : task.threads) {
    const auto run = [=, checked = false](benchmark::State& state) mutable {
      run_bit_linear<Backend, L>(state, task, threads, checked);
    };
    benchmark::RegisterBenchmark((name + "/threads:" + std::to_string(threads)).c_str(), run);
  }
}

}  // namespace bench
