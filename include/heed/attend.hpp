/// \file
/// attend(): the one kernel. Every mechanism, cache, codec, mask and backend goes through it.
#pragma once

#include <span>
#include <type_traits>

#include <heed/attend_options.hpp>
#include <heed/concepts.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/kernel/kernels.hpp>
#include <heed/math/f32.hpp>
#include <heed/math/math.hpp>
#include <heed/plan/plan.hpp>
#include <heed/retention/mask_ref.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// The kernel of a backend, two codecs and a math, for every policy. There is one of each in a program; it is made by the
/// compiler.
template <SimdBackend Backend, Codec K, Codec V, Math<Backend, K, V> M = math::F32>
[[nodiscard]] const Kernel& kernel() noexcept {
  return detail::Kernels<Backend, K, V, M>::all();
}

namespace detail {

/// A kernel that reads sources of type `S` with policy `P`, also by a plan if `planned`. Where keys and values are made
/// of one row, it is stored as keys are.
template <SimdBackend Backend, AttentionPolicy P, KeyValueSource S, Math<Backend> M = math::F32, bool planned = false>
[[nodiscard]] const Kernel& kernel_of() noexcept {
  using K = typename S::KeyCodec;
  using V = std::conditional_t<int(P::key_stream) == int(P::value_stream), K, typename S::ValueCodec>;
  using Of = Kernels<Backend, K, V, M>;
  if constexpr (!plain_policy<P>) {
    return Of::all();
  } else if constexpr (planned) {
    return Of::plain_planned();
  } else {
    return Of::plain();
  }
}

}  // namespace detail

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
/// queries (same ISA and build). Sums are fp32; the error bound is in docs/design.md. attend<Backend, Math>() computes in
/// another math, whose header states its sums and its bound.
///
/// `workspace` grows if it owns its memory and is too small; workspace_bytes() says how much is needed. Nothing else is
/// allocated. Outputs must not overlap queries, nor each other.
///
/// Errors leave all outputs untouched: invalid_argument naming the argument and the number; unsupported under parts of
/// fast-math; out_of_memory. Keys of a cache may also refuse to be read (LayerKeys::readable): for example with
/// wrong_state, naming a layer and stream that the open step has not written.
template <AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_batch(const Kernel& kernel, const P& policy, std::span<const Sequence<S>> sequences, Workspace& workspace,
                    E& executor, const AttendOptions& options = {}) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return kernel.attend(kernel, parts.ref(), detail::SequenceList::to<Sequence<S>, S>(sequences), workspace,
                       detail::ExecutorRef::to(executor), options);
}

/// The same with the kernel of `Backend` for the sources' codecs, in a math.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend_batch(const P& policy, std::span<const Sequence<S>> sequences, Workspace& workspace, E& executor,
                    const AttendOptions& options = {}) {
  return attend_batch(detail::kernel_of<Backend, P, S, M>(), policy, sequences, workspace, executor, options);
}

/// One layer of a planned step: attend_batch() with the masks and positions that `plan` was made with. `layer` has one
/// LayerIo for each sequence of the plan, in the same order.
///
/// Bits, workspace and errors are those of attend_batch(). A plan that does not fit is refused, and outputs stay
/// untouched. invalid_argument names what differs: policy, number of sequences, workers, keys (of another cache, layer
/// group, size or layout in memory), sizes of q, out or lse. wrong_state: keys of another step, or the plan was not
/// made.
/// \{
template <AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const Kernel& kernel, const Plan& plan, const P& policy, std::span<const LayerIo<S>> layer,
              Workspace& workspace, E& executor, const AttendOptions& options = {}) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return kernel.attend_planned(kernel, parts.ref(), plan.step(), detail::SequenceList::of_layer<LayerIo<S>, S>(layer),
                               workspace, detail::ExecutorRef::to(executor), options);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const Plan& plan, const P& policy, std::span<const LayerIo<S>> layer, Workspace& workspace, E& executor,
              const AttendOptions& options = {}) {
  return attend(detail::kernel_of<Backend, P, S, M, true>(), plan, policy, layer, workspace, executor, options);
}
/// The same for a plan of one sequence.
template <AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const Kernel& kernel, const Plan& plan, const P& policy, std::span<const float> q, const S& keys,
              std::span<float> out, Workspace& workspace, E& executor, const AttendOptions& options = {},
              std::span<float> lse = {}) {
  const LayerIo<S> layer{.keys = &keys, .q = q, .out = out, .lse = lse};
  return attend(kernel, plan, policy, std::span<const LayerIo<S>>(&layer, 1), workspace, executor, options);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const Plan& plan, const P& policy, std::span<const float> q, const S& keys, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {}) {
  return attend(detail::kernel_of<Backend, P, S, M, true>(), plan, policy, q, keys, out, workspace, executor, options,
                lse);
}
/// \}

