/// \file
/// Checks that the keys of a sequence can be read with its mask. Masks made for other keys are refused here and only
/// here.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>
#include <heed/retention/full.hpp>
#include <heed/retention/mask_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// A source with a mask of its own, which lives as long as the source.
template <class S>
concept MaskedSource = requires(const S& source) {
  requires AttentionMask<std::remove_cvref_t<decltype(source.mask())>>;
  requires std::is_lvalue_reference_v<decltype(source.mask())>;
};

/// The mask of a stage that has none of its own.
inline constexpr Causal causal_stage;

/// The mask that a sequence is read with: its own, else its source's. No mask if there is neither.
template <class Sequence>
[[nodiscard]] MaskRef mask_of(const Sequence& sequence) {
  if (sequence.mask) return sequence.mask;
  using Source = std::remove_cvref_t<decltype(*sequence.keys)>;
  if constexpr (StagedSource<Source>) {
    if (sequence.keys->stages() > 0) return causal_stage;
  }
  if constexpr (MaskedSource<Source>) return sequence.keys->mask();
  return {};
}

/// The range from the smallest to the largest position of a sequence's queries.
template <class Sequence>
[[nodiscard]] Interval query_range(const Sequence& sequence, Index queries) {
  if (queries == 0) return {};
  if (sequence.query_positions.empty()) {
    const Index end = end_of(*sequence.keys);
    return {end - queries, end};
  }
  const auto [first, last] = std::minmax_element(sequence.query_positions.begin(), sequence.query_positions.end());
  return {*first, *last + 1};
}

/// invalid_argument unless both lists of a split mask lie within the keys and the near list has no gap.
template <KeyValueSource S>
[[nodiscard]] Status check_lists(const S& source, const MaskRef& mask) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  const Index keys = slots_of(source), first_key = mask.near_keys().first_key;
  if (first_key < 0 || first_key > keys) {
    return bad("mask has near keys from key ", first_key, " on, keys has ", keys);
  }
  if (mask.split() && first_key < keys) {
    const Index first = slot_position(source, first_key), last = slot_position(source, keys - 1);
    if (last - first != keys - 1 - first_key) {
      return bad("mask has near keys from key ", first_key, " on, ", keys - first_key,
                 " that follow each other, but keys ", "has there positions ", first, " .. ", last);
    }
    const Index lane = mask.near_keys().first_lane;
    if (lane < 0 || lane > most_tokens) return bad("mask has first_lane ", lane, ", must be in 0 .. ", most_tokens);
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

/// Not ok unless there is a mask (given, or the source's), it fits the keys, and the keys can answer the queries. The
/// mask is asked first, because its message says most; then the source's stages; then what the source still holds.
template <class Sequence>
[[nodiscard]] Status check_mask(const Sequence& sequence, Index queries) {
  using Source = std::remove_cvref_t<decltype(*sequence.keys)>;
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  const Source& keys = *sequence.keys;
  MaskedCall call{.queries = queries,
                  .positions = query_range(sequence, queries),
                  .query_positions = !sequence.query_positions.empty(),
                  .slots = slots_of(keys),
                  .end = end_of(keys),
                  .slots_end = slots_end_of(keys)};
  if constexpr (requires { keys.tokens()->forgets_by(); }) {
    call.tokens = keys.tokens();
    call.change = keys.change();
    call.asked_positions = keys.asked_positions();
    if (keys.tokens() != nullptr) {
      call.rule = keys.tokens()->forgets_by();
      call.rule_fingerprint = keys.tokens()->rule_fingerprint();
    }
  }
  const MaskRef mask = mask_of(sequence);
  if (!mask) return bad("no mask is given and keys have none: give Causal{}, or Unmasked{} to see later keys, too");
  bool in_stages = false;
  if constexpr (StagedSource<Source>) in_stages = keys.stages() > 0;
  if (sequence.mask || !in_stages) {
    if (Status status = mask.fits(call); !status.ok()) return status;
  }
  if constexpr (StagedSource<Source>) {
    const Index stages = keys.stages();
    if (stages > 0 && sequence.mask) return bad("mask is given, but keys have ", stages, " stages, which say it");
    if (stages > 0 && call.query_positions) {
      return bad("query_positions are given, but keys have ", stages, " stages, which say them");
    }
    const Index staged = stages > 0 ? keys.stage_queries(stages - 1).end : queries;
    if (staged != queries) return bad("q has ", queries, " queries, the stages of keys have ", staged);
  }
  if constexpr (AnsweringSource<Source>) {
    if (Status status = keys.answers(call.positions); !status.ok()) return status;
  }
  return check_lists(keys, mask);
}

}  // namespace heed::inline HEED_ABI::detail
