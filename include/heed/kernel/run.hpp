/// \file
/// Runs a planned call: first all tasks, then the merge of the blocks that were cut into parts.
#pragma once

#include <cmath>

#include <heed/attend_options.hpp>
#include <heed/floats.hpp>
#include <heed/kernel/planned_call.hpp>
#include <heed/kernel/row_block.hpp>

namespace heed::inline HEED_ABI::detail {

/// What the keys of a row have of the probability if a sink logit has the rest.
inline float share_of_keys(const SoftmaxState& state, float sink) noexcept {
  const float max = sink > state.max ? sink : state.max;
  const float kept = state.sum * Scalar::exp(state.max - max);
  return kept / (kept + Scalar::exp(sink - max));
}

/// Writes one row, finished unless the job keeps states. The sink logit joins the denominator here and nowhere else.
inline void write_row(const AttentionLayout& layout, const AttendOptions& options, const Job& job, Index query,
                      Index head, const SoftmaxState& state, const float* out) {
  const Index row = query * layout.num_heads + head;
  float* to = job.out + row * layout.value_width;
  if (job.states != nullptr) job.states[row] = state;
  if (job.lse != nullptr) job.lse[row] = state.lse();
  if (state.empty()) {
    detail::fill(to, to + layout.value_width, 0.0f);
    return;
  }
  if (job.states != nullptr || options.sink_logits.empty()) {
    detail::copy(out, out + layout.value_width, to);
    return;
  }
  const float weight = share_of_keys(state, options.sink_logits[std::size_t(head)]);
  for (Index d = 0; d < layout.value_width; ++d) to[d] = out[d] * weight;
}

/// What a sink is told of a row at its end.
[[nodiscard]] inline FinishedRow finished_row(const AttendOptions& options, const HookRow& row,
                                              const SoftmaxState& state) noexcept {
  const bool shares = !state.empty() && !options.sink_logits.empty();
  return {.row = row,
          .max = state.max,
          .sum = state.sum,
          .share = shares ? share_of_keys(state, options.sink_logits[std::size_t(row.head)]) : 1.0f};
}

/// Tells hooks of a finished row: row `r` of the task. A job that keeps states finishes none: finish() does.
template <class Hooks>
void finish_row(const PlannedCall& call, const Task& task, Index r, const SoftmaxState& state, Index worker) {
  const Job& job = call.jobs[std::size_t(task.job)];
  if (job.states != nullptr) return;
  const Index group = call.layout.heads_per_group(), row = task.rows.begin + r;
  const HookRow named = hook_row(job, row / group, task.kv_head * group + row % group, task.kv_head, worker);
  static_cast<Hooks*>(call.hooks)->finish(finished_row(call.options, named, state));
}

/// Runs the jobs of a call whose arguments were checked. Results go to the jobs' out and lse. `Hooks` is the type of what
/// planned.hooks points at.
template <class Backend, Codec K, Codec V, class M = math::F32, class Hooks = NoHooks>
void run(const PlannedCall& planned) {
  const AttentionLayout& layout = planned.layout;
  const PreparationRef& preparation = planned.preparation;
  const AttendOptions& options = planned.options;
  const std::span<const Job> jobs = planned.jobs;
  const Tasks& tasks = planned.tasks;
  const ExecutorRef executor = planned.executor;
  const TaskShape& shape = tasks.shape();
  const Index group = shape.group;
  const auto write = [&](const Task& task, Index r, const SoftmaxState& state, const float* out,
                         [[maybe_unused]] Index worker) {
    const Index row = task.rows.begin + r;
    const Index query = quotient(row, group);
    write_row(layout, options, jobs[std::size_t(task.job)], query, task.kv_head * group + row - query * group, state,
              out);
    if constexpr (ChunkSink<Hooks>) finish_row<Hooks>(planned, task, r, state, worker);
  };
  const auto attend_task = [&](Index index, Index worker) {
    const Task task = tasks.task(index);
    const Scratch scratch = planned.scratch.worker(worker, shape);
    RowBlock<Backend, K, V, M, Hooks> block(layout, preparation, planned.prepared, options, shape, scratch);
    if constexpr (AttendHooks<Hooks>) block.set_hooks(*static_cast<Hooks*>(planned.hooks), worker);
    block.run(jobs[std::size_t(task.job)], task);
    for (Index r = 0; r < task.rows.size(); ++r) {
      const float* out = nullptr;
      const SoftmaxState state = block.row_state(r, &out);
      if (task.part < 0) {
        write(task, r, state, out, worker);
        continue;
      }
      const Index at = task.part * shape.max_rows + r;
      planned.scratch.partial_states[at] = state;
      if (out == nullptr) continue;
      detail::copy(out, out + shape.state_width, planned.scratch.partial_outs + at * shape.state_width);
    }
  };
  executor.parallel_for(tasks.num_tasks(), attend_task);

  // A part is a node of the merge tree, so parts merge as chunks do.
  const auto merge_block = [&](Index index, Index worker) {
    const Task task = tasks.block(index);
    if (task.part < 0) return;
    const Job& job = jobs[std::size_t(task.job)];
    const Scratch scratch = planned.scratch.worker(worker, shape);
    MergeStack& stack = scratch.stacks[0];
    RowTarget& target = scratch.targets[0];
    for (Index r = 0; r < task.rows.size(); ++r) {
      stack.reset();
      for (Index part = 0; part < job.parts; ++part) {
        const Index at = (task.part + part) * shape.max_rows + r;
        stack.template push_result<Backend>(tasks.part_node(job, part), planned.scratch.partial_states[at],
                                            planned.scratch.partial_outs + at * shape.state_width, shape.state_width,
                                            scratch.states, shape.state_width, target);
      }
      const float* out = nullptr;
      const SoftmaxState state =
          stack.template fold<Backend>(scratch.states, shape.state_width, shape.state_width, &out);
      write(task, r, state, out, worker);
    }
  };
  if (tasks.cut()) executor.parallel_for(tasks.num_blocks(), merge_block);
}

}  // namespace heed::inline HEED_ABI::detail
