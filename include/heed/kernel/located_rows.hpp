/// \file
/// Where the rows of a chunk lie, and which are prefetched while they are read.
#pragma once

#include <algorithm>

#include <heed/factors.hpp>
#include <heed/kernel/visible_keys.hpp>
#include <heed/prefetch_table.hpp>

namespace heed::inline HEED_ABI::detail {

/// The rows that are read after those of a chunk: what prefetches reach when the chunk ends.
struct FollowingRows {
  Chunk chunk = {};            ///< without slots: nothing follows
  Interval slots = {};         ///< its slots that are read
  const View* view = nullptr;  ///< keys or values
  Index readable_bytes = 0;    ///< what following_readable() asks for
  bool next_head = false;      ///< those of the next KV head
  bool cached = false;         ///< they lie in the rows that are read before, so no prefetch is needed
};

/// Pointers to rows of codec `C`, keys or values, of one chunk at a time.
template <Codec C>
class LocatedRows {
 public:
  /// `prepared`: a preparation takes whole stored rows and makes others, so the rows have no view.
  LocatedRows(const AttentionLayout& layout, const View& view, bool prepared) noexcept
      : view_(view),
        offset_(prepared ? 0 : view.offset),
        start_(C::offset_bytes(view.offset)),
        bytes_(view_bytes<C>(view.offset, view.width)),
        has_plane_(C::factor_bytes(layout.streams[std::size_t(view.stream)].width) > 0) {}

  /// What a row must have to be read where it lies: bytes from its start, rounded up to whole lines behind the view.
  [[nodiscard]] Index readable_bytes() const noexcept { return start_ + round_up(bytes_, 64); }

  /// From here on the other functions speak of `slots` of the chunk at which `chunk` stands. rows [256 + 256 + 288] and
  /// factors [256] are scratch for pointers. If `there`, the chunk's own pointers are in `rows` already. Returns true if
  /// readable_bytes() can be read from every row.
  bool find(ChunkKeys& chunk, Interval slots, const FollowingRows& after, const PrefetchDistance& distance,
            const std::byte** rows, const std::byte** factors, bool there = false) {
    slots_ = slots;
    row_ = rows;
    const std::byte** const plane = has_plane_ ? factors : nullptr;
    bool whole = true;
    if (!there || has_plane_) {
      whole = chunk.point_at(chunk.chunk(), slots, view_, readable_bytes(), {rows, plane});
    }
    const Index count = slots.size();
    const std::byte** const next = rows + count;
    follow_ = after.slots.size();
    follow_cached_ = after.cached;
    follow_readable_ = true;
    if (after.next_head) {
      follow_ = chunk.point_at_next_head(after.chunk, next);
    } else if (follow_ > 0) {
      follow_readable_ = chunk.point_at(after.chunk, after.slots, *after.view, after.readable_bytes, {.row = next});
    }
    const Index l1 = ahead(distance.l1_bytes), l2 = ahead(distance.l2_bytes);
    // Rows behind the last one are looked up, and those of a whole group of keys.
    const Index used = std::max(l1, l2) + most_key_group;
    std::fill(next + follow_, next + std::max(follow_, used), follow_ > 0 ? next[follow_ - 1] : rows[count - 1]);
    rows_ = {.row = rows,
             .ahead = distance.l1_bytes > 0 ? rows + l1 : nullptr,
             .count = count,
             .offset = offset_,
             .factors = plane,
             .far_ahead = distance.l2_bytes > 0 ? rows + l2 : nullptr};
    return whole;
  }

  /// Prefetches the first `bytes` bytes of rows, which no earlier chunk prefetched.
  void prefetch_first(Index bytes) const noexcept {
    const Index rows = std::min(bytes / bytes_ + 1, slots_.size() + follow_);
    for (Index row = 0; row < rows; ++row) {
      for (Index byte = 0; byte < bytes_; byte += 64) __builtin_prefetch(row_[row] + start_ + byte);
    }
  }

  /// The slots whose rows are located.
  [[nodiscard]] Interval slots() const noexcept { return slots_; }
  /// The located rows; the first is that of slots().begin.
  [[nodiscard]] const KeyRows& all() const noexcept { return rows_; }
  /// Those of some of the slots.
  [[nodiscard]] KeyRows of(Interval slots) const noexcept {
    return rows_.from(slots.begin - slots_.begin, slots.size());
  }
  /// The pointers of the rows from a slot on. Prepared rows take the place of stored ones.
  [[nodiscard]] const std::byte** pointers(Index slot) const noexcept { return row_ + (slot - slots_.begin); }
  /// true if FollowingRows::readable_bytes can be read from every following row.
  [[nodiscard]] bool following_readable() const noexcept { return follow_readable_; }
  /// The pointers of the following rows.
  [[nodiscard]] const std::byte** following() const noexcept { return row_ + slots_.size(); }

  /// The part of the following rows that is prefetched during the part [begin, end) of `all` steps. `lines` and `offset`
  /// are those of their rows.
  [[nodiscard]] Ahead following(Index begin, Index end, Index all, Index lines, Index offset) const noexcept {
    const Index first = follow_ * begin / all, last = follow_ * end / all;
    return {following() + first, follow_cached_ ? 0 : last - first, lines, offset};
  }
  /// Cache lines of a row, and its first byte.
  /// \{
  [[nodiscard]] Index lines() const noexcept { return (bytes_ + 63) / 64; }
  [[nodiscard]] Index start() const noexcept { return start_; }
  /// \}

 private:
  // So many rows are `distance` bytes, at most all of the chunk. With few rows, what follows is prefetched meanwhile.
  [[nodiscard]] Index ahead(Index distance) const noexcept {
    if (slots_.size() * bytes_ <= distance) return slots_.size();
    return std::clamp<Index>(distance / bytes_, 1, max_ahead);
  }

  const View& view_;
  Index offset_;
  Index start_;  // first byte of a row in its view
  Index bytes_;  // of a row
  bool has_plane_;
  Interval slots_;
  const std::byte** row_ = nullptr;
  KeyRows rows_;
  Index follow_ = 0;  // number of following rows
  bool follow_cached_ = false;
  bool follow_readable_ = true;
};

}  // namespace heed::inline HEED_ABI::detail
