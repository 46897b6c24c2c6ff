/// \file
/// The edges of a call: argument checks, and a policy's linear maps before and after the kernel.
#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <type_traits>

#include <heed/kernel/plan.hpp>
#include <heed/kernel/run.hpp>

namespace heed::inline HEED_ABI::detail {

/// The maps of policy `P`, with Identity compiled away.
template <AttentionPolicy P>
class Edges {
  using QueryMap = std::remove_cvref_t<decltype(std::declval<const P&>().query_map())>;
  using OutputMap = std::remove_cvref_t<decltype(std::declval<const P&>().output_map())>;
  static constexpr bool maps_queries = !std::is_same_v<QueryMap, Identity>;
  static constexpr bool maps_outputs = !std::is_same_v<OutputMap, Identity>;

 public:
  Edges(const P& policy, const AttentionLayout& layout)
      : layout_(layout), query_map_(policy.query_map()), output_map_(policy.output_map()) {}

  /// Width of what the caller gives and takes per query head.
  [[nodiscard]] Index query_width() const {
    if constexpr (maps_queries) return query_map_.in_width();
    return layout_.key_width;
  }
  [[nodiscard]] Index output_width() const {
    if constexpr (maps_outputs) return output_map_.out_width();
    return layout_.value_width;
  }

  /// The job of one sequence; room for mapped queries and raw outputs comes from `carver`.
  template <class Sequence>
  [[nodiscard]] Job job(const Sequence& sequence, Carver& carver) const {
    const Index queries = Index(sequence.q.size()) / (layout_.num_heads * query_width());
    Job job = empty_job(queries, sequence.keys->size(), sequence.mask, carver);
    job.source = SourceRef::to(*sequence.keys);
    if constexpr (!maps_queries) job.q = sequence.q.data();
    if constexpr (!maps_outputs) job.out = sequence.out.data();
    job.lse = sequence.lse.empty() ? nullptr : sequence.lse.data();
    job.query_positions = sequence.query_positions;
    return job;
  }

  /// A job of that size without data: enough to plan.
  [[nodiscard]] Job empty_job(Index queries, Index keys, MaskRef mask, Carver& carver) const {
    Job job{.source = {}, .num_keys = keys, .mask = mask, .num_queries = queries};
    if constexpr (maps_queries) job.q = carver.take<float>(queries * layout_.num_heads * layout_.key_width);
    if constexpr (maps_outputs) job.out = carver.take<float>(queries * layout_.num_heads * layout_.value_width);
    return job;
  }

  template <SimdBackend Backend, class Sequence>
  void map_queries(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor) const {
    if constexpr (maps_queries) {
      for_each_head(jobs, executor, [&](std::size_t s, Index head) {
        const Index in = query_width(), out = layout_.key_width;
        query_map_.apply(head, jobs[s].num_queries, sequences[s].q.data() + head * in, layout_.num_heads * in,
                         const_cast<float*>(jobs[s].q) + head * out, layout_.num_heads * out, &Backend::linear);
      });
    }
  }

  template <SimdBackend Backend, class Sequence>
  void map_outputs(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor) const {
    if constexpr (maps_outputs) {
      for_each_head(jobs, executor, [&](std::size_t s, Index head) {
        const Index in = layout_.value_width, out = output_width();
        output_map_.apply(head, jobs[s].num_queries, jobs[s].out + head * in, layout_.num_heads * in,
                          sequences[s].out.data() + head * out, layout_.num_heads * out, &Backend::linear);
      });
    }
  }

 private:
  template <class Body>
  void for_each_head(std::span<const Job> jobs, ExecutorRef executor, const Body& body) const {
    executor.parallel_for(Index(jobs.size()) * layout_.num_heads, [&](Index task, Index) {
      body(std::size_t(task / layout_.num_heads), task % layout_.num_heads);
    });
  }

  AttentionLayout layout_;
  QueryMap query_map_;
  OutputMap output_map_;
};

inline Status check_options(const AttentionLayout& layout, const AttendOptions& options) {
  if (!(options.soft_cap >= 0) || std::isinf(options.soft_cap)) {
    return fail(StatusCode::invalid_argument, "soft_cap is ", options.soft_cap, ", must be finite and at least 0");
  }
  if (!options.alibi_slopes.empty() && Index(options.alibi_slopes.size()) != layout.num_heads) {
    return fail(StatusCode::invalid_argument, "alibi_slopes has ", options.alibi_slopes.size(),
                " numbers, must have num_heads = ", layout.num_heads, " or none");
  }
  if (!options.sink_logits.empty() && Index(options.sink_logits.size()) != layout.num_heads) {
    return fail(StatusCode::invalid_argument, "sink_logits has ", options.sink_logits.size(),
                " numbers, must have num_heads = ", layout.num_heads, " or none");
  }
  return {};
}

template <AttentionPolicy P, class Sequence>
Status check_sequence(const AttentionLayout& layout, const Edges<P>& edges, const Sequence& sequence, Index index) {
  const auto bad = [index](const auto&... parts) {
    return fail(StatusCode::invalid_argument, "sequence ", index, ": ", parts...);
  };
  if (sequence.keys == nullptr) return bad("keys is null");
  const Index q_row = layout.num_heads * edges.query_width(), out_row = layout.num_heads * edges.output_width();
  const auto q_size = Index(sequence.q.size()), out_size = Index(sequence.out.size());
  if (q_size % q_row != 0) {
    return bad("q has ", q_size, " numbers, must be a multiple of num_heads * head_dim = ", q_row);
  }
  const Index queries = q_size / q_row;
  if (out_size != queries * out_row) {
    return bad("out has ", out_size, " numbers, must have ", queries * out_row, " for ", queries, " queries");
  }
  if (!sequence.lse.empty() && Index(sequence.lse.size()) != queries * layout.num_heads) {
    return bad("lse has ", sequence.lse.size(), " numbers, must have ", queries * layout.num_heads, " or none");
  }
  if (!sequence.query_positions.empty() && Index(sequence.query_positions.size()) != queries) {
    return bad("query_positions has ", sequence.query_positions.size(), " numbers, must have ", queries, " or none");
  }
  if constexpr (requires { sequence.keys->layout(); }) {
    const AttentionLayout cached = sequence.keys->layout();
    if (cached.num_streams != layout.num_streams || cached.streams != layout.streams) {
      return bad("keys come from a cache of another shape: first stream ", cached.streams[0].num_heads, " heads of ",
                 cached.streams[0].width, ", the policy's ", layout.streams[0].num_heads, " of ",
                 layout.streams[0].width);
    }
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
