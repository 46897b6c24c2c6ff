/// \file
/// Pairs of values: where the loops of math::Bf16 find them.
#pragma once

#include <type_traits>

#include <heed/factors.hpp>
#include <heed/math/bf16/pairs.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/sum_order.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI::detail {

/// Number `d` of the view of rows `first` and `second`, as a pair of values.
template <class C>
[[nodiscard]] Bf16Pair value_pair(const KeyRows& rows, Index first, Index second, Index d) noexcept {
  float a, b;
  decode_row<C>(rows.row[first], rows.factors_of(first), rows.offset + d, 1, &a);
  decode_row<C>(rows.row[second], rows.factors_of(second), rows.offset + d, 1, &b);
  return bf16_pair(b, a);
}

/// The bf16 numbers d, d + 1, ... of the view of row k, each in the lower half of its word. `d` is a multiple of V::width.
template <class V, class C>
[[gnu::always_inline]] inline typename V::Words value_words(const KeyRows& rows, Index k, Index d) {
  const Index first = rows.offset + d;
  if constexpr (std::is_same_v<C, heed::Bf16>) {
    return V::widen(V::load_halves(rows.row[k] + C::offset_bytes(first)));
  } else {
    typename V::Reg numbers = C::template Reader<V>::load(rows.row[k], first);
    if constexpr (C::factors != Factors::none) {
      const float factor = C::factor(rows.row[k], rows.factors_of(k), factor_of<C::factors>(first));
      numbers = V::mul(V::set1(factor), numbers);
    }
    return heed::Bf16::template Writer<V>::rounded(numbers);
  }
}
/// The pairs of values k and k + 1, and of value k with a hidden one.
/// \{
template <class V, class C>
[[gnu::always_inline]] inline typename V::Words value_pairs(const KeyRows& rows, Index k, Index d) {
  return (value_words<V, C>(rows, k, d) << 16) | value_words<V, C>(rows, k + 1, d);
}
template <class V, class C>
[[gnu::always_inline]] inline typename V::Words first_of_pairs(const KeyRows& rows, Index k, Index d) {
  return (value_words<V, C>(rows, k, d) << 16) | negative_zero_bf16;
}
/// \}

/// Pairs of a packed panel.
template <class V>
struct PanelPairs {
  using Words = typename V::Words;
  static constexpr bool in_place = false;
  template <int N>
  using Order = PlainOrder<V, N>;

  const Bf16Pair* panel;

  /// The pairs of keys k and k + 1; of key k alone if it is the second, or the first, of its pair.
  /// \{
  template <int N>
  [[gnu::always_inline]] void pairs(Index k, Index d, Words* v) const {
    HEED_UNROLL
    for (int n = 0; n < N; ++n) __builtin_memcpy(v + n, panel + k / 2 * panel_dims + d + n * V::width, sizeof(Words));
  }
  template <int N>
  [[gnu::always_inline]] void second(Index k, Index d, Words* v) const {
    pairs<N>(k, d, v);
    HEED_UNROLL
    for (int n = 0; n < N; ++n) v[n] = (v[n] & 0xffffu) | (negative_zero_bf16 << 16);
  }
  template <int N>
  [[gnu::always_inline]] void first(Index k, Index d, Words* v) const {
    pairs<N>(k, d, v);
    HEED_UNROLL
    for (int n = 0; n < N; ++n) v[n] = (v[n] & 0xffff0000u) | negative_zero_bf16;
  }
  /// \}
};

/// Pairs of rows of codec `C` that are read where they lie.
template <class V, class C>
struct StoredPairs {
  using Reg = typename V::Reg;
  using Words = typename V::Words;
  static constexpr bool in_place = true;
  /// true if pairs of two registers of dims are made by two instructions, which leave the dims in another order.
  template <int N>
  static constexpr bool interleaves =
      std::is_same_v<C, heed::Bf16> && V::width == 16 && N % 2 == 0 && PairDots<V>::native;

  template <int N>
  using Order = typename OrderOf<V, N, FourAndFour, interleaves<N>>::type;

  const KeyRows& rows;
  Index first_dim;
  bool fetches;

  /// As in PanelPairs. No row but those of the keys is read.
  /// \{
  template <int N>
  [[gnu::always_inline]] void pairs(Index k, Index d, Words* v) const {
    prefetch<N>(k, d);
    prefetch<N>(k + 1, d);
    if constexpr (interleaves<N>) {
      HEED_UNROLL
      for (int n = 0; n < N; n += 2) {
        interleave(line(k + 1, d + n * 16), line(k, d + n * 16), v + n);
      }
    } else {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) v[n] = value_pairs<V, C>(rows, k, first_dim + d + n * V::width);
    }
  }
  template <int N>
  [[gnu::always_inline]] void second(Index k, Index d, Words* v) const {
    prefetch<N>(k, d);
    one<N>(k, d, v);
    HEED_UNROLL
    for (int n = 0; n < N; ++n) v[n] = v[n] | (negative_zero_bf16 << 16);
  }
  template <int N>
  [[gnu::always_inline]] void first(Index k, Index d, Words* v) const {
    prefetch<N>(k, d);
    one<N>(k, d, v);
    HEED_UNROLL
    for (int n = 0; n < N; ++n) v[n] = (v[n] << 16) | negative_zero_bf16;
  }
  /// \}

 private:
  // The numbers of row k, in lower halves.
  template <int N>
  [[gnu::always_inline]] void one(Index k, Index d, Words* v) const {
    if constexpr (interleaves<N>) {
      HEED_UNROLL
      for (int n = 0; n < N; n += 2) interleave(line(k, d + n * 16), Words{}, v + n);
    } else {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) v[n] = value_words<V, C>(rows, k, first_dim + d + n * V::width);
    }
  }
  // 32 bf16 numbers of a row.
  [[gnu::always_inline]] Words line(Index k, Index d) const {
    Words bits;
    __builtin_memcpy(&bits, rows.row[k] + C::offset_bytes(rows.offset + first_dim + d), sizeof bits);
    return bits;
  }
  // Words with a number of `lower` in their lower half and one of `upper` in the upper half.
  [[gnu::always_inline]] static void interleave(Words lower, Words upper, Words* v) {
#if defined(__AVX512BW__)
    v[0] = (Words)_mm512_unpacklo_epi16((__m512i)lower, (__m512i)upper);
    v[1] = (Words)_mm512_unpackhi_epi16((__m512i)lower, (__m512i)upper);
#else
    static_cast<void>(lower), static_cast<void>(upper), static_cast<void>(v);
#endif
  }
  // The lines of N registers of dims, each once for all tiles of dims.
  template <int N>
  [[gnu::always_inline]] void prefetch(Index k, Index d) const {
    if (!fetches) return;
    const Index begin = C::offset_bytes(rows.offset + first_dim);
    HEED_UNROLL
    for (int n = 0; n < N; ++n) {
      const Index dim = rows.offset + first_dim + d + n * V::width;
      const Index byte = C::offset_bytes(dim / C::view_step * C::view_step);
      if ((byte - begin) % 64 != 0) continue;
      if (rows.ahead != nullptr) detail::prefetch(rows.ahead[k], byte);
      if (rows.far_ahead != nullptr) prefetch_l2(rows.far_ahead[k], byte);
    }
  }
};

}  // namespace heed::inline HEED_ABI::detail
