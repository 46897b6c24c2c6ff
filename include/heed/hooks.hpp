/// \file
/// attend() with hooks: a caller's object that changes logits, or is given the attention probabilities.
///
///     struct T5Bias {                                    // before the soft-cap: logits()
///       void logits(const heed::LogitChunk& chunk) const {
///         for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
///           chunk.logits[i] += bias_of(chunk.row.head, chunk.positions[i] - chunk.row.position);
///         }
///       }
///     };
///     heed::attend<Backend>(policy, q, keys, mask, out, workspace, executor, {}, T5Bias{...});
///
/// LogitHook, CappedLogitHook and ChunkSink say which members the object may have; AttendHooks says who calls them.
/// docs/hooks.md has examples.
#pragma once

#include <memory>
#include <span>
#include <type_traits>

#include <heed/attend.hpp>
#include <heed/hooks/check.hpp>

namespace heed::inline HEED_ABI {

/// The kernel of a backend, two codecs and a math that calls `hooks`, which must outlive the value. attend(kernel, ...)
/// runs it.
template <SimdBackend Backend, Codec K, Codec V, Math<Backend, K, V> M = math::F32, class H>
[[nodiscard]] Kernel kernel(H& hooks) noexcept {
  detail::check_hooks<H>();
  return {.backend = Backend::name,
          .key_codec = K::name,
          .value_codec = V::name,
          .math = M::name,
          .math_sizes = detail::sizes_of<M>(),
          .linear = &Backend::linear,
          .run = &detail::run<Backend, K, V, M, H>,
          .prepared = &detail::prepared_steps<Backend, K, V, M, H>,
          .finish = &detail::finish<Backend, H>,
          .attend = &detail::call,
          .attend_planned = &detail::call_planned,
          .hooks = const_cast<std::remove_cv_t<H>*>(std::addressof(hooks))};
}

namespace detail {

/// kernel_of() with hooks.
template <SimdBackend Backend, AttentionPolicy P, KeyValueSource S, Math<Backend> M = math::F32, class H>
[[nodiscard]] Kernel kernel_of(H& hooks) noexcept {
  using K = typename S::KeyCodec;
  using V = std::conditional_t<int(P::key_stream) == int(P::value_stream), K, typename S::ValueCodec>;
  return kernel<Backend, K, V, M>(hooks);
}

/// An argument after the options that is not lse. Anything else is taken for hooks, so that check_hooks() can say what is
/// wrong with it.
template <class H>
concept HooksArgument = !std::is_convertible_v<H, std::span<float>>;

}  // namespace detail

/// attend_batch() with hooks. They may be a temporary: they only have to live as long as the call.
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E, class H>
Status attend_batch(const P& policy, std::span<const Sequence<S>> sequences, Workspace& workspace, E& executor,
                    const AttendOptions& options, H&& hooks) {
  return attend_batch(detail::kernel_of<Backend, P, S, M>(hooks), policy, sequences, workspace, executor, options);
}

/// attend() with hooks, with any mask and with the source's own. lse and query_positions come after the hooks.
/// \{
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E,
          detail::HooksArgument H>
Status attend(const P& policy, std::span<const float> q, const S& keys, MaskRef mask, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options, H&& hooks, std::span<float> lse = {},
              std::span<const Index> query_positions = {}) {
  return attend(detail::kernel_of<Backend, P, S, M>(hooks), policy, q, keys, mask, out, workspace, executor, options,
                lse, query_positions);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, KernelMask Mask,
          Executor E, detail::HooksArgument H>
  requires(!MaskRef::copies<Mask>)
Status attend(const P& policy, std::span<const float> q, const S& keys, const Mask& mask, std::span<float> out,
              Workspace& workspace, E& executor, const AttendOptions& options, H&& hooks, std::span<float> lse = {},
              std::span<const Index> query_positions = {}) {
  return attend<Backend, M>(policy, q, keys, MaskRef(mask), out, workspace, executor, options, hooks, lse,
                            query_positions);
}
template <SimdBackend Backend, Math<Backend> M = math::F32, AttentionPolicy P, KeyValueSource S, Executor E,
          detail::HooksArgument H>
  requires(detail::MaskedSource<S> || StagedSource<S>)
Status attend(const P& policy, std::span<const float> q, const S& keys, std::span<float> out, Workspace& workspace,
              E& executor, const AttendOptions& options, H&& hooks, std::span<float> lse = {}) {
  return attend<Backend, M>(policy, q, keys, MaskRef(), out, workspace, executor, options, hooks, lse);
}
/// \}

}  // namespace heed::inline HEED_ABI
