/// \file
/// Mixer: the part of a model that a mechanism is free to choose. Everything else is the same for all of them.
#pragma once

#include <cstdint>
#include <span>

#include "model/memory.hpp"
#include "model/tensors.hpp"

namespace heed_examples {

/// The token mixing of all layers of one model, and all it remembers of the tokens: projections, cache, scratch.
///
/// A step is begin(), mix() once for each layer in order, commit(). Every member may throw heed::Error; the mixer then
/// still holds the committed tokens, and the next begin() starts afresh.
class Mixer : public SequenceMemory {
 public:
  /// Opens a step for new tokens with these ids. A step that was not committed is forgotten.
  virtual void begin(std::span<const std::int32_t> tokens) = 0;
  /// What the layer adds to the residual stream: out [tokens][hidden_size] from the normed x of the same shape.
  virtual void mix(heed::Index layer, const Matrix& x, Matrix& out) = 0;
  /// Ends the step and keeps the first `accepted` of its tokens, as if they alone had come.
  virtual void commit(heed::Index accepted) = 0;
  /// Back to the first `tokens` tokens.
  virtual void truncate(heed::Index tokens) = 0;
  /// Forgets all tokens and keeps the memory.
  virtual void clear() = 0;
};

}  // namespace heed_examples
