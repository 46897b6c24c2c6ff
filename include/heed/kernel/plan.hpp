/// \file
/// How a call is cut into tasks, and how much scratch they need. No choice made here changes a bit of the result.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include <heed/checked.hpp>
#include <heed/factors.hpp>
#include <heed/kernel/bits.hpp>
#include <heed/kernel/job.hpp>
#include <heed/kernel/merge_stack.hpp>
#include <heed/kernel/preparation_ref.hpp>
#include <heed/math/sizes.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// Most rows of one task: whole tiles of 6. The scores of a chunk (1 KiB a row) and the states then fit in L2 together.
inline constexpr Index max_block_rows = 192;
/// Most rows of one task where a preparation makes values. All rows of a task share the values made from a tile, and in
/// expanded MLA making them costs as much as 400 rows. The scores and states of 1020 rows of 128 numbers take 6 MiB a
/// worker at 65,536 keys.
inline constexpr Index max_block_rows_of_made_values = 1020;
/// Tasks per worker to aim at. Chunk ranges are cut only if there are fewer (KV head, row block) pairs than that.
inline constexpr Index tasks_per_worker = 4;
/// Most rows prefetched ahead. Bounds the tail of the pointer list.
inline constexpr Index max_ahead = 128;

/// One task: rows of one KV head of one job over some of its far and near chunks.
struct Task {
  Index job = 0;         ///< number of the job
  Index kv_head = 0;     ///< KV head that the rows read
  Interval rows;         ///< rows (query, head) of the KV head; row r is query r / heads_per_group()
  Interval far_chunks;   ///< chunk numbers
  Interval near_chunks;  ///< chunk numbers
  Index part = -1;       ///< index of the partial state that the task writes; -1: it writes the final output
};

/// Sizes that decide how much scratch a worker needs: the same for every task of a call.
struct Shape {
  Index key_width = 0;
  Index value_width = 0;
  Index state_width = 0;   ///< value_width, padded to state_align
  Index stream_width = 0;  ///< widest stream row that a preparation decodes; 0 without a preparation
  bool makes_values = false;
  Index max_rows = 0;  ///< rows of the largest task
  int slots = 0;       ///< pending states per row
  MathSizes math;
};

/// One worker's scratch. carve() gives the sizes.
struct Scratch {
  std::byte* q = nullptr;  // Querys of the math
  float* scores = nullptr;
  std::byte* weights = nullptr;      // Weights of the math, unless they take the place of scores
  std::byte* key_panel = nullptr;    // Panels of the math
  std::byte* value_panel = nullptr;  // the same
  float* decoded = nullptr;
  float* prepared_keys = nullptr;
  float* prepared_values = nullptr;
  float* states = nullptr;
  float* distance = nullptr;
  MergeStack* stacks = nullptr;
  RowTarget* targets = nullptr;
  KeyBits* visible = nullptr;
  const std::byte** pointers = nullptr;
  const std::byte** factor_pointers = nullptr;
  float* key_factors = nullptr;    // [factors of a key][64], beside key_panel
  float* value_factors = nullptr;  // [factors of 64 dims][256], beside value_panel
  Index* positions = nullptr;
  Index* far_list = nullptr;

  static Scratch carve(Carver& carver, const Shape& shape) noexcept {
    const bool prepares = shape.stream_width > 0;
    Scratch s;
    s.q = carver.take<std::byte>(shape.max_rows * shape.math.query_row(shape.key_width));
    s.scores = carver.take<float>(shape.max_rows * chunk_keys);
    s.weights = carver.take<std::byte>(shape.max_rows * chunk_keys * shape.math.weight_bytes);
    s.key_panel = carver.take<std::byte>(shape.math.panel(shape.key_width));
    s.value_panel = carver.take<std::byte>(shape.math.panel(chunk_keys));
    s.decoded = carver.take<float>(prepares ? chunk_keys * shape.stream_width : 0);
    s.prepared_keys = carver.take<float>(prepares ? chunk_keys * shape.key_width : 0);
    s.prepared_values = carver.take<float>(shape.makes_values ? chunk_keys * shape.value_width : 0);
    s.states = carver.take<float>(shape.max_rows * shape.slots * shape.state_width);
    s.distance = carver.take<float>(chunk_keys);
    s.stacks = carver.take<MergeStack>(shape.max_rows);
    s.targets = carver.take<RowTarget>(shape.max_rows);
    s.visible = carver.take<KeyBits>(shape.max_rows);
    s.pointers = carver.take<const std::byte*>(3 * chunk_keys + max_ahead);
    s.factor_pointers = carver.take<const std::byte*>(2 * chunk_keys);
    s.key_factors = carver.take<float>(panel_keys * num_factors<Factors::per_block>(shape.key_width));
    s.value_factors = carver.take<float>(chunk_keys * num_factors<Factors::per_block>(panel_dims));
    s.positions = carver.take<Index>(chunk_keys);
    s.far_list = carver.take<Index>(2 * chunk_keys);
    return s;
  }
};

