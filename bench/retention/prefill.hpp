/// \file
/// A prompt under masks that see little of it.
#pragma once

#include "retention/common.hpp"

namespace bench {

/// Seconds of attend() over a prompt of `tokens` ids in one call, by rule: medians of interleaved runs.
template <class Codec>
std::vector<double> prefill(const std::vector<heed::AnyRule>& rules, const std::vector<std::int32_t>& ids,
                            int repeats) {
  const heed::Gqa shape = llama();
  const auto tokens = Index(ids.size());
  const Index q_width = shape.num_heads * shape.head_dim, kv_width = shape.num_kv_heads * shape.head_dim;
  Gaussians numbers(12);
  const auto rows = [&](Index width) {
    std::vector<float> all;
    for (Index t = 0; t < tokens; ++t) {
      const auto row = numbers.next(width);
      all.insert(all.end(), row.begin(), row.end());
    }
    return all;
  };
  const std::vector<float> q = rows(q_width), k = rows(kv_width), v = rows(kv_width);
  std::vector<float> out(q.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  std::vector<std::vector<double>> seconds(rules.size());
  for (int repeat = 0; repeat <= repeats; ++repeat) {
    for (std::size_t r = 0; r < rules.size(); ++r) {
      auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, Codec>::create(shape, {}, rules[r]));
      auto step = heed::value_or_throw(cache.begin(ids));
      heed::check(step.write(0, k, v));
      const double start = now();
      heed::check(heed::attend<Backend>(shape, q, step.keys(0), out, workspace, executor));
      if (repeat > 0) {
        seconds[r].push_back(now() - start);
        continue;
      }
      const auto last = std::size_t((tokens - 1) * q_width);
      check_last_query<Codec>(shape, step.keys(0), std::span(q).subspan(last), std::span(out).subspan(last), nullptr);
    }
  }
  std::vector<double> medians;
  for (const auto& samples : seconds) medians.push_back(median(samples));
  return medians;
}

inline void run_prefill(Index tokens, int repeats) {
  std::vector<std::int32_t> segments, phrases;
  for (Index t = 0; t < tokens; ++t) {
    segments.push_back(t % 64 == 63 ? 1 : 0);
    phrases.push_back(t % 5 == 4 ? 1 : 0);
  }
  std::printf(
      "\nprefill of %lld tokens in one call, GQA 32/8 d128, one layer, one thread: seconds and speed over causal\n",
      static_cast<long long>(tokens));
  const auto table = [&]<class Codec>() {
    const auto anchors = prefill<Codec>({heed::Causal{}, heed::Anchors{.ids = {1}}}, segments, repeats);
    const auto separators = prefill<Codec>(
        {heed::Causal{}, heed::Separators{.initial = 3, .window = 256, .ids = {1}}, heed::SlidingWindow{256}}, phrases,
        repeats);
    std::printf(
        "%-5s causal %.3f, anchors (segments of 64) %.4f = %.1fx; causal %.3f, separators (window 256, every 5) "
        "%.4f = %.2fx, window 256 %.4f = %.1fx\n",
        Codec::name, anchors[0], anchors[1], anchors[0] / anchors[1], separators[0], separators[1],
        separators[0] / separators[1], separators[2], separators[0] / separators[2]);
    std::fflush(stdout);
  };
  table.template operator()<heed::F32>();
  table.template operator()<heed::Bf16>();
}

}  // namespace bench
