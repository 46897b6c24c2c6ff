/// \file
/// The keys of one chunk: where they lie, which positions they have, and who sees them.
#pragma once

#include <algorithm>

#include <heed/kernel/job.hpp>

namespace heed::inline HEED_ABI::detail {

/// What a job's source and mask say about one chunk. move_to() changes the chunk.
class ChunkKeys {
 public:
  /// positions [256] and far_list [2][256] are scratch.
  ChunkKeys(const AttentionLayout& layout, Index* positions, Index* far_list) noexcept
      : layout_(layout), positions_(positions), far_list_(far_list) {}

  /// Begins with a job and a KV head. `job` must outlive the last call. Call move_to() next.
  void start(const Job& job, Index kv_head) noexcept {
    job_ = &job;
    kv_head_ = kv_head;
    listed_[0] = listed_[1] = -1;
    has_base_ = false;
  }
  /// From here on the other functions speak of `chunk`, a chunk of the job.
  void move_to(const Chunk& chunk) {
    chunk_ = chunk;
    have_positions_ = in_text_ = false;
  }
  /// Call this before coverage() and visible_to().
  void ask() {
    const Chunk& chunk = chunk_;
    asked_ = {chunk.first + chunk.slots.begin, chunk.first + chunk.slots.end};
    holes_ = {};
    if (chunk.is_far) {
      if (job_->source.has_holes()) find_far_holes();
      return;
    }
    if (job_->source.has_holes()) find_holes(asked_);
    asked_ = {job_->source.position(asked_.begin), job_->source.position(asked_.end - 1) + 1};
  }

  [[nodiscard]] const Chunk& chunk() const noexcept { return chunk_; }
  [[nodiscard]] Interval slots() const noexcept { return chunk_.slots; }

  /// How much of the chunk the queries at these positions see with the KV head.
  [[nodiscard]] Coverage coverage(Interval queries) const {
    const Coverage of_mask =
        chunk_.is_far ? job_->mask.far_coverage(queries, asked_) : job_->mask.near_coverage(queries, asked_, kv_head_);
    return of_mask == Coverage::full && holes_.any() ? Coverage::partial : of_mask;
  }
  /// The slots that a query at this position sees.
  [[nodiscard]] KeyBits visible_to(Index query) { return masked(query).without(holes_); }

  /// Positions of the keys in slots [0, slots().end). Slots before slots().begin hold no key: they get the positions
  /// just before, because near keys have consecutive positions. Valid until text_positions() or move_to() is called.
  [[nodiscard]] const Index* positions() {
    if (have_positions_ && !in_text_) return positions_;
    const Interval slots = chunk_.slots;
    const Index* const list = chunk_.is_far ? far_list(chunk_) : nullptr;
    for (Index k = slots.begin; k < slots.end; ++k) {
      positions_[k] = job_->source.position(list != nullptr ? list[k] : chunk_.first + k);
    }
    for (Index k = slots.begin - 1; k >= 0; --k) positions_[k] = positions_[k + 1] - 1;
    have_positions_ = true;
    in_text_ = false;
    return positions_;
  }
  /// Positions of the same keys in their text (AttentionMask::text_position): distances and rotations go by these.
  /// Overwrites what positions() returned.
  [[nodiscard]] const Index* text_positions() {
    if (!job_->mask.has_text_positions()) return positions();
    if (have_positions_ && in_text_) return positions_;
    static_cast<void>(positions());
    for (Index k = 0; k < chunk_.slots.end; ++k) positions_[k] = job_->mask.text_position(positions_[k]);
    in_text_ = true;
    return positions_;
  }

  /// Position of slot 0 in the text, if the keys of slots [slots().begin, slots().end) have consecutive positions there;
  /// else -1. It asks for two positions instead of all.
  [[nodiscard]] Index consecutive_from() {
    const Interval slots = chunk_.slots;
    if (job_->mask.has_text_positions() || slots.size() <= 0) return -1;
    const Index* const list = chunk_.is_far ? far_list(chunk_) : nullptr;
    const auto position = [&](Index slot) {
      return job_->source.position(list != nullptr ? list[slot] : chunk_.first + slot);
    };
    const Index first = position(slots.begin);  // positions are strictly increasing
    return position(slots.end - 1) - first == slots.size() - 1 ? first - slots.begin : -1;
  }

