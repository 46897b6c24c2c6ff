/// \file
/// attend() behind its types: checks a call, plans it, gives it memory and runs it.
#pragma once

#include <algorithm>
#include <span>

#include <heed/kernel/call_check.hpp>
#include <heed/kernel/edge_maps.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/kernel/planned_call.hpp>
#include <heed/kernel/planner.hpp>

namespace heed::inline HEED_ABI::detail {

/// What one call remembers. A single KV head asks once in any case.
[[nodiscard]] inline AnswerLimits limits_of_call(const AttentionLayout& layout) noexcept {
  return layout.num_kv_heads > 1 ? call_limits : AnswerLimits{};
}

/// attend_batch() of a policy that is valid. It is the same for all kernels; each table points to it, so that a program
/// whose kernels are compiled elsewhere does not compile this either.
inline Status call(const Kernel& kernel, const PolicyRef& policy, const SequenceList& sequences, Workspace& workspace,
                   ExecutorRef executor, const AttendOptions& options) {
  const AttentionLayout& layout = policy.layout;
  if (Status status = check_options(layout, options); !status.ok()) return status;
  if (Status status = check_sizes(policy, executor.workers); !status.ok()) return status;
  Index most_jobs = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRef sequence = sequences[i];
    if (Status status = check_sequence(kernel, policy, sequence, Index(i)); !status.ok()) return status;
    most_jobs += detail::most_jobs(sequence);
  }
  const EdgeMaps maps(policy);
  for (;;) {  // again if the workspace had to grow: its contents are then lost
    Carver carver(workspace);
    Job* const first = carver.take<Job>(most_jobs);
    if (carver.fits()) {
      Index count = 0;
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        count += make_jobs(policy, sequences[i], Index(i), first + count);
      }
      const std::span<Job> jobs(first, std::size_t(count));
      const Tasks tasks(layout, policy.preparation, jobs, executor.workers, kernel.math_sizes);
      const AnswerMemory answers = AnswerMemory::carve(carver, sizes_of(tasks, jobs).limited(limits_of_call(layout)));
      maps.connect(sequences, jobs, carver);
      const CallScratch scratch = CallScratch::carve(carver, tasks);
      if (carver.fits()) {
        if (answers.sizes.visibilities > 0) Planner(layout, tasks, answers).answer(jobs);
        maps.map_queries(sequences, jobs, executor, kernel.linear);
        kernel.run({layout, policy.preparation, options, jobs, tasks, scratch, executor, kernel.prepared,
                    kernel.hooks});
        maps.map_outputs(sequences, jobs, executor, kernel.linear);
        return {};
      }
    }
    if (Status status = workspace.reserve(carver.bytes()); !status.ok()) return status;
  }
}

/// invalid_argument unless calls of this size can be counted.
inline Status check_counts(const PolicyRef& policy, Index num_queries, Index num_keys, Index workers,
                           Index num_stages) {
  const AttentionLayout& layout = policy.layout;
  Status status = check_sizes(policy, workers);
  if (status.ok()) status = check_range("num_queries", num_queries, 0, most_tokens);
  if (status.ok()) status = check_range("num_keys", num_keys, 0, most_tokens);
  if (status.ok()) status = check_range("num_stages", num_stages, 1, most_tokens);
  if (!status.ok()) return status;
  return check_query_numbers(num_queries, layout.num_heads, std::max(layout.key_width, layout.value_width));
}

/// workspace_bytes() of a policy that is valid, for kernels of a math of these sizes.
inline Result<std::size_t> call_bytes(const PolicyRef& policy, Index num_queries, Index num_keys, Index workers,
                                      Index num_stages, const MathSizes& math) {
  const AttentionLayout& layout = policy.layout;
  if (Status status = check_counts(policy, num_queries, num_keys, workers, num_stages); !status.ok()) return status;
  const Unmasked mask;
  Carver carver(nullptr);
  (void)carver.take<Job>(num_stages);
  Job job = empty_job(num_queries, num_keys, mask);
  const Tasks tasks(layout, policy.preparation, {&job, 1}, workers, math);
  AnswerMemory::carve(carver, sizes_of(tasks, job, num_stages).limited(limits_of_call(layout)));
  EdgeMaps(policy).take_maps(num_queries, carver);
  CallScratch::carve(carver, tasks);
  return counted_bytes("workspace_bytes()", carver.bytes());
}

}  // namespace heed::inline HEED_ABI::detail
