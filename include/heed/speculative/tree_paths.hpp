/// \file
/// A draft tree as a list of keys for every node: the bits of decoding its path.
#pragma once

#include <algorithm>
#include <memory>

#include <heed/speculative/tree_reach.hpp>

namespace heed::inline HEED_ABI {

/// A step's keys as a list for every node of its tree: the keys before the step that the node sees, then its path. A
/// StagedSource, so a node has the bits of the decode step it stands for, under any rule, with a history too, and with
/// in-cache ranks. The keys before the step are read once for every node.
///
/// `keys` is a view of an open step whose last tokens are the nodes in order; it is copied. The tree and the step must
/// outlive this, unchanged. It allocates a few words a node; copies allocate nothing. attend() gives invalid_argument if the
/// step has fewer tokens than the tree has nodes, and unsupported for a source of another kind that has a mask of its own.
template <KeyValueSource S>
class TreePaths {
 public:
  using KeyCodec = typename S::KeyCodec;
  using ValueCodec = typename S::ValueCodec;

  TreePaths(const S& keys, const DraftTree& tree)
      : keys_(keys), reach_(std::make_shared<const detail::TreeReach>(keys, tree)) {}
  TreePaths(const S& keys, const DraftTree&& tree) = delete;

  /// Rotary position of a node as a query: the number of tokens before it on its path, or with in-cache ranks the number of
  /// keys it sees less one. Keys are written with the same rotation, or un-rotated if the policy rotates them at read.
  [[nodiscard]] Index position_of(Index node) const noexcept {
    return ranks() ? stage_size(node) - 1 : reach_->position(node);
  }

  /// What the view says of itself, or why the tree is not one of its step.
  [[nodiscard]] Status readable(bool policy_rotates) const {
    if constexpr (GuardedSource<S>) {
      if (Status status = keys_.readable(policy_rotates); !status.ok()) return status;
    }
    return reach_->status();
  }
  [[nodiscard]] auto layout() const noexcept requires requires(const S& s) { s.layout(); }
  { return keys_.layout(); }
  [[nodiscard]] Index size() const noexcept { return keys_.size(); }
  [[nodiscard]] Index position(Index key) const noexcept { return keys_.position(key); }
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const noexcept {
    return keys_.tile(stream, head, first, max);
  }

  [[nodiscard]] Index stages() const noexcept { return reach_->status().ok() ? tree().size() : 0; }
  [[nodiscard]] Interval stage_queries(Index node) const noexcept { return {node, node + 1}; }
  [[nodiscard]] Index stage_size(Index node) const noexcept {
    if (!compact()) return reach_->prefix() + tree().depth(node) + 1;
    const Reach& reach = reach_->reach(node);
    return reach_->numbers(node).far_seen(reach) + holes().left(reach.begin, reach_->position(node) + 1);
  }
  [[nodiscard]] Index stage_position(Index node, Index key) const noexcept {
    if (ranks()) return key;
    const Index at = place(node, key).key;
    return at < reach_->prefix() ? detail::slot_position(keys_, at) : reach_->position(at - reach_->prefix());
  }
  [[nodiscard]] Tile stage_tile(Index node, int stream, Index head, Index first, Index max) const noexcept {
    const Place from = place(node, first);
    return detail::slot_tile(keys_, stream, head, from.key, std::min(max, from.run));
  }
  /// Removed tokens before the step, in lists that are the source's own order.
  [[nodiscard]] Interval stage_hole(Index node, Index key) const noexcept {
    if constexpr (SlottedSource<S>) {
      if (!compact() && key < reach_->prefix()) return keys_.next_hole(key);
    }
    return {stage_size(node), stage_size(node)};
  }
  /// What a node sees of its list. None if that is all, or the source's own order says it.
  [[nodiscard]] MaskRef stage_mask(Index node) const noexcept {
    if (reach_->tokens() == nullptr || compact()) return {};
    return reach_->mask(node);
  }

 private:
  /// A slot of the source, and how many of a list follow it there.
  struct Place {
    Index key = 0;
    Index run = 1;
  };

  [[nodiscard]] const DraftTree& tree() const noexcept { return reach_->tree(); }
  /// Whether a node's list has what it sees and nothing else.
  [[nodiscard]] bool compact() const noexcept { return reach_->tokens() != nullptr && reach_->tokens()->staged(); }
  [[nodiscard]] bool ranks() const noexcept {
    return reach_->tokens() != nullptr && reach_->tokens()->positions() == Positions::rank;
  }

  [[nodiscard]] const HoleList& holes() const noexcept { return reach_->tokens()->holes(); }

  [[nodiscard]] Place place(Index node, Index key) const noexcept {
    const detail::TreeReach& tree_reach = *reach_;
    Index run = tree_reach.prefix() - key;
    if (compact()) {
      const Reach& reach = tree_reach.reach(node);
      const LandmarkNumbers numbers = tree_reach.numbers(node);
      const Index distant = numbers.far_seen(reach), initial = reach.blind ? 0 : numbers.initial_seen(reach);
      if (key < distant) {
        const Index at = key < initial ? key : numbers.index(numbers.first_seen(reach)) + key - initial;
        run = (key < initial ? initial : distant) - key;
        key = tree_reach.far_key(node, at);
        run = at < tree_reach.tokens()->held() ? std::min(run, tree_reach.tokens()->held() - at) : 1;
      } else {
        const Index recent = tree_reach.tokens()->near_begin();
        const Index position = holes().position(recent, holes().left(recent, reach.begin) + key - distant);
        key = tree_reach.near_key(position);
        run = std::min(tree_reach.prefix() - key, holes().next(position).begin - position);
      }
    }
    if (key < tree_reach.prefix()) return {key, run};
    // A position on the path: its node lies elsewhere in the step.
    return {tree_reach.prefix() + tree().ancestor(node, key - tree_reach.prefix()), 1};
  }

  S keys_;
  std::shared_ptr<const detail::TreeReach> reach_;
};

}  // namespace heed::inline HEED_ABI
