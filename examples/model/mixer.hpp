/// \file
/// Mixer: the part of a model that a mechanism is free to choose. Everything else is the same for all of them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <heed/cache/bytes.hpp>
#include <heed/cache/token_index.hpp>
#include <heed/exec/thread_pool.hpp>

#include "model/tensors.hpp"

namespace heed_examples {

/// The token mixing of all layers of one model, and all it remembers of the tokens: projections, cache, scratch.
///
/// A step is begin(), mix() once for each layer in order, commit(). Every member may throw heed::Error; the mixer then
/// still holds the committed tokens, and the next begin() starts afresh.
class Mixer {
 public:
  virtual ~Mixer() = default;

  /// Opens a step for new tokens with these ids. A step that was not committed is forgotten.
  virtual void begin(std::span<const std::int32_t> tokens) = 0;
  /// What the layer adds to the residual stream: out [tokens][hidden_size] from the normed x of the same shape.
  virtual void mix(heed::Index layer, const Matrix& x, Matrix& out) = 0;
  virtual void commit() = 0;
  /// Forgets all tokens and keeps the memory.
  virtual void clear() = 0;

  /// Memory and tokens at this moment, as measured by the cache.
  [[nodiscard]] virtual heed::CacheBytes bytes() const = 0;
  /// What the first layer has kept.
  [[nodiscard]] virtual heed::RetentionCounters retention() const = 0;
  /// What one token costs in all layers by the mechanism's formula.
  [[nodiscard]] virtual heed::Index formula_bytes_per_token() const = 0;
  /// Time spent so far in writing the cache and attending to it, projections not included.
  [[nodiscard]] virtual std::chrono::nanoseconds attention_time() const = 0;
};

/// How to run a mixer, whatever its mechanism.
struct MixerOptions {
  heed::ThreadPool* executor = nullptr;    ///< not owned; must outlive the mixer
  std::string codec = "bf16";              ///< of the cache: f32, bf16 or f16
  heed::Index capacity = 1024;             ///< tokens to make room for at once
  std::optional<heed::AnyRule> rule = {};  ///< which tokens stay; nothing: as the model was trained
  heed::Positions positions = heed::Positions::absolute;
  heed::MemoryResource memory = heed::default_memory();
};

}  // namespace heed_examples