  /// Writes the indices in the source of the keys in slots [slots().begin, slots().end) to keys[slot].
  void source_keys(Index* keys) {
    const Index* const list = chunk_.is_far ? far_list(chunk_) : nullptr;
    for (Index slot = chunk_.slots.begin; slot < chunk_.slots.end; ++slot) {
      keys[slot] = list != nullptr ? list[slot] : chunk_.first + slot;
    }
  }

  /// Where point_at() writes.
  struct Pointers {
    const std::byte** row = nullptr;
    const std::byte** factors = nullptr;  ///< null: not asked for
  };
  /// `chunk` is this chunk or the next one. Points row[k] at the row in slot slots.begin + k, and factors[k] at the
  /// row's entry in the plane of factors. A slot before the chunk's first key gets the first key's pointers. Returns
  /// true if `bytes` bytes can be read from the start of every row.
  bool point_at(const Chunk& chunk, Interval slots, const View& view, Index bytes, const Pointers& to) {
    const Index live = std::max(slots.begin, chunk.slots.begin);
    const ChunkRuns runs = planned_runs(chunk, view.stream);
    if (runs.first >= 0) {
      point_at_runs(runs, base_of(view.stream), slots, live, to);
      return runs.readable_bytes >= bytes;
    }
    const Index head = head_of(view.stream);
    bool readable = true;
    const auto run_at = [&](Index first, Index last) {
      const RowRun run = job_->source.row_run(view.stream, head, first, last + 1 - first);
      readable &= run.readable_bytes >= bytes;
      return run;
    };
    const auto point = [&](Index slot, const RowRun& run, Index row) {
      to.row[slot - slots.begin] = run.data + row * run.stride_bytes;
      if (to.factors != nullptr) to.factors[slot - slots.begin] = run.factors + row * run.factor_stride_bytes;
    };
    if (chunk.is_far) {  // far keys are scattered, but several may lie in one run
      const Index* const key = far_list(chunk);
      for (Index k = live; k < slots.end;) {
        const Index first = key[k];
        const RowRun run = run_at(first, key[slots.end - 1]);
        for (; k < slots.end && key[k] - first < run.rows; ++k) point(k, run, key[k] - first);
      }
    } else {
      for (Index k = live; k < slots.end;) {
        const RowRun run = run_at(chunk.first + k, chunk.first + slots.end - 1);
        for (Index i = 0; i < run.rows; ++i) point(k + i, run, i);
        k += run.rows;
      }
    }
    fill_before(live - slots.begin, to);
    return readable;
  }

  /// Fills row[k] with a pointer to the key row in slot slots.begin + k of `chunk` that the next KV head has. Returns how
  /// many; 0 if the plan does not know.
  Index point_at_next_head(const Chunk& chunk, const std::byte** row) {
    const int stream = layout_.key.stream;
    const ChunkRuns runs = planned_runs(chunk, stream);
    if (runs.first < 0 || layout_.streams[std::size_t(stream)].num_heads == 1) return 0;
    point_at_runs(runs, job_->source.base(stream, kv_head_ + 1), chunk.slots, chunk.slots.begin, {.row = row});
    return chunk.slots.size();
  }

  /// Calls body(slot, run) for every run of rows of one stream of `chunk`, in order. `run` is that of the job's KV head.
  template <class Body>
  void for_each_run(const Chunk& chunk, int stream, const Body& body) {
    const Index end = chunk.slots.end;
    const Index* const key = chunk.is_far ? far_list(chunk) : nullptr;
    for (Index k = chunk.slots.begin; k < end;) {
      const Index first = key == nullptr ? chunk.first + k : key[k];
      const Index last = key == nullptr ? chunk.first + end - 1 : key[end - 1];
      RowRun run = job_->source.row_run(stream, head_of(stream), first, last + 1 - first);
      Index rows = 1;  // far keys are scattered: those that follow each other are a run
      while (rows < run.rows && k + rows < end && (key == nullptr || key[k + rows] == first + rows)) ++rows;
      run.rows = rows;
      if (!body(k, run)) return;
      k += rows;
    }
  }

 private:
  [[nodiscard]] Index head_of(int stream) const noexcept {
    return layout_.streams[std::size_t(stream)].num_heads == 1 ? 0 : kv_head_;
  }
  static void fill_before(Index count, const Pointers& to) {
    std::fill(to.row, to.row + count, to.row[count]);
    if (to.factors != nullptr) std::fill(to.factors, to.factors + count, to.factors[count]);
  }

