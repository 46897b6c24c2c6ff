/// \file
/// Sequences of a call with the type of their source erased.
#pragma once

#include <span>

#include <heed/kernel/source_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// What a call knows of one sequence. Nothing is owned.
struct SequenceRef {
  const SourceTable* source = nullptr;
  const void* keys = nullptr;  ///< null: the caller gave none
  const MaskRef* mask = nullptr;
  std::span<const float> q;
  std::span<float> out;
  std::span<float> lse;
  std::span<const Index> query_positions;
  Index num_queries = -1;  ///< -1: as many as q has

  // What the keys say; only if there are keys.

  [[nodiscard]] Index size() const { return source->size(keys); }
  [[nodiscard]] Index position(Index key) const { return source->position(keys, key); }
  /// The keys as the kernel counts them: slots_of().
  [[nodiscard]] Index slots() const { return source->slots(keys); }
  [[nodiscard]] Index slot_position(Index slot) const { return source->slot_position(keys, slot); }
  /// Position of the last key, plus 1; 0 without keys.
  [[nodiscard]] Index end() const { return source->end(keys); }
  /// Number of stages; 0 if all queries see one list of keys.
  [[nodiscard]] Index stages() const { return source->stages == nullptr ? 0 : source->stages(keys); }
  [[nodiscard]] StageRef stage(Index number) const { return source->stage(keys, number); }
  /// The mask that the sequence is read with: its own, else its source's. No mask if there is neither.
  [[nodiscard]] MaskRef mask_or_own() const {
    if (*mask) return *mask;
    if (stages() > 0) return causal_stage;
    return source->mask == nullptr ? MaskRef() : source->mask(keys);
  }
};

inline constexpr MaskRef no_mask;

/// The sequences of a call, in an array of the caller.
struct SequenceList {
  const void* first = nullptr;
  std::size_t count = 0;
  SequenceRef (*at)(const void* first, std::size_t number) = nullptr;

  template <class Sequence, KeyValueSource S>
  [[nodiscard]] static SequenceList to(std::span<const Sequence> sequences) noexcept {
    return {sequences.data(), sequences.size(), [](const void* all, std::size_t number) {
              const Sequence& one = static_cast<const Sequence*>(all)[number];
              return SequenceRef{&source_table<S>, one.keys, &one.mask, one.q, one.out, one.lse, one.query_positions};
            }};
  }
  /// Sequences of a plan (PlannedSequence): without q and outputs.
  template <class Sequence, KeyValueSource S>
  [[nodiscard]] static SequenceList of_plan(std::span<const Sequence> sequences) noexcept {
    return {sequences.data(), sequences.size(), [](const void* all, std::size_t number) {
              const Sequence& one = static_cast<const Sequence*>(all)[number];
              return SequenceRef{&source_table<S>,    one.keys,       &one.mask, {}, {}, {},
                                 one.query_positions, one.num_queries};
            }};
  }
  /// What a layer of a plan reads and writes (LayerIo). The plan knows masks and positions.
  template <class Sequence, KeyValueSource S>
  [[nodiscard]] static SequenceList of_layer(std::span<const Sequence> sequences) noexcept {
    return {sequences.data(), sequences.size(), [](const void* all, std::size_t number) {
              const Sequence& one = static_cast<const Sequence*>(all)[number];
              return SequenceRef{&source_table<S>, one.keys, &no_mask, one.q, one.out, one.lse, {}};
            }};
  }
  [[nodiscard]] std::size_t size() const noexcept { return count; }
  [[nodiscard]] SequenceRef operator[](std::size_t number) const { return at(first, number); }
};

}  // namespace heed::inline HEED_ABI::detail
