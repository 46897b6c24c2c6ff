/// \file
/// Sequences that begin alike share their beginning.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include <heed/cache/kv_cache.hpp>
#include <heed/cache/prefix/id_tree.hpp>
#include <heed/cache/prefix/page_tally.hpp>
#include <heed/cache/prefix/scope.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
/// A step of a cache that can keep what going back to the step's first token needs.
template <class Step>
concept EvictsLater = requires(Step& step) {
  step.cache();
  step.commit(Eviction::later);
};
}  // namespace detail

/// Caches under the token ids they have seen, found again by the longest beginning of a new prompt.
///
///     auto match = prefixes.find(prompt);                       // all but the last token, at best
///     Cache cache = match->cache ? *std::move(match->cache) : *Cache::create(...);
///     for (each chunk of what is left of the prompt) {
///       auto step = cache.begin(chunk);  ...  // write, attend
///       prefixes.commit(prompt.first(cache.seen() + chunk.size()), *step);
///     }
///     ...                                     // decode
///     prefixes.insert(all_ids, cache);        // so that the conversation can go on
///
/// **What is found.** An entry of n tokens can give every t <= n that its cache can go back to: t >= rollback_floor(), of
/// all layer groups the greatest. find() gives the longest t of all entries. Without eviction that is every t. Where a
/// rule evicts, insert() alone gives t = n, and what undo_tokens leave; commit() keeps what the step's tokens could see,
/// so that it gives every t from the step's first token on, in all layer groups at once. Then chunks that are committed
/// one after the other give every t. The cache that is found computes the very bits of one that was fed from the start.
///
/// **What it costs.** Entries are forks: they share pages with each other and with the caches they came from, and no row
/// is copied but those of a page that is not full, when its cache goes on (one page of every layer group for each entry
/// whose length is no multiple of the page's tokens). An entry of a group with a window w, inserted, holds the pages of
/// w - 1 tokens; committed, of w - 1 + (tokens of the step). Entries of all chunks of a prompt hold each of its pages
/// once: what the prompt would take without a window. To keep less, commit the steps as usual and insert() every so many
/// tokens: then t is one of these lengths. Beside pages an entry holds 4 bytes a token and layer group (the tokens
/// that are kept), 40 bytes for each token that it can go back, 8 bytes a page.
///
/// Entries beyond set_max_bytes() go, the least recently used first: find(), insert() and commit() use one. Pages that go
/// return to their pool, and from there to the memory resource by KvCache::trim() or PagePool::trim().
///
/// Owns its entries. A pool of the caller's (CacheOptions::pool) must outlive it. One thread at a time; caches that were
/// inserted or found may be used by other threads meanwhile. Movable. Uses the C++ heap beside the pages. All caches must
/// have one fingerprint(): layers, rules, positions, undo_tokens, model_id; PrefixScope is for what differs otherwise.
template <class Cache>
class PrefixCache {
 public:
  using Ids = std::span<const std::int32_t>;

  /// What was found: a cache of the caller's that has seen the first `tokens` ids. No cache: nothing fits.
  struct Match {
    Index tokens = 0;
    std::optional<Cache> cache;
    std::uint64_t key = 0;  ///< of the entry
  };

