/// \file
/// What every node of a draft tree sees of a cache that forgets by a rule.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <heed/cache/token_lists.hpp>
#include <heed/retention/mask_ref.hpp>
#include <heed/speculative/draft_tree.hpp>

namespace heed::inline HEED_ABI::detail {

/// A source that is a layer of a cache: it knows its tokens, and how many of them are an open step's.
template <class S>
concept CachedSource = KeyValueSource<S> && requires(const S& source) {
  { source.tokens() } -> std::same_as<const TokenLists*>;
  { source.change() } -> std::same_as<std::uint64_t>;
  { source.in_step() } -> std::same_as<Index>;
};

class TreeReach;

/// What one node sees, as the decode step of its path sees it: a SplitMask over that path's keys, which are the far ones,
/// the near run before the step, and the path. Owns nothing.
class NodeMask {
 public:
  NodeMask(const TreeReach& reach, Index node) noexcept;

  [[nodiscard]] bool visible(Index query, Index key) const noexcept;
  [[nodiscard]] Coverage coverage(Interval, Interval) const noexcept { return Coverage::partial; }
  [[nodiscard]] NearKeys near_keys() const noexcept { return near_; }
  [[nodiscard]] bool near_visible(Index query, Index key) const noexcept { return key <= query && key >= begin_; }
  [[nodiscard]] Coverage near_coverage(Interval queries, Interval keys) const noexcept {
    if (keys.begin >= queries.end || keys.end <= begin_) return Coverage::none;
    return keys.end <= queries.begin + 1 && keys.begin >= begin_ ? Coverage::full : Coverage::partial;
  }
  [[nodiscard]] Index far_keys() const noexcept { return far_; }
  [[nodiscard]] Index far_key(Index i) const noexcept;
  [[nodiscard]] bool far_visible(Index, Index) const noexcept { return true; }
  [[nodiscard]] Coverage far_coverage(Interval, Interval) const noexcept { return Coverage::full; }

 private:
  const TreeReach* reach_;
  Index node_;
  Index begin_;    // recent keys
  Index far_ = 0;  // keys seen before them
  NearKeys near_;
};

/// The rule's answers for every node, on its path. The tree and the cache's tokens must outlive it, unchanged.
class TreeReach {
 public:
  /// Of a source's last keys, which are the nodes. A tree that does not fit is in status().
  template <KeyValueSource S>
  TreeReach(const S& keys, const DraftTree& tree) : tree_(&tree), prefix_(slots_of(keys) - tree.size()) {
    if (prefix_ < 0) {
      status_ = fail(StatusCode::invalid_argument, "tree has ", tree.size(), " nodes, keys has ", keys.size());
      return;
    }
    first_ = tree.size() > 0 ? slot_position(keys, prefix_) : end_of(keys);
    if constexpr (CachedSource<S>) {
      tokens_ = keys.tokens();
      change_ = keys.change();
      if (tree.size() > keys.in_step()) {
        status_ = fail(StatusCode::invalid_argument, "tree has ", tree.size(), " nodes, the open step of keys has ",
                       keys.in_step(), " tokens");
        return;
      }
      first_token_ = keys.in_step() - tree.size();
      ask();
    } else if (has_own_mask(keys)) {
      status_ = fail(StatusCode::unsupported, "keys say what a query sees, but not of a tree's nodes");
    }
  }
  TreeReach(const TreeReach&) = delete;
  TreeReach& operator=(const TreeReach&) = delete;

  [[nodiscard]] const Status& status() const noexcept { return status_; }
  [[nodiscard]] const DraftTree& tree() const noexcept { return *tree_; }
  /// Null: the source is no cache's, and every node sees every key before the step.
  [[nodiscard]] const TokenLists* tokens() const noexcept { return tokens_; }
  /// CacheFacts::change of the step.
  [[nodiscard]] std::uint64_t change() const noexcept { return change_; }
  /// Slots before the nodes.
  [[nodiscard]] Index prefix() const noexcept { return prefix_; }
  /// Position of a node without parent.
  [[nodiscard]] Index first() const noexcept { return first_; }
  [[nodiscard]] Index position(Index node) const noexcept { return first_ + tree_->depth(node); }
  /// The node at a position of another node's text.
  [[nodiscard]] Index at(Index node, Index position) const noexcept { return tree_->ancestor(node, position - first_); }

  // Only with tokens:

