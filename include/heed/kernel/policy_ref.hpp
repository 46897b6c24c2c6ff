/// \file
/// A policy with its type erased.
#pragma once

#include <type_traits>
#include <utility>

#include <heed/concepts.hpp>
#include <heed/kernel/preparation_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// Type-erased HeadMap, not owned. Without a map, `object` is null.
struct MapRef {
  const void* object = nullptr;
  Index in_width = 0;   ///< only with a map
  Index out_width = 0;  ///< only with a map
  void (*apply_)(const void*, Index, Index, const float*, Index, float*, Index, Linear) = nullptr;

  [[nodiscard]] static MapRef to(const Identity&) noexcept { return {}; }
  template <HeadMap M>
  [[nodiscard]] static MapRef to(const M& map) {
    return {&map, map.in_width(), map.out_width(),
            [](const void* m, Index head, Index rows, const float* in, Index in_stride, float* out, Index out_stride,
               Linear linear) {
              static_cast<const M*>(m)->apply(head, rows, in, in_stride, out, out_stride, linear);
            }};
  }
  [[nodiscard]] explicit operator bool() const noexcept { return object != nullptr; }
  void apply(Index head, Index rows, const float* in, Index in_stride, float* out, Index out_stride,
             Linear linear) const {
    apply_(object, head, rows, in, in_stride, out, out_stride, linear);
  }
};

/// What a call knows of a policy. Nothing is owned.
struct PolicyRef {
  AttentionLayout layout;
  int key_stream = 0;
  int value_stream = 0;
  MapRef query_map;
  MapRef output_map;
  PreparationRef preparation;
  bool has_preparation = false;  ///< also if it is idle
  bool rotates_keys = false;     ///< detail::rotates_keys()

  /// Numbers per query head that the caller gives in q, and that it gets in out.
  [[nodiscard]] Index query_width() const noexcept { return query_map ? query_map.in_width : layout.key_width; }
  [[nodiscard]] Index output_width() const noexcept { return output_map ? output_map.out_width : layout.value_width; }
};

/// The maps and the preparation of policy `P`, which a PolicyRef refers to. The policy must be valid and outlive it.
template <AttentionPolicy P>
class PolicyParts {
 public:
  explicit PolicyParts(const P& policy)
      : query_map_(policy.query_map()),
        output_map_(policy.output_map()),
        preparation_(policy.preparation()),
        ref_{.layout = policy.layout(),
             .key_stream = int(P::key_stream),
             .value_stream = int(P::value_stream),
             .query_map = MapRef::to(query_map_),
             .output_map = MapRef::to(output_map_),
             .preparation = PreparationRef::to(preparation_),
             .has_preparation = !std::is_same_v<Preparation, Identity>,
             .rotates_keys = detail::rotates_keys(policy)} {}
  PolicyParts(const PolicyParts&) = delete;
  PolicyParts& operator=(const PolicyParts&) = delete;

  [[nodiscard]] const PolicyRef& ref() const noexcept { return ref_; }

 private:
  using Preparation = std::remove_cvref_t<decltype(std::declval<const P&>().preparation())>;

  std::remove_cvref_t<decltype(std::declval<const P&>().query_map())> query_map_;
  std::remove_cvref_t<decltype(std::declval<const P&>().output_map())> output_map_;
  Preparation preparation_;
  PolicyRef ref_;
};

}  // namespace heed::inline HEED_ABI::detail
