/// \file
/// The keys of one layer of a cache, as the kernel reads them.
#pragma once

#include <algorithm>

#include <heed/cache/cache_facts.hpp>
#include <heed/cache/layer_group.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// A KeyValueSource over one layer, with the mask of its rule. Owns no rows. Valid until the cache changes or ends. If
/// the cache is moved, by construction or assignment, they are keys of the new cache. readable() says whether they are
/// valid. attend() asks that first.
///
/// The far keys come first (landmarks in order), then the recent run. The kernel reads slots (SlottedSource): the keys,
/// and the holes that removed tokens left in the run. If the rule has a history, or with in-cache ranks, queries of a
/// step see different lists. Then this is a StagedSource with stages.
template <Codec K, Codec V>
class LayerKeys {
 public:
  /// As the cache stores its streams.
  /// \{
  using KeyCodec = K;
  using ValueCodec = V;
  /// \}

  /// A view without keys.
  LayerKeys() = default;
  /// A view without keys, because the cache has no such layer.
  [[nodiscard]] static LayerKeys no_layer(Index number, Index layers) noexcept {
    LayerKeys none;
    none.number_ = number;
    none.layers_ = layers;
    return none;
  }
  /// A view without keys, because the step is closed.
  [[nodiscard]] static LayerKeys of_closed_step() noexcept {
    LayerKeys none;
    none.with_plan_ = true;
    return none;
  }
  /// Layer `number` of the cache is layer `layer` of its group.
  LayerKeys(const detail::LayerGroup& group, const detail::CacheFacts& facts, Index number, Index layer,
            bool with_plan) noexcept
      : group_(&group),
        facts_(&facts),
        change_(facts.change),
        number_(number),
        layer_(layer),
        size_(group.index.kept() + (with_plan ? group.index.planned() : 0)),
        slots_(group.index.slots() + (with_plan ? group.index.planned() : 0)),
        with_plan_(with_plan),
        mask_(group.index.mask(with_plan).of_cache(group.index.number(), change_)) {}

  /// The layout that the cache was created with. attend() refuses a policy with other streams.
  [[nodiscard]] const AttentionLayout& layout() const noexcept {
    return facts_ == nullptr ? no_layout : facts_->layout;
  }
  /// Ok if attend() may read these keys now, with a policy that rotates keys at read (`policy_rotates`) or one that
  /// does not.
  ///
  /// out_of_range: the cache has no such layer. wrong_state: a stream of the layer is not written in the open step; the
  /// step is closed; a step is open, and these keys are of the committed tokens only. invalid_argument: the policy
  /// rotates and the cache's does not, or the reverse. Allocates only for an error message.
  [[nodiscard]] Status readable(bool policy_rotates) const {
    if (Status status = current(); !status.ok()) return status;
    if (with_plan_) {
      if (Status status = facts_->check_written("keys: ", number_); !status.ok()) return status;
    }
    if (policy_rotates == facts_->rotates_keys) return {};
    return fail(StatusCode::invalid_argument, "keys of layer ", number_, " are of a cache whose policy ",
                facts_->rotates_keys ? "rotates keys when they are read, but this policy does not"
                                     : "reads keys as they are stored, but this policy rotates them");
  }
  /// As readable(), but asks neither whether streams are written nor whether the policy rotates keys.
  [[nodiscard]] Status current() const {
    if (facts_ == nullptr) return fail_empty();
    const bool same = change_ == facts_->change;
    if (with_plan_ && !same) {
      return fail(StatusCode::wrong_state, "keys of layer ", number_, " are those of a step that is closed");
    }
    if (!with_plan_ && facts_->step_open) {
      return fail(StatusCode::wrong_state, "keys of layer ", number_,
                  " lack the tokens of the open step: attend to step.keys(", number_, ")");
    }
    if (!same) {
      return fail(StatusCode::wrong_state, "keys of layer ", number_, " were taken before the cache changed");
    }
    return {};
  }
  /// Ok if the cache still has every key that queries at these positions see. wrong_state for a query before the first
  /// one that the cache can answer. While the rule has hidden no token, it can answer all. If the rule has a history,
  /// or with in-cache ranks, wrong_state for every query that is not of the open step.
  [[nodiscard]] Status answers(Interval positions) const {
    if (group_ == nullptr || positions.size() == 0 || stages() > 0) return {};
    const detail::TokenIndex& index = group_->index;
    if (index.staged()) {
      return fail(StatusCode::wrong_state, "committed keys of layer ", number_,
                  " do not say what a query sees, because ",
                  index.rule().has_history() ? "their rule has a history" : "their positions are in-cache ranks",
                  ": attend before commit(), to step.keys(", number_, ")");
    }
    if (positions.begin >= index.first_query()) return {};
    return fail(StatusCode::wrong_state, "a query is at position ", positions.begin,
                ", but the cache forgot what queries ", "before ", index.first_query(), " see of layer ", number_,
                ": attend before commit(), to step.keys(", number_, ")");
  }
  /// Number of keys: the kept tokens, and in a step's view also the tokens of the step.
  [[nodiscard]] Index size() const noexcept { return size_; }
  /// Logical position of a key.
  [[nodiscard]] Index position(Index key) const noexcept { return group_->index.position(key); }
  /// A run of at most `max` rows from key `first` on.
  [[nodiscard]] RowRun row_run(int stream, Index head, Index first, Index max) const noexcept {
    const Index far_slots = group_->index.far_slots();
    max = std::min(max, size_ - first);
    if (first < far_slots) {
      return group_->far_rows.row_run(layer_, stream, head, first, std::min(max, far_slots - first));
    }
    const Index position = group_->index.position(first);
    const Index run = group_->index.holes().next(position).begin - position;
    return group_->near_rows.row_run(layer_, stream, head, position, std::min(max, run));
  }

