/// \file
/// Draft tokens as a tree: several guesses for a position, each with guesses of its own, verified in one call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// Which keys of a step its queries see: all before the step, and of the step's own what `bits` says. Query i and key j of
/// the step have positions prefix + i and prefix + j, so a call needs no query_positions. An AttentionMask; owns nothing.
class SuffixMask {
 public:
  /// Row i of `bits` has `words` words; bit j of it (from the low end) says whether query i sees key j.
  SuffixMask(Index prefix, std::span<const std::uint64_t> bits, Index words) noexcept
      : prefix_(prefix), bits_(bits), words_(words) {}

  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const noexcept {
    if (keys.end <= prefix_) return Coverage::full;
    const bool own = keys.begin >= prefix_;
    return own && (keys.begin >= prefix_ + rows() || queries.end <= prefix_) ? Coverage::none : Coverage::partial;
  }
  [[nodiscard]] bool visible(Index query, Index key) const noexcept {
    if (key < prefix_) return true;
    const Index i = query - prefix_, j = key - prefix_;
    if (i < 0 || i >= rows() || j >= rows()) return false;
    return ((bits_[std::size_t(i * words_ + j / 64)] >> (j % 64)) & 1) != 0;
  }

 private:
  [[nodiscard]] Index rows() const noexcept { return words_ == 0 ? 0 : Index(bits_.size()) / words_; }

  Index prefix_;
  std::span<const std::uint64_t> bits_;
  Index words_;
};

/// Rows of a step's mask from packed bits, as verification kernels pass them: bit i * tokens + j, lowest bit of a byte
/// first, says whether query i sees key j. Returns what SuffixMask takes, in rows of (tokens + 63) / 64 words.
/// invalid_argument for another number of bytes.
[[nodiscard]] inline Result<std::vector<std::uint64_t>> suffix_bits(std::span<const std::uint8_t> packed,
                                                                    Index tokens) {
  const Count bits = Count(tokens) * tokens;
  const Count bytes = bits.fits() ? Count(round_up(bits, 8).value() / 8) : bits;
  if (tokens < 0 || !detail::has_size(packed.size(), bytes)) {
    return fail(StatusCode::invalid_argument, "packed has ", packed.size(), " bytes, must have ", bytes, " for ",
                tokens, " tokens");
  }
  const Index words = (tokens + 63) / 64;
  std::vector<std::uint64_t> rows(std::size_t(tokens * words));
  for (Index i = 0; i < tokens; ++i) {
    for (Index j = 0; j < tokens; ++j) {
      const Index bit = i * tokens + j;
      const std::uint64_t seen = (packed[std::size_t(bit / 8)] >> (bit % 8)) & 1;
      rows[std::size_t(i * words + j / 64)] |= seen << (j % 64);
    }
  }
  return rows;
}

/// Nodes in an order in which parents come before their children. Node 0 is usually the last token that is known, whose
/// row is not yet cached; its descendants are drafts. A node's rotary position is the number of tokens before the step plus
/// its depth, so that the path that is accepted is a text without gaps.
class DraftTree {
 public:
  static constexpr Index max_nodes = 1024;

  /// parents[i] < i, or -1 for a root. invalid_argument naming a node.
  [[nodiscard]] static Result<DraftTree> create(std::span<const Index> parents) {
    if (Status status = detail::check_range("nodes", Index(parents.size()), 0, max_nodes); !status.ok()) return status;
    DraftTree tree;
    tree.words_ = (Index(parents.size()) + 63) / 64;
    tree.bits_.resize(parents.size() * std::size_t(tree.words_));
    for (std::size_t i = 0; i < parents.size(); ++i) {
      const Index parent = parents[i];
      if (parent < -1 || parent >= Index(i)) {
        return fail(StatusCode::invalid_argument, "parents[", i, "] is ", parent, ", must be -1 or an earlier node");
      }
      tree.parents_.push_back(parent);
      tree.depths_.push_back(parent < 0 ? 0 : tree.depths_[std::size_t(parent)] + 1);
      const auto row = tree.bits_.begin() + std::ptrdiff_t(i) * tree.words_;
      if (parent >= 0) std::copy_n(tree.bits_.begin() + parent * tree.words_, tree.words_, row);
      row[std::ptrdiff_t(i / 64)] |= std::uint64_t{1} << (i % 64);
    }
    return tree;
  }

