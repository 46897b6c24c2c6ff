/// \file
/// All layers of a cache, in groups that share a rule: everything that does not depend on policy or codec.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <heed/cache/bytes.hpp>
#include <heed/cache/group_memory.hpp>
#include <heed/cache/group_removal.hpp>
#include <heed/cache/hash.hpp>
#include <heed/cache/layer_group.hpp>
#include <heed/cache/options.hpp>
#include <heed/cache/snapshot.hpp>
#include <heed/cache/step_lengths.hpp>

namespace heed::inline HEED_ABI {

/// All layer groups of a cache, and its pool of pages. Whatever fails, fails before anything has changed in any group.
/// It does not know steps: its owner calls it in the right order.
///
/// An object that was moved from has no groups, no layers and no tokens. The groups themselves do not move, because
/// views point to them.
class LayerGroups {
 public:
  /// Where a layer's rows are.
  struct Place {
    Index group = -1;
    Index layer = 0;  ///< within the group
  };

  /// invalid_argument unless every layer is in just one group; out_of_memory. Options are valid.
  [[nodiscard]] static Result<LayerGroups> create(const CacheOptions& options, std::span<const StoredStream> streams,
                                                  std::span<const LayerRule> rules, PoolHandle pool) {
    LayerGroups made;
    made.options_ = options;
    made.pool_ = std::move(pool);
    made.streams_.assign(streams.begin(), streams.end());
    made.places_.assign(std::size_t(options.layers), {});
    made.groups_.reserve(rules.size());
    for (const LayerRule& rule : rules) {
      if (Status status = made.add_group(rule); !status.ok()) return status;
    }
    for (Index layer = 0; layer < options.layers; ++layer) {
      if (made.places_[std::size_t(layer)].group < 0) {
        return fail(StatusCode::invalid_argument, "rules: layer ", layer, " is in no group");
      }
    }
    made.counters_.assign(made.groups_.size(), {});
    return made;
  }

  LayerGroups(LayerGroups&& other) noexcept
      : options_(other.options_),
        pool_(std::move(other.pool_)),
        streams_(std::move(other.streams_)),
        groups_(std::move(other.groups_)),
        places_(std::move(other.places_)),
        counters_(std::move(other.counters_)),
        owner_bytes_(std::exchange(other.owner_bytes_, 0)),
        peak_(std::exchange(other.peak_, 0)),
        reserved_(std::exchange(other.reserved_, 0)),
        steps_(other.steps_) {
    other.options_.layers = 0;
  }
  LayerGroups& operator=(LayerGroups&& other) noexcept {
    LayerGroups taken(std::move(other));  // what was here goes with it, the pool last
    std::swap(options_, taken.options_);
    std::swap(pool_, taken.pool_);
    std::swap(streams_, taken.streams_);
    std::swap(groups_, taken.groups_);
    std::swap(places_, taken.places_);
    std::swap(counters_, taken.counters_);
    std::swap(owner_bytes_, taken.owner_bytes_);
    std::swap(peak_, taken.peak_);
    std::swap(reserved_, taken.reserved_);
    std::swap(steps_, taken.steps_);
    return *this;
  }

  /// The same tokens in shared pages, or out_of_memory.
  [[nodiscard]] Result<LayerGroups> fork() const {
    std::vector<LayerRule> rules(groups_.size());
    for (Index layer = 0; layer < options_.layers; ++layer) {
      LayerRule& rule = rules[std::size_t(place(layer).group)];
      rule.rule = group(layer).index.rule();
      rule.layers.push_back(layer);
    }
    Result<LayerGroups> copy = create(options_, streams_, rules, pool_);
    for (std::size_t g = 0; copy.ok() && g < groups_.size(); ++g) {
      if (Status status = copy->groups_[g].share(memory(), groups_[g]); !status.ok()) return status;
    }
    if (!copy.ok()) return copy;
    copy->places_ = places_;  // a group may have its layers in any order
    copy->counters_ = counters_;
    return copy;
  }

  [[nodiscard]] const CacheOptions& options() const noexcept { return options_; }
  [[nodiscard]] PagePool& pool() const noexcept { return *pool_; }
  /// For whatever the owner allocates; counted.
  [[nodiscard]] MemoryResource memory() const noexcept { return pool_->metered(); }
  [[nodiscard]] const PoolHandle& pool_handle() const noexcept { return pool_; }
  [[nodiscard]] std::span<const LayerGroup> groups() const noexcept { return groups_; }
  [[nodiscard]] Place place(Index layer) const noexcept { return places_[std::size_t(layer)]; }
  /// The group of a layer; of layer 0 if there is no such layer; an empty one if there are no layers.
  [[nodiscard]] LayerGroup& group(Index layer) noexcept { return groups_[std::size_t(place(checked(layer)).group)]; }
  [[nodiscard]] const LayerGroup& group(Index layer) const noexcept {
    if (groups_.empty()) return no_group();
    return groups_[std::size_t(place(checked(layer)).group)];
  }
  [[nodiscard]] Index seen() const noexcept { return groups_.empty() ? 0 : groups_.front().index.seen(); }
  /// Most tokens the cache may hold.
  [[nodiscard]] Index limit() const noexcept { return detail::token_limit(options_.max_tokens); }

