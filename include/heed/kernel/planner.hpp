/// \file
/// Asks sources and masks once, for all KV heads and layers, and remembers the answers.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include <heed/kernel/tasks.hpp>
#include <heed/kernel/visibility.hpp>

namespace heed::inline HEED_ABI::detail {

/// The most that is remembered. What does not fit is asked again when it is read, so this changes no bit.
struct AnswerLimits {
  Index visibilities = 0;  ///< (row block, chunk) pairs, and chunks
  Index bits = 0;          ///< (query, chunk) pairs that a mask leaves partly visible
  Index runs = 0;          ///< runs of rows
};
/// Of one call: KV heads share visibility. Rows are found anew, because each KV head would read its runs only once.
inline constexpr AnswerLimits call_limits{.visibilities = 4096, .bits = 1024, .runs = 0};
/// Of a plan for many layers. 32 bytes a pair with bits: 2 MiB. Runs take 48 bytes each: 1.5 MiB.
inline constexpr AnswerLimits plan_limits{
    .visibilities = Index{1} << 16, .bits = Index{1} << 16, .runs = Index{1} << 15};
/// Runs of a chunk there is memory for, in keys and in values: pages of 64 tokens have 4 or 5.
inline constexpr Index planned_runs = 5;

/// How much memory answers take. It depends on sizes only, and a smaller call does not take more.
struct AnswerSizes {
  Index chunks = 0;
  Index visibilities = 0;
  Index bits = 0;
  Index runs = 0;

  /// Upper bound on chunks of a job: each key may be in both lists, and near keys may begin within a chunk.
  [[nodiscard]] static Index most_chunks(Index keys) noexcept { return 2 * ((keys + chunk_keys - 1) / chunk_keys) + 1; }

  /// Adds `jobs` jobs of at most `keys` keys each, which have `queries` queries in `row_blocks` blocks together.
  void add(Index jobs, Index queries, Index keys, Index row_blocks) noexcept {
    const Index each = most_chunks(keys);
    chunks = (Count(chunks) + Count(jobs) * each).value();
    visibilities = (Count(visibilities) + Count(row_blocks) * each).value();
    bits = (Count(bits) + (Count(queries) + row_blocks) * each).value();  // a query may lie in two blocks
  }
  [[nodiscard]] AnswerSizes limited(const AnswerLimits& limits) const noexcept {
    AnswerSizes made = *this;
    made.visibilities = std::min(visibilities, limits.visibilities);
    made.bits = std::min(bits, limits.bits);
    made.runs = limits.runs == 0 ? 0 : std::min((Count(chunks) * (2 * planned_runs)).value(), limits.runs);
    made.chunks = limits.runs == 0 ? 0 : std::min(chunks, limits.visibilities);
    return made;
  }
};

/// The sizes of all jobs of a call.
[[nodiscard]] inline AnswerSizes sizes_of(const Tasks& tasks, std::span<const Job> jobs) noexcept {
  AnswerSizes sizes;
  for (const Job& job : jobs) sizes.add(1, job.num_queries, job.num_keys, tasks.row_blocks(job));
  return sizes;
}
/// At least those of `stages` jobs into which the queries of `job` are cut, each with at most its keys.
[[nodiscard]] inline AnswerSizes sizes_of(const Tasks& tasks, const Job& job, Index stages) noexcept {
  AnswerSizes sizes;
  sizes.add(stages, job.num_queries, job.num_keys, tasks.row_blocks(job) + stages - 1);
  return sizes;
}

/// Memory for answers.
struct AnswerMemory {
  AnswerSizes sizes;
  PlannedChunk* chunks = nullptr;
  PlannedVisibility* visibilities = nullptr;
  KeyBits* bits = nullptr;
  SlotRun* runs = nullptr;

  static AnswerMemory carve(Carver& carver, const AnswerSizes& sizes) noexcept {
    AnswerMemory made{.sizes = sizes};
    made.chunks = carver.take<PlannedChunk>(sizes.chunks);
    made.visibilities = carver.take<PlannedVisibility>(sizes.visibilities);
    made.bits = carver.take<KeyBits>(sizes.bits);
    made.runs = carver.take<SlotRun>(sizes.runs);
    return made;
  }
};

/// Fills the answers of jobs whose sources and masks are set.
class Planner {
 public:
  Planner(const AttentionLayout& layout, const Tasks& tasks, const AnswerMemory& memory) noexcept
      : layout_(layout), tasks_(tasks), memory_(memory), keys_(layout, positions_, far_list_) {}

  void answer(std::span<Job> jobs) {
    for (Job& job : jobs) {
      keys_.start(job, 0);
      if (memory_.sizes.runs > 0 && job.source.has_base()) find_runs(job);
      find_visibility(job);
    }
  }

  /// true if the source has the rows of `job` where the plan remembers them.
  [[nodiscard]] bool same_runs(const Job& job) {
    keys_.start(job, 0);
    bool same = true;
    Index number = 0;
    for_each_chunk(job, [&](const Chunk& chunk) {
      const PlannedChunk& planned = job.answers.chunks[number++];
      same = same && same_runs(job, chunk, layout_.key.stream, planned.keys);
      same = same && same_runs(job, chunk, layout_.value.stream, planned.values);
    });
    return same;
  }

