/// \file
/// attend() behind its types: checks a call, plans it, gives it memory and runs it.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include <heed/kernel/call_check.hpp>
#include <heed/kernel/edges.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/kernel/planned_call.hpp>

namespace heed::inline HEED_ABI::detail {

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
    most_jobs += Edges::most_jobs(sequence);
  }
  const Edges edges(policy);
  Carver first(nullptr);
  (void)first.take<Job>(most_jobs);
  if (Status status = workspace.reserve(first.bytes()); !status.ok()) return status;
  for (bool sized = false;; sized = true) {  // first only count what is needed, then place it
    Carver carver(sized ? workspace.data() : nullptr);
    (void)carver.take<Job>(most_jobs);
    auto* const jobs_memory = reinterpret_cast<Job*>(workspace.data());
    Index count = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      count += edges.make_jobs(sequences[i], Index(i), jobs_memory + count, carver);
    }
    const std::span<Job> jobs(jobs_memory, std::size_t(count));
    const Plan plan(layout, policy.preparation, jobs, executor.workers, kernel.math_sizes);
    const CallScratch scratch = CallScratch::carve(carver, plan);
    if (!sized) {
      if (Status status = workspace.reserve(carver.bytes()); !status.ok()) return status;
      continue;
    }
    edges.map_queries(sequences, jobs, executor, kernel.linear);
    kernel.run({layout, policy.preparation, options, jobs, plan, scratch, executor, kernel.hooks});
    edges.map_outputs(sequences, jobs, executor, kernel.linear);
    return {};
  }
}

/// workspace_bytes() of a policy that is valid, for kernels of a math of these sizes.
inline Result<std::size_t> call_bytes(const PolicyRef& policy, Index num_queries, Index num_keys, Index workers,
                                      Index num_stages, const MathSizes& math) {
  const AttentionLayout& layout = policy.layout;
  Status status = check_sizes(policy, workers);
  if (status.ok()) status = check_range("num_queries", num_queries, 0, most_tokens);
  if (status.ok()) status = check_range("num_keys", num_keys, 0, most_tokens);
  if (status.ok()) status = check_range("num_stages", num_stages, 1, most_tokens);
  const Count rows = Count(num_queries) * layout.num_heads, width = std::max(layout.key_width, layout.value_width);
  if (status.ok() && (rows * width).value() > most_numbers) {
    status = fail(StatusCode::invalid_argument, "num_queries is ", num_queries, ", with ", layout.num_heads,
                  " heads of ", width, " it must make at most ", most_numbers, " numbers");
  }
  if (!status.ok()) return status;
  const Unmasked mask;
  Carver carver(nullptr);
  (void)carver.take<Job>(num_stages);
  Job job = Edges(policy).empty_job(num_queries, num_keys, mask, carver);
  const Plan plan(layout, policy.preparation, {&job, 1}, workers, math);
  CallScratch::carve(carver, plan);
  const std::uint64_t bytes = carver.bytes() + Workspace::alignment;
  if (bytes > std::uint64_t(std::numeric_limits<std::ptrdiff_t>::max())) {
    return fail(StatusCode::out_of_memory, "workspace_bytes(): ", bytes, " bytes are more than there are addresses");
  }
  return std::size_t(bytes);
}

}  // namespace heed::inline HEED_ABI::detail
