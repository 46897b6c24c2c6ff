/// \file
/// One row per token and KV head: the whole row is the key, a prefix of it is the value.
#pragma once

#include <heed/policy/grouped.hpp>

namespace heed::inline HEED_ABI {

/// Attention whose values are a view of its keys: v_j is the first v_head_dim numbers of k_j. Caches k[head_dim] per
/// token and KV head. This is absorbed MLA (key 576, value 512; DeepSeek-V2, arXiv 2405.04434) without its maps.
struct SharedRow {
  Index num_heads = 0;          ///< query heads
  Index num_kv_heads = 1;       ///< KV heads; must divide num_heads
  Index head_dim = 0;           ///< width of a query and of a row
  Index v_head_dim = head_dim;  ///< width of a head's output, at most head_dim
  float scale = unset_scale;    ///< softmax scale; must be set

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;
  [[nodiscard]] Status validate() const {
    Status status = detail::validate_heads(num_heads, num_kv_heads, head_dim, v_head_dim, scale);
    if (status.ok() && v_head_dim > head_dim) {
      status =
          fail(StatusCode::invalid_argument, "v_head_dim is ", v_head_dim, ", must be at most head_dim ", head_dim);
    }
    return status;
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::shared_row_layout(num_heads, num_kv_heads, head_dim, v_head_dim, scale);
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] Identity output_map() const noexcept { return {}; }
  [[nodiscard]] Identity preparation() const noexcept { return {}; }
  /// \}
};

}  // namespace heed::inline HEED_ABI
