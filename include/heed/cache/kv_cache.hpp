/// \file
/// The cache an engine owns: one sequence, all layers.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/cache/bytes.hpp>
#include <heed/cache/layer_view.hpp>
#include <heed/cache/options.hpp>
#include <heed/cache/snapshot.hpp>
#include <heed/cache/step.hpp>
#include <heed/cache/support.hpp>

namespace heed::inline HEED_ABI {

/// A rule and the layers it is for.
struct LayerRule {
  AnyRule rule;
  std::vector<Index> layers;
};

namespace detail {

/// Whether a policy turns stored keys by their position when it reads them.
template <AttentionPolicy P>
[[nodiscard]] bool rotates_keys(const P& policy) {
  if constexpr (requires { policy.preparation().rotates_keys(); }) return policy.preparation().rotates_keys();
  return false;
}

}  // namespace detail

/// The KV cache of one sequence: policy P says what a token leaves in each layer, codecs K and V how a number of the
/// key and the value stream is stored (V is unused if they are one stream), and a rule per layer which tokens stay.
///
/// A step is two-phase: begin() makes room for new tokens in all layers, every layer writes its rows and attends, and
/// commit() adds the tokens and evicts what no later query can see; abort(), or the end of an uncommitted Step, forgets
/// them. Any chunking gives the same results as token by token. Whatever fails changes no token.
///
/// begin, write and commit of a step of at most 512 tokens do not allocate while size() + tokens <= capacity(), if
/// nothing is evicted and no token is a landmark; with other rules, they stop allocating once as many tokens are held as
/// the rule ever keeps.
///
/// Movable, not copyable; fork() copies. One thread at a time, except that streams and layers of a step may be written
/// at once. Forks may be used by different threads.
template <AttentionPolicy P, Codec K, Codec V = K>
class KvCache {
 public:
  /// Keys and values are one stream: views of the same rows.
  static constexpr bool one_stream = int(P::key_stream) == int(P::value_stream);
  using Policy = P;
  using KeyCodec = K;
  using ValueCodec = std::conditional_t<one_stream, K, V>;
  using View = LayerView<KeyCodec, ValueCodec>;
  using Step = CacheStep<KvCache>;

  /// An empty cache with one rule for all layers. invalid_argument naming what is wrong with policy, options or rule,
  /// unsupported for a rule and positions that do not go together, or out_of_memory.
  [[nodiscard]] static Result<KvCache> create(P policy, const CacheOptions& options, AnyRule rule = {}) {
    if (Status status = detail::validate_options(options); !status.ok()) return status;
    LayerRule all{std::move(rule), {}};
    for (Index layer = 0; layer < options.layers; ++layer) all.layers.push_back(layer);
    return create(std::move(policy), options, std::span(&all, 1));
  }

  /// The same with a rule per layer group; every layer must be in one group.
  [[nodiscard]] static Result<KvCache> create(P policy, const CacheOptions& options, std::span<const LayerRule> rules) {
    Status status = policy.validate();
    if (status.ok()) status = detail::validate_layout(policy.layout(), P::key_stream, P::value_stream);
    if (status.ok()) status = detail::validate_options(options);
    for (const LayerRule& group : rules) {
      if (status.ok()) status = group.rule.validate();
      if (status.ok()) {
        status = supports(CacheFeature::create, group.rule, options.positions, detail::rotates_keys(policy));
      }
    }
    if (!status.ok()) return status;
    Result<PoolHandle> pool =
        options.pool != nullptr ? Result<PoolHandle>(PoolHandle(*options.pool)) : PoolHandle::create(options.memory);
    if (!pool.ok()) return pool.status();
    KvCache cache(std::move(policy), options, *std::move(pool));
    status = cache.make_groups(rules);
    if (status.ok()) status = cache.make_marks();
    if (status.ok()) status = cache.reserve(options.capacity);
    if (!status.ok()) return status;
    return cache;
  }

