/// \file
/// attend(): the one kernel. Every mechanism, cache, codec, mask and backend goes through it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>

#include <heed/attend_options.hpp>
#include <heed/concepts.hpp>
#include <heed/kernel/call_check.hpp>
#include <heed/kernel/edges.hpp>
#include <heed/kernel/run.hpp>
#include <heed/retention/full.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// One sequence of a ragged batch. Nothing is owned, except that a small mask is copied (MaskRef).
///
/// num_queries is q.size() / (num_heads * query width). Without `query_positions` the queries are end-aligned: query i
/// has position p + 1 - num_queries + i, where p is the position of the last key. A draft tree gives its own positions.
///
/// Without a mask the source says what each query sees: by its own mask(), or by its stages (StagedSource). If the
/// source has stages now, neither a mask nor query_positions may be given.
template <KeyValueSource S>
struct Sequence {
  const S* keys = nullptr;    ///< must not be null
  MaskRef mask = {};          ///< no mask: the source's own
  std::span<const float> q;   ///< [num_queries][num_heads][head_dim], or what the policy's query map takes
  std::span<float> out;       ///< [num_queries][num_heads][v_head_dim], or what the policy's output map gives
  std::span<float> lse = {};  ///< [num_queries][num_heads] natural log-sum-exp without sinks, or empty
  std::span<const Index> query_positions = {};  ///< [num_queries], or empty: end-aligned
};

/// Attention of a batch of sequences:
///
///     s_j = scale * (q . k_j) -> soft-cap -> ALiBi -> mask;   out = sum_j softmax_j(s) v_j;   lse = ln sum_j e^s_j
///
/// over the keys each query sees. Shapes are those of Sequence. A query that sees nothing gets out = 0 and lse = -inf.
/// A NaN or infinity reaches only the queries that see its key.
///
/// Results have the same bits for any number of workers, batch composition, tiling of the cache and chunking of the
/// queries (same ISA and build). Sums are fp32; the error bound is in docs/design.md.
///
/// `workspace` grows if it owns its memory and is too small; workspace_bytes() says how much is needed. Nothing else is
/// allocated. Outputs must not overlap queries, nor each other.
///
/// Errors, which leave all outputs untouched: invalid_argument naming the argument and the number; unsupported under
/// parts of fast-math; out_of_memory; and what a cache's view says of itself (LayerView::readable), for example
/// wrong_state naming a layer and stream that the open step has not written.
template <SimdBackend Backend, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_batch(const P& policy, std::span<const Sequence<S>> sequences, Workspace& workspace, E& executor,
                    const AttendOptions& options = {}) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const AttentionLayout layout = policy.layout();
  if (Status status = detail::check_options(layout, options); !status.ok()) return status;
  const auto edges = detail::Edges(policy, layout);
  if (Status status = detail::check_sizes(layout, edges, executor.workers()); !status.ok()) return status;
  const bool rotates = detail::rotates_keys(policy);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (Status status = detail::check_sequence(layout, edges, rotates, sequences[i], Index(i)); !status.ok())
      return status;
  }
  const auto preparation_object = policy.preparation();
  const auto preparation = detail::PreparationRef::to<Backend>(preparation_object);

  Index most_jobs = 0;
  for (const Sequence<S>& sequence : sequences) most_jobs += edges.most_jobs(sequence);
  detail::Carver first(nullptr);
  (void)first.take<detail::Job>(most_jobs);
  if (Status status = workspace.reserve(first.bytes()); !status.ok()) return status;
  for (bool sized = false;; sized = true) {  // first only count what is needed, then place it
    detail::Carver carver(sized ? workspace.data() : nullptr);
    (void)carver.take<detail::Job>(most_jobs);
    auto* const jobs_memory = reinterpret_cast<detail::Job*>(workspace.data());
    Index count = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      count += edges.make_jobs(sequences[i], Index(i), jobs_memory + count, carver);
    }
    const std::span<detail::Job> jobs(jobs_memory, std::size_t(count));
    const detail::Plan plan(layout, preparation, jobs, executor.workers());
    const auto scratch = detail::CallScratch::carve(carver, plan);
    if (!sized) {
      if (Status status = workspace.reserve(carver.bytes()); !status.ok()) return status;
      continue;
    }
    using K = typename S::KeyCodec;
    using V = std::conditional_t<P::key_stream == P::value_stream, K, typename S::ValueCodec>;
    const auto exec = detail::ExecutorRef::to(executor);
    edges.template map_queries<Backend>(sequences, jobs, exec);
    detail::run<Backend, K, V>(layout, preparation, options, jobs, plan, scratch, exec);
    edges.template map_outputs<Backend>(sequences, jobs, exec);
    return {};
  }
}

