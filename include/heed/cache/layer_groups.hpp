/// \file
/// Steps, removal, memory and snapshots of all layers of a cache: everything that does not depend on policy or codec.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <heed/cache/bytes.hpp>
#include <heed/cache/group_memory.hpp>
#include <heed/cache/group_removal.hpp>
#include <heed/cache/grouped_layers.hpp>
#include <heed/cache/snapshot.hpp>
#include <heed/cache/step_lengths.hpp>

namespace heed::inline HEED_ABI::detail {

/// What happens to all layer groups of a cache at once. Whatever fails, fails before anything has changed in any group.
/// It does not know steps: its owner calls it in the right order.
class LayerGroups : public GroupedLayers {
 public:
  /// invalid_argument unless every layer is in just one group; out_of_memory. Options are valid.
  [[nodiscard]] static Result<LayerGroups> create(const CacheOptions& options, std::span<const StoredStream> streams,
                                                  std::span<const LayerRule> rules, PoolHandle pool) {
    LayerGroups made;
    if (Status status = made.add_groups(options, streams, rules, std::move(pool)); !status.ok()) return status;
    made.counters_.assign(made.groups_.size(), {});
    return made;
  }

  /// `other` is left without layers and tokens.
  LayerGroups(LayerGroups&& other) noexcept
      : GroupedLayers(std::move(other)),
        counters_(std::move(other.counters_)),
        owner_bytes_(std::exchange(other.owner_bytes_, 0)),
        peak_(std::exchange(other.peak_, 0)),
        reserved_(std::exchange(other.reserved_, 0)),
        steps_(other.steps_) {}
  LayerGroups& operator=(LayerGroups&& other) noexcept {
    LayerGroups taken(std::move(other));  // what was here goes with it, the pool last
    swap(taken);
    std::swap(counters_, taken.counters_);
    std::swap(owner_bytes_, taken.owner_bytes_);
    std::swap(peak_, taken.peak_);
    std::swap(reserved_, taken.reserved_);
    std::swap(steps_, taken.steps_);
    return *this;
  }

  /// The same tokens in shared pages, or out_of_memory.
  [[nodiscard]] Result<LayerGroups> fork() const {
    Result<LayerGroups> copy = create(options_, streams_, rules(), pool_);
    for (std::size_t g = 0; copy.ok() && g < groups_.size(); ++g) {
      if (Status status = copy->groups_[g].share(memory(), groups_[g]); !status.ok()) return status;
    }
    if (!copy.ok()) return copy;
    copy->places_ = places_;  // a group may have its layers in any order
    copy->counters_ = counters_;
    return copy;
  }

  // --- a step ------------------------------------------------------------------------------------------------------

