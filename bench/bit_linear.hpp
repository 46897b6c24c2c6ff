/// \file
/// One benchmark: a whole BitLinear, norm and quantiser included.
#pragma once

#include <string>
#include <vector>

#include "bandwidth.hpp"
#include "cold.hpp"
#include "layer_calls.hpp"
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
  const auto call = [&](Index layer) {
    return heed::bit_linear<Backend>(fixture.layers[std::size_t(layer)], fixture.x, fixture.y, fixture.workspace,
                                     executor);
  };
  heed::check(call(0));  // the workspace may belong to other loops
  const auto layers = Index(fixture.layers.size());
  const Index bytes = fixture.layers[0].weights().bytes();
  const double weights = double(task.out * task.in);
  const LayerCalls calls{.layers = layers,
                         .threads = threads,
                         .work = {.source = source_of(bytes * layers, threads),
                                  .bytes = double(bytes),
                                  .operations = {{Limit::dot_int8, 2 * weights * double(task.tokens)}}},
                         .limit_samples = task.smoke ? 1 : 3,
                         .out = fixture.y,
                         .checked = &checked};
  if (!run_layers(state, calls, call, [&] { return fixture.expected[0].worst(fixture.y); })) return;
  state.counters["Gweights"] = weights / double(bytes) * state.counters["GBps"];
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
