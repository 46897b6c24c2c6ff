/// \file
/// A policy's preparation of keys and values, with its type erased.
#pragma once

#include <heed/concepts.hpp>
#include <heed/turns.hpp>

namespace heed::inline HEED_ABI::detail {

/// Type-erased RowPreparation, not owned. `object` is null if there is nothing to prepare.
struct PreparationRef {
  const void* object = nullptr;
  bool makes_values = false;
  using Make = void (*)(const void*, Index kv_head, Index count, const float* rows, const Index* positions, float* out,
                        Linear linear);
  Make keys = nullptr;
  Make values = nullptr;
  KeyTurns turns;  ///< what `keys` does, if it rotates by a table

  [[nodiscard]] static PreparationRef to(const Identity&) noexcept { return {}; }
  template <RowPreparation T>
  [[nodiscard]] static PreparationRef to(const T& t) {
    if constexpr (requires { t.idle(); }) {
      if (t.idle()) return {};
    }
    return {
        .object = &t,
        .makes_values = t.makes_values(),
        .keys = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out,
                   Linear linear) { static_cast<const T*>(o)->keys(head, count, rows, positions, out, linear); },
        .values = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out,
                     Linear linear) { static_cast<const T*>(o)->values(head, count, rows, positions, out, linear); },
        .turns = turns_of(t)};
  }

 private:
  template <class T>
  [[nodiscard]] static KeyTurns turns_of(const T& t) {
    if constexpr (requires {
                    { t.turns() } -> std::same_as<KeyTurns>;
                  })
      return t.turns();
    return {};
  }
};

}  // namespace heed::inline HEED_ABI::detail
