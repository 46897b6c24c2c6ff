/// \file
/// A step of a cache: new tokens that are not yet committed.
#pragma once

#include <span>

#include <heed/cache/cache_facts.hpp>
#include <heed/cache/layer_group.hpp>
#include <heed/cache/step_guard.hpp>

namespace heed::inline HEED_ABI {

/// The new tokens of a cache between begin() and commit() or abort(). Rotary positions are in positions().
template <class Cache>
class CacheStep : public detail::StepGuard<Cache> {
 public:
  using detail::StepGuard<Cache>::open;
  using detail::StepGuard<Cache>::tokens;

  /// Id of new token `i`; no_token_id if begin() got none or the step is closed.
  [[nodiscard]] std::int32_t token_id(Index i) const noexcept {
    return open() ? this->owner()->token_id(this->owner()->kept() + i) : no_token_id;
  }
  /// The cache of the step; null if the step is closed.
  [[nodiscard]] const Cache* cache() const noexcept { return this->owner(); }
  /// Rotary positions of the new tokens in `layer`, [tokens()]. Rotate queries by them, and keys unless the policy
  /// rotates keys at read. They are logical positions. With in-cache ranks a position is the number of keys that the
  /// token sees, minus 1. It then differs between layers with different rules. Valid while the step is open. Empty if
  /// it is closed, or without such a layer.
  ///
  /// They are the positions of a text. Several nodes of a draft tree stand for one place of a text. Rotate nodes by
  /// TreeMask::positions() or TreePaths::positions(). After a call of this function attend() refuses a tree in this
  /// step, unless the tree is a chain.
  [[nodiscard]] std::span<const Index> positions(Index layer) const noexcept {
    if (!open() || layer < 0 || layer >= this->owner()->layers()) return {};
    this->owner()->facts_->ask_positions();
    return this->owner()->groups_.group(layer).index.rotary_positions();
  }

  /// Encodes the rows of the new tokens, [tokens()][heads][width], for one stream of one layer. May be repeated: the
  /// last call counts. out_of_range for a wrong layer or stream, invalid_argument for a wrong number of floats,
  /// wrong_state if the step is closed.
  Status write(Index layer, int stream, std::span<const float> rows) {
    if (!open()) return closed("write()");
    return this->owner()->write(layer, stream, tokens(), rows);
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
  [[nodiscard]] typename Cache::Keys keys(Index layer) const noexcept {
    return open() ? this->owner()->view(layer, true) : Cache::Keys::of_closed_step();
  }

  /// Adds the tokens to the cache and evicts. wrong_state, and the step stays open, if a stream of a layer was not
  /// written.
  Status commit() { return commit(Eviction::now); }

  /// The same with a choice of when tokens are evicted. With Eviction::later the cache can go back to any length since
  /// the step began, until the next commit, as if undo_tokens were tokens(). So a fork() taken until then keeps what a
  /// PrefixCache needs. out_of_memory, and the step stays open, if there is no memory for that.
  Status commit(Eviction eviction) {
    if (!open()) return closed("commit()");
    if (Status status = this->owner()->all_written(); !status.ok()) return status;
    if (eviction == Eviction::later) {
      if (Status status = this->owner()->groups_.prepare_later(); !status.ok()) return status;
    }
    this->owner()->groups_.commit(eviction);
    close();
    return {};
  }

  /// Adds only the tokens accepted[0] < accepted[1] < ... of the step, as if only they had come: the path through a
  /// draft tree that verification accepted. They get consecutive logical positions from first_logical_position() on, so
  /// keys that are stored rotated must have been rotated by those. Errors, which leave the step open: wrong_state as
  /// above, invalid_argument for a wrong index, out_of_memory.
  Status commit(std::span<const Index> accepted) {
    if (!open()) return closed("commit()");
    if (Status status = this->owner()->all_written(); !status.ok()) return status;
    if (Status status = this->owner()->groups_.accept(tokens(), accepted); !status.ok()) return status;
    this->owner()->groups_.commit();
    close();
    return {};
  }

 private:
  friend Cache;
  using detail::StepGuard<Cache>::close;
  using detail::StepGuard<Cache>::closed;

  CacheStep(Cache& cache, Index count) noexcept : detail::StepGuard<Cache>(cache, count) {
    detail::CacheFacts& facts = *cache.facts_.get();
    facts.step_open = true;
    facts.step_tokens = count;
    facts.asked_positions = false;
  }
};

}  // namespace heed::inline HEED_ABI
