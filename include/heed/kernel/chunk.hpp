/// \file
/// What the kernel reads at a time.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// Where chunks of near keys begin in the merge tree. A multiple of every span of chunks, so that far and near chunks
/// share no node below the root.
inline constexpr Index far_away = Index{1} << 40;

/// At most 256 keys of a job's far list or of its near list. Slot k holds key first + k of that list.
struct Chunk {
  bool is_far = false;  ///< of the far list, else of the near list
  Index number = 0;     ///< number of the chunk in its list
  Index ordinal = 0;    ///< number among all chunks of the job, far ones first
  Index first = 0;      ///< key of slot 0. Far: number in the far list. Near: index in the source, negative if evicted
  Interval slots;       ///< slots that hold a key

  /// Index in the merge tree.
  [[nodiscard]] Index tree() const noexcept { return is_far ? number : far_away + number; }
};

}  // namespace heed::inline HEED_ABI::detail
