/// \file
/// What the kernel sees of one layer of a cache.
#pragma once

#include <algorithm>

#include <heed/cache/layer_group.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// A KeyValueSource over one layer, and the mask of its rule. Owns no rows. Valid until the cache changes or ends. The
/// cache may move, by construction or assignment: the view then belongs to the cache that was moved to.
///
/// Keys are the far ones first (landmarks in order), then the recent run. In a cache whose rule has a history, or with
/// in-cache ranks, queries of a step see different lists: then it is a StagedSource, too.
template <Codec K, Codec V>
class LayerView {
 public:
  using KeyCodec = K;
  using ValueCodec = V;

  /// No keys.
  LayerView() = default;
  LayerView(const LayerGroup& group, const AttentionLayout& layout, Index layer, bool with_plan) noexcept
      : group_(&group),
        layout_(layout),
        layer_(layer),
        size_(group.index.kept() + (with_plan ? group.index.planned() : 0)),
        with_plan_(with_plan),
        mask_(group.index.mask(with_plan)) {}

  /// The shape the cache was made with; attend() refuses a policy of another one.
  [[nodiscard]] const AttentionLayout& layout() const noexcept { return layout_; }
  /// Keys: the kept tokens, and in a step's view the tokens of the step.
  [[nodiscard]] Index size() const noexcept { return size_; }
  /// Logical position of a key.
  [[nodiscard]] Index position(Index key) const noexcept { return group_->index.position(key); }
  /// Rows from `first` on that follow each other, at most `max`.
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const noexcept {
    const Index held = group_->index.held();
    max = std::min(max, size_ - first);
    if (first < held) return group_->far.tile(layer_, stream, head, first, std::min(max, held - first));
    return group_->near.tile(layer_, stream, head, group_->index.near_begin() + first - held, max);
  }
  /// Which key a query sees.
  [[nodiscard]] const LandmarkMask& mask() const noexcept { return mask_; }

  /// Lists that queries of this step see, one after another; 0: they all see what the mask says.
  [[nodiscard]] Index stages() const noexcept {
    if (group_ == nullptr || !group_->index.staged()) return 0;
    return with_plan_ ? group_->index.stages() : 0;
  }
  [[nodiscard]] Interval stage_queries(Index stage) const noexcept { return group_->index.stage_queries(stage); }
  [[nodiscard]] Index stage_size(Index stage) const noexcept { return group_->index.stage_size(stage); }
  [[nodiscard]] Index stage_position(Index stage, Index key) const noexcept {
    return group_->index.stage_position(stage, key);
  }
  [[nodiscard]] Tile stage_tile(Index stage, int stream, Index head, Index first, Index max) const noexcept {
    const TokenIndex::Place place = group_->index.stage_place(stage, first);
    const PageTable& table = place.far ? group_->far : group_->near;
    return table.tile(layer_, stream, head, place.at, std::min(max, place.run));
  }

 private:
  static constexpr Reach nothing{};

  const LayerGroup* group_ = nullptr;  // in an array that LayerGroups hands on when it moves
  AttentionLayout layout_;             // a copy: the cache's own moves with it
  Index layer_ = 0;
  Index size_ = 0;
  bool with_plan_ = false;
  LandmarkMask mask_{std::span(&nothing, 1), 0, {}, 0, 0};
};

}  // namespace heed::inline HEED_ABI
