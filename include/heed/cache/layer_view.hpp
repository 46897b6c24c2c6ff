/// \file
/// What the kernel sees of one layer of a cache.
#pragma once

#include <algorithm>

#include <heed/cache/contiguous.hpp>
#include <heed/cache/sequence_index.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// A KeyValueSource over one layer. A few words; owns nothing. Valid until the cache moves, grows or is truncated.
template <Codec K, Codec V, Retention R>
class LayerView {
 public:
  using KeyCodec = K;
  using ValueCodec = V;

  /// No keys; has no mask.
  LayerView() = default;
  LayerView(const ContiguousStore& store, const SequenceIndex& index, const R& rule, const AttentionLayout& layout,
            Index layer, Index size) noexcept
      : store_(&store), index_(&index), rule_(&rule), layout_(&layout), layer_(layer), size_(size) {}

  /// The shape the cache was made with; attend() refuses a policy of another one.
  [[nodiscard]] AttentionLayout layout() const noexcept { return layout_ == nullptr ? AttentionLayout{} : *layout_; }
  /// Keys: the kept tokens, and in a step's view the tokens of the step.
  [[nodiscard]] Index size() const noexcept { return size_; }
  /// Logical position of a key.
  [[nodiscard]] Index position(Index key) const noexcept { return index_->position(key); }
  /// Rows first .. first + min(max, size() - first) of one head of a stream.
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const noexcept {
    return store_->tile(layer_, stream, head, first, std::min(max, size_ - first));
  }
  /// The cache's retention rule: which key a query sees.
  [[nodiscard]] const R& mask() const noexcept { return *rule_; }

 private:
  const ContiguousStore* store_ = nullptr;
  const SequenceIndex* index_ = nullptr;
  const R* rule_ = nullptr;
  const AttentionLayout* layout_ = nullptr;
  Index layer_ = 0;
  Index size_ = 0;
};

}  // namespace heed::inline HEED_ABI
