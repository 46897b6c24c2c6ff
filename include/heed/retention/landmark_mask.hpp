/// \file
/// The mask of every rule without history: a run of recent tokens, and landmarks in a far list.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

#include <heed/block_span.hpp>
#include <heed/checked.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// What one query sees. Landmarks are numbered in order of position, so initial ones come first.
struct Reach {
  Index begin = 0;           ///< the query sees the recent tokens [begin, query]
  Index first_landmark = 0;  ///< it sees landmarks [first_landmark, end_landmark), and initial ones below end_landmark
  Index end_landmark = 0;    ///< number of landmarks before `begin`
  Index most_landmarks = 0;  ///< most landmarks seen at once so far, without initial ones; 0 for rules without history
  bool blind = false;        ///< true: it sees no landmark before `begin`

  friend bool operator==(const Reach&, const Reach&) = default;
};

/// A landmark of the far list. Some queries may still see it as a recent token.
struct FarToken {
  Index position = 0;             ///< logical position
  std::int32_t id = no_token_id;  ///< id given to begin(), if any
  Role role = Role::landmark;     ///< landmark or initial
};

namespace detail {

/// How many of these tokens, which ascend by position, lie before `position`.
[[nodiscard]] inline Index far_before(const BlockSpan<FarToken>& tokens, Index position) noexcept {
  return tokens.partition_point([&](const FarToken& token) { return token.position < position; });
}
/// true if one of them lies at `position`.
[[nodiscard]] inline bool has_far(const BlockSpan<FarToken>& tokens, Index position) noexcept {
  const Index at = far_before(tokens, position);
  return at < tokens.size() && tokens[at].position == position;
}

}  // namespace detail

/// A SplitMask over a source that holds `far_slots` far tokens and then the near run, which begins at position near_begin.
///
///     visible(i, j) = j <= i and (j >= reach(i).begin or (landmark(j) and not reach(i).blind))
///
/// Owns nothing: caches and RuleMask make it from their lists, which must outlive it. reach(i) is reach[i -
/// first_query]. A query before the first or after the last one has the nearest query's reach. That is right for every
/// query if the rule keeps everything, and for queries before the first one if reach[0] begins at 0.
///
/// A cache's mask is refused for keys of another cache or layer group, and for the same keys once the cache has
/// changed. A mask of a RuleMask, one made with the constructor, and keys that do not come from a cache have no
/// identity. For these attend() compares rule, positions and counts. It cannot know whether the keys are those of the
/// same token ids.
class LandmarkMask {
 public:
  /// Without a `reach`, nothing is visible and attend() refuses the mask. `far_tokens` ascend by position. The first
  /// `far_slots` of them lie in far slots, the others in the near run. `rule` is the rule's fingerprint, or 0 if it keeps everything.
  LandmarkMask(std::span<const Reach> reach, Index first_query, BlockSpan<FarToken> far_tokens, Index far_slots,
               Index near_begin, std::uint64_t rule) noexcept
      : reach_(reach),
        first_query_(first_query),
        far_(far_tokens),
        far_slots_(far_slots),
        near_begin_(near_begin),
        rule_(rule) {
    if (!reach.empty()) return;
    reach_ = std::span(&nothing, 1);
    far_ = {};
  }

  /// The same mask, bound to keys of the cache whose token list has number `tokens`, at its step `change`: see MaskedCall.
  [[nodiscard]] LandmarkMask of_cache(std::uint64_t tokens, std::uint64_t change) const noexcept {
    LandmarkMask made = *this;
    made.tokens_ = tokens;
    made.change_ = change;
    return made;
  }

  /// What AttentionMask asks for.
  /// \{
  [[nodiscard]] bool visible(Index query, Index key) const noexcept {
    if (key > query) return false;
    const Reach& at_query = reach(query);
    if (key >= at_query.begin) return true;
    return !at_query.blind && detail::has_far(far_, key);
  }
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const noexcept {
    if (keys.begin > queries.end - 1) return Coverage::none;
    const bool all = keys.end - 1 <= queries.begin && keys.begin >= reach(queries.end - 1).begin;
    return all ? Coverage::full : Coverage::partial;
  }
  /// \}