  // The runs of a chunk that the plan remembers.
  [[nodiscard]] ChunkRuns planned_runs(const Chunk& chunk, int stream) const noexcept {
    if (job_->answers.chunks == nullptr) return {};
    const PlannedChunk& planned = job_->answers.chunks[chunk.ordinal];
    return stream == layout_.key.stream ? planned.keys : planned.values;
  }
  void point_at_runs(const ChunkRuns& runs, const RowBase& base, Interval slots, Index live, const Pointers& to) {
    const SlotRun* run = job_->answers.runs + runs.first;
    while (run->slot + run->rows <= live) ++run;
    for (Index k = live; k < slots.end; ++run) {
      const Index end = std::min(run->slot + run->rows, slots.end), skip = k - run->slot, count = end - k;
      const std::byte** const row = to.row + (k - slots.begin);
      std::uintptr_t at = base.rows + run->row + std::uintptr_t(skip * run->stride_bytes);
      for (Index i = 0; i < count; ++i, at += std::uintptr_t(run->stride_bytes)) {
        row[i] = reinterpret_cast<const std::byte*>(at);
      }
      if (to.factors != nullptr) {
        const std::byte** const factors = to.factors + (k - slots.begin);
        at = base.factors + run->factors + std::uintptr_t(skip * run->factor_stride_bytes);
        for (Index i = 0; i < count; ++i, at += std::uintptr_t(run->factor_stride_bytes)) {
          factors[i] = reinterpret_cast<const std::byte*>(at);
        }
      }
      k = end;
    }
    fill_before(live - slots.begin, to);
  }
  [[nodiscard]] const RowBase& base_of(int stream) {
    if (!has_base_) {
      key_base_ = job_->source.base(layout_.key.stream, head_of(layout_.key.stream));
      value_base_ = job_->source.base(layout_.value.stream, head_of(layout_.value.stream));
      has_base_ = true;
    }
    return stream == layout_.key.stream ? key_base_ : value_base_;
  }

  // The slots that the mask lets a query see, holes included.
  [[nodiscard]] KeyBits masked(Index query) {
    const MaskRef& mask = job_->mask;
    if (mask.split()) {
      const Interval run = chunk_.is_far ? mask.far_run(query, asked_) : mask.near_run(query, asked_);
      const Index slot = chunk_.slots.begin - asked_.begin;
      return KeyBits::of({run.begin + slot, run.end + slot});
    }
    KeyBits bits;
    switch (coverage({query, query + 1})) {
      case Coverage::none: break;
      case Coverage::full: bits = KeyBits::of(chunk_.slots); break;
      case Coverage::partial: mask.fill(query, positions(), chunk_.slots.end, kv_head_, bits.word.data()); break;
    }
    return bits;
  }
  void find_holes(Interval slots) {
    for (Interval hole = job_->source.next_hole(slots.begin); hole.begin < slots.end;
         hole = job_->source.next_hole(hole.end)) {
      holes_ = holes_ | KeyBits::of({hole.begin - chunk_.first, std::min(hole.end, slots.end) - chunk_.first});
    }
  }

  // A mask that the caller made may still list a slot whose key was removed.
  void find_far_holes() {
    const Index* const list = far_list(chunk_);
    for (Index k = chunk_.slots.begin; k < chunk_.slots.end; ++k) {
      if (job_->source.next_hole(list[k]).begin <= list[k]) holes_ = holes_ | KeyBits::of({k, k + 1});
    }
  }

  // Indices in the source of a far chunk's keys. Two chunks are kept: this one and the next, which is prefetched.
  [[nodiscard]] const Index* far_list(const Chunk& chunk) {
    Index* const list = far_list_ + chunk.number % 2 * chunk_keys;
    Index& listed = listed_[chunk.number % 2];
    if (listed != chunk.number) job_->mask.far_list({chunk.first, chunk.first + chunk.slots.end}, list);
    listed = chunk.number;
    return list;
  }

  const AttentionLayout& layout_;
  Index* positions_;
  Index* far_list_;
  const Job* job_ = nullptr;
  Index kv_head_ = 0;
  Chunk chunk_;
  Interval asked_;  // the chunk's keys as the mask counts them. Far: numbers in the list. Near: positions
  Index listed_[2] = {-1, -1};
  RowBase key_base_, value_base_;
  bool has_base_ = false;
  KeyBits holes_;  // the chunk's slots whose keys were removed
  bool have_positions_ = false;
  bool in_text_ = false;  // positions_ holds text positions
};

}  // namespace heed::inline HEED_ABI::detail
