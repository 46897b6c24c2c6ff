/// \file
/// T5's relative position bias as a hook.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <heed/hooks.hpp>

namespace heed_examples {

using heed::Index;

/// logit += table[bucket(key position - query position)][head], before the soft-cap. T5 itself has scale 1.
class T5Bias {
 public:
  /// `table` [num_buckets][num_heads]: relative_attention_bias. An encoder is bidirectional, a decoder is not.
  T5Bias(std::span<const float> table, Index num_heads, bool bidirectional, Index num_buckets = 32,
         Index max_distance = 128)
      : farthest_(max_distance), bias_(std::size_t(num_heads * (2 * max_distance + 1))) {
    for (Index relative = -max_distance; relative <= max_distance; ++relative) {
      const Index bucket = bucket_of(relative, bidirectional, num_buckets, max_distance);
      for (Index head = 0; head < num_heads; ++head) {
        bias_[std::size_t(at(head, relative))] = table[std::size_t(bucket * num_heads + head)];
      }
    }
  }

  void logits(const heed::LogitChunk& chunk) const {
    for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
      chunk.logits[i] += bias_[std::size_t(at(chunk.row.head, chunk.positions[i] - chunk.row.position))];
    }
  }

 private:
  static Index bucket_of(Index relative, bool bidirectional, Index buckets, Index max_distance) {
    Index first = 0, distance = bidirectional ? std::abs(relative) : std::max<Index>(-relative, 0);
    if (bidirectional) {
      buckets /= 2;
      if (relative > 0) first = buckets;
    }
    const Index exact = buckets / 2;
    if (distance < exact) return first + distance;
    const double ratio = std::log(double(distance) / double(exact)) / std::log(double(max_distance) / double(exact));
    return first + std::min(buckets - 1, exact + Index(ratio * double(buckets - exact)));
  }
  // Beyond the farthest distance all biases are the same.
  [[nodiscard]] Index at(Index head, Index relative) const {
    return head * (2 * farthest_ + 1) + std::clamp(relative, -farthest_, farthest_) + farthest_;
  }

  Index farthest_;
  std::vector<float> bias_;  // [num_heads][2 * farthest_ + 1]
};

}  // namespace heed_examples
