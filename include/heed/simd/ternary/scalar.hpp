/// \file
/// The integer loops of ternary products in plain code: read this to know what the others compute. All of them give the
/// same integers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <heed/ternary/layout.hpp>

namespace heed::inline HEED_ABI {

/// Rows of a group of weights, and of a panel made from it.
inline constexpr Index ternary_rows = 32;

/// Ternary loops without SIMD: what the others compute.
struct TernaryScalar {
  static constexpr const char* name = "scalar";
  /// Tokens of the largest tile; a tile has 4, 8, ... or so many.
  static constexpr Index tile_tokens = 4;

  /// acc[r] = sum over columns of q times stored code (weight + 1) for the 32 rows of a group, whose `blocks` blocks are at
  /// w. q has blocks * block_cols numbers.
  template <TernaryLayout L>
  static void rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* acc) {
    std::fill_n(acc, ternary_rows, 0);
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes, q += L::block_cols) {
      for (Index r = 0; r < ternary_rows; ++r) {
        for (int j = 0; j < 4; ++j) {
          const auto byte = std::uint8_t(w[4 * r + j]);
          for (int p = 0; p < L::planes; ++p) acc[r] += L::code(byte, p) * q[4 * p + j];
        }
      }
    }
  }

  /// The codes of a group, one byte each: columns 4 c .. 4 c + 3 of row r go to panel[128 c + 4 r].
  template <TernaryLayout L>
  static void unpack(const std::byte* w, Index blocks, std::uint8_t* panel) {
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes) {
      for (int p = 0; p < L::planes; ++p, panel += L::block_bytes) {
        for (int i = 0; i < L::block_bytes; ++i) panel[i] = std::uint8_t(L::code(std::uint8_t(w[i]), p));
      }
    }
  }

  /// acc[t][r] = (resume ? acc[t][r] : 0) + sum over columns of q times code, for the 32 rows of a panel and `tokens`
  /// tokens: 4, 8, ... or tile_tokens. q is [quads][tokens][4], a quad being 4 columns.
  static void tile(const std::uint8_t* panel, Index quads, const std::int8_t* q, Index tokens, bool resume,
                   std::int32_t* acc) {
    if (!resume) std::fill_n(acc, tokens * ternary_rows, 0);
    for (Index c = 0; c < quads; ++c, panel += 4 * ternary_rows, q += 4 * tokens) {
      for (Index t = 0; t < tokens; ++t) {
        for (Index r = 0; r < ternary_rows; ++r) {
          for (int j = 0; j < 4; ++j) acc[t * ternary_rows + r] += panel[4 * r + j] * q[4 * t + j];
        }
      }
    }
  }
};

}  // namespace heed::inline HEED_ABI