  /// What SlottedSource asks for. Slots are keys and holes.
  /// \{
  [[nodiscard]] Index slots() const noexcept { return slots_; }
  [[nodiscard]] Index slot_position(Index slot) const noexcept { return group_->index.slot_position(slot); }
  [[nodiscard]] Interval next_hole(Index slot) const noexcept {
    return group_ == nullptr ? Interval{slots_, slots_} : group_->index.next_hole(slot);
  }
  [[nodiscard]] RowRun slot_row_run(int stream, Index head, Index first, Index max) const noexcept {
    const Index far_slots = group_->index.far_slots();
    max = std::min(max, slots_ - first);
    if (first < far_slots) {
      return group_->far_rows.row_run(layer_, stream, head, first, std::min(max, far_slots - first));
    }
    return group_->near_rows.row_run(layer_, stream, head, group_->index.near_begin() + first - far_slots, max);
  }
  /// \}

  /// What the addresses of a stream's rows of one head are relative to: the place of that head in every page.
  [[nodiscard]] RowBase base(int stream, Index head) const noexcept {
    return group_ == nullptr ? RowBase{} : group_->near_rows.layout().base(layer_, stream, head);
  }
  /// Equal for the layers of a group in one step.
  [[nodiscard]] SourceIdentity identity() const noexcept {
    return {.keys = group_ == nullptr ? 0 : group_->index.number(), .lists = 0, .change = change_};
  }

  /// The tokens of the layer's group; null: there is no cache.
  [[nodiscard]] const detail::TokenLists* tokens() const noexcept {
    return group_ == nullptr ? nullptr : &group_->index;
  }
  /// CacheFacts::change when the view was taken: views of one step have the same one, and those of another step another.
  [[nodiscard]] std::uint64_t change() const noexcept { return change_; }
  /// true if positions() of the open step was called.
  [[nodiscard]] bool asked_positions() const noexcept {
    return facts_ != nullptr && __atomic_load_n(&facts_->asked_positions, __ATOMIC_RELAXED);
  }
  /// How many of the keys, at the end, are new tokens of the open step; 0 if it is closed.
  [[nodiscard]] Index in_step() const noexcept {
    return with_plan_ && facts_ != nullptr && change_ == facts_->change ? group_->index.planned() : 0;
  }

  /// Which keys a query sees.
  [[nodiscard]] const LandmarkMask& mask() const noexcept { return mask_; }

  /// What StagedSource asks for.
  /// \{
  /// Number of different lists that queries of this step see; 0: they all see what the mask says.
  [[nodiscard]] Index stages() const noexcept {
    if (group_ == nullptr || !group_->index.staged()) return 0;
    return with_plan_ ? group_->index.stages() : 0;
  }
  [[nodiscard]] Interval stage_queries(Index stage) const noexcept { return group_->index.stage_queries(stage); }
  [[nodiscard]] Index stage_size(Index stage) const noexcept { return group_->index.stage_size(stage); }
  [[nodiscard]] Index stage_position(Index stage, Index key) const noexcept {
    return group_->index.stage_position(stage, key);
  }
  [[nodiscard]] RowRun stage_row_run(Index stage, int stream, Index head, Index first, Index max) const noexcept {
    const detail::TokenIndex::Place place = group_->index.stage_place(stage, first);
    const detail::PageTable& table = place.is_far ? group_->far_rows : group_->near_rows;
    return table.row_run(layer_, stream, head, place.at, std::min(max, place.run));
  }
  /// \}

 private:
  [[nodiscard]] Status fail_empty() const {
    if (layers_ > 0) return fail(StatusCode::out_of_range, "keys: layer is ", number_, ", the cache has ", layers_);
    return fail(StatusCode::wrong_state, with_plan_ ? "keys: the step is closed" : "keys are of no cache");
  }

  static constexpr Reach nothing{};
  static constexpr AttentionLayout no_layout{};

  const detail::LayerGroup* group_ = nullptr;  // in an array that LayerGroups hands on when it moves
  const detail::CacheFacts* facts_ = nullptr;  // stays where it is when the cache moves
  std::uint64_t change_ = 0;           // the cache's, when this was made
  Index number_ = 0;                   // of the layer in the cache
  Index layers_ = 0;                   // of the cache, if it has no such layer
  Index layer_ = 0;                    // in its group
  Index size_ = 0;
  Index slots_ = 0;
  bool with_plan_ = false;
  LandmarkMask mask_{std::span(&nothing, 1), 0, {}, 0, 0, 0};
};

}  // namespace heed::inline HEED_ABI