/// Attention of one sequence. Shapes as in Sequence, all else as in attend_batch().
template <SimdBackend Backend, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const P& policy, std::span<const float> q, const S& keys, MaskRef mask, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {},
              std::span<const Index> query_positions = {}) {
  const Sequence<S> sequence{
      .keys = &keys, .mask = mask, .q = q, .out = out, .lse = lse, .query_positions = query_positions};
  return attend_batch<Backend>(policy, std::span<const Sequence<S>>(&sequence, 1), workspace, executor, options);
}

/// The same with a mask that MaskRef does not copy. A temporary is fine: the mask only has to live as long as the call.
template <SimdBackend Backend, AttentionPolicy P, KeyValueSource S, AttentionMask M, Executor E>
  requires(!MaskRef::copies<M>)
Status attend(const P& policy, std::span<const float> q, const S& keys, const M& mask, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {},
              std::span<const Index> query_positions = {}) {
  return attend<Backend>(policy, q, keys, MaskRef(mask), out, workspace, executor, options, lse, query_positions);
}

/// The same without a mask: the source's own mask or stages say what each query sees (a cache's retention rule).
template <SimdBackend Backend, AttentionPolicy P, KeyValueSource S, Executor E>
  requires(detail::MaskedSource<S> || StagedSource<S>)
Status attend(const P& policy, std::span<const float> q, const S& keys, std::span<float> out, Workspace& workspace,
              E& executor, const AttendOptions& options = {}, std::span<float> lse = {}) {
  return attend<Backend>(policy, q, keys, MaskRef(), out, workspace, executor, options, lse);
}

/// Bytes of workspace that suffice for every attend() of this policy with one sequence of at most `num_queries` queries
/// and `num_keys` keys, on an executor with `workers` workers. Reserve them once, and no step allocates.
///
/// num_keys counts the keys of the source and the slots of removed ones. The bytes suffice for any mask, for memory of
/// any alignment, and for a staged source with at most `num_stages` stages of at most num_keys keys each. A call has at
/// most one stage per query. invalid_argument for a wrong policy or a number out of range.
template <AttentionPolicy P>
[[nodiscard]] Result<std::size_t> workspace_bytes(const P& policy, Index num_queries, Index num_keys, Index workers,
                                                  Index num_stages = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const AttentionLayout layout = policy.layout();
  const auto edges = detail::Edges(policy, layout);
  Status status = detail::check_sizes(layout, edges, workers);
  if (status.ok()) status = detail::check_range("num_queries", num_queries, 0, detail::most_tokens);
  if (status.ok()) status = detail::check_range("num_keys", num_keys, 0, detail::most_tokens);
  if (status.ok()) status = detail::check_range("num_stages", num_stages, 1, detail::most_tokens);
  const Count rows = Count(num_queries) * layout.num_heads, width = std::max(layout.key_width, layout.value_width);
  if (status.ok() && (rows * width).value() > detail::most_numbers) {
    status = fail(StatusCode::invalid_argument, "num_queries is ", num_queries, ", with ", layout.num_heads,
                  " heads of ", width, " it must make at most ", detail::most_numbers, " numbers");
  }
  if (!status.ok()) return status;
  const auto preparation_object = policy.preparation();
  const Unmasked mask;
  detail::Carver carver(nullptr);
  (void)carver.take<detail::Job>(num_stages);
  detail::Job job = edges.empty_job(num_queries, num_keys, mask, carver);
  const detail::Plan plan(layout, detail::PreparationRef::shape_of(preparation_object), {&job, 1}, workers);
  detail::CallScratch::carve(carver, plan);
  const std::uint64_t bytes = carver.bytes() + Workspace::alignment;
  if (bytes > std::uint64_t(std::numeric_limits<std::ptrdiff_t>::max())) {
    return fail(StatusCode::out_of_memory, "workspace_bytes(): ", bytes, " bytes are more than there are addresses");
  }
  return std::size_t(bytes);
}

}  // namespace heed::inline HEED_ABI
