/// \file
/// The edges of a call: a policy's linear maps before and after the kernel, and the jobs between them.
#pragma once

#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <heed/kernel/executor_ref.hpp>
#include <heed/kernel/job.hpp>
#include <heed/kernel/mask_check.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// The query map and the output map of policy `P`. An Identity costs nothing.
template <AttentionPolicy P>
class Edges {
  using QueryMap = std::remove_cvref_t<decltype(std::declval<const P&>().query_map())>;
  using OutputMap = std::remove_cvref_t<decltype(std::declval<const P&>().output_map())>;
  static constexpr bool maps_queries = !std::is_same_v<QueryMap, Identity>;
  static constexpr bool maps_outputs = !std::is_same_v<OutputMap, Identity>;

 public:
  Edges(const P& policy, const AttentionLayout& layout)
      : layout_(layout), query_map_(policy.query_map()), output_map_(policy.output_map()) {}

  /// Numbers per query head that the caller gives in q, and that it gets in out.
  [[nodiscard]] Index query_width() const {
    if constexpr (maps_queries) return query_map_.in_width();
    return layout_.key_width;
  }
  [[nodiscard]] Index output_width() const {
    if constexpr (maps_outputs) return output_map_.out_width();
    return layout_.value_width;
  }

  /// invalid_argument if a width that the policy states twice differs: the kernel would read beyond rows and queries.
  [[nodiscard]] Status check_widths() const {
    const auto same = [](const char* name, Index width, const char* other, Index wanted) -> Status {
      if (width == wanted) return {};
      return fail(StatusCode::invalid_argument, "policy: ", name, " is ", width, ", must be ", other, " ", wanted);
    };
    Status status;
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(std::declval<const P&>().preparation())>, Identity>) {
      status = same("layout().key_width", layout_.key_width, "the width of its key view,", layout_.key.width);
      if (status.ok()) {
        status = same("layout().value_width", layout_.value_width, "the width of its value view,", layout_.value.width);
      }
    }
    if constexpr (maps_queries) {
      if (status.ok()) {
        status = same("query_map().out_width()", query_map_.out_width(), "layout().key_width", layout_.key_width);
      }
    }
    if constexpr (maps_outputs) {
      if (status.ok()) {
        status = same("output_map().in_width()", output_map_.in_width(), "layout().value_width", layout_.value_width);
      }
    }
    return status;
  }

  template <class Sequence>
  [[nodiscard]] Index num_queries(const Sequence& sequence) const {
    return Index(sequence.q.size()) / (layout_.num_heads * query_width());
  }

  /// The most jobs that make_jobs() makes of a sequence: one per stage, or one if there are no stages.
  template <class Sequence>
  [[nodiscard]] static Index most_jobs(const Sequence& sequence) {
    if constexpr (StagedSource<std::remove_cvref_t<decltype(*sequence.keys)>>) {
      return std::max<Index>(sequence.keys->stages(), 1);
    }
    return 1;
  }

  /// Makes the jobs of sequence number `index` at `jobs` and returns how many. Mapped queries and outputs before their
  /// map get memory from `carver`.
  template <class Sequence>
  Index make_jobs(const Sequence& sequence, Index index, Job* jobs, Carver& carver) const {
    const auto& keys = *sequence.keys;
    Job all = empty_job(num_queries(sequence), slots_of(keys), mask_of(sequence), carver);
    all.source = SourceRef::to(keys);
    all.end = end_of(keys);
    if constexpr (!maps_queries) all.q = sequence.q.data();
    if constexpr (!maps_outputs) all.out = sequence.out.data();
    all.lse = sequence.lse.empty() ? nullptr : sequence.lse.data();
    all.query_positions = sequence.query_positions;
    all.sequence = index;
    if constexpr (StagedSource<std::remove_cvref_t<decltype(keys)>>) {
      Index made = 0;
      for (Index stage = 0; stage < keys.stages(); ++stage) {
        const Interval queries = keys.stage_queries(stage);
        if (queries.size() == 0) continue;
        Job job = all;
        job.source = SourceRef::to_stage(keys, stage);
        job.num_keys = keys.stage_size(stage);
        job.end = job.num_keys == 0 ? 0 : keys.stage_position(stage, job.num_keys - 1) + 1;
        job.num_queries = queries.size();
        if constexpr (requires { keys.stage_mask(stage); }) {
          if (const MaskRef mask = keys.stage_mask(stage)) {
            job.mask = mask;
            job.near_keys = mask.near_keys();
            job.far_keys = mask.far_keys();
          }
        }
        const Index row = queries.begin * layout_.num_heads;
        if (job.q != nullptr) job.q += row * layout_.key_width;  // null while `carver` only counts
        if (job.out != nullptr) job.out += row * layout_.value_width;
        if (job.lse != nullptr) job.lse += row;
        job.first_stage = made == 0;
        std::construct_at(jobs + made++, job);
      }
      if (made > 0) return made;
    }
    std::construct_at(jobs, all);
    return 1;
  }

  /// A job of this size without a source: enough for a Plan.
  [[nodiscard]] Job empty_job(Index queries, Index keys, MaskRef mask, Carver& carver) const {
    Job job{.source = {},
            .num_keys = keys,
            .mask = mask,
            .near_keys = mask.near_keys(),
            .far_keys = mask.far_keys(),
            .num_queries = queries};
    if constexpr (maps_queries) job.q = carver.take<float>(queries * layout_.num_heads * layout_.key_width);
    if constexpr (maps_outputs) job.out = carver.take<float>(queries * layout_.num_heads * layout_.value_width);
    return job;
  }

  /// Applies the query map: reads q of the sequences, writes q of the jobs.
  template <SimdBackend Backend, class Sequence>
  void map_queries(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor) const {
    if constexpr (maps_queries) {
      for_each_head(sequences, jobs, executor, [&](const Sequence& sequence, const Job& job, Index head) {
        const Index in = query_width(), out = layout_.key_width;
        query_map_.apply(head, num_queries(sequence), sequence.q.data() + head * in, layout_.num_heads * in,
                         const_cast<float*>(job.q) + head * out, layout_.num_heads * out, &Backend::linear);
      });
    }
  }

  /// Applies the output map: reads out of the jobs, writes out of the sequences.
  template <SimdBackend Backend, class Sequence>
  void map_outputs(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor) const {
    if constexpr (maps_outputs) {
      for_each_head(sequences, jobs, executor, [&](const Sequence& sequence, const Job& job, Index head) {
        const Index in = layout_.value_width, out = output_width();
        output_map_.apply(head, num_queries(sequence), job.out + head * in, layout_.num_heads * in,
                          sequence.out.data() + head * out, layout_.num_heads * out, &Backend::linear);
      });
    }
  }

 private:
  // Calls body(sequence, job, head) once per sequence and head. The first stage's job begins the buffers of all stages.
  template <class Sequence, class Body>
  void for_each_head(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor,
                     const Body& body) const {
    executor.parallel_for(Index(jobs.size()) * layout_.num_heads, [&](Index task, Index) {
      const Job& job = jobs[std::size_t(task / layout_.num_heads)];
      if (job.first_stage) body(sequences[std::size_t(job.sequence)], job, task % layout_.num_heads);
    });
  }

  AttentionLayout layout_;
  QueryMap query_map_;
  OutputMap output_map_;
};

}  // namespace heed::inline HEED_ABI::detail
