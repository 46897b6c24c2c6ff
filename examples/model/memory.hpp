/// \file
/// What a model remembers of its text, and what that costs.
#pragma once

#include <chrono>

#include <heed/cache/bytes.hpp>

namespace heed_examples {

/// Rows in a KV cache, or a state of constant size.
class SequenceMemory {
 public:
  virtual ~SequenceMemory() = default;

  /// Memory and tokens at this moment, as measured by the cache.
  [[nodiscard]] virtual heed::CacheBytes bytes() const = 0;
  /// What the first layer has kept.
  [[nodiscard]] virtual heed::RetentionCounters retention() const = 0;
  /// What `kept` tokens cost in all layers by the mechanism's formula.
  [[nodiscard]] virtual heed::Index formula_bytes(heed::Index kept) const = 0;
  /// Time spent so far in writing the cache and attending to it, projections not included; 0 without attention.
  [[nodiscard]] virtual std::chrono::nanoseconds attention_time() const = 0;
};

}  // namespace heed_examples
