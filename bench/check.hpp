/// \file
/// Is the answer right? A benchmark of wrong results measures nothing, so every one is checked in float64.
#pragma once

#include <benchmark/benchmark.h>

#include <span>
#include <vector>

#include <heed/types.hpp>

#include "oracle/attention.hpp"

namespace bench {

using heed::Index;

/// Reads the stored key and value of one key of one KV head as float64.
using ReadRow = heed::FunctionRef<void(Index kv_head, Index key, double* k, double* v)>;

inline constexpr double eps32 = 0x1p-23;

/// The error that an output may have, where R is the right one and s = max_k sum_j |q_j k_j| scale:
///
///     eps32 |R| + (weights + logits (1 + s)) sum_k p_k |v_k|
struct ErrorBound {
  double weights = 0;
  double logits = 4 * eps32;
};

/// The worst error of `got` over the permitted error: at most 1 is right. A NaN is infinite.
[[nodiscard]] double worst_error(std::span<const float> got, const oracle::Answer& want, const ErrorBound& bound);

/// The right answer for three (query, head) rows, spread over queries and heads, from the keys the cache holds.
/// The queries are those of the last keys.
class Expected {
 public:
  Expected() = default;
  Expected(const heed::AttentionLayout& layout, std::span<const float> q, Index num_keys, ReadRow read);

  /// worst_error() of these rows of `out` [queries][heads][value_width].
  [[nodiscard]] double worst(std::span<const float> out, const ErrorBound& bound) const;

 private:
  struct Row {
    Index at = 0;  ///< query * num_heads + head
    oracle::Answer answer;
  };
  std::vector<Row> rows_;
};

/// Keeps the largest of errors that are given as multiples of what is permitted; above 1, or NaN, skips the benchmark,
/// counts a failure and returns false.
bool check_answer(benchmark::State& state, double error, double& worst);

/// Makes every check see one slightly wrong number, to prove that checks fail when they should.
void corrupt_checks();
[[nodiscard]] bool corrupting();
/// Counts a wrong answer or another failure; the program's exit code depends on it.
void count_failure();
[[nodiscard]] int failures();

}  // namespace bench
