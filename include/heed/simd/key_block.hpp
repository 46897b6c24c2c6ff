/// \file
/// The numbers in a transposed block of encoded rows.
#pragma once

#include <algorithm>

#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// What one transposed block of the rows of codec `C` holds on the vector type `V`: whole groups of words, and at most
/// the dims of one accumulator.
template <class V, class C>
struct KeyBlock {
  using Reg = typename V::Reg;                  ///< W floats
  using Read = typename C::template Reader<V>;  ///< makes numbers of words
  /// Words of each row.
  static constexpr int words = std::min(V::block_words, int(score_dims) / Read::group_numbers * Read::group_words);
  /// Numbers of each row.
  static constexpr int numbers = words / Read::group_words * Read::group_numbers;
  static_assert(words == V::block_words || words == 4, "32 numbers have at least 4 words");
  static_assert(words % Read::group_words == 0 && score_dims % numbers == 0, "a block has whole groups");
  /// Number i of each row.
  [[gnu::always_inline]] static Reg number(const Reg* block, int i) {
    return Read::number(block + i / Read::group_numbers * Read::group_words, i % Read::group_numbers);
  }
};

}  // namespace heed::inline HEED_ABI