  KvCache(KvCache&& other) noexcept
      : policy_(std::move(other.policy_)),
        options_(other.options_),
        layout_(other.layout_),
        pool_(std::move(other.pool_)),
        groups_(std::move(other.groups_)),
        places_(std::move(other.places_)),
        written_(std::move(other.written_)),
        counters_(std::move(other.counters_)),
        serial_(other.serial_),
        peak_(other.peak_) {
    take_step(other);
  }
  KvCache& operator=(KvCache&& other) noexcept {
    if (this == &other) return *this;
    abort_step();
    policy_ = std::move(other.policy_);
    options_ = other.options_;
    layout_ = other.layout_;
    groups_ = std::move(other.groups_);
    places_ = std::move(other.places_);
    written_ = std::move(other.written_);
    counters_ = std::move(other.counters_);
    pool_ = std::move(other.pool_);  // after what was allocated from it
    serial_ = other.serial_;
    peak_ = other.peak_;
    take_step(other);
    return *this;
  }
  ~KvCache() { abort_step(); }

  [[nodiscard]] const P& policy() const noexcept { return policy_; }
  [[nodiscard]] const AttentionLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] Index layers() const noexcept { return options_.layers; }
  [[nodiscard]] Positions positions() const noexcept { return options_.positions; }
  [[nodiscard]] const AnyRule& rule(Index layer = 0) const noexcept { return group(layer).index.rule(); }

  /// Committed tokens in the cache: the keys of a layer.
  [[nodiscard]] Index size(Index layer = 0) const noexcept { return kept(layer); }
  [[nodiscard]] Index kept(Index layer = 0) const noexcept { return group(layer).index.kept(); }
  [[nodiscard]] Index seen() const noexcept { return groups_.front().index.seen(); }
  [[nodiscard]] Index evicted(Index layer = 0) const noexcept { return group(layer).index.evicted(); }
  /// Logical position of a kept token: strictly increasing.
  [[nodiscard]] Index position(Index key, Index layer = 0) const noexcept { return group(layer).index.position(key); }
  /// Id of a kept token; no_token_id where begin() got none.
  [[nodiscard]] std::int32_t token_id(Index key, Index layer = 0) const noexcept {
    return group(layer).index.token_id(key);
  }
  /// Tokens there is room for without another page.
  [[nodiscard]] Index capacity() const noexcept {
    const auto fits = [this](Index tokens) {
      return std::all_of(groups_.begin(), groups_.end(), [&](const LayerGroup& g) {
        return pages_lacking(tokens, g, groups_.size()) <= pool_->free_pages(g.near.layout().bytes());
      });
    };
    Index least = 0, most = limit();
    while (least < most) {
      const Index middle = least + (most - least + 1) / 2;
      if (fits(middle)) {
        least = middle;
      } else {
        most = middle - 1;
      }
    }
    return least;
  }

