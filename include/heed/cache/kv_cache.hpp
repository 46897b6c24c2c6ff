/// \file
/// The cache an engine owns: one sequence, all layers.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <heed/cache/cache_contents.hpp>
#include <heed/cache/cache_facts.hpp>
#include <heed/cache/layer_groups.hpp>
#include <heed/cache/layer_keys.hpp>
#include <heed/cache/step.hpp>
#include <heed/cache/support.hpp>
#include <heed/heap.hpp>
#include <heed/layout.hpp>

namespace heed::inline HEED_ABI {

/// The KV cache of one sequence. Policy P says what a token leaves in each layer. Codecs K and V say how a number of
/// the key stream and of the value stream is stored (V is unused if they are one stream). A rule per layer says which
/// tokens stay.
///
/// A step has two phases. begin() makes room for new tokens in all layers. Then every layer writes its rows and
/// attends. commit() adds the tokens and evicts those that no later query can see. abort(), or the end of an
/// uncommitted Step, drops the new tokens. Steps of any size give the same results as token by token. A call that fails
/// changes no token.
///
/// begin, write and commit of a step of at most 512 tokens do not allocate while size() + tokens <= capacity(), if
/// nothing is evicted and no token is a landmark. With other rules they stop allocating once as many tokens are kept as
/// the rule ever keeps. Memory that a long step needed goes back if no step of that length comes within 64 commits.
///
/// Movable, not copyable; fork() copies. Views and the open step follow a cache that moves. A cache that was moved from
/// has no layers and no tokens, its views have no keys, and its calls return wrong_state. Another cache may be assigned
/// to it.
///
/// One thread at a time may use a cache, except that streams and layers of a step may be written at once. Forks may be
/// used by different threads.
template <AttentionPolicy P, Codec K, Codec V = K>
class KvCache : public CacheContents, private detail::StepOwner<KvCache<P, K, V>> {
 public:
  /// true if keys and values are one stream, as views of the same rows.
  static constexpr bool one_stream = int(P::key_stream) == int(P::value_stream);
  /// The types that the cache is made of.
  /// \{
  using Policy = P;
  using KeyCodec = K;
  using ValueCodec = std::conditional_t<one_stream, K, V>;
  using Keys = LayerKeys<KeyCodec, ValueCodec>;
  using Step = CacheStep<KvCache>;
  /// \}

  /// An empty cache with one rule for all layers. invalid_argument naming what is wrong in policy, options or rule;
  /// unsupported if rule and positions do not work together (docs/support.md); out_of_memory.
  [[nodiscard]] static Result<KvCache> create(P policy, const CacheOptions& options, AnyRule rule = {}) {
    if (Status status = detail::validate_options(options); !status.ok()) return status;
    return detail::with_heap("create()", [&] {
      LayerRule all{std::move(rule), {}};
      for (Index layer = 0; layer < options.layers; ++layer) all.layers.push_back(layer);
      return create(std::move(policy), options, std::span(&all, 1));
    });
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
    Result<detail::PoolHandle> pool = options.pool != nullptr
                                          ? Result<detail::PoolHandle>(detail::PoolHandle(*options.pool))
                                          : detail::PoolHandle::create(options.memory);
    if (!pool.ok()) return pool.status();
    std::array<detail::StoredStream, AttentionLayout::max_streams> streams{};
    const AttentionLayout layout = policy.layout();
    for (int s = 0; s < layout.num_streams; ++s) {
      streams[std::size_t(s)] = stored_stream(s, layout);
    }
    Result<detail::LayerGroups> groups = detail::with_heap("create()", [&] {
      return detail::LayerGroups::create(options, std::span(streams).first(std::size_t(layout.num_streams)), rules,
                                         *std::move(pool));
    });
    if (!groups.ok()) return groups.status();
    Result<KvCache> cache = make(std::move(policy), *std::move(groups));
    if (cache.ok()) status = cache->groups_.reserve(options.capacity);
    if (!status.ok()) return status;
    return cache;
  }

  /// Views and the open step follow. The other cache is left without layers and tokens.
  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(KvCache&& other) noexcept {
    if (this == &other) return *this;
    detail::StepOwner<KvCache>::operator=(std::move(other));
    policy_ = std::move(other.policy_);
    layout_ = other.layout_;
    facts_ = std::move(other.facts_);  // before the groups, whose pool it came from
    groups_ = std::move(other.groups_);
    return *this;
  }
  ~KvCache() { abort_step(); }

