/// \file
/// Draft tokens as a tree: several guesses for a position, each with its own next guesses. One call verifies all.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <heed/checked.hpp>
#include <heed/speculative/suffix_mask.hpp>

namespace heed::inline HEED_ABI {

/// Nodes in an order with parents before children. Node 0 is usually the last known token, whose row is not cached yet;
/// its descendants are drafts. A node's rotary position is the number of tokens before the step plus its depth, so the
/// accepted path is a text without gaps. A tree that was moved from has no nodes.
class DraftTree {
 public:
  static constexpr Index max_nodes = 4096;  ///< limit of size()

  /// From each node's parent: parents[i] < i, or -1 for a root. invalid_argument naming a node, or for more than
  /// max_nodes.
  [[nodiscard]] static Result<DraftTree> create(std::span<const Index> parents) {
    if (Status status = detail::check_range("nodes", Index(parents.size()), 0, max_nodes); !status.ok()) return status;
    DraftTree tree;
    const Index words = words_of(Index(parents.size()));
    tree.bits_.resize(parents.size() * std::size_t(words));
    for (std::size_t i = 0; i < parents.size(); ++i) {
      const Index parent = parents[i];
      if (parent < -1 || parent >= Index(i)) {
        return fail(StatusCode::invalid_argument, "parents[", i, "] is ", parent, ", must be -1 or an earlier node");
      }
      tree.parents_.push_back(parent);
      tree.depths_.push_back(parent < 0 ? 0 : tree.depths_[std::size_t(parent)] + 1);
      tree.jumps_.push_back(parent < 0 ? Index(i) : tree.jump_below(parent));
      const auto row = tree.bits_.begin() + std::ptrdiff_t(i) * words;
      if (parent >= 0) std::copy_n(tree.bits_.begin() + parent * words, words, row);
      row[std::ptrdiff_t(i / 64)] |= std::uint64_t{1} << (i % 64);
    }
    return tree;
  }

  /// From links to the first child and the next sibling of each node (-1: none), starting at node 0. Nodes are
  /// renumbered in depth-first order; `order[i]` becomes the old number of new node i. invalid_argument for a link to a
  /// node that does not exist or was reached before.
  [[nodiscard]] static Result<DraftTree> from_links(std::span<const Index> first_child,
                                                    std::span<const Index> next_sibling, std::vector<Index>& order) {
    const auto nodes = Index(first_child.size());
    if (next_sibling.size() != first_child.size()) {
      return fail(StatusCode::invalid_argument, "next_sibling has ", next_sibling.size(), " nodes, first_child ",
                  nodes);
    }
    std::vector<Index> parents;
    std::vector<bool> reached(first_child.size());
    std::vector<std::pair<Index, Index>> open;  // old number, new number of its parent
    if (nodes > 0) open.emplace_back(0, -1);
    order.clear();
    while (!open.empty()) {
      const auto [node, parent] = open.back();
      open.pop_back();
      if (node < 0 || node >= nodes || reached[std::size_t(node)]) {
        return fail(StatusCode::invalid_argument, "a link leads to node ", node, " of ", nodes, ", or back");
      }
      reached[std::size_t(node)] = true;
      if (const Index next = next_sibling[std::size_t(node)]; next != -1) open.emplace_back(next, parent);
      if (const Index child = first_child[std::size_t(node)]; child != -1) {
        open.emplace_back(child, Index(order.size()));
      }
      order.push_back(node);
      parents.push_back(parent);
    }
    return create(parents);
  }

  /// A chain of `nodes` nodes: each is the child of the one before it. invalid_argument beyond max_nodes.
  [[nodiscard]] static Result<DraftTree> chain(Index nodes) {
    if (Status status = detail::check_range("nodes", nodes, 0, max_nodes); !status.ok()) return status;
    std::vector<Index> parents;
    for (Index i = 0; i < nodes; ++i) parents.push_back(i - 1);
    return create(parents);
  }

