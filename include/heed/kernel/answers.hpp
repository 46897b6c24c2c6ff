/// \file
/// What a plan remembers of sources and masks, so that no layer and no KV head asks again.
#pragma once

#include <array>
#include <cstdint>

#include <heed/kernel/bits.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI::detail {

/// Panels of a chunk.
inline constexpr Index chunk_panels = chunk_keys / panel_keys;

/// Which rows of a block see which keys of a chunk.
struct Visibility {
  Interval rows;                      ///< from the first to the last row that sees a key
  Interval panel_rows[chunk_panels];  ///< the same for each panel of 64 keys; a size below 1: none
  Interval keys;                      ///< hull of the slots that some row sees
  bool full = false;                  ///< every row sees every key, and the keys begin in slot 0
  bool alike = false;                 ///< every row sees the slots `keys`; else each query has its own bits
};

/// A Visibility in less memory.
struct PlannedVisibility {
  enum class Kind : std::uint8_t {
    unknown,  ///< ask the mask
    nothing,  ///< no row sees a key
    full,     ///< Visibility::full
    alike,    ///< Visibility::alike
    bits,     ///< each query has its own
  };
  struct Range {
    std::uint16_t begin = 0, end = 0;

    Range() = default;
    explicit Range(Interval from) noexcept : begin(std::uint16_t(from.begin)), end(std::uint16_t(from.end)) {}
    [[nodiscard]] Interval interval() const noexcept { return {begin, end}; }
  };

  Kind kind = Kind::unknown;
  Range rows;
  std::array<Range, std::size_t(chunk_panels)> panel_rows;
  Range keys;
  std::int32_t bits = 0;  ///< number of the first query's bits

  PlannedVisibility() = default;
  PlannedVisibility(Kind what, const Visibility& visible, std::int32_t first_bits) noexcept
      : kind(what), rows(visible.rows), keys(visible.keys), bits(first_bits) {
    for (std::size_t i = 0; i < panel_rows.size(); ++i) panel_rows[i] = Range(visible.panel_rows[i]);
  }
};

/// Rows in consecutive slots of a chunk that share a stride. Addresses are relative to a source's base().
struct SlotRun {
  Index slot = 0;  ///< of the first row
  Index rows = 0;
  std::uintptr_t row = 0;      ///< address of the first row
  std::uintptr_t factors = 0;  ///< address of its entry in the plane of factors
  Index stride_bytes = 0;
  Index factor_stride_bytes = 0;

  friend bool operator==(const SlotRun&, const SlotRun&) = default;
};

/// The runs of one stream's rows in one chunk.
struct ChunkRuns {
  std::int32_t first = -1;  ///< number of the first run; -1: ask the source
  std::int32_t count = 0;
  Index readable_bytes = 0;  ///< that all of them have
};
/// Where the rows of a chunk lie.
struct PlannedChunk {
  ChunkRuns keys;    ///< of the key stream
  ChunkRuns values;  ///< of the value stream
};

/// All that is remembered of one job. Null pointers: nothing, ask. The memory is the plan's.
struct Answers {
  const PlannedChunk* chunks = nullptr;           ///< [chunks of the job], far ones first
  const SlotRun* runs = nullptr;                  ///< all runs of the plan
  const PlannedVisibility* visibility = nullptr;  ///< [row blocks][chunks of the job]
  const KeyBits* bits = nullptr;                  ///< all bits of the plan
};

}  // namespace heed::inline HEED_ABI::detail
