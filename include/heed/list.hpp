/// \file
/// A list of types. heed has one for each noun of which there are several: Backends (simd/backends.hpp), Codecs
/// (codec/codecs.hpp) and Maths (math/maths.hpp). Tests, benchmarks, examples and the build iterate over them.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class... T>
struct FirstOf {
  using Type = void;
};
template <class T, class... Others>
struct FirstOf<T, Others...> {
  using Type = T;
};

}  // namespace detail

/// A list of types, each of which has a `name`. It has no objects.
template <class... T>
struct List {
  static constexpr std::size_t size = sizeof...(T);  ///< number of types

  /// The first type; void if there is none.
  using First = typename detail::FirstOf<T...>::Type;
  /// Template `To` of the types: `Codecs::As<std::tuple>`.
  template <template <class...> class To>
  using As = To<T...>;
  /// The list with `More` at its end.
  template <class... More>
  using With = List<T..., More...>;

  /// true if `U` is one of the types.
  template <class U>
  static constexpr bool has = (std::is_same_v<U, T> || ...);

  /// The names, in the order of the list.
  [[nodiscard]] static constexpr std::array<const char*, size> names() noexcept { return {T::name...}; }

  /// Calls `f.template operator()<U>()` for every type U, in the order of the list.
  template <class F>
  static constexpr void for_each(F&& f) {
    (f.template operator()<T>(), ...);
  }
  /// Calls `f.template operator()<U>()` for the first type of that name. Returns false if there is none.
  template <class F>
  static constexpr bool with_name(std::string_view name, F&& f) {
    return ((name == T::name && (f.template operator()<T>(), true)) || ...);
  }
  /// Calls `f.template operator()<U>()` for type number `number`, counted from 0. Returns false if there is none.
  template <class F>
  static constexpr bool with_number(std::size_t number, F&& f) {
    std::size_t at = 0;
    return ((at++ == number && (f.template operator()<T>(), true)) || ...);
  }
};

}  // namespace heed::inline HEED_ABI