  /// Plans `count` tokens in all groups; id(i) is the id of token i. out_of_range beyond limit(), out_of_memory.
  template <class Id>
  [[nodiscard]] Status plan(Index count, const Id& id) {
    for (const LayerGroup& g : groups_) {
      const Index kept = g.index.kept();
      if (count > limit() - kept) {
        return fail(StatusCode::out_of_range, "begin(): ", count, " tokens, but only ", limit() - kept,
                    " more fit: ", kept, " of max_tokens ", limit(), " are in the cache");
      }
    }
    const std::int64_t slab = pool_->last_slab();
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      Status status = groups_[g].plan(memory(), count, id);
      if (status.ok()) continue;
      for (std::size_t planned = 0; planned < g; ++planned) groups_[planned].undo_plan();
      if (alone()) pool_->trim_after(slab);
      return status;
    }
    for (LayerGroup& g : groups_) g.settle();
    steps_.began(count);
    note_peak();
    return {};
  }
  /// Drops the planned tokens.
  void abort() noexcept {
    for (LayerGroup& g : groups_) g.abort();
  }
  /// Makes room for what a commit with Eviction::later may need, or out_of_memory.
  [[nodiscard]] Status prepare_later() {
    for (LayerGroup& g : groups_) {
      if (Status status = g.prepare_later(); !status.ok()) return status;
    }
    return {};
  }
  /// Keeps the planned tokens, and evicts.
  void commit(Eviction eviction = Eviction::now) noexcept {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      const TokenIndex& index = groups_[i].index;
      RetentionCounters& counters = counters_[i];
      const bool any = index.planned() > 0;
      if (any) counters.last_seen = index.keys_seen_by_last();
      groups_[i].commit(eviction);
      if (!any) continue;
      ++counters.calls;
      counters.kept_sum += double(index.kept());
      counters.seen_sum += double(index.seen());
    }
    note_peak();
    if (steps_.committed()) give_back(groups_, *pool_, alone(), steps_.longest(), reserved_);
  }
  /// Cuts the plan of `tokens` tokens down to those with the numbers `accepted`. invalid_argument unless they ascend
  /// and are less than `tokens`; out_of_memory.
  [[nodiscard]] Status accept(Index tokens, std::span<const Index> accepted) {
    Index before = -1;
    for (std::size_t i = 0; i < accepted.size(); ++i) {
      if (accepted[i] <= before || accepted[i] >= tokens) {
        return fail(StatusCode::invalid_argument, "commit(): accepted[", i, "] is ", accepted[i],
                    ", must be ascending and less than the step's ", tokens, " tokens");
      }
      before = accepted[i];
    }
    const TokenIndex& index = groups_.front().index;
    SlidingArray<std::int32_t> ids;
    if (Status status = ids.reserve_back(memory(), Index(accepted.size())); !status.ok()) return status;
    for (const Index token : accepted) ids.push_back(index.planned_id(token));
    for (LayerGroup& g : groups_) {
      if (Status status = g.prepare_accept(memory(), accepted, ids.span()); !status.ok()) return status;
    }
    for (LayerGroup& g : groups_) g.accept(memory(), accepted, ids.span());
    return {};
  }

  // --- going back, dropping ----------------------------------------------------------------------------------------

  /// The fewest tokens above 0 that truncate() can go back to.
  [[nodiscard]] Index rollback_floor() const noexcept { return detail::rollback_floor(groups_); }
  /// Goes back to the first `tokens` tokens. out_of_range, out_of_memory.
  [[nodiscard]] Status truncate(Index tokens) {
    if (tokens < 0 || tokens > seen()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", but the cache has seen ", seen());
    }
    if (tokens > 0 && tokens < rollback_floor()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", but evicted tokens leave only 0 and ",
                  rollback_floor(), " .. ", seen());
    }
    return cut(tokens);
  }
  /// Makes `position` the position of the next token. out_of_range unless it is after the last token that is kept and
  /// at most seen(); out_of_memory.
  [[nodiscard]] Status resume_at(Index position) {
    const Index last = last_kept(groups_);
    if (position <= last || position > seen()) {
      return fail(StatusCode::out_of_range, "resume_at(): position is ", position, ", must be in ", last + 1, " .. ",
                  seen(), ": behind the last token that is kept");
    }
    return cut(position);
  }
  /// Removes tokens [begin, end). Every rule must support it. out_of_range, out_of_memory.
  [[nodiscard]] Status remove(Index begin, Index end) {
    if (Status status = check_removed(begin, end, seen()); !status.ok()) return status;
    const Interval gone{begin, end};
    return remove({&gone, std::size_t(begin < end)}).status();
  }
  /// true if the caller removed tokens since the cache was last empty.
  [[nodiscard]] bool removed() const noexcept {
    return std::any_of(groups_.begin(), groups_.end(), [](const LayerGroup& g) { return g.index.removed(); });
  }
  /// Removes all tokens but `keep`. Every rule must support it. Returns the number of tokens whose rows moved, summed
  /// over groups.
  [[nodiscard]] Result<Index> compact(std::span<const Index> keep) {
    const Result<SlidingArray<Interval>> gone = all_but(keep, seen(), groups_, memory());
    return gone.ok() ? remove(gone->span()) : gone.status();
  }
  /// Number of tokens before the first removed one.
  [[nodiscard]] Index intact() const noexcept { return detail::intact(groups_, seen()); }

  // --- memory ------------------------------------------------------------------------------------------------------

  /// Number of tokens that the groups can hold without another page.
  [[nodiscard]] Index capacity() const noexcept {
    return groups_.empty() ? 0 : detail::capacity(groups_, *pool_, limit());
  }
  /// Makes capacity() at least `tokens`. out_of_range beyond limit(), out_of_memory.
  [[nodiscard]] Status reserve(Index tokens) {
    if (tokens < 0 || tokens > limit()) {
      return fail(StatusCode::out_of_range, "reserve(): tokens is ", tokens, ", must be in 0 .. ", limit());
    }
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      LayerGroup& g = groups_[i];
      const Index more = tokens - g.index.kept();
      if (more <= 0) continue;
      const Index pages = g.pages_lacking(tokens), bytes = g.near_rows.layout().bytes();
      Status status = pool_->reserve(bytes, pages_lacking(groups().first(i + 1), bytes, tokens));
      // Twice a bound: what is kept of a window slides through its memory.
      const Index ids = std::min(more, 2 * std::min(g.most_near(LayerGroup::reserved_step), most_tokens));
      if (status.ok()) status = g.index.reserve(memory(), ids, std::min(more, LayerGroup::reserved_step));
      if (status.ok()) status = g.near_rows.reserve(2 * pages);
      if (!status.ok()) return status;
    }
    reserved_ = std::max(reserved_, tokens);
    return {};
  }

  /// Bytes of memory() that the owner holds besides the groups.
  void set_owner_bytes(Index bytes) noexcept { owner_bytes_ = bytes; }
  /// Bytes of this cache without its pages.
  [[nodiscard]] Index bookkeeping() const noexcept {
    Index bytes = owner_bytes_;
    for (const LayerGroup& g : groups_) bytes += g.bookkeeping();
    return bytes;
  }
  /// See CacheContents::bytes().
  [[nodiscard]] CacheBytes bytes() const noexcept {
    CacheBytes bytes{.layers = options_.layers, .seen = seen()};
    for (const LayerGroup& g : groups_) {
      const PageLayout& layout = g.near_rows.layout();
      bytes.live += g.index.kept() * layout.token_bytes();
      bytes.kept += double(g.index.kept() * layout.layers()) / double(options_.layers);
      bytes.shared += g.shared_pages() * PagePool::page_bytes(layout.bytes());
    }
    bytes.allocated_rows = page_bytes(groups_);
    bytes.allocated = bytes.allocated_rows + bookkeeping();
    bytes.peak = std::max(peak_, bytes.allocated);
    if (!pool_.owned()) return bytes;
    const PoolBytes pool = pool_->bytes();
    bytes.allocated = pool.held;
    bytes.allocated_rows = pool_->page_bytes_held();
    bytes.peak = pool.peak;
    return bytes;
  }
  /// Counters of a layer.
  [[nodiscard]] RetentionCounters counters(Index layer) const noexcept {
    if (groups_.empty()) return {};
    RetentionCounters counters = counters_[std::size_t(place(checked(layer)).group)];
    const TokenIndex& index = group(layer).index;
    counters.seen = index.seen();
    counters.kept = index.kept();
    counters.evicted = index.evicted();
    return counters;
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// Bytes written, or to be written if `to` is null.
  std::size_t write_snapshot(const SnapshotCodecs& codecs, std::byte* to) const {
    return write_groups(to, fingerprint(), codecs, groups_, counters_);
  }
  /// Fills empty groups. After an error they must not be used.
  [[nodiscard]] Status read_snapshot(const SnapshotCodecs& codecs, std::span<const std::byte> from) {
    Status status = read_groups(from, fingerprint(), codecs, memory(), limit(), groups_, counters_);
    note_peak();
    return status;
  }

 private:
  LayerGroups() = default;

  [[nodiscard]] Status cut(Index tokens) {
    const auto prepare = [&](LayerGroup& g) { return g.prepare_truncate(memory(), tokens); };
    if (Status status = prepare_all(groups_, prepare); !status.ok()) return status;
    note_peak();
    for (LayerGroup& g : groups_) g.truncate(tokens);
    if (tokens == 0) counters_.assign(counters_.size(), {});  // another sequence
    return {};
  }
  [[nodiscard]] Result<Index> remove(std::span<const Interval> gone) {
    const auto prepare = [&](LayerGroup& g) { return g.prepare_remove(memory(), gone); };
    if (Status status = prepare_all(groups_, prepare); !status.ok()) return status;
    note_peak();
    Index moved = 0;
    for (LayerGroup& g : groups_) moved += g.remove(gone);
    return moved;
  }

  void note_peak() noexcept {
    if (!pool_.owned()) peak_ = std::max(peak_, page_bytes(groups_) + bookkeeping());
  }

  std::vector<RetentionCounters> counters_;  // of groups
  Index owner_bytes_ = 0;
  Index peak_ = 0;
  Index reserved_ = 0;  // tokens that reserve() made room for
  StepLengths steps_;
};

}  // namespace heed::inline HEED_ABI::detail
