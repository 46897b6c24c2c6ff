/// \file
/// What the kernel hands to the inner loops.
#pragma once

#include <cstddef>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Keys per packed panel. 64 keys x 128 dims of f32 are 32 KiB, so a panel stays in L1.
inline constexpr Index panel_keys = 64;
/// Value dims per packed panel.
inline constexpr Index panel_dims = 64;
/// Dims of a score that share an accumulator. A longer sum has a larger rounding error: 3.3 times as large with one
/// accumulator over 128 dims (docs/design.md).
inline constexpr Index score_dims = 32;
/// Rows of partial outputs are padded to a multiple of this many floats, so that loops over them have no tail.
inline constexpr Index state_align = 16;
/// Levels of the deepest merge tree: 2^32 chunks.
inline constexpr int max_merges = 32;

/// A view of the encoded rows of `count` keys, each by a pointer: contiguous, paged, strided and gathered rows are read
/// by one loop. Nothing is owned.
struct KeyRows {
  const std::byte* const* row = nullptr;        ///< row[k]: where the row of key k starts
  const std::byte* const* ahead = nullptr;      ///< ahead[k]: row to prefetch while key k is read; may lie in no object
  Index count = 0;                              ///< number of keys
  Index offset = 0;                             ///< the number of each row at which the view begins
  const std::byte* const* factors = nullptr;    ///< factors[k]: the row's entry in the plane; null: there is no plane
  const std::byte* const* far_ahead = nullptr;  ///< far_ahead[k]: the same as ahead, into L2. Null lists: no prefetch

  /// `number` keys from number `first` on.
  [[nodiscard]] KeyRows from(Index first, Index number) const noexcept {
    const auto part = [first](const std::byte* const* list) { return list == nullptr ? nullptr : list + first; };
    return {.row = part(row),
            .ahead = part(ahead),
            .count = number,
            .offset = offset,
            .factors = part(factors),
            .far_ahead = part(far_ahead)};
  }
  /// The entry of key k's row in the plane of factors; null if there is no plane.
  [[nodiscard]] const std::byte* factors_of(Index k) const noexcept {
    return factors == nullptr ? nullptr : factors[k];
  }
};

/// Rows to prefetch into L2 while a packed tile computes: those that will be packed next. Each inner step prefetches
/// one cache line. Prefetching in bursts between tiles was slower. A loop's lines are consecutive in memory from
/// begin() on, so they hit the right rows only if rows lie together.
struct Ahead {
  const std::byte* const* row = nullptr;  ///< row[r]: where row r starts
  Index rows = 0;                         ///< number of rows; 0: prefetch nothing
  Index lines = 1;                        ///< cache lines per row
  Index offset = 0;                       ///< first byte of a row to prefetch

  /// Where the `steps` lines of inner loop number `loop` begin; null if no lines are left.
  [[nodiscard]] const std::byte* begin(Index loop, Index steps) const noexcept {
    const Index line = loop * steps, r = line / lines;
    return r < rows ? row[r] + offset + line % lines * 64 : nullptr;
  }
};

/// Softmax numbers of one row in a chunk. If no key was visible, max = -inf and sum = 0. If a visible logit was NaN,
/// both are NaN.
struct ChunkSum {
  float max = 0;  ///< largest logit
  float sum = 0;  ///< sum of 2^-8 exp(logit - max)
};

/// One step up the merge tree: x = fma(left_weight, left[d], right_weight * x) for every element d of a row.
struct Merge {
  const float* left = nullptr;  ///< output of the left state
  float left_weight = 0;        ///< factor of the left output
  float right_weight = 0;       ///< factor of x
};

/// Where one row's chunk output goes: x = normalise * accumulated sum, then merge[0], merge[1], ... in turn, then to
/// `out`. `out` must not alias any `merge[i].left`. Between calls it holds unfinished sums.
struct RowTarget {
  float* out = nullptr;     ///< [width] floats, padded to state_align
  float normalise = 0;      ///< 1 / sum of the chunk's weights
  int merges = 0;           ///< number of merges
  Merge merge[max_merges];  ///< the first `merges` of them
};

/// Which part of an accumulation a call does. An accumulation may be cut into several ranges of keys, one call each.
/// Between the calls the unfinished sums are in RowTarget::out.
struct Accumulate {
  bool resume = false;  ///< true: start from the sums in out; false: start from zero
  bool finish = true;   ///< true: normalise and merge; false: leave the sums in out
};

}  // namespace heed::inline HEED_ABI