  /// The tree of first-child and next-sibling links (-1: none) from node 0 on, with nodes renumbered in depth-first order;
  /// `order[i]` becomes the old number of new node i. invalid_argument for a link that leads nowhere or back.
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

  /// `nodes` nodes, each the child of the one before.
  [[nodiscard]] static Result<DraftTree> chain(Index nodes) {
    if (Status status = detail::check_range("nodes", nodes, 0, max_nodes); !status.ok()) return status;
    std::vector<Index> parents;
    for (Index i = 0; i < nodes; ++i) parents.push_back(i - 1);
    return create(parents);
  }

  [[nodiscard]] Index size() const noexcept { return Index(parents_.size()); }
  [[nodiscard]] Index parent(Index node) const noexcept { return parents_[std::size_t(node)]; }
  [[nodiscard]] Index depth(Index node) const noexcept { return depths_[std::size_t(node)]; }
  /// Whether `node` is `of` or comes before it on its path.
  [[nodiscard]] bool on_path(Index node, Index of) const noexcept {
    return ((bits_[std::size_t(of * words_ + node / 64)] >> (node % 64)) & 1) != 0;
  }
  /// The node at this depth on the path to `of`; depth at most depth(of).
  [[nodiscard]] Index ancestor(Index of, Index depth) const noexcept {
    while (this->depth(of) > depth) of = parent(of);
    return of;
  }
  /// From the root to `node`.
  [[nodiscard]] std::vector<Index> path(Index node) const {
    std::vector<Index> nodes(std::size_t(depth(node) + 1));
    for (auto at = nodes.rbegin(); at != nodes.rend(); ++at, node = parent(node)) *at = node;
    return nodes;
  }
  /// Rotary positions of all nodes of a step that begins at `prefix`.
  [[nodiscard]] std::vector<Index> positions(Index prefix) const {
    std::vector<Index> made(depths_);
    for (Index& position : made) position += prefix;
    return made;
  }

  /// What a step of these nodes sees after `prefix` keys. One call reads every key once for all nodes; a node's result is
  /// that of decoding its path within rounding, and has its bits if the tree is a chain. For its bits in any tree see
  /// TreePaths. Lives as long as the tree.
  [[nodiscard]] SuffixMask mask(Index prefix) const noexcept { return {prefix, bits_, words_}; }

 private:
  std::vector<Index> parents_, depths_;
  std::vector<std::uint64_t> bits_;  // [nodes][words_]: its path
  Index words_ = 0;
};

/// A step's keys as a list for every node of its tree: the keys before the step, then the node's path. A StagedSource, so a
/// node has the bits of the decode step it stands for. The keys before the step are read once for every node.
///
/// For caches that keep everything, with absolute positions: `keys` is such a cache's view of an open step, whose tokens are
/// the nodes in order. Owns nothing.
template <KeyValueSource S>
class TreePaths {
 public:
  using KeyCodec = typename S::KeyCodec;
  using ValueCodec = typename S::ValueCodec;

  TreePaths(const S& keys, const DraftTree& tree) noexcept
      : keys_(&keys), tree_(&tree), prefix_(keys.size() - tree.size()) {}

  [[nodiscard]] auto layout() const noexcept requires requires(const S& s) { s.layout(); }
  { return keys_->layout(); }
  [[nodiscard]] Status readable(bool policy_rotates) const requires GuardedSource<S> {
    return keys_->readable(policy_rotates);
  }
  [[nodiscard]] Index size() const noexcept { return keys_->size(); }
  [[nodiscard]] Index position(Index key) const noexcept { return keys_->position(key); }
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const noexcept {
    return keys_->tile(stream, head, first, max);
  }

  [[nodiscard]] Index stages() const noexcept { return tree_->size(); }
  [[nodiscard]] Interval stage_queries(Index node) const noexcept { return {node, node + 1}; }
  [[nodiscard]] Index stage_size(Index node) const noexcept { return prefix_ + tree_->depth(node) + 1; }
  [[nodiscard]] Index stage_position(Index, Index key) const noexcept { return key; }
  [[nodiscard]] Tile stage_tile(Index node, int stream, Index head, Index first, Index max) const noexcept {
    if (first < prefix_) return keys_->tile(stream, head, first, std::min(max, prefix_ - first));
    return keys_->tile(stream, head, prefix_ + tree_->ancestor(node, first - prefix_), 1);
  }

 private:
  const S* keys_;
  const DraftTree* tree_;
  Index prefix_;
};

}  // namespace heed::inline HEED_ABI