  /// Number of nodes.
  [[nodiscard]] Index size() const noexcept { return Index(parents_.size()); }
  /// The parent of `node`; -1 for a root.
  [[nodiscard]] Index parent(Index node) const noexcept { return parents_[std::size_t(node)]; }
  /// Number of nodes above `node` on its path; 0 for a root.
  [[nodiscard]] Index depth(Index node) const noexcept { return depths_[std::size_t(node)]; }
  /// true if `node` lies on the path from the root to `of`, `of` included.
  [[nodiscard]] bool on_path(Index node, Index of) const noexcept {
    return ((bits_[std::size_t(of * words_of(size()) + node / 64)] >> (node % 64)) & 1) != 0;
  }
  /// The node at depth `depth` on the path to `of`. `depth` must be at most depth(of).
  [[nodiscard]] Index ancestor(Index of, Index depth) const noexcept {
    return first_on_path(of, [&](Index node) { return this->depth(node) >= depth; });
  }
  /// The first node on the path to `of` for which holds(node). It must hold for `of`, and with a node for all that come
  /// after it on the path. Asks about twice log2(nodes) times.
  template <class Holds>
  [[nodiscard]] Index first_on_path(Index of, const Holds& holds) const {
    while (parent(of) >= 0 && holds(parent(of))) of = holds(jump(of)) ? jump(of) : parent(of);
    return of;
  }
  /// Number of nodes node, node + 1, ... that all lie on the path to `of`, as `node` does. May return fewer, at least
  /// 1.
  [[nodiscard]] Index run_on_path(Index node, Index of) const noexcept {
    return std::countr_one(bits_[std::size_t(of * words_of(size()) + node / 64)] >> (node % 64));
  }
  /// The nodes from the root to `node`.
  [[nodiscard]] std::vector<Index> path(Index node) const {
    std::vector<Index> nodes(std::size_t(depth(node) + 1));
    for (auto at = nodes.rbegin(); at != nodes.rend(); ++at, node = parent(node)) *at = node;
    return nodes;
  }
  /// Rotary positions of all nodes if `prefix` tokens come before the step. With in-cache ranks use
  /// TreePaths::positions() instead.
  [[nodiscard]] std::vector<Index> positions(Index prefix) const {
    std::vector<Index> made(depths_);
    for (Index& position : made) position = detail::moved_position(prefix, position);
    return made;
  }

  /// The mask of a step of these nodes after `prefix` keys: every node sees all of those and its path. Only for a cache
  /// that keeps everything; TreeMask is for any cache. Every key is read once for all nodes. A node's result is that of
  /// decoding its path within rounding, bit for bit if the tree is a chain; TreePaths gives the bits in any tree. The
  /// mask refers to the tree, which must outlive it.
  [[nodiscard]] SuffixMask mask(Index prefix) const& noexcept { return {prefix, bits_, words_of(size())}; }
  SuffixMask mask(Index prefix) const&& = delete;

 private:
  /// Words of a node's row in bits_. Computed, because a stored number would be wrong once the tree was moved from.
  [[nodiscard]] static constexpr Index words_of(Index nodes) noexcept { return (nodes + 63) / 64; }
  /// A node farther up the path: a root's is itself. Skew-binary numbers, as in Myers, "An applicative random-access
  /// stack": two jumps of one length become one of twice that and one.
  [[nodiscard]] Index jump(Index node) const noexcept { return jumps_[std::size_t(node)]; }
  [[nodiscard]] Index jump_below(Index parent) const noexcept {
    const Index once = jump(parent), twice = jump(once);
    return depth(parent) - depth(once) == depth(once) - depth(twice) ? twice : parent;
  }

  std::vector<Index> parents_, depths_, jumps_;
  std::vector<std::uint64_t> bits_;  // [nodes][words_of(nodes)]: its path
};

}  // namespace heed::inline HEED_ABI
