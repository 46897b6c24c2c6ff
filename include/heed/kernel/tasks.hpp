/// \file
/// How a call is cut into tasks. No choice made here changes a bit of the result.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include <heed/checked.hpp>
#include <heed/kernel/job.hpp>
#include <heed/kernel/preparation_ref.hpp>
#include <heed/kernel/scratch.hpp>
#include <heed/math/sizes.hpp>

namespace heed::inline HEED_ABI::detail {

/// Most rows of one task: whole tiles of 6. The scores of a chunk (1 KiB a row) and the states then fit in L2 together.
inline constexpr Index max_block_rows = 192;
/// Most rows of one task where a preparation makes values. All rows of a task share the values made from a chunk, and in
/// expanded MLA making them costs as much as 400 rows. The scores and states of 1020 rows of 128 numbers take 6 MiB a
/// worker at 65,536 keys.
inline constexpr Index max_block_rows_of_made_values = 1020;
/// Tasks per worker to aim at. Chunk ranges are cut only if there are fewer (KV head, row block) pairs than that.
inline constexpr Index tasks_per_worker = 4;

/// One task: rows of one KV head of one job over some of its far and near chunks.
struct Task {
  Index job = 0;           ///< number of the job
  Index kv_head = 0;       ///< KV head that the rows read
  Interval rows;           ///< rows (query, head) of the KV head; row r is query r / heads_per_group()
  Index row_block = 0;     ///< number of the block of rows
  bool next_head = false;  ///< the same worker goes on with the next KV head
  Interval far_chunks;     ///< chunk numbers
  Interval near_chunks;    ///< chunk numbers
  Index part = -1;         ///< index of the partial state that the task writes; -1: it writes the final output
};

/// The tasks of a call. Task n is computed from n: there is no list of tasks.
class Tasks {
 public:
  Tasks() = default;
  /// Sets first_block, first_task, first_part and parts of the jobs, which must outlive this.
  Tasks(const AttentionLayout& layout, const PreparationRef& preparation, std::span<Job> jobs, Index workers,
        const MathSizes& math = {})
      : layout_(layout),
        jobs_(jobs),
        workers_(std::max<Index>(workers, 1)),
        most_rows_(preparation.makes_values ? max_block_rows_of_made_values : max_block_rows) {
    Index base_tasks = 0, most_chunks = 0, most_keys = 0;
    Count work = 0;
    shape_.group = layout_.heads_per_group();
    shape_.slots = slots(0);
    for (const Job& job : jobs_) {
      const Index blocks = layout_.num_kv_heads * row_blocks(job);
      base_tasks += blocks;
      work = work + Count(blocks) * chunks(job);
      most_chunks = std::max(most_chunks, chunks(job));
      most_keys = std::max(most_keys, job.num_keys);
      shape_.max_rows = std::max(shape_.max_rows, most_block_rows(job));
      shape_.slots = std::max(shape_.slots, slots(job.num_keys));
    }
    span_ = std::max<Index>(most_chunks, 1);
    const Index wanted = workers_ * tasks_per_worker;
    const bool cuts = workers_ > 1 && base_tasks < wanted;
    if (cuts) {
      span_ = Index(std::bit_floor(std::uint64_t(std::max<Index>(work.value() / wanted, 1))));
    }
    number_tasks();
    // The far list and the near list may begin and end within a span. So there may be more parts than max_partials().
    for (; cuts && num_tasks_ > max_partials(); number_tasks()) span_ *= 2;
    // Memory grows with rows and keys: fewer rows take no more of it, although their passes are longer. Both lists of a job may
    // hold all keys, and begin and end within a chunk.
    const Index chunks_of_pass = std::min(max_pass, 2 * (most_keys / chunk_keys + 2));
    shape_.pass_rows = std::max(shape_.max_rows, std::min(max_pass_rows, shape_.max_rows * chunks_of_pass));
    shape_.pass = shape_.max_rows == 0 ? 1 : std::min(chunks_of_pass, shape_.pass_rows / shape_.max_rows);
    shape_.key_width = layout_.key_width;
    shape_.value_width = layout_.value_width;
    shape_.state_width = round_up(layout_.value_width, state_align);
    shape_.math = math;
    if (preparation.object != nullptr) {
      shape_.stream_width = std::max(layout_.streams[std::size_t(layout_.key.stream)].width,
                                     layout_.streams[std::size_t(layout_.value.stream)].width);
      shape_.makes_values = preparation.makes_values;
    }
  }

  /// The same tasks for kernels of a math of these sizes.
  [[nodiscard]] Tasks with(const MathSizes& math) const noexcept {
    Tasks made = *this;
    made.shape_.math = math;
    return made;
  }

  [[nodiscard]] const TaskShape& shape() const noexcept { return shape_; }
  [[nodiscard]] Index workers() const noexcept { return workers_; }
  /// true if a block is cut into parts that must be merged.
  [[nodiscard]] bool cut() const noexcept { return num_tasks_ > num_blocks_; }

