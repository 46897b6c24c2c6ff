/// \file
/// The options of attend().
#pragma once

#include <span>

#include <heed/prefetch_table.hpp>

namespace heed::inline HEED_ABI {

/// What happens to the logits after `scale`: first the soft-cap, then ALiBi, then the mask, then the sink logits join
/// the softmax denominator. Hooks (hooks.hpp) come before the soft-cap and before the mask. Nothing is owned: the spans must live until attend() returns. attend() checks all of them
/// (invalid_argument).
struct AttendOptions {
  /// s <- soft_cap * tanh(s / soft_cap). Finite and at least 0; 0 turns it off.
  float soft_cap = 0;
  /// s <- s - slope[h] * |query's position - key's position|; [num_heads] finite numbers, or empty. Under a mask
  /// that shows later keys (an encoder's), a later key loses as much as an earlier one at the same distance.
  std::span<const float> alibi_slopes = {};
  /// One extra logit per head in the denominator, without a value (gpt-oss); [num_heads], or empty. It is not part of
  /// lse. -inf means no sink: the result has the bits of a call without one. NaN and +inf are refused.
  std::span<const float> sink_logits = {};
  /// How far ahead rows are prefetched. Null: machine_prefetch(). It changes no bit.
  const PrefetchTable* prefetch = nullptr;
};

}  // namespace heed::inline HEED_ABI
