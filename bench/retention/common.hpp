/// \file
/// What the parts of this program share: numbers, a clock, medians, and a check against float64.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <heed/compiled.hpp>
#include <heed/heed.hpp>

#include "gaussian.hpp"
#include "oracle/attention.hpp"
#include "oracle/bound.hpp"
#include "oracle/layer.hpp"
#include "oracle/random.hpp"
#include "retention/text.hpp"

namespace bench {

using heed::Index;
using Backend = heed::DefaultBackend;

[[nodiscard]] inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
[[nodiscard]] inline double median(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples.at(samples.size() / 2);
}

/// Llama-3 8B's attention, and a small one for long streams.
[[nodiscard]] inline heed::Gqa llama() {
  return {.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .scale = heed::default_scale(128)};
}
[[nodiscard]] inline heed::Gqa small() {
  return {.num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .scale = heed::default_scale(64)};
}

/// Throws unless the output of the step's last token is float64 attention over the list of keys that it sees.
template <class Codec, class P, class View>
void check_last_query(const P& policy, const View& view, std::span<const float> q, std::span<const float> out,
                      const heed::Rope* rope) {
  const heed::AttentionLayout layout = policy.layout();
  oracle::Problem p{.heads = layout.num_heads,
                    .kv_heads = layout.num_kv_heads,
                    .key_dim = layout.key_width,
                    .value_dim = layout.value_width,
                    .scale = double(layout.scale)};
  p.q = oracle::doubles(std::vector<float>(q.begin(), q.end()));
  p.visible = [](oracle::Int, oracle::Int) { return true; };
  std::vector<Index> positions;
  const auto add = [&](const auto& run_of, Index position) {
    positions.push_back(position);
    std::vector<float> row(std::size_t(layout.key_width));
    for (Index head = 0; head < layout.num_kv_heads; ++head) {
      Codec::decode(run_of(layout.key.stream, head).data, layout.key_width, row.data());
      p.k.insert(p.k.end(), row.begin(), row.end());
      Codec::decode(run_of(layout.value.stream, head).data, layout.value_width, row.data());
      p.v.insert(p.v.end(), row.begin(), row.end());
    }
  };
  if (const Index stage = view.stages() - 1; stage >= 0) {
    for (Index key = 0; key < view.stage_size(stage); ++key) {
      add([&](int stream, Index head) { return view.stage_row_run(stage, stream, head, key, 1); },
          view.stage_position(stage, key));
    }
  } else {
    const Index query = view.position(view.size() - 1);
    for (Index key = 0; key < view.size(); ++key) {
      if (!view.mask().visible(query, view.position(key))) continue;
      add([&](int stream, Index head) { return view.row_run(stream, head, key, 1); }, view.position(key));
    }
  }
  if (rope != nullptr) {
    oracle::Rotation rotation;
    rotation.frequencies.assign(rope->frequencies().begin(), rope->frequencies().end());
    p.k = rotation.rotated(p.k, layout.key_width, positions);
  }
  const double worst = oracle::worst_output(std::vector<float>(out.begin(), out.end()), oracle::attention(p));
  if (!(worst <= 1)) throw std::runtime_error("wrong answer: error is " + std::to_string(worst) + " of the bound");
}

}  // namespace bench