  /// Chunks of a part. A power of two if a block is cut. The first and the last part of a list may be shorter.
  [[nodiscard]] Index span() const noexcept { return span_; }
  [[nodiscard]] static Index chunks(const Job& job) noexcept { return job.num_chunks(); }
  /// Number of part `part` of `job` among the merge-tree nodes that cover span() chunks.
  [[nodiscard]] Index part_node(const Job& job, Index part) const noexcept {
    const Interval far_spans = spans(job.far_chunks());
    const Index far_parts = far_spans.size();
    if (part < far_parts) return far_spans.begin + part;
    return far_away / span_ + spans(job.near_chunks()).begin + part - far_parts;
  }
  /// Rows of one KV head of `job`.
  [[nodiscard]] Index rows(const Job& job) const noexcept { return job.num_queries * shape_.group; }
  /// Blocks of rows of one KV head of `job`.
  [[nodiscard]] Index row_blocks(const Job& job) const noexcept {
    return rows(job) == 0 ? 0 : quotient(rows(job) - 1, most_rows_) + 1;
  }
  /// The rows of block number `block`.
  [[nodiscard]] Interval block_rows(const Job& job, Index block) const noexcept {
    return {block * most_rows_, std::min((block + 1) * most_rows_, rows(job))};
  }

  /// Number of (job, KV head, row block) triples.
  [[nodiscard]] Index num_blocks() const noexcept { return num_blocks_; }
  [[nodiscard]] Index num_tasks() const noexcept { return num_tasks_; }
  /// Upper bound on partial states, for any number of keys. With W = workers * tasks_per_worker, blocks are cut only if
  /// there are fewer than W, and the cuts add at most 2 W tasks. If num_kv_heads >= W, nothing is ever cut.
  [[nodiscard]] Index max_partials() const noexcept {
    const Index wanted = workers_ * tasks_per_worker;
    return workers_ > 1 && layout_.num_kv_heads < wanted ? 3 * wanted : 0;
  }

  /// Task number `index`. The tasks of a block have consecutive numbers.
  [[nodiscard]] Task task(Index index) const noexcept {
    const Job& job = job_of(index, &Job::first_task);
    const Index n = job.parts;
    Task t = block(job.first_block + (n == 1 ? index - job.first_task : (index - job.first_task) / n));
    if (t.part < 0) return t;
    const Index part = (index - job.first_task) % n, far_parts = spans(t.far_chunks).size();
    t.part += part;
    const Index first =
        (part < far_parts ? spans(t.far_chunks).begin + part : spans(t.near_chunks).begin + part - far_parts) * span_;
    const auto within = [&](Interval all) {
      return Interval{std::max(first, all.begin), std::min(first + span_, all.end)};
    };
    t.far_chunks = part < far_parts ? within(t.far_chunks) : Interval{};
    t.near_chunks = part < far_parts ? Interval{} : within(t.near_chunks);
    return t;
  }

  /// Block number `index` as the union of its tasks. `part` is its first partial state; -1 if the block is one task.
  [[nodiscard]] Task block(Index index) const noexcept {
    const Job& job = job_of(index, &Job::first_block);
    index -= job.first_block;
    const Index n = job.parts, blocks = row_blocks(job);
    const Index kv_head = blocks == 1 ? index : index / blocks, b = index - kv_head * blocks;
    return {.job = &job - jobs_.data(),
            .kv_head = kv_head,
            .rows = block_rows(job, b),
            .row_block = b,
            .next_head = workers_ == 1 && b + 1 == blocks && kv_head + 1 < layout_.num_kv_heads,
            .far_chunks = job.far_chunks(),
            .near_chunks = job.near_chunks(),
            .part = n > 1 ? job.first_part + index * n : -1};
  }

 private:
  // Upper bound on a row's pending states over `keys` keys. Near keys may begin and end within a chunk: one chunk more.
  // While near chunks arrive, one state of all far keys waits.
  [[nodiscard]] static int slots(Index keys) noexcept {
    return merge_places((keys + chunk_keys - 1) / chunk_keys + 1) + 1;
  }
  // All blocks of a job but the last have this many rows.
  [[nodiscard]] Index most_block_rows(const Job& job) const noexcept { return std::min(rows(job), most_rows_); }
  // How many chunk ranges a row block of `job` is cut into. At least one, so that rows without keys are also written.
  [[nodiscard]] Index parts_of(const Job& job) const noexcept {
    if (chunks(job) <= span_) return 1;
    return spans(job.far_chunks()).size() + spans(job.near_chunks()).size();
  }
  // Numbers of the spans that `chunks` touch.
  [[nodiscard]] Interval spans(Interval chunks) const noexcept {
    if (chunks.size() == 0) return {};
    return {chunks.begin / span_, (chunks.end + span_ - 1) / span_};
  }

  void number_tasks() noexcept {
    Index parts_before = 0;
    num_blocks_ = num_tasks_ = 0;
    for (Job& job : jobs_) {
      const Index blocks = layout_.num_kv_heads * row_blocks(job), n = job.parts = parts_of(job);
      job.first_block = num_blocks_;
      job.first_task = num_tasks_;
      job.first_part = parts_before;
      num_blocks_ += blocks;
      num_tasks_ += blocks * n;
      if (n > 1) parts_before += blocks * n;
    }
  }
  // The last job whose first number is at most `index`. A job without rows has the first number of the next job.
  [[nodiscard]] const Job& job_of(Index index, Index Job::*first) const noexcept {
    const auto after =
        std::partition_point(jobs_.begin(), jobs_.end(), [&](const Job& job) { return job.*first <= index; });
    return *(after - 1);
  }

  AttentionLayout layout_;
  std::span<Job> jobs_;
  Index workers_ = 1;
  Index most_rows_ = max_block_rows;
  Index span_ = 1;
  Index num_blocks_ = 0;
  Index num_tasks_ = 0;
  TaskShape shape_;
};

}  // namespace heed::inline HEED_ABI::detail
