/// \file
/// Quantised activations times ternary weights: the part of one worker.
#pragma once

#include <algorithm>
#include <concepts>

#include <heed/simd/ternary/quantize.hpp>
#include <heed/simd/ternary/scalar.hpp>
#include <heed/ternary/matrix.hpp>

namespace heed::inline HEED_ABI {

/// The integer loops of a backend. All loops give the same integers. simd/ternary/scalar.hpp is the readable
/// definition.
template <class T>
concept TernaryLoops = requires(const std::byte* w, Index n, const std::int8_t* q, std::int32_t* acc,
                                std::uint8_t* panel, const std::uint8_t* codes) {
  { T::name } -> std::convertible_to<const char*>;
  { T::tile_tokens } -> std::convertible_to<Index>;
  T::template rows<TwoBit>(w, n, q, acc);
  T::template unpack<TwoBit>(w, n, panel);
  T::tile(codes, n, q, n, true, acc);
};

/// A backend that also has ternary loops, and gates (simd/gates.hpp).
template <class B>
concept TernaryBackend = TernaryLoops<typename B::Ternary> && requires(const float* in, Index n, float* out) {
  B::Gates::sigmoid_times(in, in, n, out);
  B::Gates::swish_times(in, in, n, out);
  B::Gates::relu_squared_times(in, in, n, out);
  B::Gates::gated_mix(in, in, in, false, n, out);
};

namespace detail {

/// How the quantised activations of some tokens lie for the loops T: in tiles of T::tile_tokens tokens, each
/// [quads][tokens][4]. The last tile has as many tokens as needed, rounded up to a multiple of 4. One token alone is a
/// row without padding.
template <TernaryLoops T>
struct TokenTiles {
  Index tokens = 0;
  Index cols = 0;  ///< columns, padded to whole blocks

  [[nodiscard]] Index padded_tokens() const noexcept { return tokens == 1 ? 1 : round_up(tokens, 4); }
  [[nodiscard]] Index bytes() const noexcept { return padded_tokens() * cols; }
  [[nodiscard]] Index tile_of(Index token) const noexcept {
    return std::min(padded_tokens() - token / T::tile_tokens * T::tile_tokens, Index(T::tile_tokens));
  }
  [[nodiscard]] Index offset(Index token) const noexcept {
    return token / T::tile_tokens * T::tile_tokens * cols + token % T::tile_tokens * 4;
  }
};

/// Quantised tokens; nothing is owned.
struct QuantizedTokens {
  std::int8_t* q = nullptr;
  QuantizedRow* rows = nullptr;
};

/// Columns that are unpacked at once. 32 rows of them are 512 KiB, which stay in L2 for all tokens. Fewer columns were
/// no faster. Wider matrices must keep partial sums of all tokens, which cost half the speed.
inline constexpr Index panel_cols = 16384;

/// Scratch of one worker: a panel of unpacked codes, then sums.
template <TernaryLoops T, TernaryLayout L>
struct ProductScratch {
  TokenTiles<T> tiles;

  [[nodiscard]] static constexpr Index step() noexcept { return panel_cols / L::block_cols * L::block_cols; }
  [[nodiscard]] Index panel_bytes() const noexcept { return std::min(tiles.cols, step()) * ternary_rows; }
  /// Bytes for the sums of one tile, or of all tokens if the columns are cut.
  [[nodiscard]] Index sum_bytes() const noexcept {
    const Index sums = tiles.cols <= step() ? Index(T::tile_tokens) : tiles.padded_tokens();
    return sums * ternary_rows * Index(sizeof(std::int32_t));
  }
  [[nodiscard]] Index bytes() const noexcept { return round_up(panel_bytes() + sum_bytes(), block_alignment); }
};

/// y[t][r] = (float(acc[t][r] - rows[t].sum) * (a_t / 127)) * scale for r in [0, min(count, 32)). acc adds q * (w + 1),
/// so the sum of q is subtracted.
inline void write_outputs(const std::int32_t* acc, Index tokens, const QuantizedRow* rows, float scale, Index count,
                          float* y, Index y_stride) noexcept {
  for (Index t = 0; t < tokens; ++t, acc += ternary_rows) {
    float out[ternary_rows];
    for (Index r = 0; r < ternary_rows; ++r) out[r] = float(acc[r] - rows[t].sum) * rows[t].scale * scale;
    if (count >= ternary_rows) {
      std::memcpy(y + t * y_stride, out, sizeof out);
    } else {
      std::memcpy(y + t * y_stride, out, std::size_t(count) * sizeof(float));
    }
  }
}

/// Outputs of groups [first, end) of the matrix for all tokens: y is [tokens][rows].
template <TernaryLoops T, TernaryLayout L>
void ternary_product(const TernaryMatrix<L>& matrix, const TokenTiles<T>& tiles, const QuantizedTokens& from,
                     Index first, Index end, float* y, std::byte* scratch) {
  const ProductScratch<T, L> layout{tiles};
  auto* const panel = reinterpret_cast<std::uint8_t*>(scratch);
  auto* const acc = reinterpret_cast<std::int32_t*>(scratch + layout.panel_bytes());
  for (Index g = first; g < end; ++g) {
    const Index row = g * ternary_rows;
    const auto write = [&](Index token, Index count, const std::int32_t* sums) {
      write_outputs(sums, count, from.rows + token, matrix.scale(), matrix.rows() - row,
                    y + token * matrix.rows() + row, matrix.rows());
    };
    if (tiles.tokens == 1) {
      T::template rows<L>(matrix.group(g), matrix.blocks(), from.q, acc);
      write(0, 1, acc);
      continue;
    }
    if constexpr (requires { T::template four_rows<L>(matrix.group(g), 0, from.q, acc); }) {
      if (tiles.tokens <= 4) {
        T::template four_rows<L>(matrix.group(g), matrix.blocks(), from.q, acc);
        write(0, tiles.tokens, acc);
        continue;
      }
    }
    for (Index col = 0; col < tiles.cols; col += layout.step()) {
      const Index cols = std::min(layout.step(), tiles.cols - col);
      T::template unpack<L>(matrix.group(g) + col / L::block_cols * L::block_bytes, cols / L::block_cols, panel);
      for (Index t = 0; t < tiles.tokens; t += T::tile_tokens) {
        const Index size = tiles.tile_of(t);
        std::int32_t* const sums = tiles.cols <= layout.step() ? acc : acc + t * ternary_rows;
        T::tile(panel, cols / 4, from.q + tiles.offset(t) + col * size, size, col > 0, sums);
        if (col + cols == tiles.cols) write(t, std::min(size, tiles.tokens - t), sums);
      }
    }
  }
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
