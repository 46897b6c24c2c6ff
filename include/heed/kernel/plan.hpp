/// \file
/// How a call is cut into tasks, and how much scratch they need. None of it can change a bit of the result.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include <heed/kernel/bits.hpp>
#include <heed/kernel/job.hpp>
#include <heed/kernel/merge_stack.hpp>

namespace heed::inline HEED_ABI::detail {

/// Rows of one task. Whole tiles of 6; the scores of a chunk (1 KiB a row) and the states share L2.
inline constexpr Index max_block_rows = 192;
/// Rows of one task where values are made from a tile: all rows share what is made, and making it costs as much as 400
/// rows do in expanded MLA. Scores and states of 1020 rows of 128 numbers are 6 MiB a worker at 65,536 keys.
inline constexpr Index max_block_rows_of_made_values = 1020;
/// Tasks per worker aimed at when there are fewer (KV head, row block) pairs than that: enough for balance.
inline constexpr Index tasks_per_worker = 4;
/// Rows prefetched ahead at most; bounds the tail of the pointer list.
inline constexpr Index max_ahead = 128;

/// One task: the rows [row_begin, row_end) of one KV head of one sequence over the chunks [chunk_begin, chunk_end).
struct Task {
  Index sequence = 0;
  Index kv_head = 0;
  Interval rows;
  Interval chunks;
  Index part = -1;  ///< index of the partial state written, -1: writes the final output
};

/// Carves typed arrays out of one block of bytes; with a null base it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) noexcept : base_(base) {}

  template <class T>
  [[nodiscard]] T* take(Index count) noexcept {
    offset_ = (offset_ + 63) / 64 * 64;
    T* at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset_);
    offset_ += std::size_t(std::max<Index>(count, 0)) * sizeof(T);
    return at;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return (offset_ + 63) / 64 * 64; }

 private:
  std::byte* base_;
  std::size_t offset_ = 0;
};

/// Sizes that decide scratch: the same for every task of a call.
struct Shape {
  Index key_width = 0;
  Index value_width = 0;
  Index state_width = 0;   ///< value_width, padded
  Index stream_width = 0;  ///< widest stream row a preparation decodes, 0 without one
  bool makes_values = false;
  Index max_rows = 0;  ///< rows of the largest task
  int slots = 0;       ///< pending states per row
};

/// One worker's scratch.
struct Scratch {
  float* q = nullptr;
  float* scores = nullptr;
  float* key_panel = nullptr;
  float* value_panel = nullptr;
  float* decoded = nullptr;
  float* prepared_keys = nullptr;
  float* prepared_values = nullptr;
  float* states = nullptr;
  float* distance = nullptr;
  MergeStack* stacks = nullptr;
  RowTarget* targets = nullptr;
  KeyBits* visible = nullptr;
  const std::byte** pointers = nullptr;
  Index* positions = nullptr;

  static Scratch carve(Carver& carver, const Shape& shape) noexcept {
    const bool prepares = shape.stream_width > 0;
    Scratch s;
    s.q = carver.take<float>(shape.max_rows * shape.key_width);
    s.scores = carver.take<float>(shape.max_rows * chunk_keys);
    s.key_panel = carver.take<float>(panel_keys * shape.key_width);
    s.value_panel = carver.take<float>(chunk_keys * panel_dims);
    s.decoded = carver.take<float>(prepares ? chunk_keys * shape.stream_width : 0);
    s.prepared_keys = carver.take<float>(prepares ? chunk_keys * shape.key_width : 0);
    s.prepared_values = carver.take<float>(shape.makes_values ? chunk_keys * shape.value_width : 0);
    s.states = carver.take<float>(shape.max_rows * shape.slots * shape.state_width);
    s.distance = carver.take<float>(chunk_keys);
    s.stacks = carver.take<MergeStack>(shape.max_rows);
    s.targets = carver.take<RowTarget>(shape.max_rows);
    s.visible = carver.take<KeyBits>(shape.max_rows);
    s.pointers = carver.take<const std::byte*>(3 * chunk_keys + max_ahead);
    s.positions = carver.take<Index>(chunk_keys);
    return s;
  }
};

