/// \file
/// Multi-head, grouped-query and multi-query attention: every KV head serves num_heads / num_kv_heads query heads.
///
///     s_j = scale * (q_h . k_j),   o_h = sum_j softmax_j(s) v_j,   k, v of KV head floor(h * num_kv_heads / num_heads)
///
/// Sources: MHA arXiv 1706.03762, MQA arXiv 1911.02150, GQA arXiv 2305.13245. scale is 1/sqrt(head_dim) in all of them.
#pragma once

#include <cmath>
#include <limits>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>
#include <heed/floats.hpp>

namespace heed::inline HEED_ABI {

/// NaN: the scale of a policy whose scale was not set. validate() refuses it.
inline constexpr float unset_scale = std::numeric_limits<float>::quiet_NaN();

/// 1 / sqrt(head_dim), the softmax scale of most models.
[[nodiscard]] inline float default_scale(Index head_dim) noexcept {
  return 1.0f / detail::square_root(float(head_dim));
}

namespace detail {

inline Status validate_heads(Index num_heads, Index num_kv_heads, Index head_dim, Index v_head_dim, float scale) {
  if (Status status = check_range("num_heads", num_heads, 1, most_query_heads); !status.ok()) return status;
  if (num_kv_heads < 1 || num_heads % num_kv_heads != 0) {
    return fail(StatusCode::invalid_argument, "num_kv_heads is ", num_kv_heads, ", must divide num_heads ", num_heads);
  }
  if (Status status = check_range("num_kv_heads", num_kv_heads, 1, most_heads); !status.ok()) return status;
  if (Status status = check_range("head_dim", head_dim, 1, most_width); !status.ok()) return status;
  if (Status status = check_range("v_head_dim", v_head_dim, 1, most_width); !status.ok()) return status;
  if (!detail::is_finite(scale)) {
    return fail(StatusCode::invalid_argument, "scale is ", scale, ", must be set to a finite number");
  }
  return {};
}

inline AttentionLayout grouped_layout(Index num_heads, Index num_kv_heads, Index head_dim, Index v_head_dim,
                                      float scale) noexcept {
  return {.num_streams = 2,
          .streams = {StreamShape{num_kv_heads, head_dim}, StreamShape{num_kv_heads, v_head_dim}},
          .key = {.stream = 0, .offset = 0, .width = head_dim},
          .value = {.stream = 1, .offset = 0, .width = v_head_dim},
          .num_heads = num_heads,
          .num_kv_heads = num_kv_heads,
          .key_width = head_dim,
          .value_width = v_head_dim,
          .scale = scale};
}

/// One stream: a row of `width` numbers is the key, and its first `value_width` numbers are the value.
inline AttentionLayout shared_row_layout(Index num_heads, Index num_kv_heads, Index width, Index value_width,
                                         float scale) noexcept {
  return {.num_streams = 1,
          .streams = {StreamShape{num_kv_heads, width}},
          .key = {.stream = 0, .offset = 0, .width = width},
          .value = {.stream = 0, .offset = 0, .width = value_width},
          .num_heads = num_heads,
          .num_kv_heads = num_kv_heads,
          .key_width = width,
          .value_width = value_width,
          .scale = scale};
}

}  // namespace detail

/// Grouped-query attention. Caches k[head_dim] (stream 0) and v[v_head_dim] (stream 1) per token and KV head.
/// Keys and queries come with their rotation, if the model has one.
struct Gqa {
  Index num_heads = 0;          ///< query heads
  Index num_kv_heads = 0;       ///< KV heads; must divide num_heads
  Index head_dim = 0;           ///< width of a query and of a key
  Index v_head_dim = head_dim;  ///< width of a value and of a head's output
  float scale = unset_scale;    ///< softmax scale; must be set, usually default_scale(head_dim)

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] Status validate() const {
    return detail::validate_heads(num_heads, num_kv_heads, head_dim, v_head_dim, scale);
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::grouped_layout(num_heads, num_kv_heads, head_dim, v_head_dim, scale);
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] Identity output_map() const noexcept { return {}; }
  [[nodiscard]] Identity preparation() const noexcept { return {}; }
  /// \}
};

/// Multi-head attention: as many KV heads as query heads. Cache as in Gqa.
struct Mha {
  Index num_heads = 0;          ///< query heads, and KV heads
  Index head_dim = 0;           ///< width of a query and of a key
  Index v_head_dim = head_dim;  ///< width of a value and of a head's output
  float scale = unset_scale;    ///< softmax scale; must be set, usually default_scale(head_dim)

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] Status validate() const {
    return detail::validate_heads(num_heads, num_heads, head_dim, v_head_dim, scale);
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::grouped_layout(num_heads, num_heads, head_dim, v_head_dim, scale);
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] Identity output_map() const noexcept { return {}; }
  [[nodiscard]] Identity preparation() const noexcept { return {}; }
  /// \}
};

/// Multi-query attention: one KV head for all query heads. Cache as in Gqa.
struct Mqa {
  Index num_heads = 0;          ///< query heads
  Index head_dim = 0;           ///< width of a query and of the key
  Index v_head_dim = head_dim;  ///< width of the value and of a head's output
  float scale = unset_scale;    ///< softmax scale; must be set, usually default_scale(head_dim)

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] Status validate() const { return detail::validate_heads(num_heads, 1, head_dim, v_head_dim, scale); }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::grouped_layout(num_heads, 1, head_dim, v_head_dim, scale);
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] Identity output_map() const noexcept { return {}; }
  [[nodiscard]] Identity preparation() const noexcept { return {}; }
  /// \}
};

}  // namespace heed::inline HEED_ABI
