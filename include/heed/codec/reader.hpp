/// \file
/// How a vector type reads the rows of a codec.
#pragma once

#include <concepts>
#include <cstddef>

#include <heed/factors.hpp>
#include <heed/simd/registers.hpp>

namespace heed::inline HEED_ABI::detail {

/// Vector types of 4, 8 and 16 floats, of no instruction set. They stand for those of the backends.
template <int W>
using AnyLanes = Registers<AnyRegister<W>>;

/// `C::Reader<V>` fills registers of V::width floats with codes, exactly.
///
///     group_words, group_numbers   so many consecutive words of 32 bits hold so many consecutive numbers. group_words
///                                  is 1, 2 or 4; group_numbers divides 32; 32 numbers have at least 4 words, which
///                                  lie together
///     number(group, i)             group[w] holds word w of a group of V::width rows, a row in each lane. Returns number
///                                  i of the group of every row; i in [0, group_numbers)
///     load(row, first)             numbers [first, first + V::width) of one row. `first` is a multiple of V::width from
///                                  a multiple of view_step on
template <class C, class V>
concept RowReader = requires(const typename V::Reg* group, const std::byte* row, Index first, int i) {
  { C::template Reader<V>::group_words } -> std::convertible_to<int>;
  { C::template Reader<V>::group_numbers } -> std::convertible_to<int>;
  { C::template Reader<V>::number(group, i) } -> std::same_as<typename V::Reg>;
  { C::template Reader<V>::load(row, first) } -> std::same_as<typename V::Reg>;
};

/// C::factor() is there if a row has factors.
template <class C>
concept HasFactors = C::factors == Factors::none || requires(const std::byte* row, Index i) {
  { C::factor(row, row, i) } -> std::same_as<float>;
};

}  // namespace heed::inline HEED_ABI::detail