  // --- a step ------------------------------------------------------------------------------------------------------

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
    if (steps_.committed()) detail::give_back(groups_, *pool_, alone(), steps_.longest(), reserved_);
  }
  /// The plan of `tokens` tokens becomes one of those with these numbers alone.
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

  [[nodiscard]] Index rollback_floor() const noexcept { return detail::rollback_floor(groups_); }
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
  /// Text goes on at `position`: nothing that is held lies there or later.
  [[nodiscard]] Status resume_at(Index position) {
    const Index last = detail::last_kept(groups_);
    if (position <= last || position > seen()) {
      return fail(StatusCode::out_of_range, "resume_at(): position is ", position, ", must be in ", last + 1, " .. ",
                  seen(), ": behind the last token that is kept");
    }
    return cut(position);
  }
  /// Every group supports it.
  [[nodiscard]] Status remove(Index begin, Index end) {
    if (Status status = detail::check_removed(begin, end, seen()); !status.ok()) return status;
    const Interval gone{begin, end};
    return remove({&gone, std::size_t(begin < end)}).status();
  }
  /// true if the caller removed tokens since the cache was last empty.
  [[nodiscard]] bool removed() const noexcept {
    return std::any_of(groups_.begin(), groups_.end(), [](const LayerGroup& g) { return g.index.removed(); });
  }
  /// Tokens whose rows moved, summed over groups. Every group supports it.
  [[nodiscard]] Result<Index> compact(std::span<const Index> keep) {
    const Result<SlidingArray<Interval>> gone = detail::all_but(keep, seen(), groups_, memory());
    return gone.ok() ? remove(gone->span()) : gone.status();
  }
  /// Number of tokens before the first removed one.
  [[nodiscard]] Index intact() const noexcept { return detail::intact(groups_, seen()); }

  // --- memory ------------------------------------------------------------------------------------------------------

