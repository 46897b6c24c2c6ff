/// \file
/// A sink that keeps the probability of every key for every row.
#pragma once

#include <atomic>

#include "hooks/hooked.hpp"

namespace heed_test {

/// Probabilities of one sequence, as a caller gets them: weights first, and what makes them probabilities at the end.
class Recorder {
 public:
  Recorder(Index queries, Index heads, Index keys)
      : heads_(heads),
        keys_(keys),
        probability_(std::size_t(queries * heads * keys), 0.0f),
        chunk_max_(probability_.size(), 0.0f),
        rows_(std::size_t(queries * heads)) {}

  void chunk(const heed::ChunkProbabilities& chunk) {
    const std::size_t row = row_of(chunk.row);
    EXPECT_EQ(rows_[row].finished, 0) << "a chunk after the end of its row";
    ++rows_[row].chunks;
    EXPECT_EQ(chunk.keys.size(), chunk.weights.size());
    EXPECT_EQ(chunk.positions.size(), chunk.weights.size());
    for (std::size_t i = 0; i < chunk.weights.size(); ++i) {
      const std::size_t at = row * std::size_t(keys_) + std::size_t(chunk.keys[i]);
      EXPECT_EQ(probability_[at], 0) << "a key comes twice";
      probability_[at] = chunk.weights[i];
      chunk_max_[at] = chunk.max;
    }
  }
  void finish(const heed::FinishedRow& finished) {
    const std::size_t row = row_of(finished.row);
    ++rows_[row].finished;
    rows_[row].end = finished;
    for (std::size_t at = row * std::size_t(keys_); at < (row + 1) * std::size_t(keys_); ++at) {
      if (probability_[at] != 0) probability_[at] *= finished.factor(chunk_max_[at]);
    }
  }

  /// As hooks that are chosen at run time.
  [[nodiscard]] AnyHooks hooks() {
    return {.of_chunk = [this](const heed::ChunkProbabilities& one) { chunk(one); },
            .of_row = [this](const heed::FinishedRow& row) { finish(row); }};
  }

  struct Row {
    std::atomic<int> chunks = 0, finished = 0;
    heed::FinishedRow end;
  };
  [[nodiscard]] const std::vector<float>& probabilities() const { return probability_; }
  [[nodiscard]] std::span<const float> row(std::size_t row) const {
    return std::span(probability_).subspan(row * std::size_t(keys_), std::size_t(keys_));
  }
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }

 private:
  [[nodiscard]] std::size_t row_of(const heed::HookRow& row) const {
    return std::size_t(row.query * heads_ + row.head);
  }

  Index heads_, keys_;
  std::vector<float> probability_, chunk_max_;  // [queries][heads][keys]
  std::vector<Row> rows_;
};

/// Probabilities in float64, [queries][heads][keys]: outputs of values that are unit vectors. `lse` and `logit_size` as in
/// any answer.
[[nodiscard]] inline oracle::Answer probabilities_of(const Subject& subject, const Problem& p) {
  oracle::Problem o{.heads = p.shape.heads,
                    .kv_heads = p.shape.kv_heads,
                    .key_dim = p.shape.key_dim,
                    .value_dim = p.keys,
                    .scale = p.shape.scale,
                    .q = oracle::doubles(p.q),
                    .k = oracle::doubles(p.k),
                    .visible = p.mask.visible(),
                    .soft_cap = p.soft_cap,
                    .slopes = oracle::doubles(p.slopes),
                    .sinks = oracle::doubles(p.sinks),
                    .query_positions = p.query_positions};
  for (double& x : o.k) x = rounded(x, subject.key_codec());
  o.v.assign(std::size_t(p.keys * p.shape.kv_heads * p.keys), 0.0);
  for (Index key = 0; key < p.keys; ++key) {
    for (Index g = 0; g < p.shape.kv_heads; ++g) o.v[std::size_t((key * p.shape.kv_heads + g) * p.keys + key)] = 1;
  }
  return oracle::attention(o);
}

/// What a recorder got are these probabilities, and every row has ended once.
inline void expect_oracles(const Recorder& got, const oracle::Answer& want, const Problem& p) {
  ASSERT_EQ(got.probabilities().size(), want.o.size());
  EXPECT_LE(oracle::worst_output(got.probabilities(), want), 1) << p;
  for (std::size_t row = 0; row < got.rows().size(); ++row) {
    const heed::FinishedRow& end = got.rows()[row].end;
    double sum = 0, wanted = 0;
    for (const float probability : got.row(row)) sum += double(probability);
    for (Index key = 0; key < p.keys; ++key) wanted += want.o[row * std::size_t(p.keys) + std::size_t(key)];
    const double permitted = 8 * oracle::eps32 * (1 + want.logit_size[row]);
    EXPECT_LE(oracle::ratio(sum, wanted, permitted), 1) << p;
    const bool empty = want.lse[row] == -oracle::infinity;
    EXPECT_LE(oracle::ratio(sum, p.sinks.empty() && !empty ? 1 : wanted, permitted), 1) << p;
    EXPECT_EQ(got.rows()[row].finished, 1);
    if (empty) {
      EXPECT_EQ(got.rows()[row].chunks, 0);
      EXPECT_EQ(end.max, -infinity);
      EXPECT_EQ(end.sum, 0);
      EXPECT_EQ(end.share, 1);
      EXPECT_EQ(end.factor(0), 0);
    } else {
      EXPECT_LE(oracle::ratio(double(end.share), wanted, permitted), 1) << p;
      EXPECT_LE(oracle::lse_ratio(double(end.max) + std::log(double(end.sum)), want.lse[row], want.logit_size[row]), 1);
    }
  }
}

}  // namespace heed_test
