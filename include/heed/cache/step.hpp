/// \file
/// A step of a cache: new tokens that are not yet committed.
#pragma once

#include <span>
#include <utility>

#include <heed/cache/cache_facts.hpp>
#include <heed/cache/layer_group.hpp>

namespace heed::inline HEED_ABI {

/// The new tokens of a cache between begin() and commit() or abort(). Movable: step and cache may both move while it is
/// open. The destructor aborts an open step.
template <class Cache>
class CacheStep {
 public:
  CacheStep(CacheStep&& other) noexcept { take(other); }
  CacheStep& operator=(CacheStep&& other) noexcept {
    if (this != &other) {
      abort();
      take(other);
    }
    return *this;
  }
  ~CacheStep() { abort(); }

  /// false after commit() or abort(), if the step was moved from, or if its cache has ended.
  [[nodiscard]] bool open() const noexcept { return cache_ != nullptr; }
  /// Logical position of the first new token: the number of tokens before the step. Rotary positions are in
  /// positions().
  [[nodiscard]] Index first_logical_position() const noexcept { return first_logical_position_; }
  /// Number of new tokens.
  [[nodiscard]] Index tokens() const noexcept { return tokens_; }
  /// Id of new token `i`; no_token_id if begin() got none or the step is closed.
  [[nodiscard]] std::int32_t token_id(Index i) const noexcept {
    return open() ? cache_->token_id(cache_->kept() + i) : no_token_id;
  }
  /// The cache of the step; null if the step is closed.
  [[nodiscard]] const Cache* cache() const noexcept { return cache_; }
  /// Rotary positions of the new tokens in `layer`, [tokens()]. Rotate queries by them, and keys unless the policy
  /// rotates keys at read. They are logical positions; with in-cache ranks, the number of keys that the token sees,
  /// minus 1, which differs between layers with different rules. Valid while the step is open. Empty if it is closed,
  /// or without such a layer.
  ///
  /// They are those of a text. If the tokens are nodes of a draft tree, several stand for one place: rotate by
  /// TreeMask::positions() or TreePaths::positions(). attend() refuses a tree in a step that was asked for these, unless the
  /// tree is a chain.
  [[nodiscard]] std::span<const Index> positions(Index layer) const noexcept {
    if (!open() || layer < 0 || layer >= cache_->layers()) return {};
    cache_->facts_->ask_positions();
    return cache_->groups_.group(layer).index.rotary_positions();
  }

  /// Encodes the rows of the new tokens, [tokens()][heads][width], for one stream of one layer. May be repeated: the
  /// last call counts. out_of_range for a wrong layer or stream, invalid_argument for a wrong number of floats,
  /// wrong_state if the step is closed.
  Status write(Index layer, int stream, std::span<const float> rows) {
    if (!open()) return closed("write()");
    return cache_->write(layer, stream, tokens_, rows);
  }
  /// The same for a policy with one stream.
  Status write(Index layer, std::span<const float> rows) requires(Cache::one_stream) {
    return write(layer, Cache::Policy::key_stream, rows);
  }
  /// The same for a policy with a key and a value stream.
  Status write(Index layer, std::span<const float> keys, std::span<const float> values) requires(!Cache::one_stream) {
    if (Status status = write(layer, Cache::Policy::key_stream, keys); !status.ok()) return status;
    return write(layer, Cache::Policy::value_stream, values);
  }

  /// The keys of one layer: committed and new tokens. It may be taken before the layer's streams are written. attend()
  /// refuses it until they are written, and after the step is closed.
  [[nodiscard]] typename Cache::View keys(Index layer) const noexcept {
    return open() ? cache_->view(layer, true) : Cache::View::of_closed_step();
  }

  /// Adds the tokens to the cache and evicts. wrong_state, and the step stays open, if a stream of a layer was not
  /// written.
  Status commit() { return commit(Eviction::now); }

  /// The same with a choice of when tokens are evicted. With Eviction::later the cache can go back to any length since
  /// the step began, until the next commit, as if undo_tokens were tokens(). So a fork() taken until then keeps what a
  /// PrefixCache needs. out_of_memory, and the step stays open, if there is no memory for that.
  Status commit(Eviction eviction) {
    if (!open()) return closed("commit()");
    if (Status status = cache_->all_written(); !status.ok()) return status;
    if (eviction == Eviction::later) {
      if (Status status = cache_->groups_.prepare_later(); !status.ok()) return status;
    }
    cache_->groups_.commit(eviction);
    close();
    return {};
  }

  /// Adds only the tokens accepted[0] < accepted[1] < ... of the step, as if only they had come: the path through a
  /// draft tree that verification accepted. They get consecutive logical positions from first_logical_position() on, so
  /// keys that are stored rotated must have been rotated by those. Errors, which leave the step open: wrong_state as
  /// above, invalid_argument for a wrong index, out_of_memory.
  Status commit(std::span<const Index> accepted) {
    if (!open()) return closed("commit()");
    if (Status status = cache_->all_written(); !status.ok()) return status;
    if (Status status = cache_->groups_.accept(tokens_, accepted); !status.ok()) return status;
    cache_->groups_.commit();
    close();
    return {};
  }

  /// Forgets the tokens.
  void abort() noexcept {
    if (!open()) return;
    cache_->groups_.abort();
    close();
  }

 private:
  friend Cache;
  /// Not the cache's open step yet: it becomes that when it moves into its Result, which stays.
  CacheStep(Cache& cache, Index tokens) noexcept
      : cache_(&cache), first_logical_position_(cache.seen()), tokens_(tokens) {
    CacheFacts& facts = *cache.facts_.get();
    facts.step_open = true;
    facts.step_tokens = tokens;
    facts.asked_positions = false;
  }
  void take(CacheStep& other) noexcept {
    cache_ = std::exchange(other.cache_, nullptr);
    first_logical_position_ = other.first_logical_position_;
    tokens_ = other.tokens_;
    if (open()) cache_->step_ = this;
  }
  void close() noexcept {
    CacheFacts& facts = *cache_->facts_.get();
    ++facts.change;
    facts.step_open = false;
    std::exchange(cache_, nullptr)->step_ = nullptr;
  }
  [[nodiscard]] static Status closed(const char* call) {
    return fail(StatusCode::wrong_state, call, ": the step is closed");
  }

  Cache* cache_ = nullptr;
  Index first_logical_position_ = 0;
  Index tokens_ = 0;
};

}  // namespace heed::inline HEED_ABI