  /// As given to create().
  [[nodiscard]] const P& policy() const noexcept { return policy_; }
  /// The layout of policy().
  [[nodiscard]] const AttentionLayout& layout() const noexcept { return layout_; }
  /// Makes capacity() at least `tokens`. out_of_range beyond max_tokens, out_of_memory, wrong_state while a step is
  /// open.
  Status reserve(Index tokens) {
    if (Status status = no_step("reserve()"); !status.ok()) return status;
    ++facts_->change;  // views point at what may now be moved
    return groups_.reserve(tokens);
  }

  /// Opens a step for tokens with these ids (>= 0). invalid_argument for a bad id, out_of_range beyond max_tokens,
  /// out_of_memory if the cache cannot grow, wrong_state while another step is open.
  [[nodiscard]] Result<Step> begin(std::span<const std::int32_t> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0) return fail(StatusCode::invalid_argument, "begin(): tokens[", i, "] is ", tokens[i]);
    }
    return open(Index(tokens.size()), [&](Index i) { return tokens[std::size_t(i)]; });
  }

  /// Opens a step for tokens without ids. invalid_argument if a rule needs ids, or for a negative number; other errors
  /// as above.
  [[nodiscard]] Result<Step> begin(NumTokens tokens) {
    const Index count = tokens.count();
    for (const detail::LayerGroup& g : groups_.groups()) {
      if (g.index.rule().needs_ids()) {
        return fail(StatusCode::invalid_argument, "begin(): rule ", g.index.rule().name(),
                    " needs token ids; begin() got only their number, ", count);
      }
    }
    return open(count, [](Index) { return no_token_id; });
  }

  /// Deleted: a bare integer could be an id or a count. Write begin(std::span(&id, 1)) or begin(NumTokens(count)).
  template <class N>
    requires std::is_integral_v<N> Result<Step> begin(N)
  = delete;

  /// The keys of one layer: committed tokens. A layer outside 0 .. layers() - 1 has no keys.
  ///
  /// Whether these keys can answer a query depends on its position. The next query, at seen(), is always answered. It
  /// counts as a token without a role. A committed query is answered if the cache still has all keys that it saw. While
  /// the recent tokens of the rule begin at 0 (Causal: always) that is every query. Afterwards it is every query of the
  /// last CacheOptions::undo_tokens tokens. attend() refuses earlier ones with wrong_state. With in-cache ranks, or
  /// under a rule with a history, only a step knows what a query sees, so attend() refuses every query here: attend
  /// before commit(), to Step::keys().
  [[nodiscard]] Keys keys(Index layer) const noexcept { return view(layer, false); }

  /// Goes back to the first `tokens` tokens of the sequence. 0 always works. Any length from m - undo_tokens on works,
  /// where m is the most tokens seen since the cache was empty. out_of_range beyond seen() or below rollback_floor();
  /// out_of_memory; wrong_state while a step is open.
  Status truncate(Index tokens) {
    if (Status status = no_step("truncate()"); !status.ok()) return status;
    ++facts_->change;
    return groups_.truncate(tokens);
  }

  /// Drops all tokens and keeps the memory. wrong_state while a step is open.
  Status clear() { return truncate(0); }

  /// Removes the tokens at logical positions begin ... end - 1 from every layer that keeps them: no later query sees
  /// them, as if a mask hid them. All others keep their positions, and their rules forget them as if nothing had been
  /// removed. With in-cache ranks the keys behind move up. The next token has position seen(), also if the last tokens
  /// were removed: see resume_at().
  ///
  /// Memory: a rule that keeps everything frees the pages at once. Under other rules a removed recent token keeps its slot
  /// until it would have left the window.
  /// Time: the lists of older tokens are walked once. Landmarks behind a removed one move up by one copy a run and page. A
  /// rule that keeps everything also copies the recent rows before `end`: all of them in the first call, in later calls
  /// only those that came after the last removed token. Rows from `end` on that were never before a removed token stay.
  /// Errors: out_of_range unless 0 <= begin <= end <= seen(); unsupported for a rule with a history, which counts what it
  /// keeps; out_of_memory; wrong_state while a step is open.
  Status remove(Index begin, Index end) {
    if (Status status = may(CacheFeature::remove); !status.ok()) return status;
    ++facts_->change;
    return groups_.remove(begin, end);
  }

  /// Removes all tokens but those at these positions, which must ascend strictly and be kept by at least one layer each.
  /// Returns a number of tokens: those whose rows moved, summed over the layer groups. Within a group the rows of all its
  /// layers and heads move together and count once. invalid_argument naming a position; other errors as of remove().
  Result<Index> compact(std::span<const Index> keep) {
    if (Status status = may(CacheFeature::compact); !status.ok()) return status;
    ++facts_->change;
    return groups_.compact(keep);
  }

  /// Sets the position of the next token: `position` becomes seen(). So no gap is left if the last tokens were removed.
  /// From rollback_floor() on this is truncate(). Before it, a later query could see again tokens that rules have
  /// evicted; they then count as removed. out_of_range unless `position` is after the last token that a layer keeps;
  /// out_of_memory; wrong_state while a step is open.
  Status resume_at(Index position) {
    if (Status status = no_step("resume_at()"); !status.ok()) return status;
    ++facts_->change;
    return groups_.resume_at(position);
  }

  /// A cache with the same tokens. No row is copied now: both share all pages, and a page is copied when one of them
  /// writes to it. out_of_memory; wrong_state while a step is open.
  [[nodiscard]] Result<KvCache> fork() const {
    if (Status status = no_step("fork()"); !status.ok()) return status;
    Result<detail::LayerGroups> groups = detail::with_heap("fork()", [&] { return groups_.fork(); });
    if (!groups.ok()) return groups.status();
    return make(policy_, *std::move(groups));
  }

  /// Gives free pages back to the memory resource, if the pool is the cache's own.
  void trim() noexcept {
    if (groups_.pool_handle().owned()) groups_.pool().trim();
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// Bytes that snapshot() writes now.
  [[nodiscard]] std::size_t snapshot_bytes() const noexcept { return groups_.write_snapshot(codecs(), nullptr); }

  /// Writes tokens, rule state and rows, so that restore() continues as this cache would. `to` must have
  /// snapshot_bytes() bytes. invalid_argument for another size, wrong_state while a step is open.
  Status snapshot(std::span<std::byte> to) const {
    if (Status status = no_step("snapshot()"); !status.ok()) return status;
    if (to.size() != snapshot_bytes()) {
      return fail(StatusCode::invalid_argument, "snapshot(): to has ", to.size(), " bytes, must have ",
                  snapshot_bytes());
    }
    groups_.write_snapshot(codecs(), to.data());
    return {};
  }

  /// The cache of a snapshot. `from` may hold any bytes. invalid_argument if they are damaged, or if they were made by
  /// a cache with another shape, codec, rule, positions or CacheOptions::model_id; out_of_range if it holds more than
  /// max_tokens tokens. Other errors as create().
  /// \{
  [[nodiscard]] static Result<KvCache> restore(P policy, const CacheOptions& options, AnyRule rule,
                                               std::span<const std::byte> from) {
    return read_snapshot(create(std::move(policy), options, std::move(rule)), from);
  }
  [[nodiscard]] static Result<KvCache> restore(P policy, const CacheOptions& options, std::span<const LayerRule> rules,
                                               std::span<const std::byte> from) {
    return read_snapshot(create(std::move(policy), options, rules), from);
  }
  /// \}

 private:
  friend Step;
  friend class detail::StepGuard<KvCache>;
  friend class detail::StepOwner<KvCache>;
  static constexpr const char* kind = "cache";
  using detail::StepOwner<KvCache>::abort_step;
  using detail::StepOwner<KvCache>::no_step;

  KvCache(P policy, detail::LayerGroups groups)
      : CacheContents(std::move(groups)), policy_(std::move(policy)), layout_(policy_.layout()) {}

  [[nodiscard]] static Result<KvCache> make(P policy, detail::LayerGroups groups) {
    KvCache cache(std::move(policy), std::move(groups));
    Result<detail::CacheFactsBlock> facts = detail::CacheFactsBlock::create(
        cache.groups_.memory(),
        {.layout = cache.layout_, .layers = cache.layers(), .rotates_keys = detail::rotates_keys(cache.policy_)});
    if (!facts.ok()) return facts.status();
    cache.facts_ = *std::move(facts);
    cache.groups_.set_owner_bytes(cache.facts_.size());
    return cache;
  }

  [[nodiscard]] static detail::StoredStream stored_stream(int stream, const AttentionLayout& layout) noexcept {
    const StreamShape shape = layout.streams[std::size_t(stream)];
    return stream == P::value_stream ? detail::StoredStream::of<ValueCodec>(shape.num_heads, shape.width)
                                     : detail::StoredStream::of<KeyCodec>(shape.num_heads, shape.width);
  }

  [[nodiscard]] static detail::SnapshotCodecs codecs() noexcept { return {KeyCodec::name, ValueCodec::name}; }
  [[nodiscard]] static Result<KvCache> read_snapshot(Result<KvCache> made, std::span<const std::byte> from) {
    if (!made.ok()) return made;
    if (Status status = made->groups_.read_snapshot(codecs(), from); !status.ok()) return status;
    return made;
  }

  [[nodiscard]] Keys view(Index layer, bool with_plan) const noexcept {
    if (facts_.get() == nullptr) return Keys();
    if (layer < 0 || layer >= layers()) return Keys::no_layer(layer, layers());
    return Keys(groups_.group(layer), *facts_.get(), layer, groups_.place(layer).layer, with_plan);
  }

  [[nodiscard]] Status may(CacheFeature feature) const {
    const std::string call = std::string(name_of(feature)) + "()";
    if (Status status = no_step(call.c_str()); !status.ok()) return status;
    for (const detail::LayerGroup& g : groups_.groups()) {
      Status status = supports(feature, g.index.rule(), positions(), detail::rotates_keys(policy_));
      if (!status.ok()) return status;
    }
    return {};
  }

  template <class Id>
  [[nodiscard]] Result<Step> open(Index count, const Id& id) {
    if (Status status = no_step("begin()"); !status.ok()) return status;
    if (count < 0) return fail(StatusCode::invalid_argument, "begin(): count is ", count, ", must be at least 0");
    ++facts_->change;
    if (Status status = groups_.plan(count, id); !status.ok()) return status;
    return Step(*this, count);
  }

  [[nodiscard]] Status write(Index layer, int stream, Index tokens, std::span<const float> rows) {
    if (layer < 0 || layer >= layers()) {
      return fail(StatusCode::out_of_range, "write(): layer is ", layer, ", the cache has ", layers());
    }
    if (stream < 0 || stream >= layout_.num_streams) {
      return fail(StatusCode::out_of_range, "write(): stream is ", stream, ", the policy has ", layout_.num_streams);
    }
    const StreamShape shape = layout_.streams[std::size_t(stream)];
    const Count wanted = Count(tokens) * shape.num_heads * shape.width;
    if (!detail::has_size(rows.size(), wanted)) {
      return fail(StatusCode::invalid_argument, "write(): rows has ", rows.size(), " floats, must have ", wanted, " = ",
                  tokens, " tokens x ", shape.num_heads, " heads x ", shape.width, " (layer ", layer, ", stream ",
                  stream, ")");
    }
    detail::PageTable& table = groups_.group(layer).near_rows;
    const Index at = groups_.place(layer).layer;
    if (stream == P::value_stream) {
      table.template encode<ValueCodec>(at, stream, seen(), tokens, shape.num_heads, shape.width, rows.data());
    } else {
      table.template encode<KeyCodec>(at, stream, seen(), tokens, shape.num_heads, shape.width, rows.data());
    }
    facts_->written(layer, stream) = facts_->change;
    return {};
  }

  [[nodiscard]] Status all_written() const {
    Status status;
    for (Index layer = 0; status.ok() && layer < layers(); ++layer) status = facts_->check_written("commit(): ", layer);
    return status;
  }

  void drop_step() noexcept { groups_.abort(); }
  void step_closed() noexcept {
    ++facts_->change;
    facts_->step_open = false;
  }

  P policy_;
  AttentionLayout layout_;
  detail::CacheFactsBlock facts_;
};

}  // namespace heed::inline HEED_ABI
