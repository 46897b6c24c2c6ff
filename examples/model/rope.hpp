/// \file
/// Rotary positions as the config says.
#pragma once

#include <algorithm>
#include <utility>

#include <heed/rope/rope.hpp>

#include "model/config.hpp"

namespace heed_examples {

/// Rotation of a head, or of the rotated part of one.
[[nodiscard]] inline heed::RopeOptions rope_options(const AttentionConfig& config) {
  return {.head_dim = config.head_dim,
          .layout = config.rope_layout == "half" ? heed::RopeLayout::half_split : heed::RopeLayout::interleaved,
          .theta = config.rope_theta,
          .table_positions = std::min<heed::Index>(config.max_positions, 65536)};
}

/// The same, made; ModelError if the config asks for what cannot be.
[[nodiscard]] inline heed::Rope make_rope(const AttentionConfig& config) {
  auto rope = heed::Rope::create(rope_options(config));
  if (!rope.ok()) config.keys.fail("RoPE: " + rope.status().message());
  return *std::move(rope);
}

}  // namespace heed_examples
