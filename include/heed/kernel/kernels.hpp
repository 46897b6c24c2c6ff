/// \file
/// The kernels that one backend, two codecs and one math make.
#pragma once

#include <type_traits>
#include <utility>

#include <heed/kernel/call.hpp>
#include <heed/kernel/finish.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/kernel/planned_layer.hpp>
#include <heed/kernel/run.hpp>
#include <heed/math/f32.hpp>
#include <heed/math/math.hpp>

namespace heed::inline HEED_ABI::detail {

/// true if rows and queries of policy `P` meet without maps and without a preparation.
template <AttentionPolicy P>
inline constexpr bool plain_policy =
    std::is_same_v<decltype(std::declval<const P&>().query_map()), Identity> &&
    std::is_same_v<decltype(std::declval<const P&>().output_map()), Identity> &&
    std::is_same_v<decltype(std::declval<const P&>().preparation()), Identity>;

/// The kernels of a backend, two codecs and a math. They share their loops. A plain kernel is for plain policies: it has
/// no code for maps and preparations, so that units of such policies compile faster.
///
/// The members are not inline, so that `extern template` keeps the loops out of units that include compiled.hpp.
template <SimdBackend Backend, Codec K, Codec V, Math<Backend, K, V> M = math::F32>
struct Kernels {
  [[nodiscard]] static const Kernel& all() noexcept;            ///< for everything
  [[nodiscard]] static const Kernel& plain() noexcept;          ///< plain; no plans, no finish
  [[nodiscard]] static const Kernel& plain_planned() noexcept;  ///< plain, also with plans; no finish
};

/// The table of Kernels::plain(), to which the others add.
template <class Backend, class K, class V, class M>
[[nodiscard]] constexpr Kernel plain_kernel() noexcept {
  return {.backend = Backend::name,
          .key_codec = K::name,
          .value_codec = V::name,
          .math = M::name,
          .math_sizes = sizes_of<M>(),
          .linear = nullptr,
          .run = &run<Backend, K, V, M>,
          .prepared = nullptr,
          .finish = nullptr,
          .attend = &call,
          .attend_planned = nullptr};
}

template <SimdBackend Backend, Codec K, Codec V, Math<Backend, K, V> M>
const Kernel& Kernels<Backend, K, V, M>::all() noexcept {
  static constexpr Kernel made = [] {
    Kernel kernel = plain_kernel<Backend, K, V, M>();
    kernel.linear = &Backend::linear;
    kernel.prepared = &prepared_steps<Backend, K, V, M>;
    kernel.finish = &finish<Backend>;
    kernel.attend_planned = &call_planned;
    return kernel;
  }();
  return made;
}

template <SimdBackend Backend, Codec K, Codec V, Math<Backend, K, V> M>
const Kernel& Kernels<Backend, K, V, M>::plain() noexcept {
  static constexpr Kernel made = plain_kernel<Backend, K, V, M>();
  return made;
}

template <SimdBackend Backend, Codec K, Codec V, Math<Backend, K, V> M>
const Kernel& Kernels<Backend, K, V, M>::plain_planned() noexcept {
  static constexpr Kernel made = [] {
    Kernel kernel = plain_kernel<Backend, K, V, M>();
    kernel.attend_planned = &call_planned;
    return kernel;
  }();
  return made;
}

}  // namespace heed::inline HEED_ABI::detail
