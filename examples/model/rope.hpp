/// \file
/// Rotary positions as the config says.
#pragma once

#include <algorithm>
#include <utility>

#include <heed/rope/rope.hpp>

#include "model/config.hpp"

namespace heed_examples {

/// Rotation of the rows that `shape` describes (head_dim, rotary_dim, rotary_offset); the config knows the rest.
[[nodiscard]] inline heed::Rope make_rope(const AttentionConfig& config, heed::RopeOptions shape) {
  shape.layout = config.rope_layout == "half" ? heed::RopeLayout::half_split : heed::RopeLayout::interleaved;
  shape.theta = config.rope_theta;
  shape.table_positions = std::min<heed::Index>(config.max_positions, 65536);
  auto rope = heed::Rope::create(shape);
  if (!rope.ok()) config.keys.fail("RoPE: " + rope.status().message());
  return *std::move(rope);
}

}  // namespace heed_examples
