/// \file
/// Where the rows of a chunk lie, and which are prefetched while they are read.
#pragma once

#include <algorithm>

#include <heed/factors.hpp>
#include <heed/kernel/visible_keys.hpp>

namespace heed::inline HEED_ABI::detail {

/// Pointers to the key rows of codec `K` and the value rows of codec `V` of one chunk at a time.
template <Codec K, Codec V>
class LocatedRows {
 public:
  LocatedRows(const AttentionLayout& layout, const PreparationRef& preparation, const Scratch& scratch) noexcept
      : layout_(layout), preparation_(preparation), scratch_(scratch) {}

  /// From here on the other functions speak of the chunk at which `chunk` stands. Up to `few_rows` rows are read in
  /// place if they can be.
  void find(const TaskRows& rows, const VisibleKeys& visible, ChunkKeys& chunk, Index few_rows) {
    const View& key = layout_.key;
    const View& value = layout_.value;
    const Index key_bytes = view_bytes<K>(key.offset, key.width);
    const Index value_bytes = view_bytes<V>(value.offset, value.width);
    const Index key_start = K::offset_bytes(key.offset), value_start = V::offset_bytes(value.offset);
    slots_ = {visible.keys().begin / panel_keys * panel_keys, visible.keys().end};
    const Index count = slots_.size();
    const std::byte** k = scratch_.pointers;
    const std::byte** v = k + count;
    const bool prepares = preparation_.object != nullptr;
    const Chunk& here = chunk.chunk();
    // Null where a codec keeps no factors apart from its rows.
    const std::byte** const key_factors = has_plane<K>(key) ? scratch_.factor_pointers : nullptr;
    const std::byte** const value_factors = has_plane<V>(value) ? scratch_.factor_pointers + chunk_keys : nullptr;
    bool whole = chunk.point_at(here, slots_, key, key_start + round_up(key_bytes, 64), {k, key_factors});
    whole &= chunk.point_at(here, slots_, value, value_start + round_up(value_bytes, 64), {v, value_factors});
    in_place_ = whole && !preparation_.makes_values && visible.rows().size() <= few_rows;
    // Rows are used in this order: K of this chunk, V of this chunk, K of the next, which may be the next head's first.
    // Prefetches follow it.
    const Chunk next_chunk = rows.chunk_after(here);
    const std::byte** next = v + count;
    follow_ = next_chunk.slots.size();
    if (follow_ > 0) chunk.point_at(next_chunk, next_chunk.slots, key, 0, {.row = next});
    if (follow_ == 0 && rows.task().next_head) follow_ = chunk.point_at_next_head(rows.first_chunk(), next);
    const Index distance = visible.rows().size() == 1 ? 8192 : 12288;  // bytes: measured best for one row and for four
    // With few keys, values are prefetched while keys are read, and the next keys while values are.
    const auto ahead = [=](Index row_bytes) {
      return std::min(count * row_bytes <= distance ? count : std::max<Index>(distance / row_bytes, 1), max_ahead);
    };
    // Up to `ahead` rows behind the last key and the last value are looked up, and those of a whole group of keys.
    const Index used = std::max(ahead(key_bytes), ahead(value_bytes)) + most_key_group;
    std::fill(next + follow_, next + std::max(follow_, used), v[count - 1]);
    // Prepared keys and values have no view: they are made whole.
    keys_ = {k, k + ahead(key_bytes), count, prepares ? 0 : key.offset, key_factors};
    values_ = {v, v + ahead(value_bytes), count, preparation_.makes_values ? 0 : value.offset, value_factors};
    key_lines_ = (key_bytes + 63) / 64;
    value_lines_ = (value_bytes + 63) / 64;
    if (in_place_ && here.is_far && here.number == rows.task().far_chunks.begin) {
      // No earlier chunk prefetched these rows, and hardware does not predict scattered rows. With fewer rows than the
      // prefetch distance, the first rows of the next chunk would also arrive late.
      const Index first_rows = std::min(distance / key_bytes + 1, 2 * count + follow_);
      for (Index row = 0; row < first_rows; ++row) {
        for (Index byte = 0; byte < key_bytes; byte += 64) __builtin_prefetch(k[row] + key_start + byte);
      }
    }
  }

  /// true if there are few rows, and keys and values are read without packing them into panels.
  [[nodiscard]] bool in_place() const noexcept { return in_place_; }
  /// The slots whose rows are located: from a multiple of 64 to the last visible key.
  [[nodiscard]] Interval slots() const noexcept { return slots_; }
  /// The located rows; the first is that of slots().begin.
  /// \{
  [[nodiscard]] const KeyRows& values() const noexcept { return values_; }
  [[nodiscard]] KeyRows keys_of(Interval slots) const noexcept { return part(keys_, slots); }
  [[nodiscard]] KeyRows values_of(Interval slots) const noexcept { return part(values_, slots); }
  /// \}
  /// The pointers of the key rows and of the value rows from a slot on. Prepared rows take the place of stored ones.
  /// \{
  [[nodiscard]] const std::byte** key_pointers(Index slot) const noexcept {
    return scratch_.pointers + (slot - slots_.begin);
  }
  [[nodiscard]] const std::byte** value_pointers(Index slot) const noexcept {
    return key_pointers(slot) + slots_.size();
  }
  /// \}

  /// The values that are read after the keys of `slots`. They need a prefetch only if they lie in another stream.
  [[nodiscard]] Ahead values_ahead(Interval slots) const noexcept {
    const bool apart = layout_.value.stream != layout_.key.stream;
    return {values_of(slots).row, apart ? slots.size() : 0, value_lines_, V::offset_bytes(layout_.value.offset)};
  }
  /// The part of the next chunk's keys that is prefetched while the value dims from `dim` on are accumulated.
  [[nodiscard]] Ahead next_keys(Index dim, Index width) const noexcept {
    const Index begin = follow_ * dim / width, end = follow_ * std::min(dim + panel_dims, width) / width;
    return {values_.row + slots_.size() + begin, end - begin, key_lines_, K::offset_bytes(layout_.key.offset)};
  }

 private:
  [[nodiscard]] KeyRows part(const KeyRows& rows, Interval slots) const noexcept {
    const Index skip = slots.begin - slots_.begin;
    return {rows.row + skip, rows.ahead + skip, slots.size(), rows.offset,
            rows.factors == nullptr ? nullptr : rows.factors + skip};
  }
  template <class C>
  [[nodiscard]] bool has_plane(const View& view) const noexcept {
    return C::factor_bytes(layout_.streams[std::size_t(view.stream)].width) > 0;
  }

  const AttentionLayout& layout_;
  const PreparationRef& preparation_;
  const Scratch& scratch_;
  bool in_place_ = false;
  Interval slots_;
  KeyRows keys_;
  KeyRows values_;
  Index key_lines_ = 1;  // cache lines per row
  Index value_lines_ = 1;
  Index follow_ = 0;  // number of keys of the next chunk
};

}  // namespace heed::inline HEED_ABI::detail
