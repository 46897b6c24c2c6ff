/// \file
/// What the kernel knows of one call, with the types of cache, mask and policy edges erased: they are asked per chunk,
/// never per key, so the loops are compiled once per codec and backend.
#pragma once

#include <span>

#include <heed/concepts.hpp>
#include <heed/retention/mask_ref.hpp>

namespace heed::inline HEED_ABI {

/// Changes to the logits, in the order soft-cap, ALiBi; and what joins the softmax denominator.
struct AttendOptions {
  /// s <- cap * tanh(s / cap), after the scale; 0 turns it off.
  float soft_cap = 0;
  /// s <- s - slope[h] * (position of query - position of key); [num_heads], or empty.
  std::span<const float> alibi_slopes = {};
  /// One extra logit per head in the denominator, without a value (gpt-oss); [num_heads], or empty. Not in the lse.
  std::span<const float> sink_logits = {};
};

namespace detail {

/// A KeyValueSource, erased.
struct SourceRef {
  const void* source = nullptr;
  Tile (*tile_)(const void*, int, Index, Index, Index) = nullptr;
  Index (*position_)(const void*, Index) = nullptr;

  template <KeyValueSource S>
  [[nodiscard]] static SourceRef to(const S& source) noexcept {
    return {&source,
            [](const void* s, int stream, Index head, Index first, Index max) {
              return static_cast<const S*>(s)->tile(stream, head, first, max);
            },
            [](const void* s, Index key) { return static_cast<const S*>(s)->position(key); }};
  }
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const {
    return tile_(source, stream, head, first, max);
  }
  [[nodiscard]] Index position(Index key) const { return position_(source, key); }
};

/// A TilePreparation, erased; `object` is null for Identity.
struct PreparationRef {
  const void* object = nullptr;
  bool makes_values = false;
  using Make = void (*)(const void*, Index kv_head, Index count, const float* rows, const Index* positions, float* out);
  Make keys = nullptr;
  Make values = nullptr;

  template <SimdBackend Backend>
  [[nodiscard]] static PreparationRef to(const Identity&) noexcept {
    return {};
  }
  template <SimdBackend Backend, TilePreparation T>
  [[nodiscard]] static PreparationRef to(const T& t) {
    PreparationRef made = shape_of(t);
    made.keys = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out) {
      static_cast<const T*>(o)->keys(head, count, rows, positions, out, &Backend::linear);
    };
    made.values = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out) {
      static_cast<const T*>(o)->values(head, count, rows, positions, out, &Backend::linear);
    };
    return made;
  }

  /// Enough to plan with.
  [[nodiscard]] static PreparationRef shape_of(const Identity&) noexcept { return {}; }
  template <TilePreparation T>
  [[nodiscard]] static PreparationRef shape_of(const T& t) {
    return {.object = &t, .makes_values = t.makes_values()};
  }
};

/// One sequence of a batch: queries (after the query map), keys, and where outputs (before the output map) go.
struct Job {
  SourceRef source;
  Index num_keys = 0;
  MaskRef mask;
  Index num_queries = 0;
  const float* q = nullptr;                     // [num_queries][num_heads][key_width]
  float* out = nullptr;                         // [num_queries][num_heads][value_width]
  float* lse = nullptr;                         // [num_queries][num_heads], or null
  std::span<const Index> query_positions = {};  // empty: end-aligned

  [[nodiscard]] Index query_position(Index query) const {
    if (!query_positions.empty()) return query_positions[std::size_t(query)];
    const Index next = num_keys == 0 ? 0 : source.position(num_keys - 1) + 1;
    return next - num_queries + query;
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
