/// \file
/// Keys and values that a policy's preparation makes from stored rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/kernel/located_rows.hpp>

namespace heed::inline HEED_ABI::detail {

/// Makes rows of floats in scratch, on the loops of `Backend`. `K` is the codec of the stored rows.
template <class Backend, Codec K>
class PreparedRows {
 public:
  PreparedRows(const AttentionLayout& layout, const PreparationRef& preparation, const TaskShape& shape,
               const Scratch& scratch) noexcept
      : layout_(layout), preparation_(preparation), shape_(shape), scratch_(scratch) {}

  /// Makes keys (and values, if the preparation makes them) from the stored rows of `slots`, and points the located
  /// pointers at them. If values are made, `slots` is the whole chunk. Otherwise it is a panel: its keys are used while
  /// they are in L1.
  template <Codec V>
  void make(const TaskRows& rows, ChunkKeys& chunk, const LocatedRows<K>& located_keys,
            const LocatedRows<V>& located_values, Interval slots) {
    const Index live = std::max(slots.begin, chunk.slots().begin), count = slots.end - live;
    const std::byte** const keys = located_keys.pointers(live);
    const Index head = rows.task().kv_head;
    const float* const stored = decoded(located_keys.of({live, slots.end}));
    const Index* const position = chunk.text_positions() + live;
    const auto point = [&](const std::byte** to, const float* made, Index width) {
      for (Index k = 0; k < count; ++k) to[k] = reinterpret_cast<const std::byte*>(made + k * width);
      std::fill(to - (live - slots.begin), to, to[0]);
    };
    preparation_.keys(preparation_.object, head, count, stored, position, scratch_.prepared_keys, &Backend::linear);
    if (preparation_.makes_values) {
      preparation_.values(preparation_.object, head, count, stored, position, scratch_.prepared_values,
                          &Backend::linear);
      point(located_values.pointers(live), scratch_.prepared_values, shape_.value_width);
    }
    point(keys, scratch_.prepared_keys, shape_.key_width);
  }

 private:
  // Stored rows as floats. Float rows that lie together are not copied (saves MFA-KR 8 % of a step).
  const float* decoded(const KeyRows& rows) {
    const std::byte* const* const row = rows.row;
    const Index count = rows.count;
    const Index width = layout_.streams[std::size_t(layout_.key.stream)].width;
    bool together = std::is_same_v<K, F32>;
    for (Index k = 1; k < count && together; ++k) together = row[k] - row[k - 1] == K::row_bytes(width);
    if (together) return reinterpret_cast<const float*>(row[0]);
    Backend::template decode_rows<K>(rows, width, scratch_.decoded);
    return scratch_.decoded;
  }

  const AttentionLayout& layout_;
  const PreparationRef& preparation_;
  const TaskShape& shape_;
  const Scratch& scratch_;
};

}  // namespace heed::inline HEED_ABI::detail
