/// \file
/// A draft tree as a mask over a cache's keys: one pass for all nodes.
#pragma once

#include <algorithm>
#include <span>

#include <heed/speculative/tree_reach.hpp>

namespace heed::inline HEED_ABI {

/// An AttentionMask for a tree of drafts: each node sees what decoding its path token by token sees, under the cache's
/// rule. The nodes, in order, are the last tokens of an open step.
///
/// Every key is read once for all nodes. A node's result is that of decoding its path within rounding. It has the same
/// bits if the tree is a chain and the cache keeps everything; TreePaths gives the bits in any tree.
///
///     const Result<TreeMask> mask = TreeMask::create(step.keys(0), tree);     // once a step, for all layers of a rule
///     rotate by mask->positions() and write, layer by layer:
///     attend<Backend>(policy, q, step.keys(layer), *mask, out, workspace, executor);
///
/// Queries are the nodes, or the last of them. The tree and the step must outlive the mask and not change. Movable, not
/// copyable: a MaskRef refers to it. One that was moved from shows nothing, and attend() refuses it.
///
/// attend() refuses a mask that does not fit. invalid_argument: keys of another cache or layer group, more queries than
/// nodes, query_positions. wrong_state: keys of another step, or a step whose positions() were asked for, because the
/// nodes have other positions.
class TreeMask {
 public:
  /// `keys` are those of any layer of the group that the mask is for; its streams need not be written yet. Takes one
  /// block of `memory`, a few words a node. Errors: invalid_argument for an empty tree, or for more nodes than the step
  /// has tokens; unsupported for a rule with a history and for in-cache ranks, which no mask can express, and for a
  /// source that is not a cache's but has its own mask; out_of_memory; those of keys.readable().
  template <KeyValueSource S>
  [[nodiscard]] static Result<TreeMask> create(const S& keys, const DraftTree& tree,
                                               const MemoryResource& memory = default_memory()) {
    Result<detail::TreeMemory> made = detail::TreeMemory::create(keys, tree, memory);
    if (!made.ok()) return made.status();
    const detail::TokenLists* const tokens = (*made)->tokens();
    if (tokens != nullptr && tokens->staged()) {
      return fail(StatusCode::unsupported, "a tree is no mask over a cache with ",
                  tokens->rule().has_history() ? "a rule with a history" : "in-cache ranks", ": take TreePaths");
    }
    return TreeMask(*std::move(made));
  }
  /// Deleted: a temporary tree would end before the mask.
  template <KeyValueSource S>
  static Result<TreeMask> create(const S& keys, const DraftTree&& tree,
                                 const MemoryResource& memory = default_memory()) = delete;

  /// Rotary positions of the nodes, [nodes]: the number of tokens before the step plus the node's depth. Rotate queries
  /// by them, and keys unless the policy rotates keys at read. ALiBi uses them.
  [[nodiscard]] std::span<const Index> positions() const noexcept {
    return reach_.get() == nullptr ? std::span<const Index>() : reach_->rotary_positions();
  }

  /// What AttentionMask asks for.
  /// \{
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const noexcept {
    if (reach_.get() == nullptr) return Coverage::none;
    const Index first = reach_->first();
    if (keys.begin >= first) {
      const bool none = keys.begin >= first + tree().size() || queries.end <= first;
      return none ? Coverage::none : Coverage::partial;
    }
    if (keys.end > first) return Coverage::partial;
    if (reach_->tokens() == nullptr || keys.begin >= all_recent_) return Coverage::full;
    // All keys before the near run are landmarks.
    return keys.end <= reach_->tokens()->near_begin() && !some_blind_ ? Coverage::full : Coverage::partial;
  }
  [[nodiscard]] bool visible(Index query, Index key) const noexcept {
    if (reach_.get() == nullptr) return false;
    const Index node = detail::distance(reach_->first(), query), own = detail::distance(reach_->first(), key);
    if (node < 0 || node >= tree().size() || own >= tree().size()) return false;
    if (own >= 0 && !tree().on_path(own, node)) return false;
    const detail::TreeReach& reach = *reach_.get();
    if (reach.tokens() == nullptr || text_position(key) >= reach.reach(node).begin) return true;
    return !reach.reach(node).blind && (own >= 0 ? reach.is_landmark(own) : is_far(key));
  }
  /// The text position of what lies at `position`.
  [[nodiscard]] Index text_position(Index position) const noexcept {
    if (reach_.get() == nullptr) return position;
    const Index node = detail::distance(reach_->first(), position);
    return node < 0 || node >= tree().size() ? position : reach_->position(node);
  }
  [[nodiscard]] Status fits(const MaskedCall& call) const {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
    if (reach_.get() == nullptr) return fail(StatusCode::wrong_state, "the mask of the tree was moved from");
    if (Status status = reach_->fits("mask", call); !status.ok()) return status;
    if (call.queries > tree().size()) {
      return bad("q has ", call.queries, " queries, the tree ", tree().size(), " nodes");
    }
    if (call.query_positions) return bad("query_positions are given, but the mask is a tree's, which says them");
    return {};
  }
  /// \}

 private:
  explicit TreeMask(detail::TreeMemory reach) noexcept : reach_(std::move(reach)) {
    for (Index node = 0; reach_->tokens() != nullptr && node < tree().size(); ++node) {
      all_recent_ = std::max(all_recent_, reach_->reach(node).begin);
      some_blind_ = some_blind_ || reach_->reach(node).blind;
    }
  }

  [[nodiscard]] const DraftTree& tree() const noexcept { return reach_->tree(); }
  [[nodiscard]] bool is_far(Index position) const noexcept {
    return detail::has_far(reach_->far_landmarks(), position);
  }

  detail::TreeMemory reach_;
  Index all_recent_ = 0;  // every node sees every key from here on
  bool some_blind_ = false;
};

}  // namespace heed::inline HEED_ABI
