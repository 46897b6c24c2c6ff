/// \file
/// A source, with its type erased. So the loops are compiled once per codec and backend, whatever the cache. The price is
/// an indirect call per run of rows, never per key.
#pragma once

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI::detail {

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

}  // namespace heed::inline HEED_ABI::detail
