/// \file
/// Keys cached without their rotation and rotated when they are read.
///
/// Two things need it: models whose values are made from the un-rotated key (MFA-KR), and caches whose positions change
/// after the write (in-cache ranks, as in StreamingLLM and SepLLM streaming).
#pragma once

#include <concepts>
#include <cstring>
#include <utility>

#include <heed/concepts.hpp>
#include <heed/rope/rope.hpp>

namespace heed::inline HEED_ABI {

/// A TilePreparation: the key view of every row, of which rope->options().head_dim numbers from `offset` on are rotated by
/// the row's position. Values stay what the cache holds. Without a rope there is nothing to prepare.
struct KeyRotation {
  const Rope* rope = nullptr;
  View key;
  Index stream_width = 0;
  Index offset = 0;
  bool unrotated = false;  ///< there is no rotation, but keys of other layers of the cache have one

  [[nodiscard]] bool makes_values() const noexcept { return false; }
  /// Whether keys are stored without a position: a cache with in-cache ranks needs that.
  [[nodiscard]] bool rotates_keys() const noexcept { return rope != nullptr || unrotated; }
  [[nodiscard]] bool idle() const noexcept { return rope == nullptr; }

  void keys(Index /*kv_head*/, Index count, const float* rows, const Index* positions, float* out,
            Linear /*linear*/) const noexcept {
    const float* const in = rows + key.offset;
    const Index width = rope->options().head_dim;
    if (width == key.width) return rope->rotate(positions, count, 1, in, stream_width, out);
    for (Index i = 0; i < count; ++i) {
      std::memcpy(out + i * key.width, in + i * stream_width, std::size_t(key.width) * sizeof(float));
    }
    const Index first = offset + rope->options().rotary_offset;
    rope->rotate_part(positions, count, 1, in + first, stream_width, out + first, key.width);
  }

  void values(Index, Index, const float*, const Index*, float*, Linear) const noexcept {}
};

/// How a layer hands its keys to the cache.
enum class CachedKeys {
  rotated,    ///< by their position, for good
  unrotated,  ///< to be turned when they are read: in-cache rank positions need that
};

/// `policy` with keys rotated at read. Queries come rotated, each by its own position; keys are written un-rotated.
/// `rope` is not owned and must outlive every use; its head_dim is the width of the policy's key view.
///
/// A cache made with it is read with it: attend() refuses `policy` alone. Layers without a rotation in such a cache say so by
/// `without_rotation`, and need no rope.
template <AttentionPolicy P>
  requires std::same_as<decltype(std::declval<const P&>().preparation()), Identity>
struct RotatedKeys {
  P policy;
  const Rope* rope = nullptr;
  bool without_rotation = false;

  static constexpr int key_stream = P::key_stream;
  static constexpr int value_stream = P::value_stream;
  [[nodiscard]] Status validate() const {
    if (Status status = policy.validate(); !status.ok()) return status;
    if (without_rotation) return {};
    if (rope == nullptr) return fail(StatusCode::invalid_argument, "rope is null, must point to a Rope");
    if (const Index width = policy.layout().key.width; rope->options().head_dim != width) {
      return fail(StatusCode::invalid_argument, "rope->options().head_dim is ", rope->options().head_dim,
                  ", must be the width of the policy's keys, ", width);
    }
    return {};
  }
  [[nodiscard]] AttentionLayout layout() const noexcept { return policy.layout(); }
  [[nodiscard]] decltype(auto) query_map() const noexcept { return policy.query_map(); }
  [[nodiscard]] decltype(auto) output_map() const noexcept { return policy.output_map(); }
  [[nodiscard]] KeyRotation preparation() const noexcept {
    const AttentionLayout shape = layout();
    return {.rope = without_rotation ? nullptr : rope,
            .key = shape.key,
            .stream_width = shape.streams[std::size_t(shape.key.stream)].width,
            .unrotated = without_rotation};
  }
};

}  // namespace heed::inline HEED_ABI
