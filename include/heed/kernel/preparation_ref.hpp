/// \file
/// A policy's preparation of keys and values, with its type erased.
#pragma once

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI::detail {

/// Type-erased TilePreparation, not owned. `object` is null if there is nothing to prepare.
struct PreparationRef {
  const void* object = nullptr;
  bool makes_values = false;
  using Make = void (*)(const void*, Index kv_head, Index count, const float* rows, const Index* positions, float* out);
  Make keys = nullptr;
  Make values = nullptr;

  template <SimdBackend Backend>
  [[nodiscard]] static PreparationRef to(const Identity&) noexcept {
    return {};
  }
  template <SimdBackend Backend, TilePreparation T>
  [[nodiscard]] static PreparationRef to(const T& t) {
    PreparationRef made = shape_of(t);
    if (made.object == nullptr) return made;
    made.keys = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out) {
      static_cast<const T*>(o)->keys(head, count, rows, positions, out, &Backend::linear);
    };
    made.values = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out) {
      static_cast<const T*>(o)->values(head, count, rows, positions, out, &Backend::linear);
    };
    return made;
  }

  /// The same without the functions: enough for a Plan.
  [[nodiscard]] static PreparationRef shape_of(const Identity&) noexcept { return {}; }
  template <TilePreparation T>
  [[nodiscard]] static PreparationRef shape_of(const T& t) {
    if constexpr (requires { t.idle(); }) {
      if (t.idle()) return {};
    }
    return {.object = &t, .makes_values = t.makes_values()};
  }
};

}  // namespace heed::inline HEED_ABI::detail
