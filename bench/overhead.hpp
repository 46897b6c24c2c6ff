/// \file
/// What a call costs beside reading keys: a small model's layers in turn, over few keys that lie in L2 or L3.
#pragma once

#include <string>

#include <heed/exec/serial.hpp>

#include "attention.hpp"

namespace bench {

/// 9 query heads and 3 KV heads of 64 in 30 layers (SmolLM2 135M).
inline PolicyShape<heed::Gqa> small_gqa() {
  return {"gqa_9_3_64", {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .scale = heed::default_scale(64)}};
}
inline constexpr Index small_layers = 30;

/// How a step is computed: by a call per layer that asks everything anew, or by a plan that is made once a step.
enum class Way { attend, plan };

template <class P, class C>
void run_overhead(benchmark::State& state, const heed::Kernel& kernel, const PolicyShape<P>& shape, Index keys, Way way,
                  bool& checked) {
  const heed::AttentionLayout layout = shape.policy.layout();
  Index row_bytes = 0;
  for (int s = 0; s < layout.num_streams; ++s) {
    const heed::StreamShape& stream = layout.streams[std::size_t(s)];
    row_bytes += stream.num_heads * C::row_bytes(stream.width);
  }
  const std::string kept = std::string("overhead/") + shape.name + "/" + C::name + "/" + std::to_string(keys);
  auto& fixture = keep_last<ColdCache<P, C>>(kept, shape.policy, keys, (small_layers - 1) * keys * row_bytes);
  Problem& problem = fixture.problem(1);
  const auto& cache = fixture.cache();
  heed::SerialExecutor executor;
  heed::Plan plan;
  const auto attend = [&](Index layer, bool begins_step) -> heed::Status {
    const auto rows = cache.keys(layer);
    if (way == Way::attend) {
      return heed::attend(kernel, shape.policy, problem.q, rows, problem.out, problem.workspace, executor);
    }
    if (begins_step) {
      if (heed::Status status = plan.make(shape.policy, rows, 1, 1); !status.ok()) return status;
    }
    return heed::attend(kernel, plan, shape.policy, problem.q, rows, problem.out, problem.workspace, executor);
  };

  double worst = 0;
  if (!checked) {
    heed::check(attend(0, true));
    if (!check_answer(state, problem.expected.worst(problem.out), worst)) return;
    checked = true;
  }
  std::fill(problem.out.begin(), problem.out.end(), std::nanf(""));
  Index layer =
      Index(state.max_iterations) % cache.layers();  // the last iteration reads layer 0, whose answer is known
  bool begins_step = true;
  for (auto _ : state) {
    layer = layer == 0 ? cache.layers() - 1 : layer - 1;
    if (const heed::Status status = attend(layer, begins_step); !status.ok()) {
      count_failure();
      state.SkipWithError(status.message().c_str());
      return;
    }
    begins_step = layer == 0;
  }
  if (!check_answer(state, problem.expected.worst(problem.out), worst)) return;
  state.counters["kv_bytes_per_token"] = double(row_bytes);
  state.counters["err_bound"] = worst;
}

/// Registers overhead/<shape>/<codec>/<backend>/keys:N/<attend or plan>.
template <class C>
void add_all_overhead(const heed::Kernel& kernel) {
  for (const Index keys : {1, 16, 128, 512}) {
    for (const Way way : {Way::attend, Way::plan}) {
      const auto shape = small_gqa();
      const std::string name = std::string("overhead/") + shape.name + "/" + C::name + "/" + kernel.backend +
                               "/keys:" + std::to_string(keys) + (way == Way::plan ? "/plan" : "/attend");
      benchmark::RegisterBenchmark(name.c_str(), [=, &kernel, checked = false](benchmark::State& state) mutable {
        run_overhead<heed::Gqa, C>(state, kernel, shape, keys, way, checked);
      });
    }
  }
}

}  // namespace bench
