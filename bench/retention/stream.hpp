/// \file
/// Millions of tokens through a cache of constant size.
#pragma once

#include "retention/common.hpp"

namespace bench {

struct StreamResult {
  double early_us = 0, late_us = 0;  ///< median over blocks of the mean time of a token, around 10,000 and at the end
  Index early_bytes = 0, late_bytes = 0, peak_bytes = 0;
  double mean_kept = 0;
};

/// Streams `tokens` tokens of `text` with in-cache rank positions: write, attend, commit, one token at a time.
inline StreamResult stream(const heed::AnyRule& rule, const TextTokens& text, Index tokens) {
  using Policy = heed::RotatedKeys<heed::Gqa>;
  constexpr Index block = 1000, blocks = 20, early_end = 20000;
  const heed::Gqa shape = small();
  const heed::Rope rope = heed::value_or_throw(
      heed::Rope::create({.head_dim = shape.head_dim, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  const Policy policy{.policy = shape, .rope = &rope};
  auto cache = heed::value_or_throw(
      heed::KvCache<Policy, heed::Bf16>::create(policy, {.positions = heed::Positions::rank}, rule));
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const Index q_width = shape.num_heads * shape.head_dim, kv_width = shape.num_kv_heads * shape.head_dim;
  Gaussians numbers(11);
  std::vector<float> q(std::size_t(q_width), 0.0f), out(q.size());
  std::vector<double> early, late;
  StreamResult result;
  double start = now();
  for (Index t = 0; t < tokens; ++t) {
    const std::int32_t id = text[t];
    auto step = cache.begin(std::span(&id, 1));
    heed::check(step.status());
    const auto fresh = numbers.next(q_width);
    std::copy(fresh.begin(), fresh.end(), q.begin());
    heed::check(rope.apply_rows(step->positions(0), shape.num_heads, q));
    heed::check(step->write(0, numbers.next(kv_width), numbers.next(kv_width)));
    heed::check(heed::attend<Backend>(policy, q, step->keys(0), out, workspace, executor));
    if (t == early_end - 1 || t == tokens - 1) check_last_query<heed::Bf16>(policy, step->keys(0), q, out, &rope);
    heed::check(step->commit());
    if (t + 1 == early_end / 2) result.early_bytes = cache.bytes().allocated + Index(workspace.size());
    if ((t + 1) % block != 0) continue;
    const double end = now(), us = (end - start) / double(block) * 1e6;
    if (t < early_end && t >= early_end - blocks * block) early.push_back(us);
    if (t >= tokens - blocks * block) late.push_back(us);
    start = now();
  }
  result.early_us = median(early);
  result.late_us = median(late);
  result.late_bytes = cache.bytes().allocated + Index(workspace.size());
  result.peak_bytes = cache.bytes().peak;
  result.mean_kept = cache.retention().mean_kept();
  return result;
}

inline void run_streams(const TextTokens& text, Index tokens) {
  std::printf(
      "\n%lld tokens, one at a time, in-cache rank positions, GQA 8/2 d64 bf16, one layer; %zu tokens of text, a "
      "separator every %.1f\n",
      static_cast<long long>(tokens), text.size(), text.distance());
  std::printf("%-34s %12s %12s %7s | %12s %12s %10s\n", "rule", "us at 10k", "us at end", "ratio", "bytes at 10k",
              "bytes at end", "mean kept");
  const auto row = [&](const char* name, const heed::AnyRule& rule) {
    const StreamResult r = stream(rule, text, tokens);
    std::printf("%-34s %12.2f %12.2f %7.3f | %12lld %12lld %10.1f\n", name, r.early_us, r.late_us,
                r.late_us / r.early_us, static_cast<long long>(r.early_bytes), static_cast<long long>(r.late_bytes),
                r.mean_kept);
    std::fflush(stdout);
  };
  row("separator stream 4, 64, 256, 800",
      heed::SeparatorStream{.initial = 4, .separators = 64, .local = 256, .capacity = 800, .ids = text.separators()});
  row("sinks 4 + window 796", heed::SinkWindow{.initial = 4, .window = 796, .form = heed::SinkForm::evict_after_step});
}

}  // namespace bench
