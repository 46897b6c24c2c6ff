/// \file
/// One benchmark: attention of the last `queries` tokens over a cold cache.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include <heed/attend.hpp>

#include "cold.hpp"
#include "limits.hpp"
#include "shapes.hpp"

namespace bench {

/// What is measured of a shape: `decode` (one query), `verify` (a few) or `prefill`; and `smoke`, small enough for a
/// test, whose cache need not be cold.
struct Task {
  const char* group = "";
  Index queries = 1;
  Index keys = 0;
  std::vector<Index> threads = thread_counts();
};

/// (query, key) pairs of the causal mask, per head.
[[nodiscard]] inline double visible_pairs(Index queries, Index keys) {
  return double(queries) * double(keys) - double(queries) * double(queries - 1) / 2;
}

template <class P, class C>
void run_attention(benchmark::State& state, const heed::Kernel& kernel, const PolicyShape<P>& shape, const Task& task,
                   Index threads, bool& checked) {
  const bool cold = std::string(task.group) != "smoke";
  const std::string kept =
      std::string(shape.name) + "/" + C::name + "/" + std::to_string(task.keys) + (cold ? "" : "/warm");
  auto& fixture = keep_last<ColdCache<P, C>>(kept, shape.policy, task.keys, cold ? cold_bytes : 1);
  Problem& problem = fixture.problem(task.queries);
  const auto& cache = fixture.cache();
  heed::ThreadPool& executor = pool(threads);
  const std::size_t scratch =
      heed::value_or_throw(heed::workspace_bytes(shape.policy, task.queries, task.keys, threads));
  heed::check(problem.workspace.reserve(scratch));
  const std::size_t reserved = problem.workspace.size();
  const auto attend = [&](Index layer) {
    return heed::attend(kernel, shape.policy, problem.q, cache.keys(layer), problem.out, problem.workspace, executor);
  };

  double worst = 0;
  if (!checked) {
    heed::check(attend(0));
    if (!check_answer(state, problem.expected.worst(problem.out), worst)) return;
    checked = true;
  }
  std::fill(problem.out.begin(), problem.out.end(), std::nanf(""));

  LimitsAround limits(threads, cold ? 3 : 1);
  // The last iteration reads layer 0, whose answer is known: what was timed is checked too.
  Index layer = Index(state.max_iterations) % cache.layers();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    layer = layer == 0 ? cache.layers() - 1 : layer - 1;
    if (const heed::Status status = attend(layer); !status.ok()) {
      count_failure();
      state.SkipWithError(status.message().c_str());
      break;
    }
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  if (state.error_occurred()) return;
  limits.close();
  if (!check_answer(state, problem.expected.worst(problem.out), worst)) return;
  if (problem.workspace.size() != reserved) {
    count_failure();
    return state.SkipWithError("the workspace grew: workspace_bytes() promised too little");
  }

  const double seconds = std::chrono::duration<double>(elapsed).count() / double(state.iterations());
  const heed::AttentionLayout& layout = fixture.layout();
  const double bytes = double(cache.bytes().live_per_layer());  // each row is read once, whatever its query heads
  const double flops = 2.0 * double(layout.num_heads) * double(layout.key_width + layout.value_width) *
                           visible_pairs(task.queries, task.keys) +
                       preparation_flops(shape.policy, task.keys);
  auto& out = state.counters;
  out["kv_bytes_per_token"] = bytes / double(cache.bytes().kept);  // of one layer
  out["GBps"] = bytes / seconds * 1e-9;
  out["GFLOPs"] = flops / seconds * 1e-9;
  out["limit_GBps"] = limits.of(Limit::read_dram);
  out["limit_GFLOPs"] = limits.of(Limit::fma_f32);
  out["frac_bandwidth"] = bytes / seconds * 1e-9 / limits.of(Limit::read_dram);
  out["frac_peak"] = flops / seconds * 1e-9 / limits.of(Limit::fma_f32);
  out["err_bound"] = worst;
}

/// Registers <group>/<shape>/<codec>/<backend>[/q:Q]/keys:N/threads:T for every thread count of the task.
template <class C, class P>
void add(const heed::Kernel& kernel, const PolicyShape<P>& shape, const Task& task) {
  for (const Index threads : task.threads) {
    std::string name = std::string(task.group) + "/" + shape.name + "/" + C::name + "/" + kernel.backend;
    if (std::string(task.group) != "decode") name += "/q:" + std::to_string(task.queries);
    name += "/keys:" + std::to_string(task.keys) + "/threads:" + std::to_string(threads);
    const auto run = [=, &kernel, checked = false](benchmark::State& state) mutable {
      run_attention<P, C>(state, kernel, shape, task, threads, checked);
    };
    benchmark::RegisterBenchmark(name.c_str(), run);
  }
}

/// Decode of every shape at both lengths.
template <class C>
void add_all_decode(const heed::Kernel& kernel) {
  const auto both = [&](const auto& shape) {
    for (const Index keys : {4096, 32768}) add<C>(kernel, shape, {.group = "decode", .keys = keys});
  };
  for_each_shape(both);
}

/// What speculative decoding asks for: a token and its drafts, which read the cache once.
template <class C>
void add_all_verify(const heed::Kernel& kernel) {
  const auto both = [&](const auto& shape, Index keys) {
    for (const Index queries : {1, 2, 4, 8}) {
      add<C>(kernel, shape, {.group = "verify", .queries = queries, .keys = keys});
    }
  };
  both(gqa(), 32768);
  both(gqa(), 4096);
  both(mha(), 4096);
  both(mla16(), 4096);
  both(mfa(), 4096);
}

/// Prefill of 512 tokens: a whole prompt, and the last chunk of a long one.
template <class C>
void add_all_prefill(const heed::Kernel& kernel) {
  for (const Index keys : {512, 4096}) add<C>(kernel, gqa(), {.group = "prefill", .queries = 512, .keys = keys});
  add<C>(kernel, mla16_expanded(), {.group = "prefill", .queries = 512, .keys = 4096});
  add<C>(kernel, mla16_tiles(), {.group = "prefill", .queries = 512, .keys = 4096});
  add<C>(kernel, mfa_kr(), {.group = "prefill", .queries = 64, .keys = 4096});
}

/// What ctest runs.
template <class C>
void add_smoke(const heed::Kernel& kernel) {
  add<C>(kernel, gqa(), {.group = "smoke", .queries = 1, .keys = 512});
  add<C>(kernel, gqa(), {.group = "smoke", .queries = 4, .keys = 512});
  add<C>(kernel, mla16(), {.group = "smoke", .queries = 1, .keys = 512});
  add<C>(kernel, mla16_tiles(), {.group = "smoke", .queries = 20, .keys = 300});
  add<C>(kernel, mfa_kr(), {.group = "smoke", .queries = 2, .keys = 300});
}

}  // namespace bench
