/// \file
/// What every node of a draft tree sees of a cache that evicts by a rule.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <type_traits>

#include <heed/cache/token_lists.hpp>
#include <heed/memory.hpp>
#include <heed/retention/mask_ref.hpp>
#include <heed/speculative/draft_tree.hpp>
#include <heed/unique_number.hpp>

namespace heed::inline HEED_ABI::detail {

/// A source that is a layer of a cache: it knows its tokens, its step, and how many of its tokens belong to that step.
template <class S>
concept CachedSource = KeyValueSource<S> && requires(const S& source) {
  { source.tokens() } -> std::same_as<const TokenLists*>;
  { source.change() } -> std::same_as<std::uint64_t>;
  { source.in_step() } -> std::same_as<Index>;
  { source.asked_positions() } -> std::same_as<bool>;
  { source.current() } -> std::same_as<Status>;
};

class TreeReach;

/// A SplitMask of one node: what the decode step of its path sees. The keys are the far ones, then the near run before
/// the step, then the path. Owns nothing.
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
  Index begin_;    // position of the first recent key
  Index far_ = 0;  // number of keys seen before it
  NearKeys near_;
};

/// The rule's answers for every node on its path. The tree and the cache's tokens must outlive it and not change.
class TreeReach {
 public:
  [[nodiscard]] const DraftTree& tree() const noexcept { return *tree_; }
  /// Identity: no other answers of the process have this number.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
  /// Tokens of the cache. Null: the source is not a cache's, and every node sees every key before the step.
  [[nodiscard]] const TokenLists* tokens() const noexcept { return tokens_; }
  /// Number of slots before the nodes.
  [[nodiscard]] Index prefix() const noexcept { return prefix_; }
  /// Position of a root.
  [[nodiscard]] Index first() const noexcept { return first_; }
  [[nodiscard]] Index position(Index node) const noexcept { return first_ + tree_->depth(node); }
  /// Rotary positions [nodes].
  [[nodiscard]] std::span<const Index> rotary_positions() const noexcept {
    return {rotary_, std::size_t(tree_->size())};
  }

  /// Not ok if `keys` are not those of the nodes, or if their rows were not rotated by the nodes' positions. `what`
  /// names what was made from the tree: its mask or its paths.
  [[nodiscard]] Status fits(const char* what, const MaskedCall& keys) const {
    if (keys.tokens != list_) {
      return fail(StatusCode::invalid_argument, "keys are of another cache or layer group than the tree's ", what);
    }
    if (keys.change != change_) {
      return fail(StatusCode::wrong_state, "keys are of another step than the tree's ", what);
    }
    const Index nodes = tree_->size();
    if (keys.slots != prefix_ + nodes || keys.end != first_ + nodes) {
      return fail(StatusCode::invalid_argument, "the tree's ", what, " is for ", prefix_ + nodes,
                  " keys up to position ", first_ + nodes - 1, ", but keys has ", keys.slots, ", the last at position ",
                  moved_position(keys.end, -1));
    }
    if (keys.asked_positions && moved_) {
      return fail(StatusCode::wrong_state, "step.positions() was called, but the step is a tree's, whose nodes have ",
                  "other positions: rotate by positions() of the tree's ", what);
    }
    return {};
  }

  // Only if tokens() is not null:

  /// What the node sees.
  [[nodiscard]] const Reach& reach(Index node) const noexcept { return nodes_[node].reach; }
  [[nodiscard]] bool is_landmark(Index node) const noexcept { return nodes_[node].landmark; }
  /// Number of keys that a node sees, its own included.
  [[nodiscard]] Index keys_seen(Index node) const noexcept {
    return numbers(node).far_seen(reach(node)) + tokens_->holes().left(reach(node).begin, position(node) + 1);
  }
  [[nodiscard]] LandmarkNumbers numbers(Index node) const noexcept {
    return {.initial = initial_ + (node < 0 ? 0 : nodes_[node].initial), .dropped = tokens_->state().dropped};
  }
  /// Landmarks before the nodes.
  [[nodiscard]] BlockSpan<FarToken> far_landmarks() const noexcept { return tokens_->far_tokens().first(far_); }
  /// Position of landmark number `i` in the text of a node's path.
  [[nodiscard]] Index far_position(Index node, Index i) const noexcept {
    if (i < far_) return tokens_->far_tokens()[i].position;
    return position(tree_->first_on_path(node, [&](Index at) { return nodes_[at].landmarks > i - far_; }));
  }
  /// Slot of landmark number `i`, and of the recent key at `position`, in the keys of a node's path.
  [[nodiscard]] Index far_key(Index node, Index i) const noexcept {
    return i < tokens_->far_slots() ? i : near_key(far_position(node, i));
  }
  [[nodiscard]] Index near_key(Index position) const noexcept {
    return tokens_->far_slots() + position - tokens_->near_begin();
  }

 private:
  friend class TreeMemory;

  struct Node {
    Reach reach;
    bool landmark = false;
    Index landmarks = 0;  // number of landmarks on the path, the node included
    Index initial = 0;    // how many of these are initial
  };

  /// true if a source that does not come from a cache has a mask or stages of its own.
  template <class S>
  [[nodiscard]] static bool has_own_mask(const S& keys) {
    if constexpr (StagedSource<S>) {
      if (keys.stages() > 0) return true;
    }
    return requires { keys.mask(); };
  }

