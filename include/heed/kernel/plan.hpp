/// \file
/// How a call is cut into tasks, and how much scratch they need. None of it can change a bit of the result.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include <heed/checked.hpp>
#include <heed/kernel/bits.hpp>
#include <heed/kernel/job.hpp>
#include <heed/kernel/merge_stack.hpp>
#include <heed/workspace.hpp>

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

/// One task: rows of one KV head of one job over some of its far and near chunks.
struct Task {
  Index job = 0;
  Index kv_head = 0;
  Interval rows;
  Interval far_chunks;   ///< chunk numbers
  Interval near_chunks;  ///< chunk numbers
  Index part = -1;       ///< index of the partial state written, -1: writes the final output
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
  Index* far_list = nullptr;

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
    s.far_list = carver.take<Index>(2 * chunk_keys);
    return s;
  }
};

/// The tasks of a call, addressed by number without a list of them.
class Plan {
 public:
  /// Numbers the jobs' blocks, tasks and parts in the jobs.
  Plan(const AttentionLayout& layout, const PreparationRef& preparation, std::span<Job> jobs, Index workers)
      : layout_(layout),
        jobs_(jobs),
        workers_(std::max<Index>(workers, 1)),
        most_rows_(preparation.makes_values ? max_block_rows_of_made_values : max_block_rows) {
    Index base_tasks = 0, most_chunks = 0;
    Count work = 0;
    shape_.slots = slots(0);
    for (const Job& job : jobs_) {
      const Index blocks = layout_.num_kv_heads * row_blocks(job);
      base_tasks += blocks;
      work = work + Count(blocks) * chunks(job);
      most_chunks = std::max(most_chunks, chunks(job));
      shape_.max_rows = std::max(shape_.max_rows, block_rows(job));
      shape_.slots = std::max(shape_.slots, slots(job.num_keys));
    }
    span_ = std::max<Index>(most_chunks, 1);
    const Index wanted = workers_ * tasks_per_worker;
    const bool cuts = workers_ > 1 && base_tasks < wanted;
    if (cuts) {
      span_ = Index(std::bit_floor(std::uint64_t(std::max<Index>(work.value() / wanted, 1))));
    }
    number_tasks();
    // Two lists that start anywhere may have more ends than max_partials() has room for.
    for (; cuts && num_tasks_ > max_partials(); number_tasks()) span_ *= 2;
    shape_.key_width = layout_.key_width;
    shape_.value_width = layout_.value_width;
    shape_.state_width = round_up(layout_.value_width, state_align);
    if (preparation.object != nullptr) {
      shape_.stream_width = std::max(layout_.streams[std::size_t(layout_.key.stream)].width,
                                     layout_.streams[std::size_t(layout_.value.stream)].width);
      shape_.makes_values = preparation.makes_values;
    }
  }

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] Index workers() const noexcept { return workers_; }
  /// Whether some block is cut into parts that must be merged.
  [[nodiscard]] bool cut() const noexcept { return num_tasks_ > num_blocks_; }

  /// Chunks of a part, but for those at the ends of a list: a power of two where something is cut.
  [[nodiscard]] Index span() const noexcept { return span_; }
  [[nodiscard]] static Index chunks(const Job& job) noexcept { return job.far_chunks() + job.near_chunks().size(); }
  /// Chunk ranges a row block of `job` is cut into; at least one, so that rows without keys are written too.
  [[nodiscard]] Index parts(const Job& job) const noexcept {
    if (chunks(job) <= span_) return 1;
    return spans({0, job.far_chunks()}).size() + spans(job.near_chunks()).size();
  }
  /// Part `part` of `job` as a node of the merge tree, among nodes of its size.
  [[nodiscard]] Index part_node(const Job& job, Index part) const noexcept {
    const Index far_parts = spans({0, job.far_chunks()}).size();
    return part < far_parts ? part : far_away / span_ + spans(job.near_chunks()).begin + part - far_parts;
  }
  [[nodiscard]] Index rows(const Job& job) const noexcept { return job.num_queries * layout_.heads_per_group(); }

  /// Number of (job, KV head, row block) triples.
  [[nodiscard]] Index num_blocks() const noexcept { return num_blocks_; }
  [[nodiscard]] Index num_tasks() const noexcept { return num_tasks_; }
  /// Room for partial states, whatever the number of keys: blocks are cut only while there are fewer than
  /// workers * tasks_per_worker, into spans that make at most twice that many more. Every row has its KV heads' blocks,
  /// so with many of those nothing is ever cut.
  [[nodiscard]] Index max_partials() const noexcept {
    const Index wanted = workers_ * tasks_per_worker;
    return workers_ > 1 && layout_.num_kv_heads < wanted ? 3 * wanted : 0;
  }

  /// Task number `index`; the tasks of a block follow each other.
  [[nodiscard]] Task task(Index index) const noexcept {
    const Job& job = job_of(index, &Job::first_task);
    const Index n = parts(job);
    Task t = block(job.first_block + (index - job.first_task) / n);
    if (t.part < 0) return t;
    const Index part = (index - job.first_task) % n, far_parts = spans(t.far_chunks).size();
    t.part += part;
    const Index first = (part < far_parts ? part : spans(t.near_chunks).begin + part - far_parts) * span_;
    const auto within = [&](Interval all) {
      return Interval{std::max(first, all.begin), std::min(first + span_, all.end)};
    };
    t.far_chunks = part < far_parts ? within(t.far_chunks) : Interval{};
    t.near_chunks = part < far_parts ? Interval{} : within(t.near_chunks);
    return t;
  }

  /// Block number `index`: the union of its tasks; `part` is its first partial state, or -1.
  [[nodiscard]] Task block(Index index) const noexcept {
    const Job& job = job_of(index, &Job::first_block);
    index -= job.first_block;
    const Index n = parts(job), blocks = row_blocks(job), b = index % blocks;
    return {.job = &job - jobs_.data(),
            .kv_head = index / blocks,
            .rows = {b * most_rows_, std::min((b + 1) * most_rows_, rows(job))},
            .far_chunks = {0, job.far_chunks()},
            .near_chunks = job.near_chunks(),
            .part = n > 1 ? job.first_part + index * n : -1};
  }

 private:
  // Pending states of rows over any far and near chunks of so many keys: near ones may start and end in the middle of a
  // chunk, and while they arrive one state of all far keys waits.
  [[nodiscard]] static int slots(Index keys) noexcept {
    return merge_slots((keys + chunk_keys - 1) / chunk_keys + 1) + 1;
  }
  // Blocks of one sequence are of equal size but the last.
  [[nodiscard]] Index block_rows(const Job& job) const noexcept { return std::min(rows(job), most_rows_); }
  [[nodiscard]] Index row_blocks(const Job& job) const noexcept { return (rows(job) + most_rows_ - 1) / most_rows_; }
  // The spans that chunks lie in.
  [[nodiscard]] Interval spans(Interval chunks) const noexcept {
    if (chunks.size() == 0) return {};
    return {chunks.begin / span_, (chunks.end + span_ - 1) / span_};
  }

  void number_tasks() noexcept {
    Index parts_before = 0;
    num_blocks_ = num_tasks_ = 0;
    for (Job& job : jobs_) {
      const Index blocks = layout_.num_kv_heads * row_blocks(job), n = parts(job);
      job.first_block = num_blocks_;
      job.first_task = num_tasks_;
      job.first_part = parts_before;
      num_blocks_ += blocks;
      num_tasks_ += blocks * n;
      if (n > 1) parts_before += blocks * n;
    }
  }
  // The last job whose first number is at most `index`: jobs without rows share theirs with the next one.
  [[nodiscard]] const Job& job_of(Index index, Index Job::*first) const noexcept {
    const auto after =
        std::partition_point(jobs_.begin(), jobs_.end(), [&](const Job& job) { return job.*first <= index; });
    return *(after - 1);
  }

  AttentionLayout layout_;
  std::span<Job> jobs_;
  Index workers_;
  Index most_rows_;
  Index span_ = 1;
  Index num_blocks_ = 0;
  Index num_tasks_ = 0;
  Shape shape_;
};

}  // namespace heed::inline HEED_ABI::detail
