/// \file
/// The scalar backend: the arithmetic contract (docs/design.md) in plain loops. Read this to know what the other
/// backends compute. Where the ISA has a fused multiply-add, they give the same bits, soft-cap aside.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <heed/factors.hpp>
#include <heed/floats.hpp>
#include <heed/matrix.hpp>
#include <heed/simd/exponential.hpp>
#include <heed/simd/gates.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/ternary/scalar.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// SimdBackend without SIMD. Functions write rows of scores, `s` and `p`, 256 floats apart.
struct Scalar {
  /// What SimdBackend and TernaryBackend ask for.
  /// \{
  static constexpr const char* name = "scalar";
  using Ternary = TernaryScalar;
  struct Lane;
  using Gates = GateLoops<Lane, Scalar>;
  static constexpr Index few_rows = 8;
  /// \}

  /// a * b + c, rounded once if the ISA has a fused multiply-add, as in every backend.
  [[nodiscard]] static float fma(float a, float b, float c) noexcept {
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
  }

  /// panel[d][k] = number d of key k. panel [width][64] floats, at most 64 keys.
  template <class C>
  static void pack_keys(const KeyRows& rows, Index width, float* panel) {
    for (Index k = 0; k < rows.count; ++k) {
      for (Index d = 0; d < width; ++d) C::codes(rows.row[k], rows.offset + d, 1, panel + d * panel_keys + k);
    }
  }

  /// s[r][k] = scale * (q[r] . key k of the panel). Dims are summed in blocks of 32, each with its own accumulator, d
  /// ascending from 0. The block sums are added in order, then multiplied by scale.
  ///
  /// Factors: a block's factor multiplies its sum while that is added, total = fma(factor, sum, total). A row's factor
  /// is multiplied with scale first, (factor * scale) * total.
  template <Factors F = Factors::none>
  static void score_panel(const float* q, Index q_stride, Index rows, const float* panel, Index width, Index count,
                          float scale, float* s, const Ahead&, PanelFactors<F> factors = {}) {
    for (Index r = 0; r < rows; ++r) {
      for (Index k = 0; k < count; ++k) {
        const float* key = panel + k;
        const auto factor = [&](Index i) {
          if constexpr (F != Factors::none) return factors.at[i * panel_keys + k];
          return 1.0f;
        };
        s[r * chunk_keys + k] = score<F>(
            q + r * q_stride, width, scale, [=](Index d) { return key[d * panel_keys]; }, factor);
      }
    }
  }

  /// The same, reading the encoded keys where they lie.
  template <class C>
  static void score_rows(const float* q, Index q_stride, Index rows, const KeyRows& keys, Index width, float scale,
                         float* s) {
    for (Index k = 0; k < keys.count; ++k) {
      for (Index r = 0; r < rows; ++r) {
        const auto code = [&](Index d) {
          float number;
          C::codes(keys.row[k], keys.offset + d, 1, &number);
          return number;
        };
        const auto factor = [&](Index i) { return factor_of_row<C>(keys, k, keys.offset + i * factor_dims); };
        s[r * chunk_keys + k] = score<C::factors>(q + r * q_stride, width, scale, code, factor);
      }
    }
  }

  /// s[k] = cap * tanh(s[k] / cap).
  static void soft_cap(float* s, Index count, float cap) {
    for (Index k = 0; k < count; ++k) s[k] = cap * detail::hyperbolic_tangent(s[k] / cap);
  }

  /// s[k] -= slope * |position[k] + shift|.
  static void add_bias(float* s, Index count, float slope, const float* position, float shift) {
    for (Index k = 0; k < count; ++k) s[k] = fma(-slope, detail::magnitude(position[k] + shift), s[k]);
  }

