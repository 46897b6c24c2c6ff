/// \file
/// What a math must provide: the arithmetic in which queries meet stored rows.
#pragma once

#include <concepts>
#include <type_traits>

#include <heed/codec/f32.hpp>
#include <heed/math/sizes.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// A type whose objects the kernel may place in scratch, uninitialised.
template <class T>
concept InScratch = std::is_trivially_copyable_v<T> && std::is_trivially_default_constructible_v<T> && alignof(T) <= 64;

/// The half of Math that names no loop.
template <class M>
concept MathTypes = requires(const typename M::Weight& weight) {
  { M::name } -> std::convertible_to<const char*>;
  requires InScratch<typename M::Query>;
  requires InScratch<typename M::Panel>;
  requires InScratch<typename M::Weight>;
  { float(weight) } -> std::same_as<float>;
  requires(M::query_numbers > 0);
  requires(M::panel_numbers > 0 && panel_keys % M::panel_numbers == 0);
  { M::weight_place(Index{}) } -> std::same_as<Index>;
};

}  // namespace detail

/// A math is a type: how queries, packed rows and weights are held, in which order their products are added, and how
/// large the error may be. attend<Backend, Math>() names it. The number of rows never chooses it. math::F32 is the
/// default. What a math promises stands in its header and in docs/design.md.
///
///     name                    what Kernel::math says; no two maths have one name
///     Query, query_numbers    a query row of `width` numbers is ceil(width / query_numbers) objects of Query
///     Panel, panel_numbers    a Panel holds panel_numbers numbers of a column of a packed panel: consecutive dims of one
///                             key, or consecutive keys of one value dim. panel_numbers divides 64
///     Weight                  a weight of the softmax; float(weight) is 2^-8 exp(logit - max) as the math rounds it
///     weight_place(slot)      where the weight of a slot lies in a row of weights: `slot`, or another place among the 16 slots
///                             from a multiple of 16 on
///     On<Backend>             the loops, on the vectors of a backend
///
/// Logits are floats. If Weight is float, weights take the place of the logits. States of chunks are also floats, and the
/// backend merges them. On<Backend> has the loops below; a loop with a codec is a template of it. Rows of logits `s` and
/// of weights `p` are 256 apart. q_stride counts Querys. simd/scalar.hpp has the other arguments, and defines the loops
/// of F32.
///
///     few_rows                                                most rows that read keys and values in place
///     queries(q, rows, width, out)                            rounds rows of floats, which lie one after the other
///     pack_keys<K>(keys, width, panel)                        panel [ceil(width / panel_numbers)][64]
///     score_panel(q, q_stride, rows, panel, width, keys, scale, s, ahead, factors)
///     score_rows<K>(q, q_stride, rows, keys, width, scale, s)
///     softmax(s, count, p)                                    weights of `count` logits, the largest logit, and the sum
///                                                             of the rounded weights, which multiply values.
///                                                             Weights up to the next multiple of 16 are 0, and logits
///                                                             up to the next multiple of 32 may be overwritten
///     pack_values<V>(values, first_dim, dims, panel)          panel [ceil(count / panel_numbers)][64]
///     accumulate_panel(p, rows, panel, keys, first_dim, dims, targets, phase, ahead, factors)
///     accumulate_rows<V>(p, rows, values, keys, first_dim, dims, targets, phase)
///
/// A row has the same bits alone and among others, in place and packed, and for any cut of `keys` into ranges, which may
/// begin at any slot. `keys` counts from a slot that is a multiple of 64. A key outside the ranges of a row is hidden, and
/// must not be multiplied: it may be NaN.
///
/// `K` and `V` are the codecs of the rows. Keys and values that a preparation makes are rows of codec F32, so every math
/// must read these. A loop that cannot read a codec says so by a constraint; then the kernel does not compile.
template <class M, class Backend, class K = F32, class V = F32>
concept Math = detail::MathTypes<M> &&
    requires(const float* in, float* s, Index n, float x, typename M::Query* q, typename M::Panel* panel,
             typename M::Weight* p, KeyRows rows, Interval keys, RowTarget* targets, Accumulate phase, Ahead ahead,
             PanelFactors<K::factors> key_factors, PanelFactors<V::factors> value_factors) {
  { M::template On<Backend>::few_rows } -> std::convertible_to<Index>;
  M::template On<Backend>::queries(in, n, n, q);
  M::template On<Backend>::template pack_keys<K>(rows, n, panel);
  M::template On<Backend>::score_panel(q, n, n, panel, n, n, x, s, ahead, key_factors);
  M::template On<Backend>::template score_rows<K>(q, n, n, rows, n, x, s);
  { M::template On<Backend>::softmax(s, n, p) } -> std::same_as<ChunkSum>;
  M::template On<Backend>::template pack_values<V>(rows, n, n, panel);
  M::template On<Backend>::accumulate_panel(p, n, panel, keys, n, n, targets, phase, ahead, value_factors);
  M::template On<Backend>::template accumulate_rows<V>(p, n, rows, keys, n, n, targets, phase);
};

}  // namespace heed::inline HEED_ABI
