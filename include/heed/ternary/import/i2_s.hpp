/// \file
/// Ternary matrices as bitnet.cpp's I2_S stores them.
#pragma once

#include <heed/ternary/matrix.hpp>

namespace heed::inline HEED_ABI {

/// Which machine wrote the file. I2_S files are not portable: the size of a block depends on it.
enum class I2sBlock : int {
  x86 = 128,  ///< 128 weights in 32 bytes
  arm = 64,   ///< 64 weights in 16 bytes
};

/// From the bytes of an I2_S tensor: rows * cols / 4 bytes of codes (weight + 1), then the scale as float32. Bytes
/// after the scale are padding and are ignored.
///
/// A block of B weights is B / 4 bytes. Byte p holds weights p, B/4 + p, 2B/4 + p and 3B/4 + p, from its high bits to
/// its low bits. Blocks run through the whole tensor, so a row may begin within a block (BitNet 3B has rows of 8640
/// columns).
///
/// invalid_argument naming `name` for: rows * cols that is no multiple of B (bitnet.cpp's quantiser does not write
/// that), too few bytes, a scale that is not positive, the code 3.
template <TernaryLayout L = TwoBit>
[[nodiscard]] Result<TernaryMatrix<L>> ternary_from_i2_s(const char* name, std::span<const std::uint8_t> bytes,
                                                         Index rows, Index cols, I2sBlock kind) {
  const Index block = Index(kind), line = block / 4;
  const Count weights = Count(rows) * cols;
  if (rows < 1 || cols < 1 || !weights.fits() || weights.value() % block != 0) {
    return fail(StatusCode::invalid_argument, name, " has shape [", rows, ", ", cols,
                "], must have weights in whole blocks of ", block);
  }
  const auto codes = std::uint64_t(weights.value() / 4);
  float scale = 0;
  if (bytes.size() < codes || bytes.size() - codes < sizeof scale) {
    return fail(StatusCode::invalid_argument, name, " has ", bytes.size(), " bytes, must have ", codes, " for ", rows,
                " rows of ", cols, " and 4 for the scale");
  }
  std::memcpy(&scale, bytes.data() + std::size_t(codes), sizeof scale);
  return TernaryMatrix<L>::create(name, rows, cols, scale, [&](Index row, std::span<std::int8_t> to) -> Status {
    for (Index c = 0; c < cols; ++c) {
      const Index k = row * cols + c;
      const std::uint8_t byte = bytes[std::size_t(k / block * line + k % line)];
      const int shift = 6 - 2 * int(k % block / line);
      to[std::size_t(c)] = std::int8_t(((byte >> shift) & 3) - 1);
    }
    return {};
  });
}

}  // namespace heed::inline HEED_ABI