/// The tasks of a call, addressed by number without a list of them.
class Plan {
 public:
  Plan(const AttentionLayout& layout, const PreparationRef& preparation, std::span<const Job> jobs, Index workers)
      : layout_(layout),
        jobs_(jobs),
        workers_(std::max<Index>(workers, 1)),
        most_rows_(preparation.makes_values ? max_block_rows_of_made_values : max_block_rows) {
    Index base_tasks = 0, work = 0, most_chunks = 0;
    for (const Job& job : jobs_) {
      const Index blocks = layout_.num_kv_heads * row_blocks(job);
      base_tasks += blocks;
      work += blocks * chunks(job);
      most_chunks = std::max(most_chunks, chunks(job));
      shape_.max_rows = std::max(shape_.max_rows, block_rows(job));
    }
    span_ = std::max<Index>(most_chunks, 1);
    const Index wanted = workers_ * tasks_per_worker;
    if (workers_ > 1 && base_tasks < wanted) {
      span_ = Index(std::bit_floor(std::uint64_t(std::max<Index>(work / wanted, 1))));
    }
    shape_.key_width = layout_.key_width;
    shape_.value_width = layout_.value_width;
    shape_.state_width = round_up(layout_.value_width, state_align);
    if (preparation.object != nullptr) {
      shape_.stream_width = std::max(layout_.streams[std::size_t(layout_.key.stream)].width,
                                     layout_.streams[std::size_t(layout_.value.stream)].width);
      shape_.makes_values = preparation.makes_values;
    }
    shape_.slots = merge_slots(most_chunks);
  }

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] Index workers() const noexcept { return workers_; }
  /// Whether some block is cut into parts that must be merged.
  [[nodiscard]] bool cut() const noexcept {
    return std::any_of(jobs_.begin(), jobs_.end(), [this](const Job& job) { return parts(job) > 1; });
  }

  [[nodiscard]] static Index chunks(const Job& job) noexcept { return (job.num_keys + chunk_keys - 1) / chunk_keys; }
  /// Chunk ranges a row block of `job` is cut into; at least one, so that rows without keys are written too.
  [[nodiscard]] Index parts(const Job& job) const noexcept {
    return std::max<Index>((chunks(job) + span_ - 1) / span_, 1);
  }
  [[nodiscard]] Index rows(const Job& job) const noexcept { return job.num_queries * layout_.heads_per_group(); }

  /// Number of (sequence, KV head, row block) triples.
  [[nodiscard]] Index num_blocks() const noexcept {
    Index n = 0;
    for (const Job& job : jobs_) n += layout_.num_kv_heads * row_blocks(job);
    return n;
  }
  [[nodiscard]] Index num_tasks() const noexcept {
    Index n = 0;
    for (const Job& job : jobs_) n += layout_.num_kv_heads * row_blocks(job) * parts(job);
    return n;
  }
  /// Room for partial states, whatever the number of keys: blocks are cut only while there are fewer than
  /// workers * tasks_per_worker, into spans that make at most twice that many more. Every row has its KV heads' blocks,
  /// so with many of those nothing is ever cut.
  [[nodiscard]] Index max_partials() const noexcept {
    const Index wanted = workers_ * tasks_per_worker;
    return workers_ > 1 && layout_.num_kv_heads < wanted ? 3 * wanted : 0;
  }

  /// Task number `index`; the tasks of a block follow each other.
  [[nodiscard]] Task task(Index index) const noexcept {
    Index partial = 0;
    for (std::size_t s = 0;; ++s) {
      const Job& job = jobs_[s];
      const Index n = parts(job), count = layout_.num_kv_heads * row_blocks(job) * n;
      if (index >= count) {
        index -= count;
        partial += n > 1 ? count : 0;
        continue;
      }
      Task t = block_of(Index(s), index / n);
      const Index range = index % n;
      t.chunks = {range * span_, std::min((range + 1) * span_, chunks(job))};
      t.part = n > 1 ? partial + index : -1;
      return t;
    }
  }

  /// Block number `index`: the union of its tasks; `part` is its first partial state, or -1.
  [[nodiscard]] Task block(Index index) const noexcept {
    Index partial = 0;
    for (std::size_t s = 0;; ++s) {
      const Job& job = jobs_[s];
      const Index n = parts(job), count = layout_.num_kv_heads * row_blocks(job);
      if (index >= count) {
        index -= count;
        partial += n > 1 ? count * n : 0;
        continue;
      }
      Task t = block_of(Index(s), index);
      t.chunks = {0, chunks(job)};
      t.part = n > 1 ? partial + index * n : -1;
      return t;
    }
  }

 private:
  // Blocks of one sequence are of equal size but the last.
  [[nodiscard]] Index block_rows(const Job& job) const noexcept { return std::min(rows(job), most_rows_); }
  [[nodiscard]] Index row_blocks(const Job& job) const noexcept { return (rows(job) + most_rows_ - 1) / most_rows_; }
  [[nodiscard]] Task block_of(Index sequence, Index index) const noexcept {
    const Job& job = jobs_[std::size_t(sequence)];
    const Index blocks = row_blocks(job), b = index % blocks;
    return {.sequence = sequence,
            .kv_head = index / blocks,
            .rows = {b * most_rows_, std::min((b + 1) * most_rows_, rows(job))},
            .chunks = {},
            .part = -1};
  }

  AttentionLayout layout_;
  std::span<const Job> jobs_;
  Index workers_;
  Index most_rows_;
  Index span_ = 1;
  Shape shape_;
};

}  // namespace heed::inline HEED_ABI::detail