  /// Replaces s[k] by 2^-8 exp(s[k] - max) and returns max and sum. The sum has 16 parts: part j adds s[j], s[j + 16],
  /// ...; then 16 parts become 8, 4, 2, 1. Slots from `count` to the next multiple of 16 are overwritten.
  static ChunkSum softmax(float* s, Index count) {
    constexpr float lowest = -detail::infinity;
    detail::fill(s + count, s + round_up(count, 16), lowest);
    float max = lowest;
    bool nan = false;
    for (Index k = 0; k < count; ++k) {
      nan |= s[k] != s[k];
      max = detail::larger(max, s[k]);
    }
    if (max == lowest && !nan) {
      detail::fill(s, s + round_up(count, 16), 0.0f);
      return {max, 0};
    }
    float lane[16] = {};
    for (Index k = 0; k < round_up(count, 16); ++k) {
      s[k] = exp<detail::exponential::softmax_bias>(s[k] - max, detail::exponential::softmax_floor);
      lane[k % 16] += s[k];
    }
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return {lane[0] != lane[0] ? lane[0] : max, lane[0]};
  }

  /// Writes `width` numbers of every row to out[k][width].
  template <class C>
  static void decode_rows(const KeyRows& rows, Index width, float* out) {
    for (Index k = 0; k < rows.count; ++k) {
      detail::decode_row<C>(rows.row[k], rows.factors_of(k), 0, width, out + k * width);
    }
  }

  /// panel[k][d] = number first_dim + d of value k, for d in [0, dims); zeros up to a multiple of 16. panel
  /// [count][64].
  template <class C>
  static void pack_values(const KeyRows& rows, Index first_dim, Index dims, float* panel) {
    for (Index k = 0; k < rows.count; ++k) {
      float* out = panel + k * panel_dims;
      C::codes(rows.row[k], rows.offset + first_dim, dims, out);
      detail::fill(out + dims, out + round_up(dims, state_align), 0.0f);
    }
  }

  /// targets[r].out[first_dim + d] = sum over k in `keys` of p[r][k] * panel[k][d]. One accumulator per element, k
  /// ascending. A factor multiplies p: fma(p * factor, code, sum).
  template <Factors F = Factors::none>
  static void accumulate_panel(const float* p, Index rows, const float* panel, Interval keys, Index first_dim,
                               Index dims, RowTarget* targets, Accumulate phase, const Ahead&,
                               PanelFactors<F> factors = {}) {
    for (Index r = 0; r < rows; ++r) {
      for (Index d = 0; d < dims; ++d) {
        float& out = targets[r].out[first_dim + d];
        float sum = phase.resume ? out : 0;
        for (Index k = keys.begin; k < keys.end; ++k) {
          float x = p[r * chunk_keys + k];
          if constexpr (F != Factors::none) x *= factors.at[detail::factor_of<F>(d) * chunk_keys + k];
          sum = fma(x, panel[k * panel_dims + d], sum);
        }
        out = phase.finish ? merged(sum, targets[r], first_dim + d) : sum;
      }
    }
  }

  /// The same, reading the encoded values where they lie.
  template <class C>
  static void accumulate_rows(const float* p, Index rows, const KeyRows& values, Interval keys, Index first_dim,
                              Index dims, RowTarget* targets, Accumulate phase) {
    for (Index r = 0; r < rows; ++r) {
      for (Index d = 0; d < dims; ++d) {
        float& out = targets[r].out[first_dim + d];
        float sum = phase.resume ? out : 0;
        for (Index k = keys.begin; k < keys.end; ++k) {
          const Index number = values.offset + first_dim + d;
          float code, x = p[r * chunk_keys + k];
          C::codes(values.row[k], number, 1, &code);
          if constexpr (C::factors != Factors::none) x *= factor_of_row<C>(values, k, number);
          sum = fma(x, code, sum);
        }
        out = phase.finish ? merged(sum, targets[r], first_dim + d) : sum;
      }
    }
  }

  /// Normalises and merges the sums that a call with finish = false left in the targets.
  static void finish(RowTarget* targets, Index rows, Index dims) {
    for (Index r = 0; r < rows; ++r) {
      for (Index d = 0; d < dims; ++d) targets[r].out[d] = merged(targets[r].out[d], targets[r], d);
    }
  }

