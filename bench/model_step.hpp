/// \file
/// The attention of a whole model's step: all layers in turn, by a call per layer or by a plan that every layer runs.
#pragma once

#include <string>

#include <heed/exec/serial.hpp>
#include <heed/plan/plan.hpp>

#include "attention_work.hpp"
#include "cold.hpp"
#include "layer_calls.hpp"
#include "shapes.hpp"

namespace bench {

template <class P>
struct ModelShape {
  PolicyShape<P> attention;
  Index layers = 0;
};

/// SmolLM2 135M: 9 query heads and 3 KV heads of 64.
inline ModelShape<heed::Gqa> smollm2() {
  return {{"smollm2_135m", {.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .scale = heed::default_scale(64)}}, 30};
}
/// Llama-3 8B.
inline ModelShape<heed::Gqa> llama3() { return {{"llama3_8b", gqa().policy}, 32}; }

/// How a step is computed: by calls that ask everything anew, or by a plan that is made once a step.
enum class Way { attend, plan };

/// Times a layer's call in a decode step on one thread. The plan's making is part of the first layer's call.
template <class P, class C>
void run_model_step(benchmark::State& state, const heed::Kernel& kernel, const ModelShape<P>& model, Index keys,
                    Way way, bool& checked) {
  const P& policy = model.attention.policy;
  const std::string kept = std::string("step/") + model.attention.name + "/" + C::name + "/" + std::to_string(keys) +
                           "/" + std::to_string(model.layers);
  auto& fixture = keep_last<ColdCache<P, C>>(kept, policy, keys, model.layers);
  Problem& problem = fixture.problem(1);
  const auto& cache = fixture.cache();
  heed::SerialExecutor executor;
  heed::Plan plan;
  const auto attend = [&](Index layer) -> heed::Status {
    const auto rows = cache.keys(layer);
    if (way == Way::attend) {
      return heed::attend(kernel, policy, problem.q, rows, problem.out, problem.workspace, executor);
    }
    if (layer == model.layers - 1 || plan.num_sequences() == 0) {  // a step begins, with the last layer
      if (heed::Status status = plan.make(policy, rows, 1, 1); !status.ok()) return status;
    }
    return heed::attend(kernel, plan, policy, problem.q, rows, problem.out, problem.workspace, executor);
  };
  const Index layer_bytes = cache.bytes().live_per_layer();
  const LayerCalls calls{.layers = model.layers,
                         .work = attention_work(kernel, policy, 1, keys, layer_bytes, model.layers, 1),
                         .out = problem.out,
                         .checked = &checked};
  const ErrorBound bound = error_bound(kernel, policy);
  if (!run_layers(state, calls, attend, [&] { return problem.expected.worst(problem.out, bound); })) return;
  state.counters["kv_bytes_per_token"] = double(layer_bytes) / double(keys);
}

/// Registers <group>/<model>/<codec>/<backend>[+math]/<attend or plan>/keys:N/threads:1.
template <class C, class P>
void add_model_step(const heed::Kernel& kernel, const ModelShape<P>& model, Index keys,
                    const std::string& group = "step") {
  for (const Way way : {Way::attend, Way::plan}) {
    const std::string name = group + "/" + model.attention.name + "/" + C::name + "/" + loops_name(kernel) +
                             (way == Way::plan ? "/plan" : "/attend") + "/keys:" + std::to_string(keys) + "/threads:1";
    benchmark::RegisterBenchmark(name.c_str(), [=, &kernel, checked = false](benchmark::State& state) mutable {
      run_model_step<P, C>(state, kernel, model, keys, way, checked);
    });
  }
}

/// Short contexts: 1 key shows what a call costs without reading.
template <class C>
void add_all_model_steps(const heed::Kernel& kernel) {
  for (const Index keys : {1, 16, 128, 512, 2048}) add_model_step<C>(kernel, smollm2(), keys);
  for (const Index keys : {16, 128, 512, 2048}) add_model_step<C>(kernel, llama3(), keys);
}

/// What ctest runs: two layers, which make a step and take turns.
template <class C>
void add_smoke_steps(const heed::Kernel& kernel) {
  add_model_step<C>(kernel, ModelShape<heed::Gqa>{smollm2().attention, 2}, 48, "smoke/step");
}

}  // namespace bench
