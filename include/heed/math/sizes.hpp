/// \file
/// How much scratch the numbers of a math take: plain numbers, because calls are planned by code that is compiled once
/// for all maths.
#pragma once

#include <type_traits>

#include <heed/simd/tile.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Sizes of the types of a math. The defaults are those of math::F32.
struct MathSizes {
  Index query_bytes = sizeof(float);  ///< of a Query
  Index query_numbers = 1;            ///< numbers of a query row in a Query
  Index panel_bytes = sizeof(float);  ///< of a Panel
  Index panel_numbers = 1;            ///< numbers of a column of a packed panel in a Panel
  Index weight_bytes = 0;             ///< of a Weight; 0: weights take the place of the logits

  /// Bytes of a query row of `width` numbers.
  [[nodiscard]] constexpr Index query_row(Index width) const noexcept {
    return (width + query_numbers - 1) / query_numbers * query_bytes;
  }
  /// Bytes of a packed panel with `numbers` numbers in each of its 64 columns.
  [[nodiscard]] constexpr Index panel(Index numbers) const noexcept {
    static_assert(panel_keys == panel_dims, "panels of keys and of values have as many columns");
    return (numbers + panel_numbers - 1) / panel_numbers * panel_keys * panel_bytes;
  }
};

namespace detail {

/// true if weights of type `Weight` take the place of the logits, which are floats.
template <class Weight>
inline constexpr bool weights_in_place = std::is_same_v<Weight, float>;

/// The sizes of a math.
template <class M>
[[nodiscard]] constexpr MathSizes sizes_of() noexcept {
  return {.query_bytes = sizeof(typename M::Query),
          .query_numbers = M::query_numbers,
          .panel_bytes = sizeof(typename M::Panel),
          .panel_numbers = M::panel_numbers,
          .weight_bytes = weights_in_place<typename M::Weight> ? 0 : Index(sizeof(typename M::Weight))};
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
