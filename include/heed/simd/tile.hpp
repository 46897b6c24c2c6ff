/// \file
/// What the kernel hands to the inner loops.
#pragma once

#include <cstddef>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Keys per packed panel: 64 keys x 128 dims of f32 are 32 KiB and stay in L1.
inline constexpr Index panel_keys = 64;
/// Value dims per packed panel.
inline constexpr Index panel_dims = 64;
/// Dims of a score that share an accumulator. A longer sum loses more to rounding: one accumulator over 128 dims errs
/// 3.3 times as much (docs/design.md).
inline constexpr Index score_dims = 32;
/// Floats every row of partial outputs is padded to, so that loops over it have no tail.
inline constexpr Index state_align = 16;
/// Deepest merge tree: 2^32 chunks.
inline constexpr int max_merges = 32;

/// A matrix of [in][out] floats, `stride` apart from one input to the next. Nothing is owned.
struct Matrix {
  const float* data = nullptr;
  Index in = 0;
  Index out = 0;
  Index stride = out;
};

/// A backend's product: y[r][o] = sum_i x[r][i] m[i][o] for `rows` rows, which are x_stride and y_stride floats apart.
/// x and y do not overlap.
using Linear = void (*)(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride);

/// Encoded rows of consecutive keys, by pointer, so that contiguous, paged, strided and gathered rows are one thing.
struct KeyRows {
  const std::byte* const* row = nullptr;    ///< row[k]: where key k's view starts
  const std::byte* const* ahead = nullptr;  ///< ahead[k]: what to prefetch while key k is read
  Index count = 0;
};

/// Rows to bring into L2 while a packed tile computes, one cache line per inner step: what the next tiles will pack.
/// Bursts between tiles were measured to lose; lines are taken as if rows followed each other in memory.
struct Ahead {
  const std::byte* const* row = nullptr;
  Index rows = 0;
  Index lines = 1;  ///< cache lines per row

  /// Where the `steps` lines of inner loop number `loop` begin; null when all lines are taken.
  [[nodiscard]] const std::byte* begin(Index loop, Index steps) const noexcept {
    const Index line = loop * steps, r = line / lines;
    return r < rows ? row[r] + line % lines * 64 : nullptr;
  }
};

/// Maximum of one row's logits in a chunk, and the sum of its 2^-8-scaled exponentials.
/// max = -inf and sum = 0 when nothing was visible; both NaN when a visible logit was.
struct ChunkSum {
  float max = 0;
  float sum = 0;
};

/// One step up the merge tree: x = fma(left_weight, left, right_weight * x).
struct Merge {
  const float* left = nullptr;
  float left_weight = 0;
  float right_weight = 0;
};

/// Where one row's chunk output goes: x = normalise * accumulated, then every merge in turn, then to `out`.
/// `out` is no merge's `left`: it also parks sums between calls.
struct RowTarget {
  float* out = nullptr;
  float normalise = 0;
  int merges = 0;
  Merge merge[max_merges];
};

/// Which part of an accumulation a call is: a tile cut into several key ranges parks its sums in `out` between calls.
struct Accumulate {
  bool resume = false;  ///< start from the sums parked in out, else from zero
  bool finish = true;   ///< normalise and merge, else park
};

}  // namespace heed::inline HEED_ABI
