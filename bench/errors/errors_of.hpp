/// \file
/// The errors of one codec and math.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>

#include "attention_work.hpp"
#include "errors/data.hpp"
#include "math_facts.hpp"
#include "oracle/attention.hpp"
#include "oracle/bound.hpp"

namespace bench {

/// Errors are relative: root of the mean square, over that of the right outputs.
struct Errors {
  double whole = 0;       ///< against attention over the numbers that were given
  double arithmetic = 0;  ///< against attention over the numbers that are stored
  double bound = 0;       ///< the worst of `arithmetic`, over what the math permits
};

[[nodiscard]] inline double relative_error(std::span<const float> got, const std::vector<double>& want) {
  double errors = 0, squares = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    errors += (double(got[i]) - want[i]) * (double(got[i]) - want[i]);
    squares += want[i] * want[i];
  }
  return std::sqrt(errors / squares);
}

/// The worst error over the permitted one.
[[nodiscard]] inline double worst_error(std::span<const float> got, const oracle::Answer& want,
                                        const ErrorBound& bound) {
  const std::size_t width = want.o.size() / want.lse.size();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double relative = bound.weights + bound.logits * (1 + want.logit_size[i / width]);
    const double permitted = eps32 * std::abs(want.o[i]) + relative * want.abs_values[i];
    worst = std::max(worst, oracle::ratio(double(got[i]), want.o[i], permitted));
  }
  return worst;
}

/// Attention of data of one head, whose rows are stored in codec `C`. `corrupt` spoils an output.
template <class C>
[[nodiscard]] Errors errors_of(const heed::Kernel& kernel, const Data& data, Index dim, bool corrupt) {
  const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = dim, .scale = data.scale};
  const Index keys = Index(data.k.size()) / dim;
  auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, C>::create(policy, {.layers = 1, .capacity = keys}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(keys)));
  heed::check(step.write(0, 0, data.k));
  heed::check(step.write(0, 1, data.v));
  heed::check(step.commit());

  const auto doubles = [](std::span<const float> x) { return std::vector<double>(x.begin(), x.end()); };
  oracle::Problem given{.key_dim = dim, .value_dim = dim, .scale = double(data.scale), .q = doubles(data.q)};
  given.visible = [](oracle::Int, oracle::Int) { return true; };
  oracle::Problem stored = given;
  given.k = doubles(data.k);
  given.v = doubles(data.v);
  std::vector<float> row(static_cast<std::size_t>(dim));
  for (Index key = 0; key < keys; ++key) {
    for (int stream = 0; stream < 2; ++stream) {
      C::decode(cache.keys(0).row_run(stream, 0, key, 1).data, dim, row.data());
      auto& to = stream == 0 ? stored.k : stored.v;
      to.insert(to.end(), row.begin(), row.end());
    }
  }

  std::vector<float> out(data.q.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  // Queries of the last position see every key.
  const std::vector<Index> positions(data.q.size() / std::size_t(dim), keys - 1);
  const auto view = cache.keys(0);
  const heed::Sequence<std::remove_const_t<decltype(view)>> sequence{
      .keys = &view, .q = data.q, .out = out, .query_positions = positions};
  heed::check(heed::attend_batch(kernel, policy, std::span(&sequence, 1), workspace, executor));
  if (corrupt) out.back() += 1;

  ErrorBound bound = error_bound(kernel, policy);
  if (bound.weights > 0 && !std::is_same_v<C, heed::Bf16>) {  // the math rounds keys and values of this codec
    bound.logits += find_math_facts(kernel.math)->prepared;
    bound.weights += find_math_facts(kernel.math)->prepared;
  }
  const oracle::Answer right = oracle::attention(given), right_of_stored = oracle::attention(stored);
  return {relative_error(out, right.o), relative_error(out, right_of_stored.o),
          worst_error(out, right_of_stored, bound)};
}

}  // namespace bench
