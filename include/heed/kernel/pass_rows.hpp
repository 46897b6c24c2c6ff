/// \file
/// Where the keys and values of a pass lie, and what is prefetched while they are read.
#pragma once

#include <algorithm>

#include <heed/kernel/located_rows.hpp>
#include <heed/kernel/scratch.hpp>
#include <heed/kernel/task_rows.hpp>
#include <heed/prefetch_table.hpp>

namespace heed::inline HEED_ABI::detail {

/// Some chunks of a task, which are numbered in the task: their keys are scored before their values are read. Keys and
/// values are two streams in memory, and to change from one to the other is slow (3000 cycles on Zen 4).
///
/// Located are the keys, and later the values, of one chunk at a time, and the rows that are read after them: prefetches
/// reach these.
template <Codec K, Codec V>
class PassRows {
 public:
  /// `values_at_once`: how many values the math reads together.
  PassRows(const AttentionLayout& layout, const PreparationRef& preparation, const PrefetchTable& prefetch,
           Index values_at_once, const Scratch& scratch) noexcept
      : layout_(layout),
        prefetch_(prefetch),
        values_at_once_(values_at_once),
        scratch_(scratch),
        keys_(layout, layout.key, preparation.object != nullptr),
        values_(layout, layout.value, preparation.makes_values) {}

  /// Begins with chunks of the task at which `rows` stands. `rows` and `keys` must outlive the last call.
  void start(const TaskRows& rows, ChunkKeys& keys, Interval chunks) noexcept {
    rows_ = &rows;
    chunk_ = &keys;
    chunks_ = chunks;
  }
  [[nodiscard]] Interval chunks() const noexcept { return chunks_; }
  /// What is known of chunk number `n`.
  [[nodiscard]] PassChunk& at(Index n) const noexcept { return scratch_.chunks[n - chunks_.begin]; }

  /// The keys, and the values, of the chunk that was located last.
  /// \{
  [[nodiscard]] const LocatedRows<K>& keys() const noexcept { return keys_; }
  [[nodiscard]] const LocatedRows<V>& values() const noexcept { return values_; }
  /// \}

  /// Locates the keys of chunk number `n`, and its values if it is a pass of its own. Returns true if the keys can be read in
  /// place.
  bool locate_keys(Index n) {
    const PassChunk& here = at(n);
    const Interval slots = slots_of(here.visible);
    const PrefetchDistance distance = prefetch_.of_keys(here.visible.rows.size());
    const bool whole = keys_.find(*chunk_, slots, after_keys(n), distance, scratch_.pointers, scratch_.factor_pointers);
    if (chunks_.size() == 1) locate_values(n, keys_.following());
    return whole;
  }
  /// Locates the values of chunk number `n`. `there` has their pointers already, unless it is null. values_whole() then says
  /// whether they can be read in place.
  void locate_values(Index n, const std::byte** there = nullptr) {
    const Visibility& visible = at(n).visible;
    const bool whole = values_.find(*chunk_, slots_of(visible), after_values(n), prefetch_.of_values(visible.rows.size(), values_at_once_),
                 there != nullptr ? there : scratch_.pointers, scratch_.factor_pointers + chunk_keys, there != nullptr);
    values_whole_ = there != nullptr ? keys_.following_readable() : whole;
  }
  [[nodiscard]] bool values_whole() const noexcept { return values_whole_; }
  /// Prefetches the first keys of the task. No earlier chunk did, and hardware does not predict scattered rows.
  void prefetch_first_keys() const noexcept {
    keys_.prefetch_first(prefetch_.of_keys(at(chunks_.begin).visible.rows.size()).l1_bytes);
  }

  /// The part of the following rows that is prefetched while keys of `slots` are scored, or `width` value dims from `dim` on
  /// are added. Keys and values were located together.
  /// \{
  [[nodiscard]] Ahead during_keys(Interval slots) const noexcept {
    const Index first = keys_.slots().begin, all = keys_.slots().size();
    return keys_.following(slots.begin - first, slots.end - first, all, values_.lines(), values_.start());
  }
  [[nodiscard]] Ahead during_values(Index dim, Index width) const noexcept {
    return values_.following(dim, std::min(dim + panel_dims, width), width, keys_.lines(), keys_.start());
  }
  /// \}

 private:
  // Whole panels up to the last key that some row sees.
  [[nodiscard]] static Interval slots_of(const Visibility& visible) noexcept {
    return {visible.keys.begin / panel_keys * panel_keys, visible.keys.end};
  }
  // The keys of the next chunk, or the values of the pass's first.
  [[nodiscard]] FollowingRows after_keys(Index n) const noexcept {
    if (n + 1 < chunks_.end) {
      const Chunk next = rows_->chunk(n + 1);
      return {.chunk = next, .slots = next.slots, .view = &layout_.key};
    }
    Index first = chunks_.begin;
    while (!at(first).any) ++first;
    return {.chunk = at(first).chunk,
            .slots = slots_of(at(first).visible),
            .view = &layout_.value,
            .readable_bytes = values_.readable_bytes(),
            .cached = layout_.key.stream == layout_.value.stream};
  }
  // The values of the pass's next chunk, or the keys of the next pass, or those of the next KV head.
  [[nodiscard]] FollowingRows after_values(Index n) const noexcept {
    Index next = n + 1;
    while (next < chunks_.end && !at(next).any) ++next;
    if (next < chunks_.end) {
      return {.chunk = at(next).chunk, .slots = slots_of(at(next).visible), .view = &layout_.value};
    }
    if (next < rows_->num_chunks()) {
      const Chunk chunk = rows_->chunk(next);
      return {.chunk = chunk, .slots = chunk.slots, .view = &layout_.key};
    }
    if (!rows_->task().next_head) return {};
    return {.chunk = rows_->chunk(0), .view = &layout_.key, .next_head = true};
  }

  const AttentionLayout& layout_;
  const PrefetchTable& prefetch_;
  const Index values_at_once_;
  const Scratch& scratch_;
  const TaskRows* rows_ = nullptr;
  ChunkKeys* chunk_ = nullptr;
  Interval chunks_;
  LocatedRows<K> keys_;
  LocatedRows<V> values_;
  bool values_whole_ = false;
};

}  // namespace heed::inline HEED_ABI::detail
