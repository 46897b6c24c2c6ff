/// \file
/// A policy's linear maps before and after the kernel, and the memory between them and the kernel.
#pragma once

#include <span>

#include <heed/kernel/executor_ref.hpp>
#include <heed/kernel/sequence_jobs.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// Connects jobs with what lies before and after the maps, and applies the maps. The policy must outlive it.
class EdgeMaps {
 public:
  explicit EdgeMaps(const PolicyRef& policy) : policy_(policy), layout_(policy.layout) {}

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
      policy_.query_map.apply(head, queries_of(sequence, policy_), sequence.q.data() + head * in, layout_.num_heads * in,
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
      policy_.output_map.apply(head, queries_of(sequence, policy_), job.out + head * in, layout_.num_heads * in,
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
    Buffers made = mapped(queries_of(sequence, policy_), carver);
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
