/// \file
/// Ternary matrices as ggml's TQ2_0 and TQ1_0 blocks store them.
#pragma once

#include <span>

#include <heed/codec/f16.hpp>
#include <heed/ternary/matrix.hpp>

namespace heed::inline HEED_ABI {

/// ggml's two ternary block types. The scale is a float16.
enum class GgmlTernary {
  tq2_0,  ///< 64 bytes of 2-bit codes, then the scale: 66 bytes for 256 weights
  tq1_0,  ///< 52 bytes of base-3 digits, then the scale: 54 bytes for 256 weights
};

namespace detail {

inline constexpr Index ggml_block = 256;

[[nodiscard]] constexpr std::size_t ggml_block_bytes(GgmlTernary type) noexcept {
  return type == GgmlTernary::tq2_0 ? 66 : 54;
}

/// Weight k of a block.
///   TQ2_0   Each half of 128 weights is 32 bytes. Byte m holds weights m, 32 + m, 64 + m, 96 + m from its low bits up.
///   TQ1_0   32 bytes of five digits, their weights 32 apart; 16 bytes of five digits, 16 apart; 4 bytes of four
///           digits, 4 apart. A byte of base-3 value v is stored as ceil(256 v / 243); its leading digit is the first
///           weight.
[[nodiscard]] inline int ggml_weight(GgmlTernary type, const std::uint8_t* block, Index k) noexcept {
  if (type == GgmlTernary::tq2_0) return ((block[k / 128 * 32 + k % 32] >> (2 * (k % 128 / 32))) & 3) - 1;
  constexpr int powers[] = {1, 3, 9, 27, 81};
  const Index line = k < 160 ? 32 : k < 240 ? 16 : 4, begin = k < 160 ? 0 : k < 240 ? 160 : 240;
  const std::uint8_t byte = block[begin / 5 + (k - begin) % line];
  const auto digit = std::uint8_t(byte * powers[(k - begin) / line]);
  return (digit * 3 >> 8) - 1;
}

}  // namespace detail

/// From the rows * cols / 256 blocks of a ggml tensor. Every block has its own scale, but a ternary matrix has one:
/// blocks with different scales are refused. A block of zeros may have any scale. invalid_argument naming `name` and
/// the block.
template <TernaryLayout L = TwoBit>
[[nodiscard]] Result<TernaryMatrix<L>> ternary_from_ggml(const char* name, std::span<const std::uint8_t> bytes,
                                                         Index rows, Index cols, GgmlTernary type) {
  const std::size_t block_bytes = detail::ggml_block_bytes(type);
  if (rows < 1 || cols < 1 || cols % detail::ggml_block != 0) {
    return fail(StatusCode::invalid_argument, name, " has shape [", rows, ", ", cols,
                "], must have columns in whole blocks of 256");
  }
  const Count wanted = Count(cols / detail::ggml_block) * Index(block_bytes);
  if (!detail::has_size(bytes.size(), wanted * rows)) {
    return fail(StatusCode::invalid_argument, name, " has ", bytes.size(), " bytes, must have ", rows, " rows of ",
                wanted);
  }
  const std::size_t row_blocks = std::size_t(cols / detail::ggml_block), row_bytes = row_blocks * block_bytes;
  const auto scale_of = [&](std::size_t block) {
    float scale = 0;
    F16::decode(reinterpret_cast<const std::byte*>(bytes.data() + (block + 1) * block_bytes - 2), 1, &scale);
    return scale;
  };
  const auto is_zero = [&](std::size_t block) {
    for (Index k = 0; k < detail::ggml_block; ++k) {
      if (detail::ggml_weight(type, bytes.data() + block * block_bytes, k) != 0) return false;
    }
    return true;
  };
  float scale = 1;
  bool found = false;  // a block that says the scale
  for (std::size_t block = 0; block < row_blocks * std::size_t(rows); ++block) {
    const float own = scale_of(block);
    if ((found && scale == own) || is_zero(block)) continue;
    if (found) {
      return fail(StatusCode::invalid_argument, name, ": block ", block, " has scale ", own, ", those before have ",
                  scale, "; a ternary matrix has one scale");
    }
    scale = own;
    found = true;
  }
  return TernaryMatrix<L>::create(name, rows, cols, scale, [&](Index row, std::span<std::int8_t> to) -> Status {
    const std::uint8_t* from = bytes.data() + std::size_t(row) * row_bytes;
    for (Index c = 0; c < cols; ++c) {
      const std::uint8_t* block = from + std::size_t(c / 256) * block_bytes;
      to[std::size_t(c)] = std::int8_t(detail::ggml_weight(type, block, c % 256));
    }
    return {};
  });
}

}  // namespace heed::inline HEED_ABI
