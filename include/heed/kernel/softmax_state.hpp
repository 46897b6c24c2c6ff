/// \file
/// The state of attention over a set of keys, and the merge of two such states over disjoint sets.
///
/// The state is (max, sum, out): max_j s_j, sum_j exp(s_j - max), and the *normalised* output sum_j softmax_j(s) v_j.
/// A merged output is a convex combination of two outputs, so no sum of finite values overflows on the way to a finite
/// answer. Chunks, threads, and results of several machines or prefixes are all combined by this one operation.
#pragma once

#include <cmath>

#include <heed/floats.hpp>
#include <heed/simd/scalar.hpp>

namespace heed::inline HEED_ABI {

/// The two numbers of a state, without its output. A visible NaN makes both NaN.
struct SoftmaxState {
  float max = -detail::infinity;  ///< largest logit; -inf if there is no key
  float sum = 0;                  ///< sum of exp(logit - max)

  /// true if no key was visible.
  [[nodiscard]] bool empty() const noexcept { return max == -detail::infinity; }

  /// Natural log-sum-exp of the logits, -inf when empty.
  [[nodiscard]] float lse() const noexcept { return empty() ? max : max + detail::logarithm(sum); }
};

/// How two states merge: out = fma(left, left_out, right * right_out).
struct MergeWeights {
  SoftmaxState state;  ///< of the merged keys
  float left = 0;      ///< weight of the left output
  float right = 0;     ///< weight of the right output
};

/// Weights of the merge of two states that are not empty. Swapping the states changes the result by rounding only;
/// heed's merge tree fixes the order.
[[nodiscard]] inline MergeWeights merge_weights(const SoftmaxState& left, const SoftmaxState& right) noexcept {
  const float max = left.max > right.max ? left.max : right.max;
  const float l = left.sum * Scalar::exp(left.max - max);
  const float r = right.sum * Scalar::exp(right.max - max);
  const float sum = l + r;
  const float inverse = 1.0f / sum;
  return {.state = {.max = sum != sum ? sum : max, .sum = sum}, .left = l * inverse, .right = r * inverse};
}

/// Merges two attention results over disjoint key sets, each given as its natural lse and normalised output:
///
///     out = (e^lse_a a + e^lse_b b) / (e^lse_a + e^lse_b),   lse = ln(e^lse_a + e^lse_b)
///
/// a, b, out are [v_head_dim] floats; `out` may be `a` or `b`. `lse` is one float. Any magnitude of lse works.
///
/// An infinite lse marks an empty side: -inf, as heed gives it, or +inf, as FlashAttention does. No other result has an
/// infinite lse: a logit of +inf makes it NaN. If one side is empty, the other is returned bit for bit. If both are
/// empty, out = 0 and lse = -inf. If an lse is NaN, lse is NaN; out is NaN unless the other side is empty.
inline void merge_results(float lse_a, const float* a, float lse_b, const float* b, Index v_head_dim, float* out,
                          float* lse) noexcept {
  const auto state = [](float side) { return detail::is_infinite(side) ? SoftmaxState{} : SoftmaxState{side, 1.0f}; };
  const SoftmaxState left = state(lse_a), right = state(lse_b);
  if (left.empty() || right.empty()) {
    const float* from = right.empty() ? a : b;
    for (Index d = 0; d < v_head_dim; ++d) out[d] = left.empty() && right.empty() ? 0.0f : from[d];
    *lse = right.empty() ? left.lse() : right.lse();
    return;
  }
  const MergeWeights w = merge_weights(left, right);
  Scalar::merge(w.left, a, w.right, b, v_head_dim, out);
  *lse = w.state.lse();
}

}  // namespace heed::inline HEED_ABI
