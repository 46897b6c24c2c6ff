/// \file
/// The scores by which H2O and SnapKV choose what a cache keeps, as a sink of probabilities.
#pragma once

#include <vector>

#include <heed/hooks.hpp>

namespace heed_examples {

using heed::Index;

/// scores()[kv_head][key]: the sum of the probabilities that the queries of all heads of a KV head gave the key.
///
/// Every row has memory of its own, because workers call at the same time. So scores do not depend on the workers.
class HeavyHitters {
 public:
  HeavyHitters(Index queries, Index heads, Index kv_heads, Index keys)
      : heads_(heads), kv_heads_(kv_heads), keys_(keys), weight_(std::size_t(queries * heads * keys)), max_(weight_) {}

  void chunk(const heed::ChunkProbabilities& chunk) {
    const std::size_t row = first_of(chunk.row);
    for (std::size_t i = 0; i < chunk.keys.size(); ++i) {
      weight_[row + std::size_t(chunk.keys[i])] = chunk.weights[i];
      max_[row + std::size_t(chunk.keys[i])] = chunk.max;
    }
  }
  void finish(const heed::FinishedRow& finished) {
    const std::size_t row = first_of(finished.row);
    for (std::size_t at = row; at < row + std::size_t(keys_); ++at) {
      if (weight_[at] != 0) weight_[at] *= finished.factor(max_[at]);
    }
  }

  [[nodiscard]] std::vector<float> scores() const {
    std::vector<float> sums(std::size_t(kv_heads_ * keys_), 0.0f);
    for (std::size_t at = 0; at < weight_.size(); ++at) {
      const Index row = Index(at) / keys_, kv_head = row % heads_ * kv_heads_ / heads_;
      sums[std::size_t(kv_head * keys_ + Index(at) % keys_)] += weight_[at];
    }
    return sums;
  }

 private:
  [[nodiscard]] std::size_t first_of(const heed::HookRow& row) const {
    return std::size_t((row.query * heads_ + row.head) * keys_);
  }

  Index heads_, kv_heads_, keys_;
  // Both [queries][heads][keys]. Weights become probabilities when their row is finished.
  std::vector<float> weight_;
  std::vector<float> max_;  // of the key's chunk
};

}  // namespace heed_examples
