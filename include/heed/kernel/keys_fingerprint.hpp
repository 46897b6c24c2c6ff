/// \file
/// A number for the keys of a source that has no identity of its own.
#pragma once

#include <cstdint>

#include <heed/hash.hpp>
#include <heed/kernel/sequence_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// A hash of stages, positions and holes.
class KeysFingerprint {
 public:
  [[nodiscard]] static std::uint64_t of(const SequenceRef& sequence) {
    KeysFingerprint made;
    made.add_list(sequence.source->ref(sequence.keys), sequence.slots());
    const Index stages = sequence.stages();
    made.add(stages);
    for (Index number = 0; number < stages; ++number) {
      const StageRef stage = sequence.stage(number);
      made.add(stage.queries.begin);
      made.add(stage.queries.end);
      made.add_list(stage.source, stage.size);
    }
    return made.hash_;
  }

 private:
  void add(Index n) noexcept { hash_ = hash_next(hash_, std::uint64_t(n)); }
  void add_list(const SourceRef& source, Index keys) {
    add(keys);
    if (keys == 0) return;
    const Index first = source.position(0), last = source.position(keys - 1);
    add(first);
    add(last);
    for (Index key = 1; last - first != keys - 1 && key < keys - 1; ++key) add(source.position(key));
    if (!source.has_holes()) return;
    for (Interval hole = source.next_hole(0); hole.begin < keys; hole = source.next_hole(hole.end)) {
      add(hole.begin);
      add(hole.end);
    }
  }

  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace heed::inline HEED_ABI::detail
