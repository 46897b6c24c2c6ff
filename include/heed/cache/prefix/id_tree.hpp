/// \file
/// Sequences of token ids, found again by their longest beginning: a radix tree.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/checked.hpp>
#include <heed/heap.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// Sequences of ids. Each has a number > 0 and a floor: the shortest beginning that it can be cut back to. What several
/// sequences begin with is stored once and compared once, for any number of sequences. Every answer comes from ids that
/// were compared, not from hashes. Uses the C++ heap.
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
    return ids_ * Index(sizeof(std::int32_t)) + (Index(nodes_.size()) - num_free_ - 1) * node_bytes;
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

  /// Adds a sequence that is not there yet. `ids` is not empty, 0 < floor <= its length or floor = 0. Nothing changes if the
  /// heap has no memory (std::bad_alloc).
  Place add(Ids ids, std::uint64_t number, Index floor) {
    const Walk walk = descend(ids);
    const Ids rest = ids.subspan(std::size_t(walk.length));
    const bool splits = nodes_[walk.node].depth > walk.length;
    // All that needs memory comes first.
    make_room();
    const Place next = free_, after_next = nodes_[free_].parent;
    Cut cut;
    if (splits) cut = prepare_cut(walk.node, walk.length);
    Node leaf;
    if (!rest.empty()) {
      leaf.parent = splits ? next : walk.node;
      leaf.depth = Index(ids.size());
      leaf.ids.assign(rest.begin(), rest.end());
      (splits ? cut.upper : nodes_[walk.node]).children.emplace(rest.front(), splits ? after_next : next);
    }
    Place node = splits ? finish_cut(walk.node, std::move(cut)) : walk.node;
    if (!rest.empty()) {
      ids_ += Index(rest.size());
      node = take(std::move(leaf));
    }
    nodes_[node].number = number;
    set_floor(node, floor);
    return node;
  }
  /// Changes a sequence's floor.
  void set_floor(Place place, Index floor) noexcept {
    nodes_[place].floor = floor;
    for (Place at = place;; at = nodes_[at].parent) {
      Node& node = nodes_[at];
      if (floor < node.best_floor) {
        node.best = place;
        node.best_floor = floor;
      } else if (node.best == place && node.best_floor < floor) {
        choose_best(at);
      } else {
        break;  // nothing changes further up
      }
      if (at == root) break;
    }
  }
  void erase(Place place) noexcept {
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
  static constexpr Index unreachable = count_limit;

  /// A run of ids. Sequences end and branch off only at its end.
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

  /// Two unused nodes, for add().
  void make_room() {
    static_assert(std::is_nothrow_move_constructible_v<Node> && std::is_nothrow_move_assignable_v<Node>);
    while (num_free_ < 2) {
      nodes_.emplace_back();
      discard(nodes_.size() - 1);
    }
  }
  /// `node` in the next unused place.
  Place take(Node node) noexcept {
    const Place place = free_;
    free_ = nodes_[place].parent;
    --num_free_;
    nodes_[place] = std::move(node);
    return place;
  }
  void discard(Place place) noexcept {
    ids_ -= Index(nodes_[place].ids.size());
    nodes_[place] = {};
    nodes_[place].parent = free_;
    free_ = place;
    ++num_free_;
  }

  /// A run cut in two: a new node for its first part, and the ids of its second, which stays in the old one.
  struct Cut {
    Node upper;
    std::vector<std::int32_t> lower_ids;
  };
  [[nodiscard]] Cut prepare_cut(Place place, Index depth) const {
    const Node& lower = nodes_[place];
    const auto at = lower.ids.end() - std::ptrdiff_t(lower.depth - depth);
    Cut cut;
    cut.upper.parent = lower.parent;
    cut.upper.depth = depth;
    cut.upper.ids.assign(lower.ids.begin(), at);
    cut.upper.children.emplace(*at, place);
    cut.upper.best = lower.best;
    cut.upper.best_floor = lower.best_floor;
    cut.lower_ids.assign(at, lower.ids.end());
    return cut;
  }
  /// Returns the place of the first part.
  Place finish_cut(Place lower, Cut cut) noexcept {
    Place& link = nodes_[cut.upper.parent].children.find(cut.upper.ids.front())->second;
    nodes_[lower].ids = std::move(cut.lower_ids);
    link = nodes_[lower].parent = take(std::move(cut.upper));
    return link;
  }
  /// Undoes a cut: the only child of a node in which no sequence ends takes its place. If there is no memory for the
  /// joined run, both nodes stay, and the answers are the same.
  void join_child(Place place) noexcept {
    const Place child = nodes_[place].children.begin()->second;
    Node& upper = nodes_[place];
    Node& lower = nodes_[child];
    std::vector<std::int32_t> ids;
    const Status room = with_heap("erase()", [&] {
      ids.reserve(upper.ids.size() + lower.ids.size());
      return Status();
    });
    if (!room.ok()) return;
    ids.insert(ids.end(), upper.ids.begin(), upper.ids.end());
    ids.insert(ids.end(), lower.ids.begin(), lower.ids.end());
    ids_ += Index(upper.ids.size());  // discard() takes them off
    lower.ids = std::move(ids);
    lower.parent = upper.parent;
    nodes_[upper.parent].children.find(lower.ids.front())->second = child;
    discard(place);
  }

  void choose_best(Place place) noexcept {
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
  Place free_ = root;        // an unused one, whose parent is the next unused one
  Index num_free_ = 0;
  Index ids_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail
