/// \file
/// BitLinear (arXiv 2406.02528): ternary weights times activations of eight bits, in float64 and exact integers.
///
///     m = max(mean |W|, 1e-5) of the whole tensor     w = clip(round_half_even(W / m), -1, 1)
///     a = max(max_k |x_k|, 1e-5) of a row             q = clip(round(x * 127/a), -128, 127),   x normed before, or not
///     y_n = (sum_k q_k w_nk) * a/127 * m
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "oracle/layer.hpp"

namespace oracle {

/// Where exact halves go: torch rounds them to even, the authors' fused kernel away from zero.
enum class Rounding { half_even, half_away };

inline double rounded(double x, Rounding halves) {
  const double whole = std::floor(std::abs(x)), rest = std::abs(x) - whole;
  const bool up_if_half = halves == Rounding::half_away || std::fmod(whole, 2) == 1;
  const bool up = rest > 0.5 || (rest == 0.5 && up_if_half);
  return std::copysign(up ? whole + 1 : whole, x);
}

/// Neither a scale of weights nor the size of a row is less than this, so that zeros divide well.
inline constexpr double smallest_scale = 1e-5;

struct TernaryWeights {
  Int rows = 0, cols = 0;
  std::vector<std::int8_t> w = {};  ///< [rows][cols] of -1, 0 and 1
  double scale = 1;                 ///< m: the weight is w * m
};

/// W is [out, in], as checkpoints hold it.
inline TernaryWeights quantized_weights(const Numbers& weight, Int cols) {
  TernaryWeights ternary{.rows = Int(weight.size()) / cols, .cols = cols};
  double sum = 0;
  for (const double number : weight) sum += std::abs(number);
  ternary.scale = std::max(sum / double(weight.size()), smallest_scale);
  for (const double number : weight) {
    const double nearest = rounded(number / ternary.scale, Rounding::half_even);
    ternary.w.push_back(std::int8_t(std::clamp(nearest, -1.0, 1.0)));
  }
  return ternary;
}

struct QuantizedRows {
  Int cols = 0;
  std::vector<std::int8_t> q = {};  ///< [rows][cols]
  Numbers absmax = {};              ///< [rows], a: a row is q * a/127
};

inline QuantizedRows quantized_rows(const Numbers& x, Int cols, Rounding halves = Rounding::half_even) {
  QuantizedRows rows{.cols = cols};
  for (auto row = x.begin(); row != x.end(); row += cols) {
    double a = smallest_scale;
    for (Int k = 0; k < cols; ++k) a = std::max(a, std::abs(row[k]));
    for (Int k = 0; k < cols; ++k) {
      rows.q.push_back(std::int8_t(std::clamp(rounded(row[k] * (127 / a), halves), -128.0, 127.0)));
    }
    rows.absmax.push_back(a);
  }
  return rows;
}

/// sum_k q_tk w_nk of every row t and every row n of the weights.
inline std::vector<Int> integer_products(const std::vector<std::int8_t>& q, const TernaryWeights& weights) {
  const Int tokens = Int(q.size()) / weights.cols;
  std::vector<Int> sums;
  for (Int t = 0; t < tokens; ++t) {
    for (Int n = 0; n < weights.rows; ++n) {
      Int sum = 0;
      for (Int k = 0; k < weights.cols; ++k) {
        sum += Int{q[std::size_t(t * weights.cols + k)]} * Int{weights.w[std::size_t(n * weights.cols + k)]};
      }
      sums.push_back(sum);
    }
  }
  return sums;
}

/// One projection. Every projection has its own norm; without gains there is none (BitNet b1.58 2B4T).
struct BitLinear {
  TernaryWeights weights = {};
  Numbers norm = {};  ///< [cols], or empty
  double eps = 1e-6;
  Rounding halves = Rounding::half_even;

  /// What the integer product reads of rows x [tokens][cols].
  [[nodiscard]] QuantizedRows inputs(const Numbers& x) const {
    return quantized_rows(rms_norm(x, norm, eps), weights.cols, halves);
  }
  /// y [tokens][rows]
  [[nodiscard]] Numbers operator()(const Numbers& x) const {
    const QuantizedRows in = inputs(x);
    Numbers y;
    for (const Int sum : integer_products(in.q, weights)) {
      const double a = in.absmax[y.size() / std::size_t(weights.rows)];
      y.push_back(double(sum) * (a / 127) * weights.scale);
    }
    return y;
  }
};

/// From the weight [out, in] of a checkpoint, and as many gains as there are inputs.
inline BitLinear bit_linear(const Numbers& weight, const Numbers& norm, double eps = 1e-6) {
  return {.weights = quantized_weights(weight, Int(norm.size())), .norm = norm, .eps = eps};
}

}  // namespace oracle