/// Attention of one sequence. Shapes as in Sequence, all else as in attend_batch().
/// \{
template <AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const Kernel& kernel, const P& policy, std::span<const float> q, const S& keys, MaskRef mask,
              std::span<float> out, Workspace& workspace, E& executor, const AttendOptions& options = {},
              std::span<float> lse = {}, std::span<const Index> query_positions = {}) {
  const Sequence<S> sequence{
      .keys = &keys, .mask = mask, .q = q, .out = out, .lse = lse, .query_positions = query_positions};
  return attend_batch(kernel, policy, std::span<const Sequence<S>>(&sequence, 1), workspace, executor, options);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
Status attend(const P& policy, std::span<const float> q, const S& keys, MaskRef mask, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {},
              std::span<const Index> query_positions = {}) {
  return attend(detail::kernel_of<Backend, P, S, M>(), policy, q, keys, mask, out, workspace, executor, options, lse,
                query_positions);
}
/// \}

/// The same with a mask that MaskRef does not copy. A temporary is fine: the mask only has to live as long as the call.
/// \{
template <AttentionPolicy P, KeyValueSource S, KernelMask Mask, Executor E>
  requires(!MaskRef::copies<Mask>)
Status attend(const Kernel& kernel, const P& policy, std::span<const float> q, const S& keys, const Mask& mask,
              std::span<float> out, Workspace& workspace, E& executor, const AttendOptions& options = {},
              std::span<float> lse = {}, std::span<const Index> query_positions = {}) {
  return attend(kernel, policy, q, keys, MaskRef(mask), out, workspace, executor, options, lse, query_positions);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, KernelMask Mask,
          Executor E>
  requires(!MaskRef::copies<Mask>)
Status attend(const P& policy, std::span<const float> q, const S& keys, const Mask& mask, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {},
              std::span<const Index> query_positions = {}) {
  return attend<Backend, M>(policy, q, keys, MaskRef(mask), out, workspace, executor, options, lse, query_positions);
}
/// \}

/// The same without a mask: the source's own mask or stages say what each query sees (a cache's retention rule).
/// \{
template <AttentionPolicy P, KeyValueSource S, Executor E>
  requires(detail::MaskedSource<S> || StagedSource<S>)
Status attend(const Kernel& kernel, const P& policy, std::span<const float> q, const S& keys, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options = {}, std::span<float> lse = {}) {
  return attend(kernel, policy, q, keys, MaskRef(), out, workspace, executor, options, lse);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E>
  requires(detail::MaskedSource<S> || StagedSource<S>)
Status attend(const P& policy, std::span<const float> q, const S& keys, std::span<float> out, Workspace& workspace,
              E& executor, const AttendOptions& options = {}, std::span<float> lse = {}) {
  return attend<Backend, M>(policy, q, keys, MaskRef(), out, workspace, executor, options, lse);
}
/// \}

/// Bytes of workspace that suffice for every attend() of this policy with one sequence of at most `num_queries` queries
/// and `num_keys` keys, on an executor with `workers` workers. Reserve them once, and no step allocates.
///
/// They suffice for kernels of the math `M`, and of no other. With a kernel, they suffice for that kernel.
///
/// num_keys counts the keys of the source and the slots of removed ones. The bytes suffice for any mask, for memory of
/// any alignment, and for a staged source with at most `num_stages` stages of at most num_keys keys each. A call has at
/// most one stage per query. invalid_argument for a wrong policy or a number out of range.
template <class M = math::F32, AttentionPolicy P>
[[nodiscard]] Result<std::size_t> workspace_bytes(const P& policy, Index num_queries, Index num_keys, Index workers,
                                                  Index num_stages = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::call_bytes(parts.ref(), num_queries, num_keys, workers, num_stages, detail::sizes_of<M>());
}
/// The same for a kernel, whatever its math.
template <AttentionPolicy P>
[[nodiscard]] Result<std::size_t> workspace_bytes(const Kernel& kernel, const P& policy, Index num_queries,
                                                  Index num_keys, Index workers, Index num_stages = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::call_bytes(parts.ref(), num_queries, num_keys, workers, num_stages, kernel.math_sizes);
}

}  // namespace heed::inline HEED_ABI