  [[nodiscard]] const Reach& reach(Index node) const noexcept { return nodes_[std::size_t(node)].reach; }
  [[nodiscard]] bool is_landmark(Index node) const noexcept { return nodes_[std::size_t(node)].landmark == node; }
  [[nodiscard]] LandmarkNumbers numbers(Index node) const noexcept {
    return {.initial = initial_ + (node < 0 ? 0 : nodes_[std::size_t(node)].initial),
            .dropped = tokens_->state().dropped};
  }
  /// Landmarks before the nodes.
  [[nodiscard]] std::span<const FarToken> far_landmarks() const noexcept {
    return tokens_->far_tokens().first(std::size_t(far_));
  }
  /// Position of landmark `i` of the list of a node's text.
  [[nodiscard]] Index far_position(Index node, Index i) const noexcept {
    if (i < far_) return tokens_->far_tokens()[std::size_t(i)].position;
    Index at = nodes_[std::size_t(node)].landmark;
    while (nodes_[std::size_t(at)].landmarks > i - far_ + 1) at = nodes_[std::size_t(tree_->parent(at))].landmark;
    return position(at);
  }
  /// Slot of a far key or of one of the near run, by list index or position, in the list of a node's path.
  [[nodiscard]] Index far_key(Index node, Index i) const noexcept {
    return i < tokens_->held() ? i : near_key(far_position(node, i));
  }
  [[nodiscard]] Index near_key(Index position) const noexcept {
    return tokens_->held() + position - tokens_->near_begin();
  }
  [[nodiscard]] const NodeMask& mask(Index node) const noexcept { return masks_[std::size_t(node)]; }

 private:
  struct Node {
    Reach reach;
    Index landmark = -1;  // the latest landmark on the path, the node included; -1: none
    Index landmarks = 0;  // on the path
    Index initial = 0;    // of them
  };

  /// Of a source that is no cache's layer.
  template <class S>
  [[nodiscard]] static bool has_own_mask(const S& keys) {
    if constexpr (StagedSource<S>) {
      if (keys.stages() > 0) return true;
    }
    return requires { keys.mask(); };
  }

  void ask() {
    if (tokens_ == nullptr || tree_->size() == 0) return;
    const std::span<const FarToken> all = tokens_->far_tokens();
    const auto own =
        std::partition_point(all.begin(), all.end(), [&](const FarToken& t) { return t.position < first_; });
    far_ = Index(own - all.begin());
    initial_ = std::min(tokens_->state().initial, far_);  // they are the first ones
    const AnyRule& rule = tokens_->rule();
    const Reach& start = tokens_->reaches()[std::size_t(first_ - tokens_->state().reach_first)];
    nodes_.reserve(std::size_t(tree_->size()));
    for (Index node = 0; node < tree_->size(); ++node) {
      const Index parent = tree_->parent(node), position = this->position(node);
      const std::int32_t id = tokens_->planned_id(first_token_ + node);
      Node made;
      if (parent >= 0) {
        made = nodes_[std::size_t(parent)];
        made.reach = numbers(parent).next(rule, reach(parent), position - 1, far_ + made.landmarks,
                                          [&](Index i) { return far_position(parent, i); });
      } else {
        made.reach = start;
      }
      made.reach.blind = !rule.sees_landmarks(position, id);
      if (const Role role = rule.role(position, id); role != Role::plain) {
        made.landmark = node;
        ++made.landmarks;
        made.initial += role == Role::initial;
      }
      nodes_.push_back(made);
    }
    if (tokens_->staged()) return;
    masks_.reserve(nodes_.size());
    for (Index node = 0; node < tree_->size(); ++node) masks_.emplace_back(*this, node);
  }

  Status status_;
  const DraftTree* tree_;
  const TokenLists* tokens_ = nullptr;
  std::uint64_t change_ = 0;
  Index prefix_ = 0, first_ = 0;
  Index first_token_ = 0;        // of the open step that is a node
  Index far_ = 0, initial_ = 0;  // landmarks before the nodes, initial ones of them
  std::vector<Node> nodes_;
  std::vector<NodeMask> masks_;
};

inline NodeMask::NodeMask(const TreeReach& reach, Index node) noexcept
    : reach_(&reach),
      node_(node),
      begin_(reach.reach(node).begin),
      near_{.first_key = reach.tokens()->held(), .first_lane = reach.tokens()->near_begin()} {
  if (!reach.reach(node).blind) far_ = reach.numbers(node).index(reach.reach(node).end_landmark);
}
inline bool NodeMask::visible(Index query, Index key) const noexcept {
  if (near_visible(query, key)) return true;
  for (Index i = 0; i < far_; ++i) {
    if (reach_->far_position(node_, i) == key) return true;
  }
  return false;
}
inline Index NodeMask::far_key(Index i) const noexcept { return reach_->far_key(node_, i); }

}  // namespace heed::inline HEED_ABI::detail
