/// \file
/// One layer's life in a cache: tokens arrive in calls of given sizes, each call writes, attends and commits.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>

#include "golden/case.hpp"

namespace heed_golden {

/// What a run gave, for all tokens.
struct Run {
  std::vector<float> o;    ///< [tokens][heads][v width]
  std::vector<float> lse;  ///< [tokens][heads]
  /// Decoded rows [tokens][stream heads][stream width] of both streams, as the cache gave them back.
  std::vector<float> keys, values;
  bool rows_constant = true;  ///< every later look at a row gave what the first gave
  bool rows_complete = true;  ///< every token was seen in the cache at least once
};

/// Rows of all tokens, [tokens][heads][width] each.
struct RunInput {
  const std::vector<float>& q;
  const std::vector<float>& keys;
  const std::vector<float>& values;
  Int tokens = 0;
  std::vector<Int> calls;  ///< tokens per call
};

namespace detail {

/// Reads back one stream of a view into `rows`; `seen` marks tokens already there.
template <class Codec, class View>
bool read_back(const View& view, int stream, heed::StreamShape shape, std::vector<float>& rows,
               std::vector<bool>& seen) {
  bool constant = true;
  std::vector<float> row(std::size_t(shape.width));
  for (Int i = 0; i < view.size(); ++i) {
    const Int token = view.position(i);
    for (Int h = 0; h < shape.num_heads; ++h) {
      Codec::decode(view.tile(stream, h, i, 1).data, shape.width, row.data());
      float* to = rows.data() + (token * shape.num_heads + h) * shape.width;
      const std::size_t bytes = row.size() * sizeof(float);
      if (seen[std::size_t(token)]) constant = constant && std::memcmp(to, row.data(), bytes) == 0;
      std::memcpy(to, row.data(), bytes);
    }
    seen[std::size_t(token)] = true;
  }
  return constant;
}

}  // namespace detail

/// Runs `policy` (with a key and a value stream) under the retention rule `rule`.
template <class Backend, class Codec, heed::AttentionPolicy P, heed::Retention R>
Run run_cached(const P& policy, const R& rule, const RunInput& in, const heed::AttendOptions& options) {
  using Cache = heed::KvCache<P, Codec, Codec, R>;
  auto cache = heed::value_or_throw(Cache::create(policy, {.layers = 1}, rule));
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::AttentionLayout layout = policy.layout();
  const auto k_shape = layout.streams[P::key_stream], v_shape = layout.streams[P::value_stream];
  const Int k_row = k_shape.num_heads * k_shape.width, v_row = v_shape.num_heads * v_shape.width;
  const Int q_row = layout.num_heads * layout.key_width, o_row = layout.num_heads * layout.value_width;

  Run run;
  run.o.resize(std::size_t(in.tokens * o_row));
  run.lse.resize(std::size_t(in.tokens * layout.num_heads));
  run.keys.resize(in.keys.size());
  run.values.resize(in.values.size());
  std::vector<bool> k_seen(std::size_t(in.tokens), false), v_seen = k_seen;
  const auto part = [](auto& all, Int from, Int count, Int width) {
    return std::span(all).subspan(std::size_t(from * width), std::size_t(count * width));
  };
  Int at = 0;
  for (const Int count : in.calls) {
    auto step = heed::value_or_throw(cache.begin(count));
    heed::check(step.write(0, P::key_stream, part(in.keys, at, count, k_row)));
    heed::check(step.write(0, P::value_stream, part(in.values, at, count, v_row)));
    const auto view = step.keys(0);
    heed::check(heed::attend<Backend>(policy, part(in.q, at, count, q_row), view, part(run.o, at, count, o_row),
                                      workspace, executor, options, part(run.lse, at, count, layout.num_heads)));
    run.rows_constant = detail::read_back<Codec>(view, P::key_stream, k_shape, run.keys, k_seen) && run.rows_constant;
    run.rows_constant =
        detail::read_back<Codec>(view, P::value_stream, v_shape, run.values, v_seen) && run.rows_constant;
    heed::check(step.commit());
    at += count;
  }
  for (const auto* seen : {&k_seen, &v_seen}) {
    for (const bool one : *seen) run.rows_complete = run.rows_complete && one;
  }
  return run;
}

/// The call sizes of a case: its chunk_lens, or everything at once.
inline std::vector<Int> call_sizes(Case& one, Int tokens) {
  if (!one.has("chunk_lens")) return {tokens};
  std::vector<Int> calls = one.get<Int>("chunk_lens", {-1});
  Int sum = 0;
  for (const Int count : calls) {
    if (count < 1) throw Unusable("chunk_lens has a " + std::to_string(count));
    sum += count;
  }
  if (sum != tokens) {
    throw Unusable("chunk_lens add up to " + std::to_string(sum) + ", there are " + std::to_string(tokens) + " tokens");
  }
  return calls;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace heed_golden
