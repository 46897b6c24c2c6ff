/// \file
/// What the kernel knows of one call. The types of cache, mask and preparation are erased, so the loops are compiled
/// once per codec and backend. The price is an indirect call per chunk, never per key.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include <heed/concepts.hpp>
#include <heed/kernel/chunk.hpp>
#include <heed/retention/full.hpp>
#include <heed/retention/mask_ref.hpp>

namespace heed::inline HEED_ABI {

/// What happens to the logits after `scale`: first the soft-cap, then ALiBi, then the mask, then the sink logits join
/// the softmax denominator. Nothing is owned: the spans must live until attend() returns. attend() checks all of them
/// (invalid_argument).
struct AttendOptions {
  /// s <- soft_cap * tanh(s / soft_cap). Finite and at least 0; 0 turns it off.
  float soft_cap = 0;
  /// s <- s - slope[h] * |query's position - key's position|; [num_heads] finite numbers, or empty. The distance is
  /// symmetric: under a mask that shows later keys (an encoder's), those lose as much as earlier ones.
  std::span<const float> alibi_slopes = {};
  /// One extra logit per head in the denominator, without a value (gpt-oss); [num_heads], or empty. It is not part of
  /// lse. -inf means no sink: the result has the bits of a call without one. NaN and +inf are refused.
  std::span<const float> sink_logits = {};
};

namespace detail {

/// Type-erased KeyValueSource, or one stage of a StagedSource. The keys of a SlottedSource are its slots. Not owned.
struct SourceRef {
  const void* source = nullptr;
  Index stage = 0;
  Tile (*tile_)(const void*, Index, int, Index, Index, Index) = nullptr;
  Index (*position_)(const void*, Index, Index) = nullptr;
  Interval (*next_hole_)(const void*, Index, Index) = nullptr;  // null: no holes

  template <KeyValueSource S>
  [[nodiscard]] static SourceRef to(const S& source) noexcept {
    SourceRef made{&source, 0,
                   [](const void* s, Index, int stream, Index head, Index first, Index max) {
                     return slot_tile(*static_cast<const S*>(s), stream, head, first, max);
                   },
                   [](const void* s, Index, Index key) { return slot_position(*static_cast<const S*>(s), key); }};
    if constexpr (SlottedSource<S>) {
      if (source.next_hole(0).begin < source.slots()) {
        made.next_hole_ = [](const void* s, Index, Index slot) { return static_cast<const S*>(s)->next_hole(slot); };
      }
    }
    return made;
  }
  template <StagedSource S>
  [[nodiscard]] static SourceRef to_stage(const S& source, Index stage) noexcept {
    SourceRef made{&source, stage,
                   [](const void* s, Index n, int stream, Index head, Index first, Index max) {
                     return static_cast<const S*>(s)->stage_tile(n, stream, head, first, max);
                   },
                   [](const void* s, Index n, Index key) { return static_cast<const S*>(s)->stage_position(n, key); }};
    if constexpr (requires { source.stage_hole(stage, stage); }) {
      if (source.stage_hole(stage, 0).begin < source.stage_size(stage)) {
        made.next_hole_ = [](const void* s, Index n, Index key) {
          return static_cast<const S*>(s)->stage_hole(n, key);
        };
      }
    }
    return made;
  }
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const {
    return tile_(source, stage, stream, head, first, max);
  }
  [[nodiscard]] Index position(Index key) const { return position_(source, stage, key); }
  [[nodiscard]] bool has_holes() const noexcept { return next_hole_ != nullptr; }
  [[nodiscard]] Interval next_hole(Index key) const { return next_hole_(source, stage, key); }
};

/// A source with a mask of its own, which lives as long as the source.
template <class S>
concept MaskedSource = requires(const S& source) {
  requires AttentionMask<std::remove_cvref_t<decltype(source.mask())>>;
  requires std::is_lvalue_reference_v<decltype(source.mask())>;
};

/// The mask of a stage that has none of its own.
inline constexpr Causal causal_stage;

/// Type-erased TilePreparation, not owned. `object` is null if there is nothing to prepare.
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
    if (made.object == nullptr) return made;
    made.keys = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out) {
      static_cast<const T*>(o)->keys(head, count, rows, positions, out, &Backend::linear);
    };
    made.values = [](const void* o, Index head, Index count, const float* rows, const Index* positions, float* out) {
      static_cast<const T*>(o)->values(head, count, rows, positions, out, &Backend::linear);
    };
    return made;
  }

  /// The same without the functions: enough for a Plan.
  [[nodiscard]] static PreparationRef shape_of(const Identity&) noexcept { return {}; }
  template <TilePreparation T>
  [[nodiscard]] static PreparationRef shape_of(const T& t) {
    if constexpr (requires { t.idle(); }) {
      if (t.idle()) return {};
    }
    return {.object = &t, .makes_values = t.makes_values()};
  }
};

/// One sequence of a batch, or one stage of a sequence. `q` is after the query map, `out` before the output map.
struct Job {
  SourceRef source;
  Index num_keys = 0;
  MaskRef mask;
  NearKeys near_keys = {};
  Index far_keys = 0;
  Index num_queries = 0;
  Index end = 0;                                          // position of the last key, plus 1
  const float* q = nullptr;                               // [num_queries][num_heads][key_width]
  float* out = nullptr;                                   // [num_queries][num_heads][value_width]
  float* lse = nullptr;                                   // [num_queries][num_heads], or null
  std::span<const Index> query_positions = {};            // [num_queries], or empty: end-aligned
  Index sequence = 0;                                     // index in the batch
  bool first_stage = true;                                // false for the second and later stages of a sequence
  Index first_block = 0, first_task = 0, first_part = 0;  // where this job's numbers begin; Plan sets them

  [[nodiscard]] Index query_position(Index query) const {
    if (!query_positions.empty()) return query_positions[std::size_t(query)];
    return end - num_queries + query;
  }

  [[nodiscard]] Index far_chunks() const noexcept { return (far_keys + chunk_keys - 1) / chunk_keys; }
  /// Numbers of the chunks of near keys. They need not start at 0: the keys of earlier chunks may be evicted.
  [[nodiscard]] Interval near_chunks() const noexcept {
    const Index begin = near_keys.first_lane / chunk_keys, keys = num_keys - near_keys.first_key;
    return {begin, keys == 0 ? begin : (near_keys.first_lane + keys + chunk_keys - 1) / chunk_keys};
  }
  [[nodiscard]] Chunk far_chunk(Index number) const noexcept {
    const Index first = number * chunk_keys;
    return {.is_far = true, .number = number, .first = first, .lanes = {0, std::min(chunk_keys, far_keys - first)}};
  }
  [[nodiscard]] Chunk near_chunk(Index number) const noexcept {
    const Index first = near_keys.first_key + number * chunk_keys - near_keys.first_lane;
    return {.is_far = false,
            .number = number,
            .first = first,
            .lanes = {std::max<Index>(near_keys.first_key - first, 0), std::min(chunk_keys, num_keys - first)}};
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
