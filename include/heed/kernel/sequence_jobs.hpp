/// \file
/// The jobs that the sequences of a call become.
#pragma once

#include <algorithm>
#include <memory>

#include <heed/kernel/job.hpp>
#include <heed/kernel/policy_ref.hpp>
#include <heed/kernel/sequence_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// Queries of a sequence.
[[nodiscard]] inline Index queries_of(const SequenceRef& sequence, const PolicyRef& policy) {
  if (sequence.num_queries >= 0) return sequence.num_queries;
  return Index(sequence.q.size()) / (policy.layout.num_heads * policy.query_width());
}

/// The most jobs that make_jobs() makes of a sequence: one per stage, or one if there are no stages.
[[nodiscard]] inline Index most_jobs(const SequenceRef& sequence) { return std::max<Index>(sequence.stages(), 1); }

/// A job of this size without a source: enough for Tasks.
[[nodiscard]] inline Job empty_job(Index queries, Index keys, const MaskRef& mask) {
  return {.source = {},
          .num_keys = keys,
          .mask = mask,
          .near_keys = mask.near_keys(),
          .far_keys = mask.far_keys(),
          .num_queries = queries};
}

/// Makes the jobs of sequence number `index` at `jobs` and returns how many. EdgeMaps gives them the rest.
[[nodiscard]] inline Index make_jobs(const PolicyRef& policy, const SequenceRef& sequence, Index index, Job* jobs) {
  Job all = empty_job(queries_of(sequence, policy), sequence.slots(), sequence.mask_or_own());
  all.source = sequence.source->ref(sequence.keys);
  all.end = sequence.end();
  all.query_positions = sequence.query_positions;
  all.sequence = index;
  const Index stages = sequence.stages();
  Index made = 0;
  for (Index number = 0; number < stages; ++number) {
    const StageRef stage = sequence.stage(number);
    const Interval queries = stage.queries;
    if (queries.size() == 0) continue;
    Job job = all;
    job.source = stage.source;
    job.num_keys = stage.size;
    job.end = job.num_keys == 0 ? 0 : stage.source.position(job.num_keys - 1) + 1;
    job.num_queries = queries.size();
    if (stage.mask) {
      job.mask = stage.mask;
      job.near_keys = stage.mask.near_keys();
      job.far_keys = stage.mask.far_keys();
    }
    job.stage = number;
    job.first_query = queries.begin;
    job.leads = made == 0;
    std::construct_at(jobs + made++, job);
  }
  if (made > 0) return made;
  std::construct_at(jobs, all);
  return 1;
}

}  // namespace heed::inline HEED_ABI::detail
