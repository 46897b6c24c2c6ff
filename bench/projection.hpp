/// \file
/// One benchmark: a Projection of one or a few rows, with weights that are never in the processor's caches.
#pragma once

#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include <heed/layer/projection.hpp>

#include "bandwidth.hpp"
#include "cold.hpp"
#include "layer_calls.hpp"

namespace bench {

struct ProjectionTask {
  Index out = 0, in = 0;
  Index rows = 1;
  heed::WeightType type = heed::WeightType::f32;
  bool smoke = false;
  std::vector<Index> threads = thread_counts();
};

/// Weights that are read in turn: eight times a 32 MiB L3.
inline constexpr Index cold_projection_bytes = Index{256} << 20;

/// Projections of one shape, with inputs and where the outputs go.
class ProjectionLayers {
 public:
  ProjectionLayers(Index out, Index in, Index rows, heed::WeightType type, Index bytes) {
    Gaussians numbers(6);
    std::vector<float> w;
    for (Index o = 0; o < out; ++o) {
      for (const float number : numbers.next(in)) w.push_back(number / std::sqrt(float(in)));
    }
    for (Index r = 0; r < rows; ++r) {
      const auto row = numbers.next(in);
      x.insert(x.end(), row.begin(), row.end());
    }
    y.resize(std::size_t(rows * out));
    for (Index held = 0; held <= bytes; held += layers.back().bytes()) {
      layers.push_back(heed::value_or_throw(heed::Projection::create("w", {w, out, in}, out, in, type)));
    }
    // Float64 sums of a few outputs, and the errors that Projection permits.
    const double eps = std::ldexp(1.0, -24), rounding = type == heed::WeightType::bf16 ? std::ldexp(1.0, -8) : 0;
    for (Index at = 0; at < rows * out; at += std::max<Index>(1, rows * out / 50)) {
      Sample sample{.at = at};
      for (Index i = 0; i < in; ++i) {
        const double term = double(x[std::size_t(at / out * in + i)]) * double(w[std::size_t(at % out * in + i)]);
        sample.sum += term;
        sample.permitted += std::fabs(term) * ((32 + double((in + 31) / 32)) * eps + rounding);
      }
      samples_.push_back(sample);
    }
  }

  /// The worst error over the permitted error: at most 1 is right.
  [[nodiscard]] double worst() const {
    double worst = 0;
    for (const Sample& sample : samples_) {
      const double got = double(y[std::size_t(sample.at)]) + (corrupting() ? 2 * sample.permitted : 0);
      const double error = std::fabs(got - sample.sum) / sample.permitted;
      if (!(error <= worst)) worst = error;
    }
    return worst;
  }

  std::vector<heed::Projection> layers;
  std::vector<float> x, y;

 private:
  struct Sample {
    Index at = 0;
    double sum = 0, permitted = 0;
  };
  std::vector<Sample> samples_;
};

[[nodiscard]] inline const char* name_of(heed::WeightType type) {
  return type == heed::WeightType::f32 ? "f32" : "bf16";
}

template <class Backend>
void run_projection(benchmark::State& state, const ProjectionTask& task, Index threads, bool& checked) {
  std::string kept = std::string("projection/") + name_of(task.type);
  for (const Index part : {task.out, task.in, task.rows, Index(task.smoke)}) kept += "/" + std::to_string(part);
  auto& fixture = keep_last<ProjectionLayers>(kept, task.out, task.in, task.rows, task.type,
                                              task.smoke ? Index{0} : cold_projection_bytes);
  heed::ThreadPool& executor = pool(threads);
  const auto call = [&](Index layer) -> heed::Status {
    const heed::Projection& projection = fixture.layers[std::size_t(layer)];
    projection.template apply<Backend>(task.rows, fixture.x.data(), fixture.y.data(), executor);
    return {};
  };
  const auto layers = Index(fixture.layers.size());
  const Index bytes = fixture.layers[0].bytes();
  const LayerCalls calls{.layers = layers,
                         .threads = threads,
                         .work = {.source = source_of(bytes * layers, threads),
                                  .bytes = double(bytes),
                                  .operations = {{Limit::fma_f32, 2 * double(task.out * task.in) * double(task.rows)}}},
                         .limit_samples = task.smoke ? 1 : 3,
                         .out = fixture.y,
                         .checked = &checked};
  run_layers(state, calls, call, [&] { return fixture.worst(); });
}

/// Registers projection/<f32 or bf16>/<backend>/<out>x<in>/rows:N/threads:T for every thread count of the task.
template <class Backend>
void add_projection(const ProjectionTask& task) {
  for (const Index threads : task.threads) {
    const std::string name = std::string(task.smoke ? "smoke/" : "") + "projection/" + name_of(task.type) + "/" +
                             Backend::name + "/" + std::to_string(task.out) + "x" + std::to_string(task.in) +
                             "/rows:" + std::to_string(task.rows) + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(), [=, checked = false](benchmark::State& state) mutable {
      run_projection<Backend>(state, task, threads, checked);
    });
  }
}

/// A step of one row and of a few, in both types of weights; a square matrix, and those of Llama-3 8B's MLP.
template <class Backend>
bool add_projections() {
  for (const heed::WeightType type : {heed::WeightType::f32, heed::WeightType::bf16}) {
    for (const Index rows : {1, 4, 64}) add_projection<Backend>({.out = 4096, .in = 4096, .rows = rows, .type = type});
    add_projection<Backend>({.out = 14336, .in = 4096, .type = type});
    add_projection<Backend>({.out = 4096, .in = 14336, .type = type});
    add_projection<Backend>({.out = 200, .in = 300, .rows = 3, .type = type, .smoke = true});
  }
  return true;
}

}  // namespace bench
