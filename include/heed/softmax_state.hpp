/// \file
/// The value that merges: attention over a set of keys, ready to be combined with attention over another set.
///
/// Tiling, paging, threads, cascades, sink logits and MPI are all this one operation. The state of a set of keys is
/// (max, sum, out): max_j s_j, sum_j exp(s_j - max), and the *normalised* output sum_j softmax_j(s) v_j. A merge is a
/// convex combination of two outputs, so that no sum of finite values ever overflows on the way to a finite answer.
#pragma once

#include <cmath>

#include <heed/math.hpp>
#include <heed/simd/scalar.hpp>

namespace heed::inline HEED_ABI {

/// The scalar part of a state. Empty: max = -inf and sum = 0. A visible NaN makes both NaN.
struct SoftmaxState {
  float max = -detail::infinity;
  float sum = 0;

  [[nodiscard]] bool empty() const noexcept { return max == -detail::infinity; }

  /// Natural log-sum-exp of the logits, -inf when empty.
  [[nodiscard]] float lse() const noexcept { return empty() ? max : max + detail::logarithm(sum); }
};

/// How two states combine: out = fma(left, left_out, right * right_out).
struct MergeWeights {
  SoftmaxState state;
  float left = 0;
  float right = 0;
};

/// Weights of the merge of two non-empty states. The result depends on the operands' order only by rounding; heed's
/// tree fixes the order.
[[nodiscard]] inline MergeWeights merge_weights(const SoftmaxState& left, const SoftmaxState& right) noexcept {
  const float max = left.max > right.max ? left.max : right.max;
  const float l = left.sum * Scalar::exp(left.max - max);
  const float r = right.sum * Scalar::exp(right.max - max);
  const float sum = l + r;
  const float inverse = 1.0f / sum;
  return {.state = {.max = sum != sum ? sum : max, .sum = sum}, .left = l * inverse, .right = r * inverse};
}

/// Merges two attention results over disjoint key sets, given as (natural lse, normalised out[v_head_dim]):
/// out = (e^lse_a a + e^lse_b b) / (e^lse_a + e^lse_b), lse = log(e^lse_a + e^lse_b). `out` may be `a` or `b`. Any
/// magnitude of lse works.
///
/// An infinite lse marks an empty side: -inf, as heed gives it, or +inf, as FlashAttention does. Nothing else has an
/// infinite lse: a logit of +inf makes it NaN. The other side is then returned bit for bit; if both are empty, out = 0 and
/// lse = -inf. A NaN among the two lse makes lse NaN; out is then NaN, unless the other side is empty.
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
