/// \file
/// attend_partial() and attend_finish(): attention over a part of the keys at a time.
///
/// attend() of all keys at once and attend_partial() of any cut of them, merged by attend_finish(), give the same bits. So
/// several threads, machines or caches can each read their own keys, and queries of many sequences can read a prefix
/// that these share in one call (docs/cascades.md).
#pragma once

#include <span>

#include <heed/attend.hpp>
#include <heed/kernel/finish_call.hpp>
#include <heed/kernel/partial_call.hpp>

namespace heed::inline HEED_ABI {

/// One sequence of attend_partial_batch(): that of attend_batch(), without outputs. Nothing is owned, except that a small
/// mask is copied (MaskRef).
///
/// Without `query_positions` the queries are end-aligned to these keys. So queries that come after other keys than these
/// need positions. attend_finish() refuses parts in which a query has different ones.
template <KeyValueSource S>
struct PartialSequence {
  const S* keys = nullptr;          ///< must not be null
  MaskRef mask = {};                ///< no mask: the source's own
  std::span<const float> q;         ///< [num_queries][num_heads][head_dim], or what the policy's query map takes
  KeyRange range = {};              ///< the chunks of keys that these states answer for
  PartialStates* states = nullptr;  ///< written; must not be null. Another one for each sequence
  std::span<const Index> query_positions = {};  ///< [num_queries], or empty: end-aligned
};

/// Attention over the chunks of `range`, unfinished: the states of PartialStates, before sink logits and output map. The
/// query map is applied. All keys, masks and policies that attend() takes may be given, also staged sources.
///
/// One call reads its keys once for up to 192 query rows of a KV head. So the queries of many sequences over a prefix that
/// they share are one sequence of this call.
///
/// A kernel with hooks calls them for these keys. It does not call finish() of a sink, because no row is finished here:
/// attend_finish() does, if its kernel has the sink.
///
/// `states` and `workspace` grow if they own their memory and it is too small; partial_states_bytes() and
/// partial_workspace_bytes() say how much is needed. Nothing else is allocated. `options.sink_logits` is not used here.
///
/// Errors are those of attend_batch(), with the same messages; in addition invalid_argument for a wrong `range` or
/// `states`. They leave all states as they were.
template <AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_partial_batch(const Kernel& kernel, const P& policy, std::span<const PartialSequence<S>> sequences,
                            Workspace& workspace, E& executor, const AttendOptions& options = {}) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  const auto list = detail::PartialList::to<PartialSequence<S>, S>(sequences);
  return detail::PartialCall(kernel, parts.ref(), list, options).run(workspace, detail::ExecutorRef::to(executor));
}

/// The same with the kernel of `Backend` for the sources' codecs.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_partial_batch(const P& policy, std::span<const PartialSequence<S>> sequences, Workspace& workspace,
                            E& executor, const AttendOptions& options = {}) {
  return attend_partial_batch(detail::kernel_of<Backend, P, S, M>(), policy, sequences, workspace, executor, options);
}

/// One sequence. Shapes as in PartialSequence, all else as in attend_partial_batch().
template <AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_partial(const Kernel& kernel, const P& policy, std::span<const float> q, const S& keys, MaskRef mask,
                      const KeyRange& range, PartialStates& states, Workspace& workspace, E& executor,
                      const AttendOptions& options = {}, std::span<const Index> query_positions = {}) {
  const PartialSequence<S> sequence{
      .keys = &keys, .mask = mask, .q = q, .range = range, .states = &states, .query_positions = query_positions};
  return attend_partial_batch(kernel, policy, std::span<const PartialSequence<S>>(&sequence, 1), workspace, executor,
                              options);
}
/// The same with the kernel of `Backend` for the source's codecs, in a math.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_partial(const P& policy, std::span<const float> q, const S& keys, MaskRef mask, const KeyRange& range,
                      PartialStates& states, Workspace& workspace, E& executor, const AttendOptions& options = {},
                      std::span<const Index> query_positions = {}) {
  return attend_partial(detail::kernel_of<Backend, P, S, M>(), policy, q, keys, mask, range, states, workspace,
                        executor, options, query_positions);
}

/// The same with a mask that MaskRef does not copy. It only has to live as long as the call.
template <AttentionPolicy P, KeyValueSource S, KernelMask Mask, Executor E>
  requires(!MaskRef::copies<Mask>)
