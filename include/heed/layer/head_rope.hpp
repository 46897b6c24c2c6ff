/// \file
/// The rotation of a layer's heads.
#pragma once

#include <optional>

#include <heed/layer/check.hpp>
#include <heed/rope/rope.hpp>

namespace heed::inline HEED_ABI::detail {

/// Makes `to` from `rope`, whose head_dim must be `head_dim`. Without `rope`, `to` stays as it is. invalid_argument, or
/// the errors of Rope::create().
inline Status take_head_rope(std::optional<Rope>& to, const std::optional<RopeOptions>& rope, Index head_dim) {
  if (!rope) return {};
  if (rope->head_dim != head_dim) {
    return fail(StatusCode::invalid_argument, "rope.head_dim is ", rope->head_dim, ", must be head_dim ", head_dim);
  }
  return take(to, Rope::create(*rope));
}

}  // namespace heed::inline HEED_ABI::detail
