/// \file
/// The edges of a call: the jobs that its sequences become, and a policy's linear maps before and after the kernel.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include <heed/kernel/executor_ref.hpp>
#include <heed/kernel/job.hpp>
#include <heed/kernel/policy_ref.hpp>
#include <heed/kernel/sequence_ref.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// Makes jobs of sequences, and applies the policy's maps. The policy must outlive it.
class Edges {
 public:
  explicit Edges(const PolicyRef& policy) : policy_(policy), layout_(policy.layout) {}

  [[nodiscard]] Index num_queries(const SequenceRef& sequence) const {
    if (sequence.num_queries >= 0) return sequence.num_queries;
    return Index(sequence.q.size()) / (layout_.num_heads * policy_.query_width());
  }

  /// The most jobs that make_jobs() makes of a sequence: one per stage, or one if there are no stages.
  [[nodiscard]] static Index most_jobs(const SequenceRef& sequence) { return std::max<Index>(sequence.stages(), 1); }

  /// Makes the jobs of sequence number `index` at `jobs` and returns how many. connect() gives them the rest.
  Index make_jobs(const SequenceRef& sequence, Index index, Job* jobs) const {
    Job all = empty_job(num_queries(sequence), sequence.slots(), sequence.mask_or_own());
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

  /// A job of this size without a source: enough for Tasks.
  [[nodiscard]] static Job empty_job(Index queries, Index keys, const MaskRef& mask) {
    return {.source = {},
            .num_keys = keys,
            .mask = mask,
            .near_keys = mask.near_keys(),
            .far_keys = mask.far_keys(),
            .num_queries = queries};
  }

  /// Says where the jobs read q and write out and lse; jobs of a sequence without out keep theirs. Mapped queries and
  /// outputs before their map get memory from `carver`.
  void connect(const SequenceList& sequences, std::span<Job> jobs, Carver& carver) const {
    for (std::size_t at = 0; at < jobs.size();) {
      const Index number = jobs[at].sequence;
      const SequenceRef sequence = sequences[std::size_t(number)];
      const Buffers buffers = buffers_of(sequence, carver);
      for (; at < jobs.size() && jobs[at].sequence == number; ++at) {
        Job& job = jobs[at];
        const Index row = job.first_query * layout_.num_heads;
        job.q = buffers.q == nullptr ? nullptr : buffers.q + row * layout_.key_width;
        if (buffers.out != nullptr) job.out = buffers.out + row * layout_.value_width;
        job.lse = buffers.lse == nullptr ? nullptr : buffers.lse + row;
      }
    }
  }
  /// Takes from `carver` what connect() takes for one sequence.
  void take_maps(Index queries, Carver& carver) const { static_cast<void>(mapped(queries, carver)); }

  /// Applies the query map: reads q of the sequences, writes q of the jobs.
  void map_queries(const SequenceList& sequences, std::span<const Job> jobs, ExecutorRef executor,
                   Linear linear) const {
    if (!policy_.query_map) return;
    for_each_head(jobs, executor, [&](const Job& job, Index head) {
      const SequenceRef sequence = sequences[std::size_t(job.sequence)];
      const Index in = policy_.query_width(), out = layout_.key_width;
      policy_.query_map.apply(head, num_queries(sequence), sequence.q.data() + head * in, layout_.num_heads * in,
                              const_cast<float*>(job.q) + head * out, layout_.num_heads * out, linear);
    });
  }

  /// Applies the output map: reads out of the jobs, writes out of the sequences.
  void map_outputs(const SequenceList& sequences, std::span<const Job> jobs, ExecutorRef executor,
                   Linear linear) const {
    if (!policy_.output_map) return;
    for_each_head(jobs, executor, [&](const Job& job, Index head) {
      const SequenceRef sequence = sequences[std::size_t(job.sequence)];
      const Index in = layout_.value_width, out = policy_.output_width();
      policy_.output_map.apply(head, num_queries(sequence), job.out + head * in, layout_.num_heads * in,
                               sequence.out.data() + head * out, layout_.num_heads * out, linear);
    });
  }

 private:
  struct Buffers {
    const float* q = nullptr;
    float* out = nullptr;
    float* lse = nullptr;
  };
  // Memory before and after the maps, null without a map.
  [[nodiscard]] Buffers mapped(Index queries, Carver& carver) const {
    Buffers made;
    if (policy_.query_map) made.q = carver.take<float>(queries * layout_.num_heads * layout_.key_width);
    if (policy_.output_map) made.out = carver.take<float>(queries * layout_.num_heads * layout_.value_width);
    return made;
  }
  [[nodiscard]] Buffers buffers_of(const SequenceRef& sequence, Carver& carver) const {
    Buffers made = mapped(num_queries(sequence), carver);
    if (!policy_.query_map) made.q = sequence.q.data();
    if (!policy_.output_map) made.out = sequence.out.data();
    if (!sequence.lse.empty()) made.lse = sequence.lse.data();
    return made;
  }

  // Calls body(job, head) once per sequence and head. The first stage's job begins the buffers of all stages.
  template <class Body>
  void for_each_head(std::span<const Job> jobs, ExecutorRef executor, const Body& body) const {
    executor.parallel_for(Index(jobs.size()) * layout_.num_heads, [&](Index task, Index) {
      const Job& job = jobs[std::size_t(task / layout_.num_heads)];
      if (job.leads) body(job, task % layout_.num_heads);
    });
  }

  const PolicyRef& policy_;
  const AttentionLayout& layout_;
};

}  // namespace heed::inline HEED_ABI::detail
