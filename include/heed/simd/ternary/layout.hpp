/// \file
/// How ternary weights lie in memory: 32 output rows side by side. So each 32-bit lane of a vector sums one row, and no
/// sum runs across lanes.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include <heed/checked.hpp>
#include <heed/list.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// A matrix is cut into groups of 32 rows. A group is cut into blocks of 128 bytes: 4 bytes a row, `planes` weights a
/// byte. Byte j of a row in block b holds column b * block_cols + 4 p + j in plane p. So plane p of a row's 4 bytes
/// meets 4 consecutive activations. Weight w is stored as w + 1, which is 0, 1 or 2.
///
/// A group has 32 rows because two AVX-512 registers then share the broadcasts of the activations and read one stream:
/// 1.3 times as fast as groups of 16.
template <int Planes>
struct RowInterleaved {
  static constexpr int planes = Planes;
  /// The most columns. Up to here no kernel's 32-bit sums overflow, whatever the activations are.
  static constexpr Index max_cols = 500'000;
  static constexpr Index block_rows = 32;
  static constexpr Index block_bytes = 128;
  static constexpr Index block_cols = 4 * Planes;

  /// Blocks of a row of `cols` weights.
  [[nodiscard]] static constexpr Index blocks(Index cols) noexcept {
    return cols / block_cols + (cols % block_cols > 0 ? 1 : 0);
  }
  /// Bytes of a matrix, padding included.
  [[nodiscard]] static constexpr Index bytes(Index rows, Index cols) noexcept {
    const Index groups = rows / block_rows + (rows % block_rows > 0 ? 1 : 0);
    return (Count(groups) * blocks(cols) * block_bytes).value();
  }
  /// Offset of the byte that holds weight (row, col).
  [[nodiscard]] static constexpr Index byte_of(Index row, Index col, Index cols) noexcept {
    return (row / block_rows * blocks(cols) + col / block_cols) * block_bytes + row % block_rows * 4 + col % 4;
  }
  /// Which of the byte's weights column `col` is.
  [[nodiscard]] static constexpr int plane_of(Index col) noexcept { return int(col % block_cols / 4); }
};

}  // namespace detail

/// 2 bits a weight: plane p is at bits 2p and 2p + 1 of the byte.
struct TwoBit : detail::RowInterleaved<4> {
  /// What TernaryLayout asks for.
  /// \{
  static constexpr const char* name = "2-bit";
  static constexpr double bits_per_weight = 2.0;
  static constexpr int plane_unit(int plane) noexcept { return 1 << (2 * plane); }
  static constexpr int code(std::uint8_t byte, int plane) noexcept { return (byte >> (2 * plane)) & 3; }
  /// \}
};

/// 1.6 bits a weight: five base-3 digits a byte, plane p is the digit of 3^p. It reads a fifth less than TwoBit and
/// needs twice the work to unpack: for matrices that do not fit in cache. Rows are padded to 20 columns instead of 16.
struct FiveTrits : detail::RowInterleaved<5> {
  /// What TernaryLayout asks for.
  /// \{
  static constexpr const char* name = "1.6-bit";
  static constexpr double bits_per_weight = 1.6;
  static constexpr int plane_unit(int plane) noexcept {
    constexpr int powers[] = {1, 3, 9, 27, 81};
    return powers[plane];
  }
  static constexpr int code(std::uint8_t byte, int plane) noexcept { return byte / plane_unit(plane) % 3; }
  /// \}
};

/// TwoBit or FiveTrits. A byte is the sum of code_p * plane_unit(p) over its planes; `code(byte, p)` gives code_p.
template <class L>
concept TernaryLayout = requires(std::uint8_t byte, int plane) {
  { L::name } -> std::convertible_to<const char*>;
  { L::bits_per_weight } -> std::convertible_to<double>;
  { L::code(byte, plane) } -> std::same_as<int>;
  { L::plane_unit(plane) } -> std::same_as<int>;
  requires L::block_rows == 32 && L::block_bytes == 128 && L::block_cols == 4 * L::planes;
};

/// Every layout.
using TernaryLayouts = List<TwoBit, FiveTrits>;

}  // namespace heed::inline HEED_ABI