  // Keeps pointers into itself.
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;

 private:
  template <class Body>
  static void for_each_chunk(const Job& job, const Body& body) {
    const Interval far_ones = job.far_chunks(), near_ones = job.near_chunks();
    for (Index c = far_ones.begin; c < far_ones.end; ++c) body(job.far_chunk(c));
    for (Index c = near_ones.begin; c < near_ones.end; ++c) body(job.near_chunk(c));
  }

  void find_runs(Job& job) {
    if (job.num_chunks() > memory_.sizes.chunks - used_.chunks) return;
    PlannedChunk* const chunks = memory_.chunks + used_.chunks;
    used_.chunks += job.num_chunks();
    Index number = 0;
    for_each_chunk(job, [&](const Chunk& chunk) {
      PlannedChunk& planned = *std::construct_at(chunks + number++);
      planned.keys = runs_of(job, chunk, layout_.key.stream);
      planned.values =
          layout_.value.stream == layout_.key.stream ? planned.keys : runs_of(job, chunk, layout_.value.stream);
    });
    job.answers.chunks = chunks;
    job.answers.runs = memory_.runs;
  }
  [[nodiscard]] ChunkRuns runs_of(const Job& job, const Chunk& chunk, int stream) {
    const RowBase base = job.source.base(stream, 0);
    ChunkRuns made{.first = std::int32_t(used_.runs), .count = 0, .readable_bytes = 0};
    bool fits = true;
    keys_.for_each_run(chunk, stream, [&](Index slot, const RowRun& run) {
      fits = used_.runs + made.count < memory_.sizes.runs;
      if (!fits) return false;
      std::construct_at(memory_.runs + used_.runs + made.count++, run_of(slot, run, base));
      made.readable_bytes = made.count == 1 ? run.readable_bytes : std::min(made.readable_bytes, run.readable_bytes);
      return true;
    });
    if (!fits) return {};
    used_.runs += made.count;
    return made;
  }

  [[nodiscard]] static SlotRun run_of(Index slot, const RowRun& run, const RowBase& base) noexcept {
    return {.slot = slot,
            .rows = run.rows,
            .row = reinterpret_cast<std::uintptr_t>(run.data) - base.rows,
            .factors = reinterpret_cast<std::uintptr_t>(run.factors) - base.factors,
            .stride_bytes = run.stride_bytes,
            .factor_stride_bytes = run.factor_stride_bytes};
  }
  [[nodiscard]] bool same_runs(const Job& job, const Chunk& chunk, int stream, const ChunkRuns& runs) {
    if (runs.first < 0) return true;
    const RowBase base = job.source.base(stream, 0);
    Index number = 0;
    bool same = true;
    keys_.for_each_run(chunk, stream, [&](Index slot, const RowRun& run) {
      same = number < runs.count && job.answers.runs[runs.first + number] == run_of(slot, run, base) &&
             run.readable_bytes >= runs.readable_bytes;
      ++number;
      return same;
    });
    return same && number == runs.count;
  }

  void find_visibility(Job& job) {
    if (job.mask.grouped()) return;  // its answers differ between KV heads
    const Index blocks = tasks_.row_blocks(job), chunks = job.num_chunks();
    if ((Count(blocks) * chunks).value() > memory_.sizes.visibilities - used_.visibilities) return;
    PlannedVisibility* const made = memory_.visibilities + used_.visibilities;
    used_.visibilities += blocks * chunks;
    for (Index block = 0; block < blocks; ++block) {
      const RowRange rows{tasks_.block_rows(job, block), layout_.heads_per_group()};
      Index number = block * chunks;
      for_each_chunk(
          job, [&](const Chunk& chunk) { *std::construct_at(made + number++) = visibility_of(job, rows, chunk); });
    }
    job.answers.visibility = made;
    job.answers.bits = memory_.bits;
  }
  [[nodiscard]] PlannedVisibility visibility_of(const Job& job, const RowRange& rows, const Chunk& chunk) {
    using Kind = PlannedVisibility::Kind;
    if (used_.bits + rows.queries() > memory_.sizes.bits) return {};  // there may be no room for bits
    Visibility visible;
    keys_.move_to(chunk);
    if (!ask_visibility(job, rows, keys_, memory_.bits + used_.bits, &visible)) return {Kind::nothing, {}, 0};
    if (visible.alike) return {visible.full ? Kind::full : Kind::alike, visible, 0};
    const PlannedVisibility made(Kind::bits, visible, std::int32_t(used_.bits));
    used_.bits += rows.queries();
    return made;
  }

  const AttentionLayout& layout_;
  const Tasks& tasks_;
  const AnswerMemory& memory_;
  AnswerSizes used_;
  Index positions_[chunk_keys];
  Index far_list_[2 * chunk_keys];
  ChunkKeys keys_;
};

}  // namespace heed::inline HEED_ABI::detail
