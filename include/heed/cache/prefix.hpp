/// \file
/// Sequences that begin with the same tokens share the memory of that beginning.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <heed/cache/kv_cache.hpp>
#include <heed/cache/prefix/check.hpp>
#include <heed/cache/prefix/entries.hpp>
#include <heed/cache/prefix/meters.hpp>
#include <heed/cache/prefix/scope.hpp>
#include <heed/heap.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
/// A step of a cache that can keep what going back to the step's first token needs.
template <class Step>
concept EvictsLater = requires(Step& step) {
  step.cache();
  step.commit(Eviction::later);
};
}  // namespace detail

/// Stores caches by the token ids that they have seen, and finds the cache for the longest beginning of a new prompt.
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
/// **What is found.** An entry of n tokens can give every t <= n that its cache can go back to: t >= rollback_floor(),
/// the greatest of all layer groups. find() gives the longest t of all entries. Without eviction that is every t. Where
/// a rule evicts, an entry of insert() gives t = n, and the lengths that undo_tokens allow. An entry of commit() keeps
/// what the step's tokens could see, so it gives every t from the step's first token on, in all layer groups at once.
/// Chunks that are committed one after the other then give every t. To find the same prompt again, one of its tokens
/// must be left. If a rule evicts, that also takes commit() or undo_tokens. A cache that was found computes the same
/// bits as one that was fed from the start.
///
/// **What it costs.** Entries are forks: they share pages with each other and with the caches they came from. Storing
/// copies no row. A cache that takes further tokens copies the last page of every layer group, unless that page was
/// full. So lengths that are multiples of CacheOptions::page_tokens cost nothing, others cost a page. The default page,
/// up to 1024 tokens, is large for that.
///
///     group with a window w       holds the pages of
///     insert()                    w - 1 tokens
///     commit()                    w - 1 + (tokens of the step) tokens
///     commit() of every chunk     the whole text, each page once: as if there were no window
///
/// To keep less, commit steps as usual and insert() at some lengths: then t is one of these lengths. Bookkeeping of a
/// group of an entry is 4 bytes for every token that it keeps, 16 more for a landmark, 40 for every token that it can
/// go back and 8 for every page. An id takes 4 bytes. The ids of a common beginning are stored once.
///
/// Entries beyond set_max_bytes() go, the least recently used first: find(), insert() and commit() use one. Pages that
/// go return to their pool, and from there to the memory resource by KvCache::trim() or PagePool::trim(). Free pages
/// belong to their pool and are not counted. Give all caches one pool: a pool of a cache's own lives as long as its
/// entries, with all the memory that was reserved.
///
/// Owns its entries. A pool of the caller's (CacheOptions::pool) must outlive it. One thread at a time; caches that
/// were inserted or found may be used by other threads meanwhile. Movable; one that was moved from may only be
/// destroyed or assigned to. Bookkeeping is on the C++ heap. All caches must have one fingerprint(): layers, rules,
/// positions, undo_tokens, model_id. PrefixScope is for what differs otherwise. A cache that is found has policy and
/// options of the cache that was stored.
template <class Cache>
class PrefixCache {
 public:
  using Ids = std::span<const std::int32_t>;  ///< token ids

  /// What find() returns: a cache, now the caller's, that has seen the first `tokens` ids. No cache if nothing fits.
  struct Match {
    Index tokens = 0;            ///< number of ids that need not be computed again
    std::optional<Cache> cache;  ///< empty if nothing fits
    std::uint64_t key = 0;       ///< key of the entry, see erase()
  };

  /// Number of entries.
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  /// What the entries hold now.
  [[nodiscard]] PrefixBytes bytes() const noexcept { return entries_.bytes(); }
  /// What was done so far.
  [[nodiscard]] const PrefixCounters& counters() const noexcept { return counters_; }

  /// Sets the limit of bytes().total() and evicts entries down to it. 0, the default, is no limit. invalid_argument if
  /// negative.
  Status set_max_bytes(Index bytes) {
    if (bytes < 0) {
      return fail(StatusCode::invalid_argument, "set_max_bytes(): bytes is ", bytes, ", must be at least 0");
    }
    max_bytes_ = bytes;
    shrink(0);
    return {};
  }

  /// Stores a fork of `cache`, which must have seen exactly `ids`. Later changes of `cache` do not matter. There is one
  /// entry for the same ids in the same scope; it keeps the cache that can go back further. Returns a key for erase(),
  /// > 0.
  ///
  /// invalid_argument for a negative id, no ids, another number of ids than the cache has seen, an id that is not the
  /// cache's, a cache with another fingerprint(); unsupported if tokens were removed; out_of_range if the entry alone exceeds
  /// max_bytes; out_of_memory; the errors of fork(). Nothing changes then.
  [[nodiscard]] Result<std::uint64_t> insert(Ids ids, const Cache& cache, const PrefixScope& scope = {}) {
    if (Index(ids.size()) != cache.seen() || ids.empty()) {
      return fail(StatusCode::invalid_argument, "insert(): there are ", ids.size(), " ids, the cache has seen ",
                  cache.seen(), " tokens");
    }
    Status status = detail::check_ids_of("insert()", ids, cache);
    if (status.ok()) status = check_kind("insert()", cache);
    if (!status.ok()) return status;
    return store("insert()", ids, cache, scope);
  }

