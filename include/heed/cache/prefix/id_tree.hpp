/// \file
/// Sequences of token ids, found again by their longest beginning: a radix tree.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// Sequences with a number > 0 each, and a floor: the shortest beginning that a sequence can be cut back to. What several
/// sequences begin with is stored once, and compared once whatever their number: every answer comes from ids that were
/// compared, not from hashes. Uses the C++ heap.
class IdTree {
 public:
  using Ids = std::span<const std::int32_t>;
  using Place = std::size_t;  ///< of a sequence; valid until it is erased

  /// A beginning of what was asked for, and who can give it.
  struct Found {
    Index length = 0;
    std::uint64_t number = 0;
    Index compared = 0;  ///< ids compared for it
  };

  IdTree() : nodes_(1) {}

  /// Bytes of ids and nodes.
  [[nodiscard]] Index bytes() const noexcept {
    return ids_ * Index(sizeof(std::int32_t)) + (Index(nodes_.size() - free_.size()) - 1) * node_bytes;
  }
  /// Bytes of a tree that has one sequence of `length` ids.
  [[nodiscard]] static constexpr Index bytes_of(Index length) noexcept {
    return length * Index(sizeof(std::int32_t)) + node_bytes;
  }
  [[nodiscard]] bool empty() const noexcept { return nodes_[root].children.empty(); }

  /// The longest beginning of `ids` that a sequence can be cut back to: at least its floor, at most its length. Length 0:
  /// there is none.
  [[nodiscard]] Found longest(Ids ids) const {
    Found found;
    const Walk walk = descend(ids);
    found.compared = walk.compared;
    // Below the last id in common, then where other sequences branch off, deepest first: what a subtree can give there
    // is decided by the smallest floor in it.
    Place node = walk.node;
    for (Index length = walk.length; length > 0;) {
      if (nodes_[node].best_floor <= length) {
        found.length = length;
        found.number = nodes_[nodes_[node].best].number;
        return found;
      }
      node = nodes_[node].parent;
      length = nodes_[node].depth;
    }
    return found;
  }

  /// The number of the sequence that is just `ids`; 0 if there is none.
  [[nodiscard]] std::uint64_t exactly(Ids ids) const {
    const Walk walk = descend(ids);
    return walk.length == Index(ids.size()) && nodes_[walk.node].depth == walk.length ? nodes_[walk.node].number : 0;
  }

  /// Adds a sequence that is not there yet. `ids` is not empty, 0 < floor <= its length or floor = 0.
  Place add(Ids ids, std::uint64_t number, Index floor) {
    const Walk walk = descend(ids);
    Place node = walk.node;
    if (nodes_[node].depth > walk.length) node = split(node, walk.length);
    if (walk.length < Index(ids.size())) node = grow(node, ids.subspan(std::size_t(walk.length)));
    nodes_[node].number = number;
    set_floor(node, floor);
    return node;
  }
  /// Changes a sequence's floor.
  void set_floor(Place place, Index floor) {
    nodes_[place].floor = floor;
    for (Place at = place;; at = nodes_[at].parent) {
      Node& node = nodes_[at];
      if (floor < node.best_floor) {
        node.best = place;
        node.best_floor = floor;
      } else if (node.best == place && node.best_floor < floor) {
        choose_best(at);
      } else {
        break;  // nothing changes further up, either
      }
      if (at == root) break;
    }
  }
  void erase(Place place) {
    nodes_[place].number = 0;
    set_floor(place, unreachable);
    while (place != root && nodes_[place].number == 0 && nodes_[place].children.empty()) {
      const Place parent = nodes_[place].parent;
      nodes_[parent].children.erase(nodes_[place].ids.front());
      discard(place);
      place = parent;
    }
    if (place != root && nodes_[place].number == 0 && nodes_[place].children.size() == 1) join_child(place);
  }

 private:
  static constexpr Place root = 0;
  static constexpr Index unreachable = std::numeric_limits<Index>::max();

