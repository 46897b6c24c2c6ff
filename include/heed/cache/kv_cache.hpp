/// \file
/// The cache an engine owns: one sequence, all layers.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include <heed/cache/bytes.hpp>
#include <heed/cache/contiguous.hpp>
#include <heed/cache/layer_view.hpp>
#include <heed/cache/options.hpp>
#include <heed/cache/sequence_index.hpp>
#include <heed/retention/full.hpp>

namespace heed::inline HEED_ABI {

/// The KV cache of one sequence: policy P says what a token leaves in each layer, codecs K and V how a number of the
/// key and the value stream is stored (V is unused if they are one stream), rule R which tokens stay. This version
/// evicts nothing; R is the mask that views hand to the kernel.
///
/// A step is two-phase: begin() makes room for new tokens in all layers, every layer writes its rows and attends, and
/// commit() adds the tokens; abort(), or the end of an uncommitted Step, forgets them. Whatever fails changes nothing.
/// begin, write and commit do not allocate while size() + tokens <= capacity().
///
/// Movable, not copyable. One thread at a time, except that streams and layers of a step may be written at once.
template <AttentionPolicy P, Codec K, Codec V = K, Retention R = Causal>
class KvCache {
  static constexpr bool one_stream = int(P::key_stream) == int(P::value_stream);

 public:
  using Policy = P;
  using KeyCodec = K;
  using ValueCodec = std::conditional_t<one_stream, K, V>;
  using Rule = R;
  using View = LayerView<KeyCodec, ValueCodec, R>;
  class Step;

  /// An empty cache, or invalid_argument naming what is wrong with policy, options or rule, or out_of_memory.
  [[nodiscard]] static Result<KvCache> create(P policy, const CacheOptions& options, R rule = {}) {
    Status status = policy.validate();
    if (status.ok()) status = detail::validate_layout(policy.layout(), P::key_stream, P::value_stream);
    if (status.ok()) status = detail::validate_options(options);
    if constexpr (requires { { rule.validate() } -> std::same_as<Status>; }) {
      if (status.ok()) status = rule.validate();
    }
    if (!status.ok()) return status;

    KvCache cache(std::move(policy), options, std::move(rule));
    Result<Buffer> written =
        Buffer::allocate(options.memory, options.layers * cache.layout_.num_streams * mark_bytes, "cache");
    if (!written.ok()) return written.status();
    cache.written_ = std::move(*written);
    std::memset(cache.written_.data(), 0, std::size_t(cache.written_.size()));
    status = cache.grow(options.capacity);
    if (!status.ok()) return status;
    return cache;
  }

  KvCache(KvCache&& other) noexcept
      : policy_(std::move(other.policy_)),
        rule_(std::move(other.rule_)),
        options_(other.options_),
        layout_(other.layout_),
        store_(std::move(other.store_)),
        index_(std::move(other.index_)),
        written_(std::move(other.written_)),
        serial_(other.serial_),
        peak_(other.peak_) {
    take_step(other);
  }
  KvCache& operator=(KvCache&& other) noexcept {
    if (this == &other) return *this;
    abort_step();
    policy_ = std::move(other.policy_);
    rule_ = std::move(other.rule_);
    options_ = other.options_;
    layout_ = other.layout_;
    store_ = std::move(other.store_);
    index_ = std::move(other.index_);
    written_ = std::move(other.written_);
    serial_ = other.serial_;
    peak_ = other.peak_;
    take_step(other);
    return *this;
  }
  ~KvCache() { abort_step(); }

  [[nodiscard]] const P& policy() const noexcept { return policy_; }
  [[nodiscard]] const R& rule() const noexcept { return rule_; }
  [[nodiscard]] const AttentionLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] Index layers() const noexcept { return options_.layers; }

  /// Committed tokens in the cache: the keys of a layer.
  [[nodiscard]] Index size() const noexcept { return index_.kept(); }
  /// Tokens there is room for without an allocation.
  [[nodiscard]] Index capacity() const noexcept { return store_.capacity(); }
  [[nodiscard]] Index seen() const noexcept { return index_.seen(); }
  [[nodiscard]] Index kept() const noexcept { return index_.kept(); }
  [[nodiscard]] Index evicted() const noexcept { return index_.evicted(); }
  /// Ids of the kept tokens, no_token_id where begin() got none. Valid until the cache changes.
  [[nodiscard]] std::span<const std::int32_t> token_ids() const noexcept { return index_.token_ids(); }

  /// Makes room for `tokens` tokens in all: no step allocates before size() passes it.
  /// out_of_range beyond max_tokens, out_of_memory, wrong_state while a step is open.
  Status reserve(Index tokens) {
    if (Status status = no_step("reserve()"); !status.ok()) return status;
    if (tokens < 0 || tokens > limit()) {
      return fail(StatusCode::out_of_range, "reserve(): tokens is ", tokens, ", must be in 0 .. ", limit());
    }
    return tokens <= capacity() ? Status() : grow(tokens);
  }

  /// Opens a step for tokens with these ids (>= 0). invalid_argument for a bad id, out_of_range beyond max_tokens,
  /// out_of_memory if the cache cannot grow, wrong_state while another step is open.
  [[nodiscard]] Result<Step> begin(std::span<const std::int32_t> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0) return fail(StatusCode::invalid_argument, "begin(): tokens[", i, "] is ", tokens[i]);
    }
    const auto count = Index(tokens.size());
    if (Status status = make_room(count); !status.ok()) return status;
    index_.plan(tokens);
    return Step(*this, count);
  }

  /// Opens a step for `count` tokens whose ids nobody needs.
  [[nodiscard]] Result<Step> begin(Index count) {
    if (Status status = make_room(count); !status.ok()) return status;
    index_.plan(count);
    return Step(*this, count);
  }

  /// The committed tokens of one layer. A layer outside 0 .. layers() has none.
  [[nodiscard]] View keys(Index layer) const noexcept { return view(layer, size()); }

  /// Keeps the first `tokens` tokens of the sequence. out_of_range if that is more than seen() or fewer than
  /// rollback_floor(), except that 0 always works; wrong_state while a step is open.
  Status truncate(Index tokens) {
    if (Status status = no_step("truncate()"); !status.ok()) return status;
    if (tokens < 0 || tokens > seen()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", but the cache has seen ", seen());
    }
    if (tokens > 0 && tokens < rollback_floor()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", but evicted tokens leave only 0 and ",
                  rollback_floor(), " .. ", seen());
    }
    index_.truncate(tokens);
    return {};
  }

  /// The fewest tokens, besides 0, that truncate() can keep. Nothing was evicted, so it is 0.
  [[nodiscard]] Index rollback_floor() const noexcept { return 0; }

  /// Forgets all tokens and keeps the memory. wrong_state while a step is open.
  Status clear() { return truncate(0); }

  /// Memory held, measured: `allocated` and `peak` are what the memory resource was asked for.
  [[nodiscard]] CacheBytes bytes() const noexcept {
    return {.allocated = allocated(),
            .allocated_rows = store_.allocated(),
            .live = kept() * layers() * store_.token_bytes(),
            .peak = peak_,
            .layers = layers(),
            .kept = kept(),
            .seen = seen()};
  }

  /// What one token should cost by the formula: layers x sum over streams of heads x encoded row, without padding.
  [[nodiscard]] Index row_bytes_per_token() const noexcept {
    Index bytes = 0;
    for (int s = 0; s < layout_.num_streams; ++s) {
      bytes += layout_.streams[std::size_t(s)].num_heads * encoded_bytes(s, layout_);
    }
    return layers() * bytes;
  }

  /// New tokens on their way into the cache. Movable; the cache knows its open step and follows both when they move.
  class Step {
   public:
    Step(Step&& other) noexcept { take(other); }
    Step& operator=(Step&& other) noexcept {
      if (this != &other) {
        abort();
        take(other);
      }
      return *this;
    }
    ~Step() { abort(); }

    /// False after commit() or abort(), and when the step was moved from or its cache is gone.
    [[nodiscard]] bool open() const noexcept { return cache_ != nullptr; }
    /// Logical position of the first new token.
    [[nodiscard]] Index first_position() const noexcept { return first_position_; }
    /// Number of new tokens.
    [[nodiscard]] Index tokens() const noexcept { return tokens_; }

    /// Encodes the new tokens' rows [tokens][heads][width] of one stream of one layer. May be repeated.
    /// out_of_range for layer or stream, invalid_argument for a wrong number of floats.
    Status write(Index layer, int stream, std::span<const float> rows) {
      if (!open()) return closed("write()");
      return cache_->write(layer, stream, tokens_, rows);
    }
    /// The same for a policy with one stream.
    Status write(Index layer, std::span<const float> rows)
      requires one_stream
    {
      return write(layer, P::key_stream, rows);
    }
    /// The same for a policy with a key and a value stream.
    Status write(Index layer, std::span<const float> keys, std::span<const float> values)
      requires(!one_stream)
    {
      if (Status status = write(layer, P::key_stream, keys); !status.ok()) return status;
      return write(layer, P::value_stream, values);
    }

    /// Committed and new tokens of one layer; meaningful once its streams are written. Only while the step is open.
    [[nodiscard]] View keys(Index layer) const noexcept {
      return open() ? cache_->view(layer, cache_->size() + tokens_) : View();
    }

    /// Adds the tokens to the cache. wrong_state, and the step stays open, if a stream of a layer was not written.
    Status commit() {
      if (!open()) return closed("commit()");
      if (Status status = cache_->all_written(tokens_); !status.ok()) return status;
      cache_->index_.keep(tokens_);
      abort();
      return {};
    }

    /// Forgets the tokens.
    void abort() noexcept {
      if (open()) std::exchange(cache_, nullptr)->step_ = nullptr;
    }

   private:
    friend class KvCache;
    Step(KvCache& cache, Index tokens) noexcept
        : cache_(&cache), first_position_(cache.index_.position(cache.size())), tokens_(tokens) {
      ++cache.serial_;
      cache.step_ = this;
    }
    void take(Step& other) noexcept {
      cache_ = std::exchange(other.cache_, nullptr);
      first_position_ = other.first_position_;
      tokens_ = other.tokens_;
      if (open()) cache_->step_ = this;
    }
    [[nodiscard]] static Status closed(const char* call) {
      return fail(StatusCode::wrong_state, call, ": the step is closed");
    }

    KvCache* cache_ = nullptr;
    Index first_position_ = 0;
    Index tokens_ = 0;
  };

 private:
  /// The step that last wrote a stream of a layer, so that no step starts by clearing flags.
  using Mark = std::uint64_t;
  static constexpr Index mark_bytes = Index(sizeof(Mark));

  KvCache(P policy, const CacheOptions& options, R rule)
      : policy_(std::move(policy)), rule_(std::move(rule)), options_(options), layout_(policy_.layout()) {}

  [[nodiscard]] static Index encoded_bytes(int stream, const AttentionLayout& layout) noexcept {
    const Index width = layout.streams[std::size_t(stream)].width;
    return stream == P::value_stream ? ValueCodec::row_bytes(width) : KeyCodec::row_bytes(width);
  }
  [[nodiscard]] Index limit() const noexcept {
    return options_.max_tokens > 0 ? options_.max_tokens : detail::most_tokens;
  }
  [[nodiscard]] Index allocated() const noexcept { return store_.allocated() + index_.allocated() + written_.size(); }
  [[nodiscard]] Mark& mark(Index layer, int stream) noexcept {
    return reinterpret_cast<Mark*>(written_.data())[layer * layout_.num_streams + stream];
  }
  [[nodiscard]] View view(Index layer, Index size) const noexcept {
    const bool exists = layer >= 0 && layer < layers();
    return View(store_, index_, rule_, layout_, exists ? layer : 0, exists ? size : 0);
  }

  [[nodiscard]] Status no_step(const char* call) const {
    if (step_ == nullptr) return {};
    return fail(StatusCode::wrong_state, call, ": a step of ", step_->tokens(), " tokens is open; commit or abort it");
  }

  [[nodiscard]] Status make_room(Index count) {
    if (Status status = no_step("begin()"); !status.ok()) return status;
    if (count < 0) return fail(StatusCode::invalid_argument, "begin(): count is ", count, ", must be at least 0");
    if (count > limit() - size()) {
      return fail(StatusCode::out_of_range, "begin(): ", count, " tokens, but only ", limit() - size(),
                  " more fit: ", size(), " of max_tokens ", limit(), " are in the cache");
    }
    const Index needed = size() + count;
    if (needed <= capacity()) return {};
    constexpr Index first_capacity = 16;
    return grow(std::min(limit(), std::max({needed, 2 * capacity(), first_capacity})));
  }

  /// Moves everything to blocks of `capacity` tokens. The old ones are freed last.
  [[nodiscard]] Status grow(Index capacity) {
    std::array<StoredStream, AttentionLayout::max_streams> streams{};
    for (int s = 0; s < layout_.num_streams; ++s) {
      streams[std::size_t(s)] = {layout_.streams[std::size_t(s)].num_heads, encoded_bytes(s, layout_)};
    }
    Result<ContiguousStore> store = ContiguousStore::create(
        options_.memory, layers(), std::span(streams).first(std::size_t(layout_.num_streams)), capacity);
    if (!store.ok()) return store.status();
    peak_ = std::max(peak_, allocated() + store->allocated());
    Result<SequenceIndex> index = SequenceIndex::create(options_.memory, capacity);
    if (!index.ok()) return index.status();
    peak_ = std::max(peak_, allocated() + store->allocated() + index->allocated());
    store->copy(store_, size());
    index->copy(index_);
    store_ = std::move(*store);
    index_ = std::move(*index);
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
    if (stream == P::value_stream) {
      store_.template encode<ValueCodec>(layer, stream, size(), tokens, shape.width, rows.data());
    } else {
      store_.template encode<KeyCodec>(layer, stream, size(), tokens, shape.width, rows.data());
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
  R rule_;
  CacheOptions options_;
  AttentionLayout layout_;
  ContiguousStore store_;
  SequenceIndex index_;
  Buffer written_;
  Mark serial_ = 0;
  Index peak_ = 0;
  Step* step_ = nullptr;
};

}  // namespace heed::inline HEED_ABI
