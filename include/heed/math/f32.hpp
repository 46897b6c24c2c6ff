/// \file
/// The default math: floats everywhere, fused multiply-add.
#pragma once

#include <heed/floats.hpp>
#include <heed/simd/tile.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::math {

/// Queries, packed rows, weights and sums are floats. Its loops are those of the backend, and simd/scalar.hpp is their
/// definition:
///
///     score(row, key)  dims in blocks of 32, one accumulator each, d ascending from 0, fused multiply-add; the blocks
///                      added in order; then times `scale`
///     m                maximum of the chunk's visible logits
///     p                2^-8 exp(s - m); exactly 0 for hidden keys and below 2^-118
///     l                16 lanes, lane j adds slots j, j + 16, ...; then lanes are halved: (j, j + 8), (j, j + 4),
///                      (j, j + 2), (j, j + 1)
///     o[d]             one accumulator, keys ascending, fused multiply-add
///
/// Error against float64 attention on the stored rows, with eps32 = 2^-23:
///
///     |out - R| <= eps32 |R| + 4 eps32 (sum_k p_k |v_k|) (1 + max_k sum_j |q_j k_j| scale)
///
/// Factors of codecs, merges and more of the bound: docs/design.md.
struct F32 {
  /// What Math asks for.
  /// \{
  static constexpr const char* name = "f32";
  using Query = float;
  using Panel = float;
  using Weight = float;
  static constexpr Index query_numbers = 1;
  static constexpr Index panel_numbers = 1;
  [[nodiscard]] static constexpr Index weight_place(Index slot) noexcept { return slot; }
  /// \}

  /// The loops of the backend.
  template <class Backend>
  struct On : Backend {
    /// Copies rows without rounding.
    static void queries(const float* q, Index rows, Index width, float* out) noexcept {
      detail::copy(q, q + rows * width, out);
    }
    /// In place: weights take the place of the logits.
    static ChunkSum softmax(float* s, Index count, float*) { return Backend::softmax(s, count); }
  };
};

}  // namespace heed::inline HEED_ABI::math