  /// A run of ids in which no sequence ends and none branches off, but at its end.
  struct Node {
    Place parent = root;
    Index depth = 0;                         ///< ids from the root to the end of this run
    std::vector<std::int32_t> ids;           ///< none at the root
    std::map<std::int32_t, Place> children;  ///< by their first id
    std::uint64_t number = 0;                ///< of the sequence that ends here
    Index floor = unreachable;               ///< its floor
    Place best = root;                       ///< here or below: the sequence with the smallest floor
    Index best_floor = unreachable;
  };
  static constexpr Index node_bytes = Index(sizeof(Node));

  /// The last id in common lies in the run of `node`.
  struct Walk {
    Place node = root;
    Index length = 0;
    Index compared = 0;
  };
  [[nodiscard]] Walk descend(Ids ids) const {
    Walk walk;
    while (walk.length < Index(ids.size())) {
      const auto& children = nodes_[walk.node].children;
      const auto child = children.find(ids[std::size_t(walk.length)]);
      ++walk.compared;
      if (child == children.end()) break;
      walk.node = child->second;
      const Node& node = nodes_[walk.node];
      const Ids rest = ids.subspan(std::size_t(walk.length));
      const auto common =
          std::mismatch(rest.begin(), rest.end(), node.ids.begin(), node.ids.end()).first - rest.begin();
      walk.length += Index(common);
      walk.compared += Index(common);
      if (walk.length < node.depth) break;
    }
    return walk;
  }

  [[nodiscard]] Place make_node() {
    if (free_.empty()) {
      nodes_.emplace_back();
      return nodes_.size() - 1;
    }
    const Place node = free_.back();
    free_.pop_back();
    nodes_[node] = {};
    return node;
  }
  void discard(Place node) {
    ids_ -= Index(nodes_[node].ids.size());
    nodes_[node] = {};
    free_.push_back(node);
  }
  /// A new child of `parent`.
  [[nodiscard]] Place grow(Place parent, Ids ids) {
    const Place node = make_node();
    nodes_[node].parent = parent;
    nodes_[node].depth = nodes_[parent].depth + Index(ids.size());
    nodes_[node].ids.assign(ids.begin(), ids.end());
    nodes_[parent].children.emplace(ids.front(), node);
    ids_ += Index(ids.size());
    return node;
  }
  /// Cuts a run in two at `depth`; returns the first part, a new node. `node` stays the second part.
  [[nodiscard]] Place split(Place node, Index depth) {
    const Place first = make_node();
    Node& upper = nodes_[first];
    Node& lower = nodes_[node];
    const auto count = lower.ids.size() - std::size_t(lower.depth - depth);
    upper.parent = lower.parent;
    upper.depth = depth;
    upper.ids.assign(lower.ids.begin(), lower.ids.begin() + std::ptrdiff_t(count));
    lower.ids = std::vector<std::int32_t>(lower.ids.begin() + std::ptrdiff_t(count), lower.ids.end());
    lower.parent = first;
    upper.children.emplace(lower.ids.front(), node);
    upper.best = lower.best;
    upper.best_floor = lower.best_floor;
    nodes_[upper.parent].children[upper.ids.front()] = first;
    return first;
  }
  /// Undoes a split: the only child of a node in which no sequence ends takes its place.
  void join_child(Place place) {
    const Place child = nodes_[place].children.begin()->second;
    Node& upper = nodes_[place];
    Node& lower = nodes_[child];
    ids_ += Index(upper.ids.size());  // discard() takes them off
    std::vector<std::int32_t> ids;
    ids.reserve(upper.ids.size() + lower.ids.size());
    ids.insert(ids.end(), upper.ids.begin(), upper.ids.end());
    ids.insert(ids.end(), lower.ids.begin(), lower.ids.end());
    lower.ids = std::move(ids);
    lower.parent = upper.parent;
    nodes_[upper.parent].children[lower.ids.front()] = child;
    discard(place);
  }

  void choose_best(Place place) {
    Node& node = nodes_[place];
    node.best = place;
    node.best_floor = node.floor;
    for (const auto& [id, child] : node.children) {
      if (nodes_[child].best_floor >= node.best_floor) continue;
      node.best = nodes_[child].best;
      node.best_floor = nodes_[child].best_floor;
    }
  }

  std::vector<Node> nodes_;  // the root first
  std::vector<Place> free_;  // numbers of unused ones
  Index ids_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail
