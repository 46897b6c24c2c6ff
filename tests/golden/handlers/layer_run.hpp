/// \file
/// What the handlers of whole layers share: tensors as the library takes them, and outputs call by call.
#pragma once

#include <deque>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <heed/exec/serial.hpp>
#include <heed/layer/projection.hpp>

#include "golden/case.hpp"
#include "golden/handlers/cached_run.hpp"
#include "golden/handlers/checks.hpp"
#include "golden/handlers/product.hpp"

namespace heed_golden {

/// float32 copies of tensors, kept while this object lives.
class FloatTensors {
 public:
  /// [numbers / cols, cols]; nothing of nothing.
  heed::Tensor operator()(const std::vector<double>& numbers, Int cols) {
    if (numbers.empty()) return {};
    kept_.push_back(floats(numbers));
    return {kept_.back(), Int(numbers.size()) / cols, cols};
  }
  /// A vector.
  heed::Tensor operator()(const std::vector<double>& numbers) { return (*this)(numbers, Int(numbers.size())); }

 private:
  std::deque<std::vector<float>> kept_;
};

/// The layer's output of the heads' outputs `o` of all tokens, in calls of these sizes.
template <class Backend, class Layer>
std::vector<float> output_in_calls(const Layer& layer, const std::vector<float>& o, const std::vector<Int>& calls) {
  const Int tokens = std::accumulate(calls.begin(), calls.end(), Int{0}), width = Int(o.size()) / tokens;
  std::vector<float> y;
  heed::SerialExecutor executor;
  Int at = 0;
  for (const Int count : calls) {
    std::vector<float> part(std::size_t(count * layer.hidden_size()));
    heed::check(layer.template output<Backend>(slice(o, at, count, width), part, executor));
    y.insert(y.end(), part.begin(), part.end());
    at += count;
  }
  return y;
}

/// `run(calls)` as the case calls it, and the layer's output; and that other calls give the same bits.
template <class Backend, class Layer, class RunCalls>
std::pair<Run, std::vector<float>> run_all_calls(Case& one, Int tokens, const Layer& layer, const RunCalls& run,
                                                 const std::string& form, Report& report) {
  const std::vector<Int> calls = call_sizes(one, tokens);
  Run main = run(calls);
  std::vector<float> out = output_in_calls<Backend>(layer, main.o, calls);
  for (const auto& [name, sizes] : other_call_sizes(tokens)) {
    const Run other = run(sizes);
    check_same(name + form, other, main, report);
    report.require(name + form + " gives the same output",
                   same_bits(output_in_calls<Backend>(layer, other.o, sizes), out));
  }
  return {std::move(main), std::move(out)};
}

}  // namespace heed_golden
