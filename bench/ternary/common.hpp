/// \file
/// What the parts of this program share: loops to check against, limits around timed work, and a clock.
#pragma once

#include <chrono>
#include <cstdio>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <heed/heed.hpp>

#include "limits_around.hpp"
#include "ternary_weights.hpp"

namespace bench {

using Backend = heed::DefaultBackend;

/// The same gates with ternary loops of plain vectors, which share no instruction with the others: the same bits.
struct PlainLoops : Backend {
  using Ternary = heed::TernaryLanes<4>;
};

/// Throws unless all numbers have the same bits, or if one is not finite.
inline void check_same(std::span<const float> got, std::span<const float> expected, const char* what) {
  std::vector<float> seen(got.begin(), got.end());
  if (corrupting()) seen.back() += 1e-3f;
  const bool same = seen.size() == expected.size() && std::memcmp(seen.data(), expected.data(), got.size_bytes()) == 0;
  if (same && std::ranges::all_of(seen, [](float x) { return std::isfinite(x); })) return;
  throw std::runtime_error(std::string("wrong answer: ") + what);
}

/// Median seconds of a call, their spread (half of the middle half over the median), and a limit around them.
struct Timing {
  double seconds = 0;
  double spread = 0;
  double limit = 0;
};

template <class Body>
Timing time_calls(int calls, Index threads, Limit limit, Body body) {
  body();
  LimitsAround limits(threads, 5, {limit});
  std::vector<double> times;
  for (int i = 0; i < calls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  limits.close();
  std::sort(times.begin(), times.end());
  const double middle = median(times);
  return {middle, (times[times.size() * 3 / 4] - times[times.size() / 4]) / 2 / middle, limits.of(limit)};
}

/// `count` rows of `width` Gaussian numbers.
[[nodiscard]] inline std::vector<float> random_rows(Index count, Index width, Gaussians& numbers) {
  std::vector<float> rows;
  for (Index i = 0; i < count; ++i) {
    const auto row = numbers.next(width);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

}  // namespace bench
