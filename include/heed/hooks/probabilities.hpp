/// \file
/// Hooks that are given the attention probabilities, which leave the kernel in no other way.
#pragma once

#include <span>

#include <heed/hooks/row.hpp>
#include <heed/simd/scalar.hpp>

namespace heed::inline HEED_ABI {

/// Softmax weights of one row over some keys of one chunk: at most 256 of them, from the first key that the row sees to
/// the last. The three spans have the same size. They are valid during the call.
///
/// These are not yet probabilities, because the row's other chunks are not known. FinishedRow::factor() makes them so.
struct ChunkProbabilities {
  HookRow row;  ///< which query and head
  /// Indices of the keys in the source (of the row's stage, if the source has stages), ascending. Slots, if it has slots.
  /// No two chunks of a row name the same key.
  std::span<const Index> keys;
  std::span<const Index> positions;  ///< places of the keys in their text
  /// exp(logit - max), as the kernel's math rounds it. Exactly 0 for a key that the mask hides, and where logit - max <
  /// -81.79. If a visible logit is NaN, all are NaN.
  std::span<const float> weights;
  float max = 0;  ///< largest logit of the chunk
  float sum = 0;  ///< sum of the weights
};

/// A row after all its chunks.
struct FinishedRow {
  HookRow row;      ///< which query and head
  float max = 0;    ///< largest logit of all chunks; -inf if no key was visible
  float sum = 0;    ///< sum of exp(logit - max) over all keys; 0 if no key was visible
  float share = 1;  ///< what the keys have of the probability: 1 without a sink logit, else the sink has the rest

  /// The probability of a key is its weight times factor(max of its chunk). 0 if no key was visible.
  [[nodiscard]] float factor(float chunk_max) const noexcept {
    return sum == 0 ? 0.0f : Scalar::exp(chunk_max - max) * share / sum;
  }
};

/// Has `chunk(ChunkProbabilities)` and `finish(FinishedRow)`. A chunk in which a row sees no key, or only logits of -inf,
/// is left out. finish() is called once for every row of the call, after the last chunk() of that row has returned. Of
/// attention in parts (partial.hpp), attend_partial() calls chunk() and attend_finish() calls finish().
template <class H>
concept ChunkSink = requires(H& hooks, const ChunkProbabilities& chunk, const FinishedRow& row) {
  hooks.chunk(chunk);
  hooks.finish(row);
};

}  // namespace heed::inline HEED_ABI
