/// \file
/// Merges partial states into finished rows.
#pragma once

#include <algorithm>
#include <span>

#include <heed/kernel/run.hpp>

namespace heed::inline HEED_ABI::detail {

/// Rows of one task of a finish.
inline constexpr Index finish_rows = 32;
/// Most states of a row that wait at once: one for each level of the tree of near chunks and itself, and the far keys'.
inline constexpr Index most_waiting = 34;

/// The states of all rows of one sequence over one node.
struct NodeStates {
  Interval chunks;                       // counted as PartialBlock::nodes are
  const SoftmaxState* states = nullptr;  // [rows]
  const float* outs = nullptr;           // [rows][value_width]
  Index part = 0;                        // which of the sequence's parts it is of
};

/// One sequence of a finish.
struct FinishJob {
  Job job;                        // where rows go: num_queries, out, lse
  std::span<NodeStates> nodes;    // in the order of the tree
  const Index* places = nullptr;  // [num_queries] of the queries in their text
  Index first_task = 0;
};

/// What finish() is given. Nothing is owned.
struct PlannedFinish {
  const AttentionLayout& layout;
  const AttendOptions& options;
  std::span<const FinishJob> jobs;
  Index num_tasks = 0;
  Index slots = 0;          // states that wait at once, and the one being made
  float* states = nullptr;  // [workers][slots][state_width]
  ExecutorRef executor;
  void* hooks = nullptr;  // Kernel::hooks

  [[nodiscard]] static Index state_width(const AttentionLayout& layout) noexcept {
    return round_up(layout.value_width, state_align);
  }
};

/// Merges every row's states in the order of the tree, as a call merges its parts, and writes the row. `Hooks` is the type
/// of what planned.hooks points at: a sink is told of every row.
template <class Backend, class Hooks = NoHooks>
void finish(const PlannedFinish& planned) {
  const AttentionLayout& layout = planned.layout;
  const Index width = layout.value_width, padded = PlannedFinish::state_width(layout);
  planned.executor.parallel_for(planned.num_tasks, [&](Index task, Index worker) {
    const auto after = std::partition_point(planned.jobs.begin(), planned.jobs.end(),
                                            [&](const FinishJob& job) { return job.first_task <= task; });
    const FinishJob& job = *(after - 1);
    float* const slots = planned.states + worker * planned.slots * padded;
    MergeStack stack;
    RowTarget target;
    const Index begin = (task - job.first_task) * finish_rows, rows = job.job.num_queries * layout.num_heads;
    for (Index row = begin; row < std::min(begin + finish_rows, rows); ++row) {
      stack.reset();
      for (const NodeStates& node : job.nodes) {
        stack.template push_result<Backend>(node.chunks.end - 1, node.states[row], node.outs + row * width, width,
                                            slots, padded, target);
      }
      const float* out = nullptr;
      const SoftmaxState state = stack.template fold<Backend>(slots, padded, padded, &out);
      const Index query = row / layout.num_heads, head = row % layout.num_heads;
      write_row(layout, planned.options, job.job, query, head, state, out);
      if constexpr (ChunkSink<Hooks>) {
        const HookRow named{.sequence = &job - planned.jobs.data(),
                            .query = query,
                            .position = job.places[query],
                            .head = head,
                            .kv_head = head / layout.heads_per_group(),
                            .worker = worker};
        static_cast<Hooks*>(planned.hooks)->finish(finished_row(planned.options, named, state));
      }
    }
  });
}

}  // namespace heed::inline HEED_ABI::detail
