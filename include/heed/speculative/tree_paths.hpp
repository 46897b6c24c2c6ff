/// \file
/// A draft tree as a list of keys for every node. A node has the bits of the decode step that it stands for.
#pragma once

#include <algorithm>
#include <span>

#include <heed/speculative/tree_reach.hpp>

namespace heed::inline HEED_ABI {

/// A StagedSource with one stage per node of a tree. A node's list is the keys before the step that it sees, then its
/// path. So the keys before the step are read once per node. TreePaths::keys() makes it; the TreePaths must outlive it.
template <KeyValueSource S>
class PathKeys {
 public:
  using KeyCodec = typename S::KeyCodec;      ///< as the keys before the step
  using ValueCodec = typename S::ValueCodec;  ///< as the keys before the step

  /// `keys` is copied, `reach` must outlive this. Null: readable() refuses the keys.
  PathKeys(const S& keys, const detail::TreeReach* reach) : keys_(keys), reach_(reach) {}

  /// The Status of the keys themselves; if that is ok, why they are not of the tree's step, if they are not.
  [[nodiscard]] Status readable(bool policy_rotates) const {
    if constexpr (GuardedSource<S>) {
      if (Status status = keys_.readable(policy_rotates); !status.ok()) return status;
    }
    if (reach_ == nullptr) return fail(StatusCode::wrong_state, "the paths of the tree were moved from");
    const Index slots = detail::slots_of(keys_);
    MaskedCall call{.slots = slots};
    if (slots > 0) call.end = detail::moved_position(detail::slot_position(keys_, slots - 1), 1);
    if constexpr (detail::CachedSource<S>) {
      if (keys_.tokens() != nullptr) call.tokens = keys_.tokens()->number();
      call.change = keys_.change();
      call.asked_positions = keys_.asked_positions();
    }
    return reach_->fits("set of paths", call);
  }
  /// As readable(), before rows are written.
  [[nodiscard]] Status current() const requires detail::CachedSource<S> {
    if (reach_ == nullptr) return fail(StatusCode::wrong_state, "the paths of the tree were moved from");
    return keys_.current();
  }
  /// What OffsetSource asks for, if the keys are one.
  [[nodiscard]] RowBase base(int stream, Index head) const noexcept requires OffsetSource<S> {
    return keys_.base(stream, head);
  }
  /// The keys' own, of this tree only.
  [[nodiscard]] SourceIdentity identity() const noexcept requires(detail::CachedSource<S>&& IdentifiedSource<S>) {
    SourceIdentity made = keys_.identity();
    made.lists = reach_ == nullptr ? 0 : reach_->number();
    return made;
  }
  /// Layout of the keys, if they have one.
  [[nodiscard]] auto layout() const noexcept requires requires(const S& s) { s.layout(); }
  { return keys_.layout(); }
  /// What KeyValueSource asks for: the keys of S in their own order.
  /// \{
  [[nodiscard]] Index size() const noexcept { return keys_.size(); }
  [[nodiscard]] Index position(Index key) const noexcept { return keys_.position(key); }
  [[nodiscard]] RowRun row_run(int stream, Index head, Index first, Index max) const noexcept {
    return keys_.row_run(stream, head, first, max);
  }
  /// \}

  /// What StagedSource asks for. Stage n is node n.
  /// \{
  [[nodiscard]] Index stages() const noexcept { return reach_ == nullptr ? 0 : tree().size(); }
  [[nodiscard]] Interval stage_queries(Index node) const noexcept { return {node, node + 1}; }
  [[nodiscard]] Index stage_size(Index node) const noexcept {
    return compact() ? reach_->keys_seen(node) : reach_->prefix() + tree().depth(node) + 1;
  }
  [[nodiscard]] Index stage_position(Index node, Index key) const noexcept {
    if (ranks()) return key;
    const Index at = place(node, key, 1).key;
    return at < reach_->prefix() ? detail::slot_position(keys_, at) : reach_->position(at - reach_->prefix());
  }
  [[nodiscard]] RowRun stage_row_run(Index node, int stream, Index head, Index first, Index max) const noexcept {
    const Place from = place(node, first, max);
    return detail::slot_row_run(keys_, stream, head, from.key, from.run);
  }
  /// Holes of a list: removed tokens before the step. Only lists in the source's own order have any.
  [[nodiscard]] Interval stage_hole(Index node, Index key) const noexcept {
    if constexpr (SlottedSource<S>) {
      if (!compact() && key < reach_->prefix()) return keys_.next_hole(key);
    }
    return {stage_size(node), stage_size(node)};
  }
  /// The mask of a node's list. None if the node sees its whole list.
  [[nodiscard]] MaskRef stage_mask(Index node) const noexcept {
    static_assert(MaskRef::copies<detail::NodeMask>);
    if (reach_->tokens() == nullptr || compact()) return {};
    return detail::NodeMask(*reach_, node);
  }
  /// \}