  /// Entries.
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] PrefixBytes bytes() const noexcept {
    return {.pages = tally_.bytes(), .bookkeeping = own_bytes_ + tree_bytes_};
  }
  [[nodiscard]] const PrefixCounters& counters() const noexcept { return counters_; }

  /// Entries hold at most so many bytes().total() from now on; 0 is no limit, and the default. invalid_argument if
  /// negative.
  Status set_max_bytes(Index bytes) {
    if (bytes < 0) {
      return fail(StatusCode::invalid_argument, "set_max_bytes(): bytes is ", bytes, ", must be at least 0");
    }
    max_bytes_ = bytes;
    shrink(0);
    return {};
  }

  /// Stores a fork of `cache`, which has seen exactly `ids`; what it holds later does not matter. The same ids in the same
  /// scope are one entry, which keeps the cache that can go back further. Returns a key for erase(), > 0.
  ///
  /// invalid_argument for a negative id, no ids, another number of ids than the cache has seen, an id that is not the
  /// cache's, a cache with another fingerprint(); unsupported after compact(); out_of_range if the entry alone exceeds
  /// max_bytes; what fork() says otherwise. Nothing changes then.
  [[nodiscard]] Result<std::uint64_t> insert(Ids ids, const Cache& cache, const PrefixScope& scope = {}) {
    if (Index(ids.size()) != cache.seen() || ids.empty()) {
      return fail(StatusCode::invalid_argument, "insert(): there are ", ids.size(), " ids, the cache has seen ",
                  cache.seen(), " tokens");
    }
    if (Status status = check_cache("insert()", ids, cache); !status.ok()) return status;
    const auto tree = trees_.find(scope.key());
    const std::uint64_t known = tree == trees_.end() ? 0 : tree->second.exactly(ids);
    if (known != 0 && cache.rollback_floor() >= places_.at(known)->cache.rollback_floor()) return use(known).key;
    Result<Cache> fork = cache.fork();
    if (!fork.ok()) return fork.status();
    if (Status status = check_bytes(Index(ids.size()), *fork); !status.ok()) return status;
    const std::uint64_t key = known != 0 ? replace(known, *std::move(fork)) : add(ids, *std::move(fork), scope);
    shrink(1);
    return key;
  }

  /// step.commit(), and insert() before anything is evicted: `ids` are all tokens, those of the step included. So later
  /// prompts find every length from the step's first token on, whatever the rules. The cache itself evicts with its next
  /// commit(): until then it holds the step's tokens.
  ///
  /// As insert(), and as commit(). The step stays open if it was not committed; if it is closed after an error, it was
  /// committed and is not stored.
  template <class Step = typename Cache::Step>
    requires detail::EvictsLater<Step>
  [[nodiscard]] Result<std::uint64_t> commit(Ids ids, Step& step, const PrefixScope& scope = {}) {
    if (!step.open()) return fail(StatusCode::wrong_state, "commit(): the step is closed");
    const Cache& cache = *step.cache();
    if (Index(ids.size()) != step.first_logical_position() + step.tokens() || ids.empty()) {
      return fail(StatusCode::invalid_argument, "commit(): there are ", ids.size(),
                  " ids, the cache and its step have ", step.first_logical_position() + step.tokens(), " tokens");
    }
    Status status = check_cache("commit()", ids, cache);
    for (Index i = 0; status.ok() && i < step.tokens(); ++i) {
      status = check_id("commit()", ids, step.first_logical_position() + i, step.token_id(i));
    }
    if (status.ok()) status = step.commit(Eviction::later);
    if (!status.ok()) return status;
    return insert(ids, cache, scope);
  }

  /// The cache of the longest beginning of `ids` that an entry of this scope can give, with at least `leave` ids left: an
  /// engine needs the logits of the last one. It can go back as far as its rollback_floor() says: where a rule evicts,
  /// undo_tokens fill up again as it goes on. invalid_argument for a negative id or `leave`; what fork() and truncate()
  /// say.
  [[nodiscard]] Result<Match> find(Ids ids, Index leave = 1, const PrefixScope& scope = {}) {
    if (leave < 0) return fail(StatusCode::invalid_argument, "find(): leave is ", leave, ", must be at least 0");
    if (Status status = check_ids("find()", ids); !status.ok()) return status;
    detail::IdTree::Found found;
    const Index most = std::max<Index>(0, Index(ids.size()) - leave);
    const auto tree = trees_.find(scope.key());
    if (tree != trees_.end()) found = tree->second.longest(ids.first(std::size_t(most)));
    Match match;
    if (found.length > 0) {
      Result<Cache> fork = use(found.number).cache.fork();
      if (!fork.ok()) return fork.status();
      if (Status status = fork->truncate(found.length); !status.ok()) return status;
      match.tokens = found.length;
      match.key = found.number;
      match.cache.emplace(*std::move(fork));
    }
    ++counters_.finds;
    counters_.hits += found.length > 0;
    counters_.asked_tokens += Index(ids.size());
    counters_.found_tokens += found.length;
    counters_.compared += found.compared;
    return match;
  }

  /// Drops an entry; false if there is none.
  bool erase(std::uint64_t key) {
    const auto at = places_.find(key);
    if (at == places_.end()) return false;
    drop(at->second);
    return true;
  }
  /// Drops all entries.
  void clear() {
    while (!entries_.empty()) drop(std::prev(entries_.end()));
  }

 private:
  using Trees = std::map<std::string, detail::IdTree>;  // by scope
  struct Entry {
    std::uint64_t key = 0;
    Cache cache;
    typename Trees::iterator tree;
    detail::IdTree::Place place = 0;
    Index own_bytes = 0;
  };
  using Entries = std::list<Entry>;  // the latest used first

  [[nodiscard]] static Status check_ids(const char* call, Ids ids) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) return fail(StatusCode::invalid_argument, call, ": ids[", i, "] is ", ids[i]);
    }
    return {};
  }
  /// Whether the cache is what its ids make of it, and like the others.
  [[nodiscard]] Status check_cache(const char* call, Ids ids, const Cache& cache) const {
    if (Status status = check_ids(call, ids); !status.ok()) return status;
    if constexpr (requires { cache.compacted(); }) {
      if (cache.compacted()) {
        return fail(StatusCode::unsupported, call,
                    ": compact() took tokens out of the cache, so it is not what its ids make of it");
      }
    }
    if constexpr (requires { cache.fingerprint(); }) {
      if (!entries_.empty() && cache.fingerprint() != entries_.front().cache.fingerprint()) {
        return fail(StatusCode::invalid_argument, call,
                    ": the cache differs from those that are stored in layers, rules, positions, undo_tokens or model_id");
      }
    }
    if constexpr (requires { cache.token_id(Index{}, Index{}); }) {
      Index layer = 0;  // one that holds the most
      for (Index other = 1; other < cache.layers(); ++other) {
        if (cache.kept(other) > cache.kept(layer)) layer = other;
      }
      for (Index key = 0; key < cache.kept(layer); ++key) {
        const Index position = cache.position(key, layer);
        if (Status status = check_id(call, ids, position, cache.token_id(key, layer)); !status.ok()) return status;
      }
    }
    return {};
  }
  /// What the cache knows of a token, if it was given its id.
  [[nodiscard]] static Status check_id(const char* call, Ids ids, Index position, std::int32_t known) {
    const std::int32_t id = ids[std::size_t(position)];
    if (known == no_token_id || known == id) return {};
    return fail(StatusCode::invalid_argument, call, ": ids[", position, "] is ", id, ", but the cache was given ",
                known);
  }

  [[nodiscard]] Status check_bytes(Index tokens, const Cache& cache) const {
    if (max_bytes_ == 0) return {};
    Index bytes = entry_bytes(cache) + detail::IdTree::bytes_of(tokens);
    detail::for_each_page_of(cache, [&bytes](const void*, Index page) { bytes += page; });
    if (bytes <= max_bytes_) return {};
    return fail(StatusCode::out_of_range, "insert(): an entry of ", tokens, " tokens holds ", bytes,
                " bytes, max_bytes is ", max_bytes_);
  }
  [[nodiscard]] static Index entry_bytes(const Cache& cache) {
    return detail::own_bytes_of(cache) + Index(sizeof(Entry));
  }

  /// The entry becomes the latest used one.
  Entry& use(std::uint64_t key) {
    entries_.splice(entries_.begin(), entries_, places_.at(key));
    return entries_.front();
  }
  std::uint64_t add(Ids ids, Cache cache, const PrefixScope& scope) {
    const auto tree = trees_.try_emplace(scope.key()).first;
    const std::uint64_t key = ++last_key_;
    tally_.add(cache);
    own_bytes_ += entry_bytes(cache);
    tree_bytes_ -= tree->second.bytes();
    const auto place = tree->second.add(ids, key, cache.rollback_floor());
    tree_bytes_ += tree->second.bytes();
    const Index own_bytes = entry_bytes(cache);
    entries_.push_front(Entry{key, std::move(cache), tree, place, own_bytes});
    places_.emplace(key, entries_.begin());
    return key;
  }
  std::uint64_t replace(std::uint64_t key, Cache cache) {
    Entry& entry = use(key);
    tally_.add(cache);
    tally_.remove(entry.cache);
    own_bytes_ += entry_bytes(cache) - entry.own_bytes;
    entry.own_bytes = entry_bytes(cache);
    entry.cache = std::move(cache);
    entry.tree->second.set_floor(entry.place, entry.cache.rollback_floor());
    return key;
  }
  void drop(typename Entries::iterator at) {
    tally_.remove(at->cache);
    own_bytes_ -= at->own_bytes;
    detail::IdTree& tree = at->tree->second;
    tree_bytes_ -= tree.bytes();
    tree.erase(at->place);
    tree_bytes_ += tree.bytes();
    if (tree.empty()) trees_.erase(at->tree);
    places_.erase(at->key);
    entries_.erase(at);
  }
  /// Keeps max_bytes, and the `latest` entries used last.
  void shrink(std::size_t latest) {
    while (max_bytes_ > 0 && bytes().total() > max_bytes_ && entries_.size() > latest) {
      drop(std::prev(entries_.end()));
      ++counters_.evicted;
    }
  }

  Trees trees_;
  Entries entries_;
  std::unordered_map<std::uint64_t, typename Entries::iterator> places_;  // by key
  detail::PageTally tally_;
  PrefixCounters counters_;
  std::uint64_t last_key_ = 0;
  Index max_bytes_ = 0;
  Index own_bytes_ = 0;
  Index tree_bytes_ = 0;
};

}  // namespace heed::inline HEED_ABI
