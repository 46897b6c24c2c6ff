/// \file
/// One benchmark: attention of the last `queries` tokens over a cold cache.
#pragma once

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include <heed/attend.hpp>

#include "attention_work.hpp"
#include "cold.hpp"
#include "layer_calls.hpp"
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

template <class P, class C>
void run_attention(benchmark::State& state, const heed::Kernel& kernel, const PolicyShape<P>& shape, const Task& task,
                   Index threads, bool& checked) {
  const bool cold = std::string(task.group) != "smoke";
  const std::string kept =
      std::string(shape.name) + "/" + C::name + "/" + std::to_string(task.keys) + (cold ? "" : "/warm");
  auto& fixture = keep_last<ColdCache<P, C>>(kept, shape.policy, task.keys,
                                             cold ? cold_layers<P, C>(shape.policy, task.keys) : Index{1});
  Problem& problem = fixture.problem(task.queries);
  const auto& cache = fixture.cache();
  heed::ThreadPool& executor = pool(threads);
  const std::size_t scratch =
      heed::value_or_throw(heed::workspace_bytes(kernel, shape.policy, task.queries, task.keys, threads));
  heed::check(problem.workspace.reserve(scratch));
  const std::size_t reserved = problem.workspace.size();
  const auto attend = [&](Index layer) {
    return heed::attend(kernel, shape.policy, problem.q, cache.keys(layer), problem.out, problem.workspace, executor);
  };
  const Index layer_bytes = cache.bytes().live_per_layer();
  const LayerCalls calls{
      .layers = cache.layers(),
      .threads = threads,
      .work = attention_work(kernel, shape.policy, task.queries, task.keys, layer_bytes, cache.layers(), threads),
      .limit_samples = cold ? 3 : 1,
      .out = problem.out,
      .checked = &checked};
  const ErrorBound bound = error_bound(kernel, shape.policy);
  if (!run_layers(state, calls, attend, [&] { return problem.expected.worst(problem.out, bound); })) return;
  if (problem.workspace.size() != reserved) {
    count_failure();
    return state.SkipWithError("the workspace grew: workspace_bytes() promised too little");
  }
  state.counters["kv_bytes_per_token"] = double(layer_bytes) / double(cache.bytes().kept);
}

/// Registers <group>/<shape>/<codec>/<backend>[+math][/q:Q]/keys:N/threads:T for every thread count of the task.
template <class C, class P>
void add(const heed::Kernel& kernel, const PolicyShape<P>& shape, const Task& task) {
  for (const Index threads : task.threads) {
    std::string name = std::string(task.group) + "/" + shape.name + "/" + C::name + "/" + loops_name(kernel);
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
