/// \file
/// A draft tree as a mask over a cache's keys: one pass for all nodes.
#pragma once

#include <algorithm>
#include <memory>

#include <heed/speculative/tree_reach.hpp>

namespace heed::inline HEED_ABI {

/// What the nodes of a tree see of `keys`, the view of an open step whose last tokens are the nodes in order: each sees what
/// decoding its path token by token sees, under the cache's rule. Every key is read once for all nodes; a node's result is
/// that of decoding its path within rounding, and has its bits if the tree is a chain and the cache keeps everything. For
/// its bits in any tree see TreePaths.
///
///     const auto keys = step.keys(layer);
///     const TreeMask mask(keys, tree);
///     attend<Backend>(policy, q, keys, mask, out, workspace, executor);
///
/// Queries are the nodes, or the last of them. A node's rotary position is the number of tokens before the step plus its
/// depth (tree.positions(step.first_logical_position())); ALiBi goes by that, and so do keys that are rotated at read. For
/// layers of one rule; the tree and the step must outlive it, unchanged. It allocates a few words a node; copies allocate
/// nothing.
///
/// attend() says what does not go: invalid_argument for other keys than those it was made with, fewer tokens in the step
/// than nodes, query_positions; unsupported for a rule with a history and for in-cache ranks, which are no mask, and for a
/// source of another kind that has a mask of its own.
class TreeMask {
 public:
  template <KeyValueSource S>
  TreeMask(const S& keys, const DraftTree& tree) : reach_(std::make_shared<const detail::TreeReach>(keys, tree)) {
    Index most = 0;
    const bool asked = reach_->status().ok() && reach_->tokens() != nullptr;
    for (Index node = 0; asked && node < tree.size(); ++node) {
      most = std::max(most, reach_->reach(node).begin);
      some_blind_ = some_blind_ || reach_->reach(node).blind;
    }
    all_recent_ = most;
  }
  template <KeyValueSource S>
  TreeMask(const S& keys, const DraftTree&& tree) = delete;

  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const noexcept {
    const Index first = reach_->first();
    if (keys.begin >= first) {
      const bool none = keys.begin >= first + tree().size() || queries.end <= first;
      return none ? Coverage::none : Coverage::partial;
    }
    if (keys.end > first) return Coverage::partial;
    if (reach_->tokens() == nullptr || keys.begin >= all_recent_) return Coverage::full;
    // What is held before the near run is landmarks only.
    return keys.end <= reach_->tokens()->near_begin() && !some_blind_ ? Coverage::full : Coverage::partial;
  }
  [[nodiscard]] bool visible(Index query, Index key) const noexcept {
    const Index first = reach_->first(), node = query - first, own = key - first;
    if (node < 0 || node >= tree().size() || own >= tree().size()) return false;
    if (own >= 0 && !tree().on_path(own, node)) return false;
    const detail::TreeReach& reach = *reach_;
    if (reach.tokens() == nullptr || text_position(key) >= reach.reach(node).begin) return true;
    return !reach.reach(node).blind && (own >= 0 ? reach.is_landmark(own) : is_far(key));
  }
  /// Where what lies at `position` stands in its text.
  [[nodiscard]] Index text_position(Index position) const noexcept {
    const Index node = position - reach_->first();
    return node < 0 || node >= tree().size() ? position : reach_->position(node);
  }
  [[nodiscard]] Status fits(const MaskedCall& call) const {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
    if (!reach_->status().ok()) return reach_->status();
    const TokenLists* const tokens = reach_->tokens();
    if (call.tokens != tokens) return bad("the mask of the tree was made with keys of another cache or layer group");
    if (call.change != reach_->change()) {
      return fail(StatusCode::wrong_state, "the mask of the tree was made in another step of the cache");
    }
    if (tokens != nullptr && tokens->staged()) {
      return fail(StatusCode::unsupported, "a tree is no mask over a cache with ",
                  tokens->rule().has_history() ? "a rule with a history" : "in-cache ranks",
                  ": take TreePaths(keys, tree)");
    }
    if (call.end != reach_->first() + tree().size()) {
      return bad("the mask of the tree is of ", tree().size(), " nodes from position ", reach_->first(),
                 " on, but keys end at ", call.end);
    }
    if (call.queries > tree().size())
      return bad("q has ", call.queries, " queries, the tree ", tree().size(), " nodes");
    if (call.query_positions) return bad("query_positions are given, but the mask is a tree's, which says them");
    return {};
  }

 private:
  [[nodiscard]] const DraftTree& tree() const noexcept { return reach_->tree(); }
  [[nodiscard]] bool is_far(Index position) const noexcept {
    const std::span<const FarToken> distant = reach_->far_landmarks();
    const auto at = std::lower_bound(distant.begin(), distant.end(), position,
                                     [](const FarToken& token, Index p) { return token.position < p; });
    return at != distant.end() && at->position == position;
  }

  std::shared_ptr<const detail::TreeReach> reach_;
  Index all_recent_ = 0;  // every node sees every key from here on
  bool some_blind_ = false;
};

}  // namespace heed::inline HEED_ABI
