/// \file
/// Which chunks of keys a call of attend_partial() reads.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Chunks of 256 keys, by their numbers in the merge tree. What attend_partial() is given is a promise: it alone answers
/// for these chunks, and nobody else for any of them. Chunks that the keys do not have are skipped.
///
/// A source has near keys, and under a rule with landmarks also far keys. Far key n lies in chunk n / 256 of the far
/// ones. A near key with slot n lies in chunk n / 256 of the near ones. Its slot is its index in the source, or in a
/// cache its position. Without a SplitMask all keys are near. key_chunks() says which chunks a source has.
///
/// Any cut of the chunks among calls gives the same bits. A chunk cannot be cut: so a cut lies at a multiple of 256
/// slots.
struct KeyRange {
  /// An end behind every chunk. A position is less than 2^40.
  static constexpr Index all = Index{1} << 32;

  Interval far_chunks = {0, all};   ///< 0 <= begin <= end <= all
  Interval near_chunks = {0, all};  ///< the same of near keys
  Index first_far = 0;              ///< added to numbers of far chunks: a source may hold later far keys only
  Index first_near = 0;             ///< the same of near keys: 8 if the source's slot 0 is slot 2048 of the sequence

  /// All far keys, and the near chunks before chunk `end`.
  [[nodiscard]] static constexpr KeyRange before(Index end) noexcept { return {.near_chunks = {0, end}}; }
  /// The near chunks from chunk `begin` on. before(n) and from(n) are all keys.
  [[nodiscard]] static constexpr KeyRange from(Index begin) noexcept {
    return {.far_chunks = {0, 0}, .near_chunks = {begin, all}};
  }

  friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

}  // namespace heed::inline HEED_ABI
