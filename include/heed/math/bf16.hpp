/// \file
/// A math of bf16 products: twice the peak of floats where the CPU has them, with an error bound of its own.
#pragma once

#include <type_traits>

#include <heed/floats.hpp>
#include <heed/math/bf16/key_loops.hpp>
#include <heed/math/bf16/pairs.hpp>
#include <heed/math/bf16/scalar_loops.hpp>
#include <heed/math/bf16/value_loops.hpp>
#include <heed/math/bf16/weight_loop.hpp>
#include <heed/simd/tile.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
/// The loops on the vector type of a backend.
template <class V>
struct Bf16VectorLoops : Bf16KeyLoops<V>, Bf16ValueLoops<V>, Bf16WeightLoop<V> {};

template <class Backend>
struct Bf16LoopsOf {
  using type = Bf16ScalarLoops;
};
template <class Backend>
  requires requires { typename Backend::Vector; }
struct Bf16LoopsOf<Backend> {
  using type = Bf16VectorLoops<typename Backend::Vector>;
};
}  // namespace detail

namespace math {

/// Queries, keys, weights and values are bf16 numbers. Their products are exact, and sums are floats. A query is rounded
/// once. Numbers of rows that are not of codec Bf16 are rounded when they are read. All rounding is to nearest even. In the
/// table a sum is that of a fused multiply-add, and a subnormal operand or result counts as 0 of its sign: the AVX512-BF16
/// instruction computes so. Other instruction sets compute the same sums of floats. The definition is
/// math/bf16/scalar_loops.hpp.
///
///     score(row, key)  one accumulator. Pairs of dims (2 i, 2 i + 1) ascending; of a pair dim 2 i + 1 is added first. An odd
///                      last dim is paired with 0. Then times `scale`
///     m                maximum of the chunk's visible logits
///     p                2^-8 exp(s - m), by a polynomial of degree 4, rounded to bf16; exactly 0 for hidden keys and below
///                      2^-118
///     l                the sum of the rounded p: 16 parts, part j adds slots 32 i + 2 j and 32 i + 2 j + 1, i ascending; then
///                      parts are halved, as in math::F32
///     o[d]             one accumulator, keys ascending
///
/// Error against float64 attention on the rounded queries and rows, with eps32 = 2^-23:
///
///     |out - R| <= eps32 |R| + (2^-7 + 2^-16 + 16 eps32 (1 + max_k sum_j |q_j k_j| scale)) sum_k p_k |v_k|
///
/// A query that is not bf16 adds the error of its own rounding: relative 2^-8 in every q_j.
struct Bf16 {
  /// What Math asks for.
  /// \{
  static constexpr const char* name = "bf16";
  using Query = Bf16Pair;
  using Panel = Bf16Pair;
  using Weight = Bf16Weight;
  static constexpr Index query_numbers = 2;
  static constexpr Index panel_numbers = 2;
  [[nodiscard]] static constexpr Index weight_place(Index slot) noexcept { return slot ^ 1; }
  /// \}

  /// The loops of the backend.
  template <class Backend>
  struct On : detail::Bf16LoopsOf<Backend>::type {
    /// As in the backend. A panel of pairs is made faster than one of floats, so it pays for fewer rows.
    static constexpr Index few_rows = detail::smaller<Index>(Backend::few_rows, 16);

    /// Rounds rows of floats.
    static void queries(const float* q, Index rows, Index width, Bf16Pair* out) noexcept {
      const Index pairs = width / 2;
      for (Index r = 0; r < rows; ++r, q += width) {
        heed::Bf16::encode(q, pairs * 2, reinterpret_cast<std::byte*>(out));
        out += pairs;
        if (width % 2 != 0) *out++ = detail::bf16_pair(q[width - 1], 0);
      }
    }
  };
};

}  // namespace math
}  // namespace heed::inline HEED_ABI