/// The tasks of a call. Task n is computed from n: there is no list of tasks.
class Plan {
 public:
  /// Sets first_block, first_task and first_part of the jobs, which must outlive the plan.
  Plan(const AttentionLayout& layout, const PreparationRef& preparation, std::span<Job> jobs, Index workers,
       const MathSizes& math = {})
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
    // The far list and the near list may begin and end within a span. So there may be more parts than max_partials().
    for (; cuts && num_tasks_ > max_partials(); number_tasks()) span_ *= 2;
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

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] Index workers() const noexcept { return workers_; }
  /// true if a block is cut into parts that must be merged.
  [[nodiscard]] bool cut() const noexcept { return num_tasks_ > num_blocks_; }

  /// Chunks of a part. A power of two if a block is cut. The first and the last part of a list may be shorter.
  [[nodiscard]] Index span() const noexcept { return span_; }
  [[nodiscard]] static Index chunks(const Job& job) noexcept {
    return job.far_chunks().size() + job.near_chunks().size();
  }
  /// How many chunk ranges a row block of `job` is cut into. At least one, so that rows without keys are also written.
  [[nodiscard]] Index parts(const Job& job) const noexcept {
    if (chunks(job) <= span_) return 1;
    return spans(job.far_chunks()).size() + spans(job.near_chunks()).size();
  }
  /// Number of part `part` of `job` among the merge-tree nodes that cover span() chunks.
  [[nodiscard]] Index part_node(const Job& job, Index part) const noexcept {
    const Interval far_spans = spans(job.far_chunks());
    const Index far_parts = far_spans.size();
    if (part < far_parts) return far_spans.begin + part;
    return far_away / span_ + spans(job.near_chunks()).begin + part - far_parts;
  }
  /// Rows of one KV head of `job`.
  [[nodiscard]] Index rows(const Job& job) const noexcept { return job.num_queries * layout_.heads_per_group(); }

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
    const Index n = parts(job);
    Task t = block(job.first_block + (index - job.first_task) / n);
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
    const Index n = parts(job), blocks = row_blocks(job), b = index % blocks;
    return {.job = &job - jobs_.data(),
            .kv_head = index / blocks,
            .rows = {b * most_rows_, std::min((b + 1) * most_rows_, rows(job))},
            .far_chunks = job.far_chunks(),
            .near_chunks = job.near_chunks(),
            .part = n > 1 ? job.first_part + index * n : -1};
  }

 private:
  // Upper bound on a row's pending states over `keys` keys. Near keys may begin and end within a chunk: one chunk more.
  // While near chunks arrive, one state of all far keys waits.
  [[nodiscard]] static int slots(Index keys) noexcept {
    return merge_slots((keys + chunk_keys - 1) / chunk_keys + 1) + 1;
  }
  // All blocks of a job but the last have this many rows.
  [[nodiscard]] Index block_rows(const Job& job) const noexcept { return std::min(rows(job), most_rows_); }
  [[nodiscard]] Index row_blocks(const Job& job) const noexcept { return (rows(job) + most_rows_ - 1) / most_rows_; }
  // Numbers of the spans that `chunks` touch.
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
  // The last job whose first number is at most `index`. A job without rows has the first number of the next job.
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
