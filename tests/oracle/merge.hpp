/// \file
/// Softmax states of disjoint key sets, merged in float64.
///
///     lse = ln sum_p e^(lse_p)        o = sum_p e^(lse_p - lse) o_p        nothing visible: lse = -inf, o = 0
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "oracle/attention.hpp"

namespace oracle {

/// One row's normalised output over some keys, and the natural log-sum-exp of its logits there.
struct State {
  double lse = -infinity;
  std::vector<double> o;
};

inline State merge(const std::vector<State>& parts) {
  State all{-infinity, std::vector<double>(parts.empty() ? 0 : parts[0].o.size(), 0.0)};
  double max = -infinity, sum = 0;
  for (const State& part : parts) max = std::max(max, part.lse);
  if (max == -infinity) return all;
  for (const State& part : parts) sum += std::exp(part.lse - max);
  all.lse = max + std::log(sum);
  for (const State& part : parts) {
    if (part.lse == -infinity) continue;
    for (std::size_t d = 0; d < all.o.size(); ++d) all.o[d] += std::exp(part.lse - max) / sum * part.o[d];
  }
  return all;
}

}  // namespace oracle
