/// \file
/// What forgetting costs a decode step: bookkeeping, and attention over far and near keys against a dense cache.
#pragma once

#include "retention/common.hpp"

namespace bench {

/// One decode step in all layers, timed in parts.
template <class P>
class Decoder {
 public:
  static constexpr Index layers = 24;  // 75 MB at 800 keys: never in the processor's caches

  Decoder(const P& policy, const heed::AnyRule& rule, heed::Positions positions)
      : policy_(policy),
        cache_(heed::value_or_throw(
            heed::KvCache<P, heed::Bf16>::create(policy, {.layers = layers, .positions = positions}, rule))) {
    const heed::AttentionLayout layout = policy.layout();
    q_.resize(std::size_t(layout.num_heads * layout.key_width), 0.01f);
    out_.resize(q_.size());
    row_.resize(std::size_t(layout.num_kv_heads * layout.key_width));
    for (std::size_t i = 0; i < row_.size(); ++i) row_[i] = float(i % 17) * 0.1f - 0.8f;
  }

  struct Times {
    double attend = 0, write = 0, bookkeeping = 0;
  };
  Times step(std::int32_t id, bool attend) {
    Times times;
    double at = now();
    const auto lap = [&at](double& to) {
      const double t = now();
      to += t - at;
      at = t;
    };
    auto step = cache_.begin(std::span(&id, 1));
    heed::check(step.status());
    lap(times.bookkeeping);
    for (Index layer = 0; layer < layers; ++layer) {
      heed::check(step->write(layer, row_, row_));
      lap(times.write);
      if (attend) heed::check(heed::attend<Backend>(policy_, q_, step->keys(layer), out_, workspace_, executor_));
      lap(times.attend);
    }
    heed::check(step->commit());
    lap(times.bookkeeping);
    return times;
  }
  [[nodiscard]] Index kept() const { return cache_.kept(); }

 private:
  P policy_;
  heed::KvCache<P, heed::Bf16> cache_;
  heed::Workspace workspace_;
  heed::SerialExecutor executor_;
  std::vector<float> q_, out_, row_;
};

/// Median attention time of a step in a cache with a rule, over that in a dense cache that holds as many keys.
inline double against_dense(const heed::AnyRule& rule, const std::vector<std::int32_t>& ids, Index* keys) {
  Decoder<heed::Gqa> forgetful(llama(), rule, heed::Positions::absolute);
  for (const std::int32_t id : ids) forgetful.step(id, false);
  Decoder<heed::Gqa> dense(llama(), heed::Causal{}, heed::Positions::absolute);
  while (dense.kept() < forgetful.kept()) dense.step(0, false);
  *keys = forgetful.kept();
  std::vector<double> ratios;
  for (int i = 0; i < 41; ++i) {
    const double a = forgetful.step(0, true).attend * double(dense.kept() + 1) / double(forgetful.kept());
    const double b = dense.step(0, true).attend;
    if (i > 0) ratios.push_back(a / b);
  }
  return median(ratios);
}

inline void run_decode(const TextTokens& text) {
  std::printf("\ndecode, GQA 32/8 d128 bf16, %lld layers, one thread: attention per key, over that of a dense cache\n",
              static_cast<long long>(Decoder<heed::Gqa>::layers));
  std::vector<std::int32_t> segments, phrases;
  for (Index t = 0; t < 64 * 300 + 40; ++t) segments.push_back(t % 64 == 63 ? 1 : 0);
  for (Index t = 0; t < 2750; ++t) phrases.push_back(t % 5 == 4 ? 1 : 0);
  const auto row = [](const char* name, const heed::AnyRule& rule, const std::vector<std::int32_t>& ids) {
    Index keys = 0;
    const double ratio = against_dense(rule, ids, &keys);
    std::printf("%-36s %5lld keys kept of %6zu   ratio %.3f\n", name, static_cast<long long>(keys), ids.size(), ratio);
    std::fflush(stdout);
  };
  row("window 800", heed::SlidingWindow{800}, phrases);
  row("sinks 4 + window 796", heed::SinkWindow{4, 796}, phrases);
  row("anchors, segments of 64", heed::Anchors{.ids = {1}}, segments);
  row("separators every 5, window 256", heed::Separators{.initial = 3, .window = 256, .ids = {1}}, phrases);

  using Policy = heed::RotatedKeys<heed::Gqa>;
  const heed::Rope rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 128,
                                               .layout = heed::RopeLayout::half_split,
                                               .theta = 5e5,
                                               .read_positions = 1024}));  // more than the rule keeps
  const heed::SeparatorStream rule{
      .initial = 4, .separators = 64, .local = 256, .capacity = 800, .ids = text.separators()};
  std::printf("\nseparator stream 4, 64, 256, 800: parts of a decode step, microseconds a layer, and share\n");
  const auto parts = [&](const char* name, auto& decoder) {
    for (Index t = 0; t < 1000; ++t) decoder.step(text[t], false);
    double attend = 0, write = 0, bookkeeping = 0;
    constexpr Index steps = 2 * 477;  // whole periods of the sawtooth
    for (Index t = 0; t < steps; ++t) {
      const auto times = decoder.step(text[1000 + t], true);
      attend += times.attend, write += times.write, bookkeeping += times.bookkeeping;
    }
    const double all = attend + write + bookkeeping, us = 1e6 / double(steps * Decoder<heed::Gqa>::layers);
    std::printf("%-26s attend %7.2f, write %5.2f, eviction and bookkeeping %5.3f = %.2f %% of the step\n", name,
                attend * us, write * us, bookkeeping * us, 100 * bookkeeping / all);
    std::fflush(stdout);
  };
  Decoder<heed::Gqa> absolute(llama(), rule, heed::Positions::absolute);
  parts("absolute positions", absolute);
  Decoder<Policy> ranked({.policy = llama(), .rope = &rope}, rule, heed::Positions::rank);
  parts("in-cache rank positions", ranked);
}

}  // namespace bench