Status attend_partial(const Kernel& kernel, const P& policy, std::span<const float> q, const S& keys, const Mask& mask,
                      const KeyRange& range, PartialStates& states, Workspace& workspace, E& executor,
                      const AttendOptions& options = {}, std::span<const Index> query_positions = {}) {
  return attend_partial(kernel, policy, q, keys, MaskRef(mask), range, states, workspace, executor, options,
                        query_positions);
}
/// The same with the kernel of `Backend` for the source's codecs, in a math.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, KernelMask Mask,
          Executor E>
  requires(!MaskRef::copies<Mask>)
Status attend_partial(const P& policy, std::span<const float> q, const S& keys, const Mask& mask, const KeyRange& range,
                      PartialStates& states, Workspace& workspace, E& executor, const AttendOptions& options = {},
                      std::span<const Index> query_positions = {}) {
  return attend_partial<Backend, M>(policy, q, keys, MaskRef(mask), range, states, workspace, executor, options,
                                    query_positions);
}

/// The same without a mask: the source's own mask or stages say what each query sees (a cache's retention rule).
template <AttentionPolicy P, KeyValueSource S, Executor E>
  requires(detail::MaskedSource<S> || StagedSource<S>)
Status attend_partial(const Kernel& kernel, const P& policy, std::span<const float> q, const S& keys,
                      const KeyRange& range, PartialStates& states, Workspace& workspace, E& executor,
                      const AttendOptions& options = {}, std::span<const Index> query_positions = {}) {
  return attend_partial(kernel, policy, q, keys, MaskRef(), range, states, workspace, executor, options,
                        query_positions);
}
/// The same with the kernel of `Backend` for the source's codecs, in a math.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
  requires(detail::MaskedSource<S> || StagedSource<S>)
Status attend_partial(const P& policy, std::span<const float> q, const S& keys, const KeyRange& range,
                      PartialStates& states, Workspace& workspace, E& executor, const AttendOptions& options = {},
                      std::span<const Index> query_positions = {}) {
  return attend_partial<Backend, M>(policy, q, keys, MaskRef(), range, states, workspace, executor, options,
                                    query_positions);
}

/// Merges states of disjoint chunks of keys in the order of the merge tree, and finishes them:
///
///     out = output map of (sum_j e^s_j v_j / (sum_j e^s_j + e^sink)),   lse = ln sum_j e^s_j
///
/// over the keys of all parts. If the parts cover all keys, these are the bits of attend(). The order of the parts and
/// who computed them do not matter. Shapes are those of FinishSequence. A query that sees nothing gets out = 0 and
/// lse = -inf. `kernel` may be one for any codecs. Its math must be that of the parts.
///
/// A kernel with a sink (ChunkSink) calls its finish() once for every row. So the weights that attend_partial() gave the
/// same sink become probabilities over the keys of all parts. HookRow::sequence and query count the sequences and queries
/// of this call. No other hook is called.
///
/// `policy` and `options` are those of the parts; math, scale, soft_cap, alibi_slopes and the positions of queries are
/// compared.
/// `options.sink_logits` join here, once. `workspace` grows if it owns its memory; finish_workspace_bytes() says how much
/// is needed.
///
/// Errors, which leave all outputs untouched: invalid_argument naming sequence, part and number, also for a chunk that
/// two parts answer for; unsupported under parts of fast-math; out_of_memory. Chunks that no part answers for are no
/// error: their keys are left out.
template <AttentionPolicy P, Executor E>
Status attend_finish_batch(const Kernel& kernel, const P& policy, std::span<const FinishSequence> sequences,
                           Workspace& workspace, E& executor, const AttendOptions& options = {}) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::finish_call(kernel, parts.ref(), sequences, workspace, detail::ExecutorRef::to(executor), options);
}

namespace detail {

/// The part of a backend's kernels in a math that does not depend on codecs.
template <SimdBackend Backend, class M>
inline constexpr Kernel finish_kernel{.backend = Backend::name,
                                      .key_codec = "",
                                      .value_codec = "",
                                      .math = M::name,
                                      .math_sizes = {},
                                      .linear = &Backend::linear,
                                      .run = nullptr,
                                      .prepared = nullptr,
                                      .finish = &detail::finish<Backend>,
                                      .attend = nullptr,
                                      .attend_planned = nullptr};

}  // namespace detail

