/// \file
/// One layer's life in a cache: tokens arrive in calls of given sizes, each call writes, attends and commits.
#pragma once

#include <cstring>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
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
  /// Decoded rows [tokens][stream heads][stream width] of both streams, as the cache gave them back. Without `values`
  /// if there is one stream.
  std::vector<float> keys, values;
  bool rows_constant = true;  ///< every later look at a row gave what the first gave
  bool rows_complete = true;  ///< every token was seen in the cache at least once
};

/// What some tokens bring: [tokens][heads][width] each. `values` is empty if they are part of the keys' rows.
struct TokenRows {
  std::vector<float> q, keys, values;
};

/// The rows of tokens [first, first + count).
using Project = std::function<TokenRows(Int first, Int count)>;

/// `count` rows of `width` numbers from row `first` on.
template <class T>
std::vector<T> slice(const std::vector<T>& all, Int first, Int count, Int width) {
  const auto from = all.begin() + first * width;
  return {from, from + count * width};
}

/// Rows of all tokens, [tokens][heads][width] each.
struct RunInput {
  const std::vector<float>& q;
  const std::vector<float>& keys;
  const std::vector<float>& values;
  Int tokens = 0;
  std::vector<Int> calls;  ///< tokens per call

  [[nodiscard]] Project project() const {
    return [this](Int first, Int count) {
      const auto part = [&](const std::vector<float>& all) {
        return slice(all, first, count, Int(all.size()) / tokens);
      };
      return TokenRows{part(q), part(keys), part(values)};
    };
  }
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
      Codec::decode(view.row_run(stream, h, i, 1).data, shape.width, row.data());
      float* to = rows.data() + (token * shape.num_heads + h) * shape.width;
      const std::size_t bytes = row.size() * sizeof(float);
      if (seen[std::size_t(token)]) constant = constant && std::memcmp(to, row.data(), bytes) == 0;
      std::memcpy(to, row.data(), bytes);
    }
    seen[std::size_t(token)] = true;
  }
  return constant;
}

/// Numbers that attend() gives per query head.
template <heed::AttentionPolicy P>
Int output_width(const P& policy) {
  using Map = std::remove_cvref_t<decltype(policy.output_map())>;
  if constexpr (std::is_same_v<Map, heed::Identity>) {
    return policy.layout().value_width;
  } else {
    return policy.output_map().out_width();
  }
}

}  // namespace detail

/// Runs `policy` under the retention rule `rule`; tokens arrive in calls of these sizes, as `project` makes them.
/// `attend(q, keys, out, lse, workspace, executor)` is the call that is tested.
template <class Codec, heed::AttentionPolicy P, class Attend>
Run run_cached(const P& policy, const heed::AnyRule& rule, const std::vector<Int>& calls, const Project& project,
               const Attend& attend) {
  constexpr bool one_stream = P::key_stream == P::value_stream;
  auto cache = heed::value_or_throw(heed::KvCache<P, Codec>::create(policy, {.layers = 1}, rule));
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::AttentionLayout layout = policy.layout();
  const auto k_shape = layout.streams[P::key_stream], v_shape = layout.streams[P::value_stream];
  const Int tokens = std::accumulate(calls.begin(), calls.end(), Int{0});
  const Int o_row = layout.num_heads * detail::output_width(policy);

  Run run;
  run.o.resize(std::size_t(tokens * o_row));
  run.lse.resize(std::size_t(tokens * layout.num_heads));
  run.keys.resize(std::size_t(tokens * k_shape.num_heads * k_shape.width));
  if (!one_stream) run.values.resize(std::size_t(tokens * v_shape.num_heads * v_shape.width));
  std::vector<bool> k_seen(std::size_t(tokens), false), v_seen(std::size_t(tokens), one_stream);
  const auto part = [](std::vector<float>& all, Int from, Int count, Int width) {
    return std::span(all).subspan(std::size_t(from * width), std::size_t(count * width));
  };
  Int at = 0;
  for (const Int count : calls) {
    const TokenRows rows = project(at, count);
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(count)));
    heed::check(step.write(0, P::key_stream, rows.keys));
    if (!one_stream) heed::check(step.write(0, P::value_stream, rows.values));
    const auto view = step.keys(0);
    heed::check(attend(std::span<const float>(rows.q), view, part(run.o, at, count, o_row),
                       part(run.lse, at, count, layout.num_heads), workspace, executor));
    const auto read_back = [&](int stream, auto shape, auto& to, auto& seen) {
      run.rows_constant = detail::read_back<Codec>(view, stream, shape, to, seen) && run.rows_constant;
    };
    read_back(P::key_stream, k_shape, run.keys, k_seen);
    if (!one_stream) read_back(P::value_stream, v_shape, run.values, v_seen);
    heed::check(step.commit());
    at += count;
  }
  for (const auto* seen : {&k_seen, &v_seen}) {
    for (const bool one : *seen) run.rows_complete = run.rows_complete && one;
  }
  return run;
}

/// The same through heed::attend().
template <class Backend, class Codec, heed::AttentionPolicy P>
Run run_cached(const P& policy, const heed::AnyRule& rule, const RunInput& in, const heed::AttendOptions& options) {
  return run_cached<Codec>(policy, rule, in.calls, in.project(),
                           [&](auto q, const auto& keys, auto out, auto lse, auto& workspace, auto& executor) {
                             return heed::attend<Backend>(policy, q, keys, out, workspace, executor, options, lse);
                           });
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

/// The sizes a case must give the same bits in, besides its own.
inline std::vector<std::pair<std::string, std::vector<Int>>> other_call_sizes(Int tokens) {
  return {{"all tokens in one call", {tokens}}, {"one token per call", std::vector<Int>(std::size_t(tokens), 1)}};
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace heed_golden
