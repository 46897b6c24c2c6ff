/// \file
/// How a vector type reads the rows of a codec.
#pragma once

#include <concepts>
#include <cstddef>

#include <heed/factors.hpp>
#include <heed/simd/registers.hpp>

namespace heed::inline HEED_ABI::detail {

/// `C::Reader<V>` fills registers of V::width floats with the codes of numbers, exactly.
///
///     group_words, group_numbers   a group is group_words consecutive words of 32 bits of a row. They hold group_numbers
///                                  consecutive numbers. group_words is 1, 2 or 4; group_numbers divides 32; 32 numbers
///                                  take at least 4 words, without gaps
///     number(group, i)             lane j of register group[w] is word w of the group of row j. Returns number i of the
///                                  group, for each of the V::width rows; i in [0, group_numbers)
///     load(row, first)             numbers [first, first + V::width) of one row. `first` is a multiple of view_step plus
///                                  a multiple of V::width
template <class C, class V>
concept RowReader = requires(const typename V::Reg* group, const std::byte* row, Index first, int i) {
  { C::template Reader<V>::group_words } -> std::convertible_to<int>;
  { C::template Reader<V>::group_numbers } -> std::convertible_to<int>;
  { C::template Reader<V>::number(group, i) } -> std::same_as<typename V::Reg>;
  { C::template Reader<V>::load(row, first) } -> std::same_as<typename V::Reg>;
};

/// C::factor() is there if a row has factors. A view of rows with a factor per block begins at a block.
template <class C>
concept HasFactors = C::factors == Factors::none || requires(const std::byte* row, Index i) {
  { C::factor(row, row, i) } -> std::same_as<float>;
  requires C::factors != Factors::per_block || C::view_step == factor_dims;
};

}  // namespace heed::inline HEED_ABI::detail