/// The same with the loops of `Backend`, for states that were made in math `M`.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, Executor E>
Status attend_finish_batch(const P& policy, std::span<const FinishSequence> sequences, Workspace& workspace,
                           E& executor, const AttendOptions& options = {}) {
  return attend_finish_batch(detail::finish_kernel<Backend, M>, policy, sequences, workspace, executor, options);
}

/// One sequence. Shapes as in FinishSequence, all else as in attend_finish_batch().
template <AttentionPolicy P, Executor E>
Status attend_finish(const Kernel& kernel, const P& policy, std::span<const PartialView> parts, std::span<float> out,
                     Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {}) {
  const FinishSequence sequence{.parts = parts, .out = out, .lse = lse};
  return attend_finish_batch(kernel, policy, std::span<const FinishSequence>(&sequence, 1), workspace, executor,
                             options);
}
/// The same with the loops of `Backend`, for states that were made in math `M`.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, Executor E>
Status attend_finish(const P& policy, std::span<const PartialView> parts, std::span<float> out, Workspace& workspace,
                     E& executor, const AttendOptions& options = {}, std::span<float> lse = {}) {
  return attend_finish(detail::finish_kernel<Backend, M>, policy, parts, out, workspace, executor, options, lse);
}

/// The chunks that a source has, as attend_partial() counts them with the default KeyRange: where cuts may lie. Of a
/// staged source those of all stages together. `mask`: that of the call; no mask: the source's own. Nothing is checked.
template <KeyValueSource S>
[[nodiscard]] KeyRange key_chunks(const S& keys, MaskRef mask = {}) {
  const detail::SequenceRef sequence{&detail::source_table<S>, &keys, &mask, {}, {}, {}, {}};
  const auto held = detail::HeldChunks::of(sequence, {});
  return {.far_chunks = held.far_chunks, .near_chunks = held.near_chunks};
}

/// Bytes that suffice for the states of every attend_partial() of this policy with one sequence of at most
/// `num_queries` queries, over at most `num_keys` keys of the source, and this range. They are at most
///
///     64 (nodes + 8) + 16 num_queries + nodes * num_queries * num_heads * 4 (value_width + 2)
///
/// where `nodes` is 1 for each list that the range takes whole, and at most 2 bit_width(num_keys / 256 + 2) + 2 for a
/// list that it cuts. A range without far chunks, such as KeyRange::from(0), has none for far keys. num_keys counts the
/// slots of removed keys. The bytes suffice for memory of any alignment. invalid_argument for a wrong policy or a number
/// out of range.
template <AttentionPolicy P>
[[nodiscard]] Result<std::size_t> partial_states_bytes(const P& policy, Index num_queries, Index num_keys,
                                                       const KeyRange& range = {}) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::partial_block_bytes(parts.ref(), num_queries, num_keys, range);
}

/// Bytes of workspace that suffice for every such attend_partial() on an executor with `workers` workers. All else as in
/// workspace_bytes(). For a batch give the queries and the stages of all sequences together, a sequence without stages
/// counting as one, and the keys of the longest.
/// \{
template <class M = math::F32, AttentionPolicy P>
[[nodiscard]] Result<std::size_t> partial_workspace_bytes(const P& policy, Index num_queries, Index num_keys,
                                                          const KeyRange& range, Index workers, Index num_stages = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::partial_call_bytes(parts.ref(), num_queries, num_keys, range, workers, num_stages,
                                    detail::sizes_of<M>());
}
template <AttentionPolicy P>
[[nodiscard]] Result<std::size_t> partial_workspace_bytes(const Kernel& kernel, const P& policy, Index num_queries,
                                                          Index num_keys, const KeyRange& range, Index workers,
                                                          Index num_stages = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::partial_call_bytes(parts.ref(), num_queries, num_keys, range, workers, num_stages, kernel.math_sizes);
}
/// \}

/// Bytes of workspace that suffice for every attend_finish_batch() of this policy with at most `num_sequences`
/// sequences, which together have at most `num_queries` queries, and whose parts have at most `num_nodes` nodes in all
/// (PartialStates::num_nodes()). invalid_argument for a wrong policy or a number out of range.
template <AttentionPolicy P>
[[nodiscard]] Result<std::size_t> finish_workspace_bytes(const P& policy, Index num_queries, Index num_nodes,
                                                         Index workers, Index num_sequences = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::finish_bytes(parts.ref(), num_queries, num_nodes, workers, num_sequences);
}

}  // namespace heed::inline HEED_ABI
