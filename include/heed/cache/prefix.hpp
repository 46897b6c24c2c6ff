/// \file
/// Sequences that begin alike share their beginning.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <heed/cache/kv_cache.hpp>

namespace heed::inline HEED_ABI {

/// Caches under the token ids they have seen, found again by the longest beginning of a new prompt.
///
/// A cache can be cut back to t tokens where truncate() can: for rules that evict that is not everywhere, so a prefix is
/// offered only at lengths from its rollback_floor() on. Entries share pages with what they are forks of. Lengths are
/// tried at multiples of `block_tokens` and at the full length; ids are compared, so a hash collision is harmless.
///
/// Grows by what is inserted; erase() what is not wanted any more. One thread at a time. Uses the C++ heap beside the
/// pages.
template <class Cache>
class PrefixCache {
 public:
  /// What was found: a fork that has seen the first `tokens` ids. No cache: nothing fits.
  struct Match {
    Index tokens = 0;
    std::optional<Cache> cache;
  };

  explicit PrefixCache(Index block_tokens = 64) : block_(std::max<Index>(block_tokens, 1)) {}

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

  /// Stores a fork of `cache`, which has seen exactly `ids`. invalid_argument if it has seen another number, or nothing;
  /// what fork() says otherwise. Returns a key for erase().
  [[nodiscard]] Result<std::uint64_t> insert(std::span<const std::int32_t> ids, const Cache& cache) {
    if (Index(ids.size()) != cache.seen() || ids.empty()) {
      return fail(StatusCode::invalid_argument, "insert(): there are ", ids.size(), " ids, the cache has seen ",
                  cache.seen(), " tokens");
    }
    Result<Cache> fork = cache.fork();
    if (!fork.ok()) return fork.status();
    const std::uint64_t key = ++last_key_;
    const Entry& entry = entries_.emplace(key, Entry{{ids.begin(), ids.end()}, *std::move(fork)}).first->second;
    for_each_length(ids, [&](Index tokens, std::uint64_t hash) {
      if (tokens == Index(ids.size()) || tokens >= entry.cache.rollback_floor()) {
        lengths_.emplace(hash, Place{key, tokens});
      }
    });
    return key;
  }

  /// A fork of the entry with the longest usable prefix of `ids`, cut back to it. What fork() and truncate() say.
  [[nodiscard]] Result<Match> find(std::span<const std::int32_t> ids) const {
    Place best;
    for_each_length(ids, [&](Index tokens, std::uint64_t hash) {
      const auto [from, to] = lengths_.equal_range(hash);
      for (auto at = from; at != to; ++at) {
        const Place& place = at->second;
        const std::vector<std::int32_t>& known = entries_.at(place.key).ids;
        if (place.tokens == tokens && tokens > best.tokens &&
            std::equal(known.begin(), known.begin() + tokens, ids.begin())) {
          best = place;
        }
      }
    });
    Match match;
    if (best.tokens == 0) return match;
    Result<Cache> fork = entries_.at(best.key).cache.fork();
    if (!fork.ok()) return fork.status();
    if (Status status = fork->truncate(best.tokens); !status.ok()) return status;
    match.tokens = best.tokens;
    match.cache.emplace(*std::move(fork));
    return match;
  }

  /// Drops an entry; false if there is none.
  bool erase(std::uint64_t key) {
    if (entries_.erase(key) == 0) return false;
    std::erase_if(lengths_, [&](const auto& item) { return item.second.key == key; });
    return true;
  }

 private:
  struct Entry {
    std::vector<std::int32_t> ids;
    Cache cache;
  };
  struct Place {
    std::uint64_t key = 0;
    Index tokens = 0;
  };

  /// body(tokens, hash of the first tokens), at multiples of the block and at the end.
  template <class Body>
  void for_each_length(std::span<const std::int32_t> ids, const Body& body) const {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      hash = (hash ^ std::uint32_t(ids[i])) * 0x100000001b3u;
      hash ^= hash >> 29;
      if (Index(i + 1) % block_ == 0 || i + 1 == ids.size()) body(Index(i + 1), hash);
    }
  }

  Index block_;
  std::uint64_t last_key_ = 0;
  std::unordered_map<std::uint64_t, Entry> entries_;
  std::unordered_multimap<std::uint64_t, Place> lengths_;
};

}  // namespace heed::inline HEED_ABI
