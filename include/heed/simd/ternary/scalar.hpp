/// \file
/// The integer loops of ternary products in plain code. Read this to know what the other loops compute: all give the
/// same integers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <heed/simd/ternary/layout.hpp>

namespace heed::inline HEED_ABI {

/// Rows of a group of weights, and of the panel made from it.
inline constexpr Index ternary_rows = 32;

/// TernaryLoops without SIMD.
struct TernaryScalar {
  static constexpr const char* name = "scalar";  ///< for reports
  /// Tokens of the largest tile. A tile has a multiple of 4 tokens, up to this.
  static constexpr Index tile_tokens = 4;

  /// One token: acc[r] = sum over columns c of q[c] * code(r, c) for the 32 rows of a group. A code is weight + 1. The
  /// group's `blocks` blocks begin at w. q [blocks * block_cols], acc [32].
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

  /// Unpacks the codes of a group to one byte each: columns 4 c .. 4 c + 3 of row r go to panel[128 c + 4 r] and the
  /// three bytes after it. panel [blocks * block_cols * 32].
  template <TernaryLayout L>
  static void unpack(const std::byte* w, Index blocks, std::uint8_t* panel) {
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes) {
      for (int p = 0; p < L::planes; ++p, panel += L::block_bytes) {
        for (int i = 0; i < L::block_bytes; ++i) panel[i] = std::uint8_t(L::code(std::uint8_t(w[i]), p));
      }
    }
  }

  /// acc[t][r] = (resume ? acc[t][r] : 0) + sum over columns c of q[t][c] * code(r, c), for the 32 rows of a panel and
  /// `tokens` tokens: a multiple of 4, at most tile_tokens. A quad is 4 columns; q [quads][tokens][4], acc
  /// [tokens][32].
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