  /// invalid_argument unless the source holds the keys that the mask was made for: the far ones, then every position
  /// from near_begin on. invalid_argument for a cache that evicts by another rule, and for a query after the last
  /// reach. If the mask is a cache's and so are the keys: invalid_argument for another cache or layer group,
  /// wrong_state if the cache has changed in between.
  [[nodiscard]] Status fits(const MaskedCall& call) const {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
    if (reach_.data() == &nothing) {
      return fail(StatusCode::wrong_state, "mask knows no query: what it was made from was moved from");
    }
    if (tokens_ != 0 && call.tokens != 0) {
      if (call.tokens != tokens_) return bad("keys are of another cache or layer group than mask");
      if (call.change != change_) {
        return fail(StatusCode::wrong_state, "mask was taken before the cache of keys changed: take keys.mask()");
      }
    }
    const bool same = call.slots > far_slots_ ? detail::distance(near_begin_, call.slots_end) == call.slots - far_slots_
                                              : call.slots == far_slots_ && call.slots_end <= near_begin_;
    if (call.slots > 0 && !same) {
      return bad("mask is of ", far_slots_, " far keys and every position from ", near_begin_, " on, but keys has ",
                 call.slots, ", the last at position ", detail::moved_position(call.slots_end, -1));
    }
    if (call.rule != nullptr && call.rule_fingerprint != rule_) {
      return bad("mask does not know rule ", call.rule, ", by which the cache of keys forgets: it is another rule's");
    }
    const Index last = detail::moved_position(first_query_, Index(reach_.size()) - 1);
    if (rule_ != 0 && call.positions.end > call.positions.begin && call.positions.end - 1 > last) {
      return bad("a query is at position ", call.positions.end - 1, ", but the mask knows queries up to ", last);
    }
    return {};
  }

  /// What SplitMask asks for.
  /// \{
  [[nodiscard]] NearKeys near_keys() const noexcept { return {.first_key = far_slots_, .first_slot = near_begin_}; }
  [[nodiscard]] bool near_visible(Index query, Index key) const noexcept {
    return key <= query && key >= reach(query).begin;
  }
  [[nodiscard]] Coverage near_coverage(Interval queries, Interval keys) const noexcept {
    const Index last_query = queries.end - 1, last_key = keys.end - 1;
    if (keys.begin > last_query || last_key < reach(queries.begin).begin) return Coverage::none;
    return last_key <= queries.begin && keys.begin >= reach(last_query).begin ? Coverage::full : Coverage::partial;
  }

  [[nodiscard]] Index far_keys() const noexcept { return far_.size(); }
  [[nodiscard]] Index far_key(Index i) const noexcept {
    return i < far_slots_ ? i : detail::moved_position(far_slots_, detail::distance(near_begin_, far_[i].position));
  }
  [[nodiscard]] bool far_visible(Index query, Index i) const noexcept {
    const Reach& at_query = reach(query);
    const Index position = far_[i].position;  // from `begin` on it is read as a near key
    return position <= query && position < at_query.begin && !at_query.blind;
  }
  [[nodiscard]] Coverage far_coverage(Interval queries, Interval keys) const noexcept {
    const Index front = far_[keys.begin].position, back = far_[keys.end - 1].position;
    if (front > queries.end - 1 || front >= reach(queries.end - 1).begin) return Coverage::none;
    bool any_blind = false, all_blind = true;
    for (Index query = queries.begin; query < queries.end; ++query) {
      any_blind |= reach(query).blind;
      all_blind &= reach(query).blind;
    }
    if (all_blind) return Coverage::none;
    const bool all = back <= queries.begin && back < reach(queries.begin).begin;
    return all && !any_blind ? Coverage::full : Coverage::partial;
  }
  /// \}

 private:
  /// What the queries of no text see.
  static constexpr Reach nothing{.begin = std::numeric_limits<Index>::max(), .blind = true};

  [[nodiscard]] const Reach& reach(Index query) const noexcept {
    if (query <= first_query_) return reach_.front();
    return reach_[std::size_t(
        std::min(std::uint64_t(query) - std::uint64_t(first_query_), std::uint64_t(reach_.size()) - 1))];
  }

  std::span<const Reach> reach_;
  Index first_query_;
  BlockSpan<FarToken> far_;
  Index far_slots_;
  Index near_begin_;
  std::uint64_t rule_;
  std::uint64_t tokens_ = 0;  // identity of the cache's token list and step; 0: not a cache's mask
  std::uint64_t change_ = 0;
};

}  // namespace heed::inline HEED_ABI
