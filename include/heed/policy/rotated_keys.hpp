/// \file
/// Keys cached without their rotation and rotated when they are read.
///
/// Two cases need it: models whose values are made from the un-rotated key (MFA-KR), and caches in which a key's
/// position changes after it was written (in-cache ranks, as in StreamingLLM and SepLLM's streaming).
#pragma once

#include <concepts>
#include <cstring>
#include <utility>

#include <heed/concepts.hpp>
#include <heed/rope/rope.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// invalid_argument if there is a rope of another width than `width`, which the user knows as `name`.
inline Status check_rope(const Rope* rope, const char* name, Index width) {
  if (rope == nullptr || rope->options().head_dim == width) return {};
  return fail(StatusCode::invalid_argument, "rope->options().head_dim is ", rope->options().head_dim, ", must be ",
              name, " ", width);
}

}  // namespace detail

/// A RowPreparation: copies the key view of every row and rotates rope->options().head_dim numbers of it, from
/// `offset` on, by the row's position. Values are read from the stored rows. Without a rope there is nothing to prepare.
struct KeyRotation {
  const Rope* rope = nullptr;  ///< not owned
  View key;                    ///< the policy's key view
  Index stream_width = 0;      ///< width of a stored row
  Index offset = 0;            ///< first rotated number of the key view
  bool unrotated = false;      ///< this layer has no rotation, but other layers of the cache have one

  /// What RowPreparation asks for (concepts.hpp).
  /// \{
  [[nodiscard]] bool makes_values() const noexcept { return false; }
  /// true if keys are stored un-rotated. A cache with in-cache ranks needs that.
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
  [[nodiscard]] KeyTurns turns() const noexcept {
    if (rope == nullptr) return {};
    KeyTurns turns = rope->turns();
    if (rope->options().head_dim != key.width) turns.first += offset;
    return turns;
  }
  /// \}
};

/// How a layer makes keys for the cache.
enum class CachedKeys {
  rotated,    ///< rotated by their position when they are written
  unrotated,  ///< rotated when they are read; in-cache rank positions need that
};

/// `policy` with keys rotated at read. Queries come rotated, each by its own position. Keys are written un-rotated.
///
/// A cache created with RotatedKeys must be read with RotatedKeys: attend() refuses the bare `policy`. A layer of such
/// a cache that has no rotation sets `without_rotation`, and needs no rope.
template <AttentionPolicy P>
  requires std::same_as<decltype(std::declval<const P&>().preparation()), Identity>
struct RotatedKeys {
  P policy;                       ///< the policy whose keys are rotated at read
  const Rope* rope = nullptr;     ///< not owned; its head_dim is the width of the policy's key view
  bool without_rotation = false;  ///< true: keys of this layer are not rotated at all, and `rope` is not used

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
  static constexpr int key_stream = P::key_stream;
  static constexpr int value_stream = P::value_stream;
  [[nodiscard]] Status validate() const {
    if (Status status = policy.validate(); !status.ok()) return status;
    if (without_rotation) return {};
    if (rope == nullptr) return fail(StatusCode::invalid_argument, "rope is null, must point to a Rope");
    return detail::check_rope(rope, "the width of the policy's keys,", policy.layout().key.width);
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
  /// \}
};

}  // namespace heed::inline HEED_ABI