 private:
  /// A slot of the source, and how many keys of the list lie there one after the other.
  struct Place {
    Index key = 0;
    Index run = 1;
  };

  [[nodiscard]] const DraftTree& tree() const noexcept { return reach_->tree(); }
  /// true if a node's list holds exactly the keys that it sees.
  [[nodiscard]] bool compact() const noexcept { return reach_->tokens() != nullptr && reach_->tokens()->staged(); }
  [[nodiscard]] bool ranks() const noexcept {
    return reach_->tokens() != nullptr && reach_->tokens()->positions() == Positions::rank;
  }

  [[nodiscard]] const detail::HoleList& holes() const noexcept { return reach_->tokens()->holes(); }

  [[nodiscard]] Place place(Index node, Index key, Index max) const noexcept {
    const detail::TreeReach& tree_reach = *reach_;
    Index run = tree_reach.prefix() - key;
    if (compact()) {
      const Reach& reach = tree_reach.reach(node);
      const detail::LandmarkNumbers numbers = tree_reach.numbers(node);
      const Index distant = numbers.far_seen(reach), initial = reach.blind ? 0 : numbers.initial_seen(reach);
      if (key < distant) {
        const Index at = key < initial ? key : numbers.index(numbers.first_seen(reach)) + key - initial;
        run = (key < initial ? initial : distant) - key;
        key = tree_reach.far_key(node, at);
        max = at < tree_reach.tokens()->far_slots() ? std::min(max, tree_reach.tokens()->far_slots() - at) : 1;
      } else {
        const Index recent = tree_reach.tokens()->near_begin();
        const Index position = holes().position(recent, holes().left(recent, reach.begin) + key - distant);
        key = tree_reach.near_key(position);
        run = std::min(tree_reach.prefix() - key, holes().next(position).begin - position);
      }
    }
    if (key < tree_reach.prefix()) return {key, std::min(max, run)};
    // A position on the path: its node lies elsewhere in the step, and so may the next ones.
    const Index at = tree().ancestor(node, key - tree_reach.prefix());
    return {tree_reach.prefix() + at, std::min(max, tree().run_on_path(at, node))};
  }

  S keys_;
  const detail::TreeReach* reach_;
};

/// A tree of drafts as a list of keys for every node. The nodes, in order, are the last tokens of a step. A node has
/// the bits of the decode step that it stands for, under any rule (also with a history) and with in-cache ranks.
///
///     const Result<TreePaths> paths = TreePaths::create(step.keys(0), tree);  // once a step, for all layers of a rule
///     rotate by paths->positions() and write, layer by layer:
///     attend<Backend>(policy, q, paths->keys(step.keys(layer)), {}, out, workspace, executor);
///
/// The tree and the step must outlive this and not change. Movable, not copyable; keys() stay valid when it moves.
///
/// attend() refuses keys that do not fit. invalid_argument: keys of another cache or layer group. wrong_state: keys of
/// another step, or of a step whose positions() were asked for, because the nodes have other positions.
class TreePaths {
 public:
  /// `keys` are those of any layer of the group that the paths are for; its streams need not be written yet. Takes one
  /// block of `memory`, a few words a node. Errors: invalid_argument for an empty tree, or for more nodes than the step
  /// has tokens; unsupported for a source that is not a cache's but has its own mask; out_of_memory; those of
  /// keys.readable().
  template <KeyValueSource S>
  [[nodiscard]] static Result<TreePaths> create(const S& keys, const DraftTree& tree,
                                                const MemoryResource& memory = default_memory()) {
    Result<detail::TreeMemory> made = detail::TreeMemory::create(keys, tree, memory);
    if (!made.ok()) return made.status();
    return TreePaths(*std::move(made));
  }
  /// Deleted: a temporary tree would end before the paths.
  template <KeyValueSource S>
  static Result<TreePaths> create(const S& keys, const DraftTree&& tree,
                                  const MemoryResource& memory = default_memory()) = delete;

  /// The keys of a layer, for attend(). Copies the view, allocates nothing.
  template <KeyValueSource S>
  [[nodiscard]] PathKeys<S> keys(const S& keys) const& {
    return {keys, reach_.get()};
  }
  template <KeyValueSource S>
  PathKeys<S> keys(const S& keys) const&& = delete;

  /// Rotary positions of the nodes, [nodes]: the number of tokens before the step plus the node's depth; with in-cache
  /// ranks the number of keys that the node sees, minus 1. Rotate queries by them, and keys unless the policy rotates
  /// keys at read.
  [[nodiscard]] std::span<const Index> positions() const noexcept {
    return reach_.get() == nullptr ? std::span<const Index>() : reach_->rotary_positions();
  }

 private:
  explicit TreePaths(detail::TreeMemory reach) noexcept : reach_(std::move(reach)) {}

  detail::TreeMemory reach_;
};

}  // namespace heed::inline HEED_ABI
