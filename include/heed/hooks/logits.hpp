/// \file
/// Hooks on logits: a caller's own bias or score function.
#pragma once

#include <span>

#include <heed/hooks/row.hpp>

namespace heed::inline HEED_ABI {

/// Logits of one row over some keys of one chunk: at most 256 of them, from the first key that the row sees to the last.
/// The three spans have the same size. They are valid during the call.
struct LogitChunk {
  HookRow row;  ///< which query and head
  /// Indices of the keys in the source (of the row's stage, if the source has stages), ascending. Slots, if it has slots.
  std::span<const Index> keys;
  std::span<const Index> positions;  ///< places of the keys in their text
  /// Logits, which the hook may change. A key that the mask hides has -inf. What is written there is ignored: the key
  /// stays hidden.
  std::span<float> logits;
};

/// Has `logits(LogitChunk)`: called with scale * (q . k), before the soft-cap and ALiBi.
template <class H>
concept LogitHook = requires(H& hooks, const LogitChunk& chunk) { hooks.logits(chunk); };

/// Has `capped_logits(LogitChunk)`: called after the soft-cap and ALiBi.
template <class H>
concept CappedLogitHook = requires(H& hooks, const LogitChunk& chunk) { hooks.capped_logits(chunk); };

}  // namespace heed::inline HEED_ABI