  /// The nodes are the source's last keys. invalid_argument if the tree does not fit.
  template <KeyValueSource S>
  [[nodiscard]] Status take(const S& keys, const DraftTree& tree) {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
    const Index nodes = tree.size();
    if (nodes == 0) return bad("tree has 0 nodes, must have 1 at least: node 0 is the last token that is known");
    if constexpr (CachedSource<S>) {
      if (Status status = keys.current(); !status.ok()) return status;
    }
    if (Status status = check_range("keys.size()", keys.size(), 0, most_tokens); !status.ok()) return status;
    tree_ = &tree;
    prefix_ = slots_of(keys) - nodes;
    if (prefix_ < 0) return bad("tree has ", nodes, " nodes, keys has ", keys.size());
    first_ = slot_position(keys, prefix_);
    if (Status status = check_range("position of the tree's first node", first_, -most_tokens, most_tokens);
        !status.ok()) {
      return status;
    }
    if constexpr (CachedSource<S>) {
      if (nodes > keys.in_step()) {
        return bad("tree has ", nodes, " nodes, the open step of keys has ", keys.in_step(), " tokens");
      }
      tokens_ = keys.tokens();
      list_ = tokens_->number();
      change_ = keys.change();
      first_token_ = keys.in_step() - nodes;
    } else if (has_own_mask(keys)) {
      return fail(StatusCode::unsupported, "keys say what a query sees, but not of a tree's nodes");
    }
    return {};
  }

  /// Fills room for all nodes.
  void ask(Node* nodes, Index* rotary) {
    nodes_ = nodes;
    rotary_ = rotary;
    if (tokens_ != nullptr) {
      ask_rule(nodes);
      const bool ranks = tokens_->positions() == Positions::rank;
      for (Index node = 0; node < tree_->size(); ++node) {
        rotary[node] = ranks ? keys_seen(node) - 1 : position(node);
        moved_ |= rotary[node] != tokens_->rotary_positions()[std::size_t(first_token_ + node)];
      }
    } else {
      for (Index node = 0; node < tree_->size(); ++node) rotary[node] = position(node);
    }
  }
  void ask_rule(Node* nodes) {
    far_ = far_before(tokens_->far_tokens(), first_);
    initial_ = std::min(tokens_->state().initial, far_);  // initial landmarks are the first of the list
    const AnyRule& rule = tokens_->rule();
    const Reach& start = tokens_->reaches()[std::size_t(first_ - tokens_->state().reach_first)];
    for (Index node = 0; node < tree_->size(); ++node) {
      const Index parent = tree_->parent(node), position = this->position(node);
      const std::int32_t id = tokens_->planned_id(first_token_ + node);
      Node made;
      if (parent >= 0) {
        made = nodes[parent];
        made.reach = numbers(parent).next(rule, reach(parent), position - 1, far_ + made.landmarks,
                                          [&](Index i) { return far_position(parent, i); });
      } else {
        made.reach = start;
      }
      made.reach.blind = !rule.sees_landmarks(position, id);
      const Role role = rule.role(position, id);
      made.landmark = role != Role::plain;
      made.landmarks += made.landmark;
      made.initial += role == Role::initial;
      std::construct_at(nodes + node, made);
    }
  }

  const DraftTree* tree_ = nullptr;
  const TokenLists* tokens_ = nullptr;
  std::uint64_t number_ = unique_number();
  std::uint64_t list_ = 0;    // TokenLists::number(), or 0
  std::uint64_t change_ = 0;  // CacheFacts::change of the step
  Index prefix_ = 0, first_ = 0;
  Index first_token_ = 0;        // number in the open step of the first token that is a node
  Index far_ = 0, initial_ = 0;  // landmarks before the nodes, and how many of these are initial
  bool moved_ = false;           // true if a node's rotary position is not that of its slot
  const Node* nodes_ = nullptr;
  const Index* rotary_ = nullptr;
};

/// A TreeReach and its nodes in one block, which does not move with its owner.
class TreeMemory {
 public:
  /// Errors: those of TreeReach::take(), and out_of_memory.
  template <KeyValueSource S>
  [[nodiscard]] static Result<TreeMemory> create(const S& keys, const DraftTree& tree, const MemoryResource& memory) {
    using Node = TreeReach::Node;
    static_assert(std::is_trivially_destructible_v<TreeReach> && std::is_trivially_destructible_v<Node>);
    static_assert(sizeof(TreeReach) % alignof(Node) == 0 && sizeof(Node) % alignof(Index) == 0);
    if (Status status = check_memory(memory); !status.ok()) return status;
    TreeReach reach;
    if (Status status = reach.take(keys, tree); !status.ok()) return status;
    const Index nodes = tree.size(), per_node = Index(sizeof(Node)) + Index(sizeof(Index));
    Result<Buffer> block = Buffer::allocate(memory, Index(sizeof(TreeReach)) + nodes * per_node, "tree");
    if (!block.ok()) return block.status();
    auto* const made = std::construct_at(reinterpret_cast<TreeReach*>(block->data()), reach);
    auto* const room = reinterpret_cast<Node*>(made + 1);
    made->ask(room, reinterpret_cast<Index*>(room + nodes));
    return TreeMemory(*std::move(block));
  }

  /// Null after a move.
  [[nodiscard]] const TreeReach* get() const noexcept { return reinterpret_cast<const TreeReach*>(block_.data()); }
  [[nodiscard]] const TreeReach* operator->() const noexcept { return get(); }

 private:
  explicit TreeMemory(Buffer block) noexcept : block_(std::move(block)) {}

  Buffer block_;
};

inline NodeMask::NodeMask(const TreeReach& reach, Index node) noexcept
    : reach_(&reach),
      node_(node),
      begin_(reach.reach(node).begin),
      near_{.first_key = reach.tokens()->far_slots(), .first_slot = reach.tokens()->near_begin()} {
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
