/// \file
/// What can be asked of a cache whatever its policy and codecs: its tokens, its rules, its memory.
#pragma once

#include <cstdint>
#include <utility>

#include <heed/cache/layer_groups.hpp>

namespace heed::inline HEED_ABI {

/// The part of a KvCache that knows no rows of numbers. It is a base of KvCache and nothing else. A layer that does not
/// exist is taken for layer 0.
class CacheContents {
 public:
  /// Number of layers; 0 if the cache was moved from.
  [[nodiscard]] Index layers() const noexcept { return groups_.options().layers; }
  /// CacheOptions::positions.
  [[nodiscard]] Positions positions() const noexcept { return groups_.options().positions; }
  /// The rule of a layer.
  [[nodiscard]] const AnyRule& rule(Index layer = 0) const noexcept { return groups_.group(layer).index.rule(); }

  /// Committed tokens that the layer keeps: its keys. size() is another name of kept().
  /// \{
  [[nodiscard]] Index size(Index layer = 0) const noexcept { return kept(layer); }
  [[nodiscard]] Index kept(Index layer = 0) const noexcept { return groups_.group(layer).index.kept(); }
  /// \}
  /// Committed tokens, evicted and removed ones included.
  [[nodiscard]] Index seen() const noexcept { return groups_.seen(); }
  /// Committed tokens that the layer no longer keeps, removed ones included.
  [[nodiscard]] Index evicted(Index layer = 0) const noexcept { return groups_.group(layer).index.evicted(); }
  /// Logical position of a kept token: strictly increasing. `key` must be in 0 .. kept(layer) - 1.
  [[nodiscard]] Index position(Index key, Index layer = 0) const noexcept {
    return groups_.group(layer).index.position(key);
  }
  /// Id of a kept token; no_token_id if begin() got none. `key` as in position().
  [[nodiscard]] std::int32_t token_id(Index key, Index layer = 0) const noexcept {
    return groups_.group(layer).index.token_id(key);
  }
  /// Tokens that the cache can hold without another page, in steps of at most 512 tokens. If every rule has a bound and
  /// its pages exist, it is the most that the cache may hold.
  [[nodiscard]] Index capacity() const noexcept { return groups_.capacity(); }

  /// The fewest tokens above 0 that truncate() can go back to.
  [[nodiscard]] Index rollback_floor() const noexcept { return groups_.rollback_floor(); }

  /// Number of tokens before the first removed one; seen() if none was removed. The rows of these tokens are as if they
  /// had been fed to an empty cache. Rows of later tokens may depend on the removal.
  [[nodiscard]] Index intact() const noexcept { return groups_.intact(); }

  /// Memory held, measured. `allocated` and `peak` are the bytes asked of the memory resource. With a pool of the
  /// caller they are the pages and the bookkeeping of this cache only.
  [[nodiscard]] CacheBytes bytes() const noexcept { return groups_.bytes(); }

  /// Bytes of one token by the formula: layers x sum over streams of heads x bytes of an encoded row, without padding.
  [[nodiscard]] Index row_bytes_per_token() const noexcept { return groups_.encoded_token_bytes(); }

  /// Counters of what a layer has kept so far.
  [[nodiscard]] RetentionCounters retention(Index layer = 0) const noexcept { return groups_.counters(layer); }

  // --- for PrefixCache --------------------------------------------------------------------------------------------

  /// Calls body(address, bytes) for every page that the cache holds. A page that forks share has one address in all of
  /// them.
  void for_each_page(FunctionRef<void(const void*, Index)> body) const {
    for (const detail::LayerGroup& g : groups_.groups()) g.for_each_page(body);
  }
  /// Bytes of this cache without its pages: token ids and a few words per page, step and layer.
  [[nodiscard]] Index bookkeeping_bytes() const noexcept { return groups_.bookkeeping(); }
  /// true if the caller removed tokens since the cache was last empty, with remove(), compact() or resume_at(). Rows of
  /// later tokens may then differ from those of the whole text.
  [[nodiscard]] bool removed() const noexcept { return groups_.removed(); }
  /// A hash of layer shapes, rules, positions, undo_tokens and model_id. Caches with equal hashes can replace each
  /// other.
  [[nodiscard]] std::uint64_t fingerprint() const { return groups_.fingerprint(); }

 protected:
  /// Takes over the groups.
  explicit CacheContents(detail::LayerGroups groups) noexcept : groups_(std::move(groups)) {}
  /// `other` is left without layers and tokens.
  CacheContents(CacheContents&&) noexcept = default;
  CacheContents& operator=(CacheContents&&) noexcept = default;
  ~CacheContents() = default;

  detail::LayerGroups groups_;  ///< all layers, by rule
};

}  // namespace heed::inline HEED_ABI