  /// Makes room for `tokens` tokens in all. out_of_range beyond max_tokens, out_of_memory, wrong_state while a step is
  /// open.
  Status reserve(Index tokens) {
    if (Status status = no_step("reserve()"); !status.ok()) return status;
    if (tokens < 0 || tokens > limit()) {
      return fail(StatusCode::out_of_range, "reserve(): tokens is ", tokens, ", must be in 0 .. ", limit());
    }
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      LayerGroup& g = groups_[i];
      const Index more = tokens - g.index.kept();
      if (more <= 0) continue;
      const Index pages = pages_lacking(tokens, g);
      Status status = pool_->reserve(g.near.layout().bytes(), pages_lacking(tokens, g, i + 1));
      if (status.ok()) status = g.index.reserve(pool_->metered(), more, std::min(more, reserved_step));
      if (status.ok()) status = g.near.reserve(pages);
      if (!status.ok()) return status;
    }
    return {};
  }

  /// Opens a step for tokens with these ids (>= 0). invalid_argument for a bad id, out_of_range beyond max_tokens,
  /// out_of_memory if the cache cannot grow, wrong_state while another step is open.
  [[nodiscard]] Result<Step> begin(std::span<const std::int32_t> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0) return fail(StatusCode::invalid_argument, "begin(): tokens[", i, "] is ", tokens[i]);
    }
    return open(Index(tokens.size()), [&](Index i) { return tokens[std::size_t(i)]; });
  }

  /// Opens a step for `count` tokens whose ids nobody needs. invalid_argument if a rule needs them.
  [[nodiscard]] Result<Step> begin(Index count) {
    for (const LayerGroup& g : groups_) {
      if (g.index.rule().needs_ids()) {
        return fail(StatusCode::invalid_argument, "begin(): rule ", g.index.rule().name(), " needs the ids of the ",
                    count, " tokens");
      }
    }
    return open(count, [](Index) { return no_token_id; });
  }

  /// The committed tokens of one layer. A layer outside 0 .. layers() has none.
  [[nodiscard]] View keys(Index layer) const noexcept { return view(layer, false); }

  /// Keeps the first `tokens` tokens of the sequence. out_of_range if that is more than seen() or fewer than
  /// rollback_floor(), except that 0 always works; out_of_memory; wrong_state while a step is open.
  Status truncate(Index tokens) {
    if (Status status = no_step("truncate()"); !status.ok()) return status;
    if (tokens < 0 || tokens > seen()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", but the cache has seen ", seen());
    }
    if (tokens > 0 && tokens < rollback_floor()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", but evicted tokens leave only 0 and ",
                  rollback_floor(), " .. ", seen());
    }
    // What can fail comes first, for all groups.
    for (LayerGroup& g : groups_) {
      if (Status status = g.prepare_truncate(pool_->metered(), tokens); !status.ok()) return status;
    }
    for (LayerGroup& g : groups_) g.truncate(tokens);
    if (tokens == 0) counters_.assign(counters_.size(), {});  // another sequence
    return {};
  }

  /// The fewest tokens, besides 0, that truncate() can keep.
  [[nodiscard]] Index rollback_floor() const noexcept {
    Index floor = 0;
    for (const LayerGroup& g : groups_) floor = std::max(floor, g.index.rollback_floor());
    return floor;
  }

  /// Forgets all tokens and keeps the memory. wrong_state while a step is open.
  Status clear() { return truncate(0); }

  /// Keeps only the tokens at these logical positions, strictly ascending, in every layer, and drops all others at once;
  /// what stays keeps its position. The latest ones that follow each other stay recent; those before count as landmarks
  /// from now on, which a rule with a window no longer drops. Returns the rows moved, per head of a layer. invalid_argument for a position that a
  /// layer does not hold; unsupported with in-cache ranks or a rule with a history, which number or count what they
  /// hold; out_of_memory; wrong_state while a step is open.
  Result<Index> compact(std::span<const Index> keep) {
    if (Status status = no_step("compact()"); !status.ok()) return status;
    if (Status status = check_compact(keep); !status.ok()) return status;
    for (LayerGroup& g : groups_) {
      if (Status status = g.prepare_compact(pool_->metered(), keep); !status.ok()) return status;
    }
    Index moved = 0;
    for (LayerGroup& g : groups_) moved += g.compact(keep);
    return moved;
  }

  /// A cache with the same tokens, which shares all rows with this one until either writes: no row is copied now.
  /// out_of_memory; wrong_state while a step is open.
  [[nodiscard]] Result<KvCache> fork() const {
    if (Status status = no_step("fork()"); !status.ok()) return status;
    KvCache copy(policy_, options_, pool_);
    std::vector<LayerRule> rules(groups_.size());
    for (Index layer = 0; layer < layers(); ++layer) {
      LayerRule& rule = rules[std::size_t(places_[std::size_t(layer)].group)];
      rule.rule = group(layer).index.rule();
      rule.layers.push_back(layer);
    }
    Status status = copy.make_groups(rules);
    if (status.ok()) status = copy.make_marks();
    for (std::size_t g = 0; status.ok() && g < groups_.size(); ++g) {
      status = copy.groups_[g].share(pool_->metered(), groups_[g]);
    }
    if (!status.ok()) return status;
    copy.places_ = places_;  // a group may have its layers in any order
    copy.counters_ = counters_;
    return copy;
  }

  /// Gives pages that nobody holds back to the memory resource, if the pool is the cache's own.
  void trim() noexcept {
    if (pool_.owned()) pool_->trim();
  }

  /// Memory held, measured: `allocated` and `peak` are what the memory resource was asked for. With a pool of the
  /// caller's they are the pages and the bookkeeping of this cache alone.
  [[nodiscard]] CacheBytes bytes() const noexcept {
    CacheBytes bytes{.layers = layers(), .seen = seen()};
    for (const LayerGroup& g : groups_) {
      const PageLayout& layout = g.near.layout();
      bytes.live += g.index.kept() * layout.token_bytes();
      bytes.kept += double(g.index.kept() * layout.layers()) / double(layers());
      bytes.allocated_rows += g.pages() * PagePool::page_bytes(layout.bytes());
      bytes.shared += g.shared_pages() * PagePool::page_bytes(layout.bytes());
    }
    bytes.allocated = bytes.allocated_rows + bookkeeping();
    bytes.peak = std::max(peak_, bytes.allocated);
    if (!pool_.owned()) return bytes;
    const PoolBytes pool = pool_->bytes();
    bytes.allocated = pool.held;
    bytes.allocated_rows = pool_->page_bytes_held();
    bytes.peak = pool.peak;
    return bytes;
  }

  /// What one token should cost by the formula: layers x sum over streams of heads x encoded row, without padding.
  [[nodiscard]] Index row_bytes_per_token() const noexcept {
    Index bytes = 0;
    for (const LayerGroup& g : groups_) bytes += g.near.layout().encoded_token_bytes();
    return bytes;
  }

  /// What a layer has kept so far.
  [[nodiscard]] RetentionCounters retention(Index layer = 0) const noexcept {
    RetentionCounters counters = counters_[std::size_t(places_[std::size_t(checked(layer))].group)];
    const TokenIndex& index = group(layer).index;
    counters.seen = index.seen();
    counters.kept = index.kept();
    counters.evicted = index.evicted();
    return counters;
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// Bytes that snapshot() writes now.
  [[nodiscard]] std::size_t snapshot_bytes() const noexcept { return write_snapshot(nullptr); }

  /// Writes tokens, rule state and rows, everything but memory: restore() continues as this cache would. `to` must have
  /// snapshot_bytes() bytes. invalid_argument for another size, wrong_state while a step is open.
  Status snapshot(std::span<std::byte> to) const {
    if (Status status = no_step("snapshot()"); !status.ok()) return status;
    if (to.size() != snapshot_bytes()) {
      return fail(StatusCode::invalid_argument, "snapshot(): to has ", to.size(), " bytes, must have ",
                  snapshot_bytes());
    }
    write_snapshot(to.data());
    return {};
  }

  /// The cache of a snapshot. `from` may be anything: what is damaged, or made by a cache of another shape, codec, rule,
  /// positions or CacheOptions::model_id, gives invalid_argument saying so. Other errors as of create().
  [[nodiscard]] static Result<KvCache> restore(P policy, const CacheOptions& options, AnyRule rule,
                                               std::span<const std::byte> from) {
    return read_snapshot(create(std::move(policy), options, std::move(rule)), from);
  }
  [[nodiscard]] static Result<KvCache> restore(P policy, const CacheOptions& options, std::span<const LayerRule> rules,
                                               std::span<const std::byte> from) {
    return read_snapshot(create(std::move(policy), options, rules), from);
  }

  /// A number for everything that a snapshot depends on besides tokens: shape, codecs, rules, layers, positions, model.
  [[nodiscard]] std::uint64_t fingerprint() const {
    std::uint64_t hash = options_.model_id;
    const auto add = [&hash](std::uint64_t n) {
      hash = (hash ^ n) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 32;
    };
    for (int s = 0; s < layout_.num_streams; ++s) {
      add(std::uint64_t(layout_.streams[std::size_t(s)].num_heads));
      add(std::uint64_t(layout_.streams[std::size_t(s)].width));
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

 private:
  friend Step;

  /// The step that last wrote a stream of a layer, so that no step starts by clearing flags.
  using Mark = std::uint64_t;
  static constexpr Index mark_bytes = Index(sizeof(Mark));

  /// Steps of so many tokens need no allocation after reserve().
  static constexpr Index reserved_step = 512;

  /// Where a layer's rows are.
  struct Place {
    Index group = -1;
    Index layer = 0;  ///< within the group
  };

  KvCache(P policy, const CacheOptions& options, PoolHandle pool)
      : policy_(std::move(policy)), options_(options), layout_(policy_.layout()), pool_(std::move(pool)) {}

  [[nodiscard]] static Index encoded_bytes(int stream, const AttentionLayout& layout) noexcept {
    const Index width = layout.streams[std::size_t(stream)].width;
    return stream == P::value_stream ? ValueCodec::row_bytes(width) : KeyCodec::row_bytes(width);
  }

  [[nodiscard]] Status make_groups(std::span<const LayerRule> rules) {
    std::array<StoredStream, AttentionLayout::max_streams> streams{};
    for (int s = 0; s < layout_.num_streams; ++s) {
      streams[std::size_t(s)] = {layout_.streams[std::size_t(s)].num_heads, encoded_bytes(s, layout_)};
    }
    places_.assign(std::size_t(layers()), {});
    groups_.reserve(rules.size());
    for (const LayerRule& rule : rules) {
      for (std::size_t i = 0; i < rule.layers.size(); ++i) {
        const Index layer = rule.layers[i];
        if (layer < 0 || layer >= layers()) {
          return fail(StatusCode::invalid_argument, "rules: layer is ", layer, ", the cache has ", layers());
        }
        Place& place = places_[std::size_t(layer)];
        if (place.group >= 0) return fail(StatusCode::invalid_argument, "rules: layer ", layer, " is in two groups");
        place = {Index(groups_.size()), Index(i)};
      }
      if (rule.layers.empty()) {
        return fail(StatusCode::invalid_argument, "rules: group ", groups_.size(), " has no layers");
      }
      Result<PageLayout> layout =
          PageLayout::create(Index(rule.layers.size()), std::span(streams).first(std::size_t(layout_.num_streams)),
                             options_.page_tokens);
      if (!layout.ok()) return layout.status();
      groups_.emplace_back(TokenIndex(rule.rule, options_.positions, options_.undo_tokens), pool_, *layout);
      if (Status status = groups_.back().index.prepare(pool_->metered()); !status.ok()) return status;
    }
    for (Index layer = 0; layer < layers(); ++layer) {
      if (places_[std::size_t(layer)].group < 0) {
        return fail(StatusCode::invalid_argument, "rules: layer ", layer, " is in no group");
      }
    }
    counters_.assign(groups_.size(), {});
    return {};
  }
  [[nodiscard]] Status make_marks() {
    Result<Buffer> written = Buffer::allocate(pool_->metered(), layers() * layout_.num_streams * mark_bytes, "cache");
    if (!written.ok()) return written.status();
    written_ = std::move(*written);
    std::memset(written_.data(), 0, std::size_t(written_.size()));
    return {};
  }

  [[nodiscard]] Index limit() const noexcept {
    return options_.max_tokens > 0 ? options_.max_tokens : detail::most_tokens;
  }
  /// Pages that a group needs to hold `tokens` tokens of which none is evicted, copies of shared ones included.
  [[nodiscard]] Index pages_lacking(Index tokens, const LayerGroup& g) const noexcept {
    const Index more = tokens - g.index.kept(), seen = g.index.seen();
    if (more <= 0) return 0;
    const Index beyond = std::max<Index>(0, more - g.near.room(seen));
    return g.near.shared_pages(seen) + (beyond + options_.page_tokens - 1) / options_.page_tokens;
  }
  /// The same for all of the first `groups` groups that have pages of the size of `g`.
  [[nodiscard]] Index pages_lacking(Index tokens, const LayerGroup& g, std::size_t groups) const noexcept {
    Index pages = 0;
    for (std::size_t i = 0; i < groups; ++i) {
      const bool same = groups_[i].near.layout().bytes() == g.near.layout().bytes();
      if (same) pages += pages_lacking(tokens, groups_[i]);
    }
    return pages;
  }
  [[nodiscard]] Index checked(Index layer) const noexcept { return layer >= 0 && layer < layers() ? layer : 0; }
  [[nodiscard]] LayerGroup& group(Index layer) noexcept {
    return groups_[std::size_t(places_[std::size_t(checked(layer))].group)];
  }
  [[nodiscard]] const LayerGroup& group(Index layer) const noexcept {
    return groups_[std::size_t(places_[std::size_t(checked(layer))].group)];
  }
  [[nodiscard]] Index bookkeeping() const noexcept {
    Index bytes = written_.size();
    for (const LayerGroup& g : groups_) bytes += g.bookkeeping();
    return bytes;
  }
  [[nodiscard]] Mark& mark(Index layer, int stream) noexcept {
    return reinterpret_cast<Mark*>(written_.data())[layer * layout_.num_streams + stream];
  }
  [[nodiscard]] View view(Index layer, bool with_plan) const noexcept {
    if (layer < 0 || layer >= layers()) return View();
    const Place place = places_[std::size_t(layer)];
    return View(groups_[std::size_t(place.group)], layout_, place.layer, with_plan);
  }

  [[nodiscard]] Status no_step(const char* call) const {
    if (step_ == nullptr) return {};
    return fail(StatusCode::wrong_state, call, ": a step of ", step_->tokens(), " tokens is open; commit or abort it");
  }

  template <class Id>
  [[nodiscard]] Result<Step> open(Index count, const Id& id) {
    if (Status status = no_step("begin()"); !status.ok()) return status;
    if (count < 0) return fail(StatusCode::invalid_argument, "begin(): count is ", count, ", must be at least 0");
    for (const LayerGroup& g : groups_) {
      const Index kept = g.index.kept();
      if (count > limit() - kept) {
        return fail(StatusCode::out_of_range, "begin(): ", count, " tokens, but only ", limit() - kept,
                    " more fit: ", kept, " of max_tokens ", limit(), " are in the cache");
      }
    }
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      Status status = groups_[g].plan(pool_->metered(), count, id);
      if (status.ok()) continue;
      for (std::size_t planned = 0; planned < g; ++planned) groups_[planned].index.abort();
      return status;
    }
    note_peak();
    return Step(*this, count);
  }

  void commit_groups() noexcept {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      const TokenIndex& index = groups_[i].index;
      RetentionCounters& counters = counters_[i];
      const bool any = index.planned() > 0;
      if (any) counters.last_seen = index.keys_seen_by_last();
      groups_[i].commit();
      if (!any) continue;
      ++counters.calls;
      counters.kept_sum += double(index.kept());
      counters.seen_sum += double(index.seen());
    }
    note_peak();
  }
  void note_peak() noexcept {
    if (!pool_.owned()) peak_ = std::max(peak_, bytes().allocated);
  }

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
    if (Status status = ids.reserve_back(pool_->metered(), Index(accepted.size())); !status.ok()) return status;
    for (const Index token : accepted) ids.push_back(index.token_id(index.kept() + token));
    for (LayerGroup& g : groups_) {
      if (Status status = g.prepare_accept(); !status.ok()) return status;
    }
    for (LayerGroup& g : groups_) g.accept(pool_->metered(), accepted, ids.span());
    return {};
  }

  using CodecName = std::array<char, 16>;
  [[nodiscard]] static CodecName codec_name(const char* name) noexcept {
    CodecName made{};
    std::strncpy(made.data(), name, made.size() - 1);
    return made;
  }

  std::size_t write_snapshot(std::byte* to) const noexcept {
    using namespace detail;
    SnapshotWriter writer(to);
    writer.number(snapshot_magic);
    writer.number(snapshot_version);
    writer.number(snapshot_byte_order);
    const std::size_t size_at = writer.size();
    writer.number(std::uint64_t{0});
    writer.number(fingerprint());
    writer.number(codec_name(KeyCodec::name));
    writer.number(codec_name(ValueCodec::name));
    writer.number(std::uint64_t(groups_.size()));
    for (std::size_t g = 0; g < groups_.size(); ++g) write_group(writer, groups_[g], counters_[g]);
    const std::uint64_t size = writer.size() + sizeof(std::uint32_t);
    if (to != nullptr) {
      std::memcpy(to + size_at, &size, sizeof size);
      writer.number(crc32({to, writer.size()}));
    }
    return std::size_t(size);
  }

  [[nodiscard]] static Result<KvCache> read_snapshot(Result<KvCache> made, std::span<const std::byte> from) {
    using namespace detail;
    if (!made.ok()) return made;
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, "snapshot: ", parts...); };
    SnapshotReader reader(from);
    if (reader.template number<std::array<char, 8>>() != snapshot_magic) return bad("it does not begin with heed-kv");
    const auto version = reader.template number<std::uint32_t>();
    if (version != snapshot_version) return bad("version is ", version, ", must be ", snapshot_version);
    if (reader.template number<std::uint32_t>() != snapshot_byte_order) return bad("it has another byte order");
    const auto size = reader.template number<std::uint64_t>();
    if (size != from.size()) return bad("it has ", from.size(), " bytes, its header says ", size);
    std::uint32_t crc = 0;
    std::memcpy(&crc, from.data() + from.size() - sizeof crc, sizeof crc);
    if (crc != crc32(from.first(from.size() - sizeof crc))) return bad("its checksum does not match");
    const auto fingerprint = reader.template number<std::uint64_t>();
    const auto keys = reader.template number<CodecName>(), values = reader.template number<CodecName>();
    if (keys != codec_name(KeyCodec::name) || values != codec_name(ValueCodec::name)) {
      return bad("its codecs are ", std::string(keys.data(), strnlen(keys.data(), keys.size())), " and ",
                 std::string(values.data(), strnlen(values.data(), values.size())), ", the cache's ", KeyCodec::name,
                 " and ", ValueCodec::name);
    }
    if (fingerprint != made->fingerprint()) {
      return bad("it was made by a cache of another shape, rule, positions, undo_tokens or model_id");
    }
    if (reader.template number<std::uint64_t>() != made->groups_.size()) return bad("its layer groups are others");
    for (std::size_t g = 0; g < made->groups_.size(); ++g) {
      Status status = read_group(reader, made->pool_->metered(), made->groups_[g], made->counters_[g]);
      if (!status.ok()) return status;
      if (made->groups_[g].index.seen() != made->seen()) return bad("its layer groups have seen different tokens");
    }
    if (reader.left() != sizeof crc) return bad(reader.left() - sizeof crc, " bytes are left over");
    return made;
  }

  [[nodiscard]] Status check_compact(std::span<const Index> keep) const {
    for (const LayerGroup& g : groups_) {
      Status status = supports(CacheFeature::compact, g.index.rule(), options_.positions, detail::rotates_keys(policy_));
      if (!status.ok()) return status;
      Index key = 0;
      for (std::size_t i = 0; i < keep.size(); ++i) {
        while (key < g.index.kept() && g.index.position(key) < keep[i]) ++key;
        if (key == g.index.kept() || g.index.position(key) != keep[i] || (i > 0 && keep[i] <= keep[i - 1])) {
          return fail(StatusCode::invalid_argument, "compact(): keep[", i, "] is ", keep[i],
                      ", must be a position that is held, and ascending");
        }
      }
    }
    return {};
  }

  [[nodiscard]] Status write(Index layer, int stream, Index tokens, std::span<const float> rows) {
    if (layer < 0 || layer >= layers()) {
      return fail(StatusCode::out_of_range, "write(): layer is ", layer, ", the cache has ", layers());
    }
    if (stream < 0 || stream >= layout_.num_streams) {
      return fail(StatusCode::out_of_range, "write(): stream is ", stream, ", the policy has ", layout_.num_streams);
    }
    const StreamShape shape = layout_.streams[std::size_t(stream)];
    if (Index(rows.size()) != tokens * shape.num_heads * shape.width) {
      return fail(StatusCode::invalid_argument, "write(): rows has ", rows.size(), " floats, must have ",
                  tokens * shape.num_heads * shape.width, " = ", tokens, " tokens x ", shape.num_heads, " heads x ",
                  shape.width, " (layer ", layer, ", stream ", stream, ")");
    }
    const Place place = places_[std::size_t(layer)];
    PageTable& table = groups_[std::size_t(place.group)].near;
    if (stream == P::value_stream) {
      table.template encode<ValueCodec>(place.layer, stream, seen(), tokens, shape.num_heads, shape.width, rows.data());
    } else {
      table.template encode<KeyCodec>(place.layer, stream, seen(), tokens, shape.num_heads, shape.width, rows.data());
    }
    mark(layer, stream) = serial_;
    return {};
  }

  [[nodiscard]] Status all_written(Index tokens) {
    if (tokens == 0) return {};
    for (Index layer = 0; layer < layers(); ++layer) {
      for (int stream = 0; stream < layout_.num_streams; ++stream) {
        if (mark(layer, stream) != serial_) {
          return fail(StatusCode::wrong_state, "commit(): layer ", layer, ", stream ", stream,
                      " was not written in this step");
        }
      }
    }
    return {};
  }

  void abort_step() noexcept {
    if (step_ != nullptr) step_->abort();
  }
  void take_step(KvCache& other) noexcept {
    step_ = std::exchange(other.step_, nullptr);
    if (step_ != nullptr) step_->cache_ = this;
  }

  P policy_;
  CacheOptions options_;
  AttentionLayout layout_;
  PoolHandle pool_;  // before all that is allocated from it
  std::vector<LayerGroup> groups_;
  std::vector<Place> places_;  // of layers
  Buffer written_;
  std::vector<RetentionCounters> counters_;  // of groups
  Mark serial_ = 0;
  Index peak_ = 0;
  Step* step_ = nullptr;
};

}  // namespace heed::inline HEED_ABI
