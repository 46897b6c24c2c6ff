/// \file
/// math::Bf16 in plain loops: the definition. The loops on vectors give the same bits.
#pragma once

#include <heed/factors.hpp>
#include <heed/math/bf16/pairs.hpp>
#include <heed/math/bf16/value_pairs.hpp>
#include <heed/math/bf16/weight_loop.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/scalar.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// The loops of math::Bf16 without SIMD. simd/scalar.hpp has the arguments.
struct Bf16ScalarLoops : Bf16ScalarWeights {
  /// As Bf16KeyLoops::pack_keys().
  template <class C>
  static void pack_keys(const KeyRows& rows, Index width, Bf16Pair* panel) {
    for (Index k = 0; k < rows.count; ++k) {
      for (Index i = 0; i < detail::bf16_pairs(width); ++i) panel[i * panel_keys + k] = key_pair<C>(rows, k, i, width);
    }
  }
  /// s[r][k] = scale * (q[r] . key k). One sum for all pairs, in order.
  /// \{
  template <Factors F = Factors::none>
  static void score_panel(const Bf16Pair* q, Index q_stride, Index rows, const Bf16Pair* panel, Index width,
                          Index count, float scale, float* s, const Ahead&, PanelFactors<F> = {}) {
    for (Index r = 0; r < rows; ++r) {
      for (Index k = 0; k < count; ++k) {
        float sum = 0;
        for (Index i = 0; i < detail::bf16_pairs(width); ++i) {
          sum = detail::dot_pairs(sum, q[r * q_stride + i], panel[i * panel_keys + k]);
        }
        s[r * chunk_keys + k] = scale * sum;
      }
    }
  }
  template <class C>
  static void score_rows(const Bf16Pair* q, Index q_stride, Index rows, const KeyRows& keys, Index width, float scale,
                         float* s) {
    for (Index k = 0; k < keys.count; ++k) {
      for (Index r = 0; r < rows; ++r) {
        float sum = 0;
        for (Index i = 0; i < detail::bf16_pairs(width); ++i) {
          sum = detail::dot_pairs(sum, q[r * q_stride + i], key_pair<C>(keys, k, i, width));
        }
        s[r * chunk_keys + k] = scale * sum;
      }
    }
  }
  /// \}

  /// As Bf16ValueLoops::pack_values().
  template <class C>
  static void pack_values(const KeyRows& rows, Index first_dim, Index dims, Bf16Pair* panel) {
    for (Index k = 0; k < rows.count; k += 2) {
      for (Index d = 0; d < round_up(dims, state_align); ++d) {
        const bool alone = k + 1 == rows.count;
        Bf16Pair& to = panel[k / 2 * panel_dims + d];
        to = d < dims ? detail::value_pair<C>(rows, k, alone ? k : k + 1, first_dim + d) : Bf16Pair{0};
      }
    }
  }
  /// targets[r].out[first_dim + d] = sum over k in `keys` of p[r][k] * (number d of value k). One sum per element, k
  /// ascending: a pair adds its first value first.
  /// \{
  template <Factors F = Factors::none>
  static void accumulate_panel(const Bf16Weight* p, Index rows, const Bf16Pair* panel, Interval keys, Index first_dim,
                               Index dims, RowTarget* targets, Accumulate phase, const Ahead&, PanelFactors<F> = {}) {
    accumulate(p, rows, keys, first_dim, dims, targets, phase,
               [panel](Index k, Index d) { return upper_if(k % 2 == 0, panel[k / 2 * panel_dims + d]); });
  }
  template <class C>
  static void accumulate_rows(const Bf16Weight* p, Index rows, const KeyRows& values, Interval keys, Index first_dim,
                              Index dims, RowTarget* targets, Accumulate phase) {
    accumulate(p, rows, keys, first_dim, dims, targets, phase,
               [&](Index k, Index d) { return upper_if(true, detail::value_pair<C>(values, k, k, first_dim + d)); });
  }
  /// \}

 private:
  // Pair number i of a key's row: numbers 2 i and 2 i + 1. The last number of an odd width is paired with 0.
  template <class C>
  static Bf16Pair key_pair(const KeyRows& rows, Index k, Index i, Index width) {
    float number[2] = {};
    const Index count = 2 * i + 2 <= width ? 2 : 1;
    detail::decode_row<C>(rows.row[k], rows.factors_of(k), rows.offset + 2 * i, count, number);
    return detail::bf16_pair(number[0], number[1]);
  }
  // One number of a pair of values, as the upper one. The lower one is hidden.
  static Bf16Pair upper_if(bool upper, Bf16Pair pair) {
    return {(upper ? pair.bits & 0xffff0000u : pair.bits << 16) | detail::negative_zero_bf16};
  }

  template <class Value>
  static void accumulate(const Bf16Weight* p, Index rows, Interval keys, Index first_dim, Index dims,
                         RowTarget* targets, Accumulate phase, const Value& value) {
    for (Index r = 0; r < rows; ++r) {
      for (Index d = 0; d < dims; ++d) {
        float& out = targets[r].out[first_dim + d];
        float sum = phase.resume ? out : 0;
        for (Index k = keys.begin; k < keys.end; ++k) {
          const Bf16Pair weight{std::uint32_t(p[r * chunk_keys + (k ^ 1)].bits) << 16};
          sum = detail::dot_pairs(sum, weight, value(k, d));
        }
        out = phase.finish ? Scalar::merged(sum, targets[r], first_dim + d) : sum;
      }
    }
  }
};

}  // namespace heed::inline HEED_ABI
