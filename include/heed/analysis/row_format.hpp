/// \file
/// How many bytes a cached row takes in a storage format.
#pragma once

#include <heed/analysis/count.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f32.hpp>

namespace heed::inline HEED_ABI::analysis {

/// Rows that one token leaves in one layer.
struct KvRows {
  Index num_rows = 0;    ///< rows per token: one per KV head; 1 if the heads share a row
  Index width = 0;       ///< elements of a row, without the rotated part
  Index rope_width = 0;  ///< elements of a rotated part that some formats store separately: MLA's rope key; 0 elsewhere

  /// num_rows * (width + rope_width).
  [[nodiscard]] constexpr Index elements() const noexcept {
    return (Count(num_rows) * (Count(width) + rope_width)).value();
  }
  friend bool operator==(const KvRows&, const KvRows&) = default;
};

/// A storage format: rows are cut into blocks. The last block of a row takes all its bytes even if it is not full.
struct RowFormat {
  Index block_elements = 1;      ///< elements of a block, at least 1
  Index block_bytes = 0;         ///< bytes of a block, scales included
  Index row_bytes = 0;           ///< bytes once per row, for a scale or a sum
  Index rope_element_bytes = 0;  ///< bytes of an element of the rotated part; 0: it is stored in the same blocks

  /// Bytes of one row of `width` + `rope_width` elements:
  ///
  ///     ceil((width + rope_width) / block_elements) block_bytes + row_bytes                     rope_element_bytes = 0
  ///     ceil(width / block_elements) block_bytes + row_bytes + rope_width rope_element_bytes    otherwise
  [[nodiscard]] constexpr Index bytes(Index width, Index rope_width = 0) const noexcept {
    const Count blocked = rope_element_bytes == 0 ? Count(width) + rope_width : Count(width);
    if (block_elements < 1) return count_limit;  // no format
    const Index blocks = blocked.value() / block_elements + (blocked.value() % block_elements != 0 ? 1 : 0);
    const Count apart = rope_element_bytes == 0 ? Count(0) : Count(rope_width) * rope_element_bytes;
    return (Count(blocks) * block_bytes + row_bytes + apart).value();
  }
  /// Bytes of all `rows` of a token.
  [[nodiscard]] constexpr Index bytes(const KvRows& rows) const noexcept {
    return (Count(rows.num_rows) * bytes(rows.width, rows.rope_width)).value();
  }
  friend bool operator==(const RowFormat&, const RowFormat&) = default;
};

/// Elements of `element_bytes` bytes each, without scales. Papers count with this.
[[nodiscard]] constexpr RowFormat plain_rows(Index element_bytes) noexcept {
  return {.block_elements = 1, .block_bytes = element_bytes};
}

/// Rows in codec C of this library, factors included, wherever they lie. The codec says how many bytes they take.
template <class C>
[[nodiscard]] constexpr RowFormat rows_in() noexcept {
  const Index head = C::row_bytes(0) + C::factor_bytes(0), step = C::view_step;
  return {.block_elements = step, .block_bytes = C::row_bytes(step) + C::factor_bytes(step) - head, .row_bytes = head};
}

inline constexpr RowFormat rows_f32 = rows_in<F32>();     ///< no factors
inline constexpr RowFormat rows_16bit = rows_in<Bf16>();  ///< bf16 or f16
inline constexpr RowFormat rows_8bit = plain_rows(1);     ///< fp8 or int8, scales not counted, as in the Step-3 report
/// Two elements a byte, scales not counted.
inline constexpr RowFormat rows_4bit{.block_elements = 2, .block_bytes = 1};
/// ggml's q8_0: blocks of 32 int8 and one f16 scale. MLA's 576 elements take 18 blocks, 612 bytes.
inline constexpr RowFormat rows_q8_0{.block_elements = 32, .block_bytes = 34};
/// ik_llama.cpp's Q8_KV: int8 with a float scale and an int32 sum per row. MLA's 576 elements take 584 bytes.
inline constexpr RowFormat rows_q8_kv{.block_elements = 1, .block_bytes = 1, .row_bytes = 8};
/// FlashMLA's fp8 cache: blocks of 128 e4m3 and one float scale, the rotated part in bf16. MLA's 512 + 64 elements take
/// 656 bytes.
inline constexpr RowFormat rows_flashmla_fp8{.block_elements = 128, .block_bytes = 132, .rope_element_bytes = 2};

}  // namespace heed::inline HEED_ABI::analysis