  /// A sum of element `at`, normalised and merged.
  static float merged(float sum, const RowTarget& target, Index at) noexcept {
    float x = target.normalise * sum;
    for (int j = 0; j < target.merges; ++j) {
      x = fma(target.merge[j].left_weight, target.merge[j].left[at], target.merge[j].right_weight * x);
    }
    return x;
  }

  /// Output of two merged states: out[d] = fma(left_weight, left[d], right_weight * right[d]).
  static void merge(float left_weight, const float* left, float right_weight, const float* right, Index n, float* out) {
    for (Index d = 0; d < n; ++d) out[d] = fma(left_weight, left[d], right_weight * right[d]);
  }

  /// y = x m, summed as scores are.
  static void linear(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride) {
    for (Index r = 0; r < rows; ++r) {
      for (Index o = 0; o < m.out; ++o) {
        y[r * y_stride + o] = dot(x + r * x_stride, m.in, [&](Index i) { return m.number(i, o); });
      }
    }
  }

  /// 2^Bias * exp(x). Exactly 0 if x < floor, NaN for NaN.
  template <int Bias = 0>
  [[nodiscard]] static float exp(float x, float floor = detail::exponential::underflow) noexcept {
    using namespace detail::exponential;
    const float shifted = fma(x, log2e_high, round_magic);
    const float k = shifted - round_magic;
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
    const float f = fma(x, log2e_low, fma(x, log2e_high, -k));
#else
    const float f = ((x - k * ln2_high) - k * ln2_low) * log2e_high;
#endif
    float y = fma(c6, f, c5);
    y = fma(y, f, c4);
    y = fma(y, f, c3);
    y = fma(y, f, c2);
    y = fma(y, f, c1);
    y = fma(y, f, 1.0f);
    const auto power =
        detail::bits_as<float>((detail::bits_as<std::uint32_t>(shifted) << 23) + (std::uint32_t(127 + Bias) << 23));
    return x < floor ? 0.0f : y * power;
  }

 private:
  // The factor of number `number` of the row of key k; 1 without factors.
  template <class C>
  static float factor_of_row(const KeyRows& rows, Index k, Index number) {
    if constexpr (C::factors == Factors::none) {
      return 1;
    } else {
      return C::factor(rows.row[k], rows.factors_of(k), detail::factor_of<C::factors>(number));
    }
  }

  // scale * (q . key) of a key whose number d is code(d) * factor(d / 32), or code(d) * factor(0).
  template <Factors F, class Code, class Factor>
  static float score(const float* q, Index width, float scale, const Code& code, const Factor& factor) {
    if constexpr (F == Factors::none) return scale * dot(q, width, code);
    if constexpr (F == Factors::per_row) return factor(0) * scale * dot(q, width, code);
    float total = 0;
    for (Index begin = 0; begin < width; begin += score_dims) {
      const Index dims = std::min(score_dims, width - begin);
      const float sum = dot(q + begin, dims, [&](Index d) { return code(begin + d); });
      total = fma(factor(begin / score_dims), sum, total);
    }
    return scale * total;
  }

  template <class Key>
  static float dot(const float* q, Index width, const Key& key) {
    float total = 0;
    for (Index begin = 0; begin < width; begin += score_dims) {
      float sum = 0;
      for (Index d = begin; d < std::min(begin + score_dims, width); ++d) sum = fma(q[d], key(d), sum);
      total += sum;
    }
    return total;
  }
};

/// A vector of one float.
struct Scalar::Lane {
  /// As in XsimdVector.
  /// \{
  using Reg = float;
  static constexpr Index width = 1;
  static float load(const float* from) noexcept { return *from; }
  static void store(float* to, float x) noexcept { *to = x; }
  static float set1(float x) noexcept { return x; }
  static float add(float a, float b) noexcept { return a + b; }
  static float sub(float a, float b) noexcept { return a - b; }
  static float mul(float a, float b) noexcept { return a * b; }
  static float div(float a, float b) noexcept { return a / b; }
  static float fma(float a, float b, float c) noexcept { return Scalar::fma(a, b, c); }
  static float select_less(float x, float y, float a, float b) noexcept { return x < y ? a : b; }
  /// \}
};

}  // namespace heed::inline HEED_ABI