  /// Calls step.commit(), and insert() before anything is evicted. `ids` are all tokens, those of the step included. So
  /// later prompts find every length from the step's first token on, under any rules. The cache itself evicts with its
  /// next commit(); until then it holds the step's tokens.
  ///
  /// Errors as of insert() and of Step::commit(). If the step is open after an error, it was not committed. If it is
  /// closed, it was committed but is not stored.
  template <class Step = typename Cache::Step>
    requires detail::EvictsLater<Step>
  [[nodiscard]] Result<std::uint64_t> commit(Ids ids, Step& step, const PrefixScope& scope = {}) {
    if (!step.open()) return fail(StatusCode::wrong_state, "commit(): the step is closed");
    const Cache& cache = *step.cache();
    if (Index(ids.size()) != step.first_logical_position() + step.tokens() || ids.empty()) {
      return fail(StatusCode::invalid_argument, "commit(): there are ", ids.size(),
                  " ids, the cache and its step have ", step.first_logical_position() + step.tokens(), " tokens");
    }
    Status status = detail::check_ids_of("commit()", ids, cache);
    if (status.ok()) status = check_kind("commit()", cache);
    for (Index i = 0; status.ok() && i < step.tokens(); ++i) {
      status = detail::check_id("commit()", ids, step.first_logical_position() + i, step.token_id(i));
    }
    if (status.ok()) status = step.commit(Eviction::later);
    if (!status.ok()) return status;
    return store("commit()", ids, cache, scope);
  }

  /// The cache of the longest beginning of `ids` that an entry of this scope can give, with at least `leave` ids left:
  /// an engine needs the logits of the last one. It can go back as far as its rollback_floor() says. Where a rule
  /// evicts, that may at first be fewer than undo_tokens tokens; it grows with every further token. invalid_argument
  /// for a negative id or `leave`; the errors of fork() and truncate().
  [[nodiscard]] Result<Match> find(Ids ids, Index leave = 1, const PrefixScope& scope = {}) {
    if (leave < 0) return fail(StatusCode::invalid_argument, "find(): leave is ", leave, ", must be at least 0");
    if (Status status = detail::check_ids("find()", ids); !status.ok()) return status;
    const Index most = std::max<Index>(0, Index(ids.size()) - leave);
    const detail::IdTree::Found found = entries_.longest(ids.first(std::size_t(most)), scope);
    Match match;
    if (found.length > 0) {
      Result<Cache> fork = detail::with_heap("find()", [&] { return entries_.at(found.number).fork(); });
      if (!fork.ok()) return fork.status();
      if (Status status = fork->truncate(found.length); !status.ok()) return status;
      entries_.use(found.number);
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

  /// Drops the entry with this key. false if there is none.
  bool erase(std::uint64_t key) noexcept { return entries_.erase(key); }
  /// Drops all entries.
  void clear() noexcept {
    while (size() > 0) entries_.erase_oldest();
  }

 private:
  /// invalid_argument unless the cache has the fingerprint of those that are stored.
  [[nodiscard]] Status check_kind(const char* call, const Cache& cache) const {
    if constexpr (requires { cache.fingerprint(); }) {
      if (size() > 0 && cache.fingerprint() != entries_.latest().fingerprint()) {
        return fail(
            StatusCode::invalid_argument, call,
            ": the cache differs from those that are stored in layers, rules, positions, undo_tokens or model_id");
      }
    }
    return {};
  }
  /// A fork of `cache`, whose ids were checked, becomes the latest entry.
  [[nodiscard]] Result<std::uint64_t> store(const char* call, Ids ids, const Cache& cache, const PrefixScope& scope) {
    std::uint64_t key = entries_.exactly(ids, scope);
    if (key != 0 && cache.rollback_floor() >= entries_.at(key).rollback_floor()) {
      entries_.use(key);
      return key;
    }
    return detail::with_heap(call, [&]() -> Result<std::uint64_t> {
      Result<Cache> fork = cache.fork();
      if (!fork.ok()) return fork.status();
      if (const Index bytes = entries_.bytes_alone(Index(ids.size()), *fork); max_bytes_ > 0 && bytes > max_bytes_) {
        return fail(StatusCode::out_of_range, call, ": an entry of ", ids.size(), " tokens holds ", bytes,
                    " bytes, max_bytes is ", max_bytes_);
      }
      if (key == 0) {
        key = entries_.add(ids, *std::move(fork), scope);
      } else {
        entries_.replace(key, *std::move(fork));
      }
      shrink(1);
      return key;
    });
  }
  /// Keeps max_bytes, and the `latest` entries used last.
  void shrink(std::size_t latest) noexcept {
    for (; max_bytes_ > 0 && bytes().total() > max_bytes_ && size() > latest; ++counters_.evicted) {
      entries_.erase_oldest();
    }
  }

  detail::PrefixEntries<Cache> entries_;
  PrefixCounters counters_;
  Index max_bytes_ = 0;
};

}  // namespace heed::inline HEED_ABI
