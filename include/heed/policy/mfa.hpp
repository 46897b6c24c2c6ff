/// \file
/// Multi-matrix factorisation attention (MFA, arXiv 2412.19255; Step-3, arXiv 2507.19427) and its key-reuse form
/// MFA-KR: many large query heads on one KV head.
///
///     MFA      s_j = scale (q_c . k_j),          o_c = sum_j softmax_j(s) v_j
///     MFA-KR   s_j = scale (q_c . RoPE_j(k_j)),  o_c = sum_j softmax_j(s) M k_j,     M = I + diag(alpha) N
///
/// MFA-KR caches only the un-rotated key: rotation and M do not commute, and the value is made from the un-rotated key.
/// M is linear, so it moves out of the sum: o_c = M z_c with z_c = sum_j softmax_j(s) k_j. It may be folded into the
/// output projection.
#pragma once

#include <span>

#include <heed/policy/grouped.hpp>
#include <heed/policy/matrix_map.hpp>
#include <heed/policy/rotated_keys.hpp>

namespace heed::inline HEED_ABI {

/// MFA. Caches k[head_dim] (rotated, stream 0) and v[head_dim] (stream 1) per token. Step-3 has 64 heads of 256.
struct Mfa {
  Index num_heads = 0;        ///< query heads
  Index head_dim = 0;         ///< width of a query, the key, the value and a head's output
  float scale = unset_scale;  ///< softmax scale; must be set, usually default_scale(head_dim)

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] Status validate() const { return detail::validate_heads(num_heads, 1, head_dim, head_dim, scale); }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::grouped_layout(num_heads, 1, head_dim, head_dim, scale);
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] Identity output_map() const noexcept { return {}; }
  [[nodiscard]] Identity preparation() const noexcept { return {}; }
  /// \}
};

/// MFA-KR. Caches k[head_dim] per token, un-rotated. Queries come rotated.
struct MfaKr {
  Index num_heads = 0;        ///< query heads
  Index head_dim = 0;         ///< width of a query, the key and a head's output
  float scale = unset_scale;  ///< softmax scale; must be set, usually default_scale(head_dim)
  /// Rotates keys when they are read, once per panel of 64 keys for all heads. Not owned. Null: the model has no rotation.
  const Rope* rope = nullptr;
  /// M transposed, [head_dim][head_dim]: out = M z. Not owned. Empty if M is I, or if it was folded into the output
  /// projection (fold_value_map() in layer/mfa.hpp).
  std::span<const float> value_map = {};

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;
  [[nodiscard]] Status validate() const {
    if (Status status = detail::validate_heads(num_heads, 1, head_dim, head_dim, scale); !status.ok()) return status;
    if (Status status = detail::check_rope(rope, "head_dim", head_dim); !status.ok()) return status;
    if (!value_map.empty() && !detail::has_size(value_map.size(), Count(head_dim) * head_dim)) {
      return fail(StatusCode::invalid_argument, "value_map has ", value_map.size(),
                  " numbers, must have head_dim * head_dim = ", head_dim * head_dim, " or none");
    }
    return {};
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::shared_row_layout(num_heads, 1, head_dim, head_dim, scale);
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] MatrixMap output_map() const noexcept {
    if (value_map.empty()) return {.tail = head_dim};
    return {.matrix = {value_map.data(), head_dim, head_dim, head_dim}};
  }
  [[nodiscard]] KeyRotation preparation() const noexcept {
    return {.rope = rope, .key = layout().key, .stream_width = head_dim};
  }
  /// \}
};

}  // namespace heed::inline HEED_ABI