  /// Number of tokens that the groups can hold without another page.
  [[nodiscard]] Index capacity() const noexcept {
    return groups_.empty() ? 0 : detail::capacity(groups_, *pool_, limit());
  }
  [[nodiscard]] Status reserve(Index tokens) {
    if (tokens < 0 || tokens > limit()) {
      return fail(StatusCode::out_of_range, "reserve(): tokens is ", tokens, ", must be in 0 .. ", limit());
    }
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      LayerGroup& g = groups_[i];
      const Index more = tokens - g.index.kept();
      if (more <= 0) continue;
      const Index pages = g.pages_lacking(tokens), bytes = g.near_rows.layout().bytes();
      Status status = pool_->reserve(bytes, detail::pages_lacking(groups().first(i + 1), bytes, tokens));
      // Twice a bound: what is kept of a window slides through its memory.
      const Index ids = std::min(more, 2 * std::min(g.most_near(LayerGroup::reserved_step), detail::most_tokens));
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
  [[nodiscard]] CacheBytes bytes() const noexcept {
    CacheBytes bytes{.layers = options_.layers, .seen = seen()};
    for (const LayerGroup& g : groups_) {
      const PageLayout& layout = g.near_rows.layout();
      bytes.live += g.index.kept() * layout.token_bytes();
      bytes.kept += double(g.index.kept() * layout.layers()) / double(options_.layers);
      bytes.shared += g.shared_pages() * PagePool::page_bytes(layout.bytes());
    }
    bytes.allocated_rows = detail::page_bytes(groups_);
    bytes.allocated = bytes.allocated_rows + bookkeeping();
    bytes.peak = std::max(peak_, bytes.allocated);
    if (!pool_.owned()) return bytes;
    const PoolBytes pool = pool_->bytes();
    bytes.allocated = pool.held;
    bytes.allocated_rows = pool_->page_bytes_held();
    bytes.peak = pool.peak;
    return bytes;
  }
  /// Bytes of a token in all layers, encoded, without padding.
  [[nodiscard]] Index encoded_token_bytes() const noexcept {
    Index bytes = 0;
    for (const LayerGroup& g : groups_) bytes += g.near_rows.layout().encoded_token_bytes();
    return bytes;
  }
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

  /// A hash of everything that a snapshot depends on besides tokens and codecs.
  [[nodiscard]] std::uint64_t fingerprint() const {
    std::uint64_t hash = options_.model_id;
    const auto add = [&hash](std::uint64_t n) { hash = detail::hash_next(hash, n); };
    for (const StoredStream& stream : streams_) {
      add(std::uint64_t(stream.heads));
      add(std::uint64_t(stream.row_bytes));
    }
    add(std::uint64_t(options_.positions));
    add(std::uint64_t(options_.undo_tokens));
    for (const Place& place : places_) {
      add(std::uint64_t(place.group));
      add(std::uint64_t(place.layer));
      add(groups_[std::size_t(place.group)].index.rule().fingerprint());
    }
    return hash;
  }
  /// Bytes written, or to be written if `to` is null.
  std::size_t write_snapshot(const detail::SnapshotCodecs& codecs, std::byte* to) const {
    return detail::write_groups(to, fingerprint(), codecs, groups_, counters_);
  }
  /// Fills empty groups; after an error they are useless.
  [[nodiscard]] Status read_snapshot(const detail::SnapshotCodecs& codecs, std::span<const std::byte> from) {
    Status status = detail::read_groups(from, fingerprint(), codecs, memory(), limit(), groups_, counters_);
    note_peak();
    return status;
  }

 private:
  LayerGroups() = default;

  [[nodiscard]] Status cut(Index tokens) {
    const auto prepare = [&](LayerGroup& g) { return g.prepare_truncate(memory(), tokens); };
    if (Status status = detail::prepare_all(groups_, prepare); !status.ok()) return status;
    note_peak();
    for (LayerGroup& g : groups_) g.truncate(tokens);
    if (tokens == 0) counters_.assign(counters_.size(), {});  // another sequence
    return {};
  }
  [[nodiscard]] Result<Index> remove(std::span<const Interval> gone) {
    const auto prepare = [&](LayerGroup& g) { return g.prepare_remove(memory(), gone); };
    if (Status status = detail::prepare_all(groups_, prepare); !status.ok()) return status;
    note_peak();
    Index moved = 0;
    for (LayerGroup& g : groups_) moved += g.remove(gone);
    return moved;
  }

  [[nodiscard]] Status add_group(const LayerRule& rule) {
    for (std::size_t i = 0; i < rule.layers.size(); ++i) {
      const Index layer = rule.layers[i];
      if (layer < 0 || layer >= options_.layers) {
        return fail(StatusCode::invalid_argument, "rules: layer is ", layer, ", the cache has ", options_.layers);
      }
      Place& at = places_[std::size_t(layer)];
      if (at.group >= 0) return fail(StatusCode::invalid_argument, "rules: layer ", layer, " is in two groups");
      at = {Index(groups_.size()), Index(i)};
    }
    if (rule.layers.empty()) {
      return fail(StatusCode::invalid_argument, "rules: group ", groups_.size(), " has no layers");
    }
    const Index layers = Index(rule.layers.size());
    MostKept kept = rule.rule.most_kept();
    if (kept.bounded()) kept.recent += options_.undo_tokens;
    Index tokens = options_.page_tokens;
    if (tokens == 0) {
      Result<PageLayout> one = PageLayout::create(layers, streams_, 1);
      if (!one.ok()) return one.status();
      tokens = automatic_page_tokens(kept, !kept.everything, options_.capacity, one->token_bytes());
    }
    Result<PageLayout> layout = PageLayout::create(layers, streams_, tokens);
    if (!layout.ok()) return layout.status();
    groups_.emplace_back(TokenIndex(rule.rule, options_.positions, options_.undo_tokens), pool_, *layout, kept);
    return groups_.back().index.prepare(memory());
  }

  [[nodiscard]] static const LayerGroup& no_group() noexcept {
    static const LayerGroup none(TokenIndex{}, PoolHandle{}, PageLayout{});
    return none;
  }
  [[nodiscard]] Index checked(Index layer) const noexcept { return layer >= 0 && layer < options_.layers ? layer : 0; }

  /// true if the pool serves only this cache: no fork, and not the cache that it was forked from.
  [[nodiscard]] bool alone() const noexcept {
    return pool_.handles() == 1 + LayerGroup::pool_handles * Index(groups_.size());
  }

  void note_peak() noexcept {
    if (!pool_.owned()) peak_ = std::max(peak_, detail::page_bytes(groups_) + bookkeeping());
  }

  CacheOptions options_;
  PoolHandle pool_;  // before all that is allocated from it
  std::vector<StoredStream> streams_;
  std::vector<LayerGroup> groups_;
  std::vector<Place> places_;                // of layers
  std::vector<RetentionCounters> counters_;  // of groups
  Index owner_bytes_ = 0;
  Index peak_ = 0;
  Index reserved_ = 0;  // tokens that reserve() made room for
  StepLengths steps_;
};

}  // namespace heed::inline HEED_ABI
