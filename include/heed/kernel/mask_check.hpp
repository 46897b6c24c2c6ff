/// \file
/// Checks that the keys of a sequence can be read with its mask. Masks made for other keys are refused here and only
/// here.
#pragma once

#include <algorithm>

#include <heed/checked.hpp>
#include <heed/kernel/sequence_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// The range from the smallest to the largest position of a sequence's queries.
[[nodiscard]] inline Interval query_range(const SequenceRef& sequence, Index queries) {
  if (queries == 0) return {};
  if (sequence.query_positions.empty()) {
    const Index end = sequence.end();
    return {end - queries, end};
  }
  const auto [first, last] = std::minmax_element(sequence.query_positions.begin(), sequence.query_positions.end());
  return {*first, *last + 1};
}

/// invalid_argument unless both lists of a split mask lie within the keys and the near list has no gap.
[[nodiscard]] inline Status check_lists(const SequenceRef& sequence, const MaskRef& mask) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  const Index keys = sequence.slots(), first_key = mask.near_keys().first_key;
  if (first_key < 0 || first_key > keys) {
    return bad("mask has near keys from key ", first_key, " on, keys has ", keys);
  }
  if (mask.split() && first_key < keys) {
    const Index first = sequence.slot_position(first_key), last = sequence.slot_position(keys - 1);
    if (last - first != keys - 1 - first_key) {
      return bad("mask has near keys from key ", first_key, " on, ", keys - first_key,
                 " that follow each other, but keys ", "has there positions ", first, " .. ", last);
    }
    const Index slot = mask.near_keys().first_slot;
    if (slot < 0 || slot > most_tokens) return bad("mask has first_slot ", slot, ", must be in 0 .. ", most_tokens);
  }
  const Index num_far = mask.far_keys();
  if (num_far < 0 || num_far > keys) return bad("mask has ", num_far, " far keys, keys has ", keys);
  for (const Index number : {Index{0}, num_far - 1}) {  // far keys ascend, so the ends decide
    if (num_far == 0) break;
    Index key = 0;
    mask.far_list({number, number + 1}, &key);
    if (key < 0 || key >= keys) return bad("mask has far key ", key, ", keys has ", keys);
  }
  return {};
}

/// What a mask is told about a sequence.
[[nodiscard]] inline MaskedCall masked_call(const SequenceRef& sequence, Index queries) {
  const SourceTable& source = *sequence.source;
  MaskedCall call{.queries = queries,
                  .positions = query_range(sequence, queries),
                  .query_positions = !sequence.query_positions.empty(),
                  .slots = sequence.slots(),
                  .end = sequence.end(),
                  .slots_end = source.slots_end(sequence.keys)};
  if (source.cache != nullptr) source.cache(sequence.keys, call);
  return call;
}

/// Not ok unless there is a mask (given, or the source's), it fits the keys, and the keys can answer the queries. The
/// mask is asked first, because its message says most. The source's stages follow, then what the source still holds.
[[nodiscard]] inline Status check_mask(const SequenceRef& sequence, Index queries) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  const SourceTable& source = *sequence.source;
  const MaskedCall call = masked_call(sequence, queries);
  const MaskRef mask = sequence.mask_or_own();
  if (!mask) return bad("no mask is given and keys have none: give Causal{}, or Unmasked{} to see later keys, too");
  const Index stages = sequence.stages();
  if (*sequence.mask || stages == 0) {
    if (Status status = mask.fits(call); !status.ok()) return status;
  }
  if (stages > 0) {
    if (*sequence.mask) return bad("mask is given, but keys have ", stages, " stages, which say it");
    if (call.query_positions) {
      return bad("query_positions are given, but keys have ", stages, " stages, which say them");
    }
    const Index staged = sequence.stage(stages - 1).queries.end;
    if (staged != queries) return bad("q has ", queries, " queries, the stages of keys have ", staged);
  }
  if (source.answers != nullptr) {
    if (Status status = source.answers(sequence.keys, call.positions); !status.ok()) return status;
  }
  return check_lists(sequence, mask);
}

}  // namespace heed::inline HEED_ABI::detail
