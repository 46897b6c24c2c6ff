/// \file
/// The layers of a cache in groups that share a rule, and the pool of their pages.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <heed/cache/layer_group.hpp>
#include <heed/cache/options.hpp>
#include <heed/cache/page_choice.hpp>
#include <heed/hash.hpp>

namespace heed::inline HEED_ABI::detail {

/// Which layers a cache has, which group each layer is in, and what the groups are made of: options, streams, a pool.
///
/// An object that was moved from has no groups, no layers and no tokens. The groups themselves do not move, because
/// views point to them.
class GroupedLayers {
 public:
  /// Where a layer's rows are.
  struct Place {
    Index group = -1;  ///< index in groups(); -1: in none
    Index layer = 0;   ///< within the group
  };

  /// As given to create(). After a move, `layers` is 0.
  [[nodiscard]] const CacheOptions& options() const noexcept { return options_; }
  /// Where pages come from. There is none after a move.
  [[nodiscard]] PagePool& pool() const noexcept { return *pool_; }
  /// For whatever the owner allocates; the pool counts it.
  [[nodiscard]] MemoryResource memory() const noexcept { return pool_->metered(); }
  /// The hold on pool().
  [[nodiscard]] const PoolHandle& pool_handle() const noexcept { return pool_; }
  /// One group for each LayerRule.
  [[nodiscard]] std::span<const LayerGroup> groups() const noexcept { return groups_; }
  /// Where the rows of a layer are. The layer must exist.
  [[nodiscard]] Place place(Index layer) const noexcept { return places_[std::size_t(layer)]; }
  /// The group of a layer. If there is no such layer, that of layer 0. Without layers an empty group.
  /// \{
  [[nodiscard]] LayerGroup& group(Index layer) noexcept { return groups_[std::size_t(place(checked(layer)).group)]; }
  [[nodiscard]] const LayerGroup& group(Index layer) const noexcept {
    if (groups_.empty()) return no_group();
    return groups_[std::size_t(place(checked(layer)).group)];
  }
  /// \}
  /// Committed tokens, the same number in every group.
  [[nodiscard]] Index seen() const noexcept { return groups_.empty() ? 0 : groups_.front().index.seen(); }
  /// Most tokens that the cache may keep.
  [[nodiscard]] Index limit() const noexcept { return token_limit(options_.max_tokens); }

  /// Bytes of a token in all layers, encoded, without padding.
  [[nodiscard]] Index encoded_token_bytes() const noexcept {
    Index bytes = 0;
    for (const LayerGroup& g : groups_) bytes += g.near_rows.layout().encoded_token_bytes();
    return bytes;
  }
  /// A hash of everything that a snapshot depends on besides tokens and codecs.
  [[nodiscard]] std::uint64_t fingerprint() const {
    std::uint64_t hash = options_.model_id;
    const auto add = [&hash](std::uint64_t n) { hash = hash_next(hash, n); };
    for (const StoredStream& stream : streams_) {
      add(std::uint64_t(stream.heads));
      add(std::uint64_t(stream.row_bytes));
      if (stream.factor_bytes > 0) add(std::uint64_t(stream.factor_bytes));
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

 protected:
  GroupedLayers() = default;
  /// `other` is left without groups, layers and tokens.
  GroupedLayers(GroupedLayers&& other) noexcept
      : options_(other.options_),
        pool_(std::move(other.pool_)),
        streams_(std::move(other.streams_)),
        groups_(std::move(other.groups_)),
        places_(std::move(other.places_)) {
    other.options_.layers = 0;
  }
  ~GroupedLayers() = default;

  /// Exchanges everything with `other`.
  void swap(GroupedLayers& other) noexcept {
    std::swap(options_, other.options_);
    std::swap(pool_, other.pool_);
    std::swap(streams_, other.streams_);
    std::swap(groups_, other.groups_);
    std::swap(places_, other.places_);
  }

  /// Makes the groups of an object that has none. invalid_argument unless every layer is in just one group; out_of_memory.
  /// Options are valid.
  [[nodiscard]] Status add_groups(const CacheOptions& options, std::span<const StoredStream> streams,
                                  std::span<const LayerRule> rules, PoolHandle pool) {
    options_ = options;
    pool_ = std::move(pool);
    streams_.assign(streams.begin(), streams.end());
    places_.assign(std::size_t(options.layers), {});
    groups_.reserve(rules.size());
    for (const LayerRule& rule : rules) {
      if (Status status = add_group(rule); !status.ok()) return status;
    }
    for (Index layer = 0; layer < options.layers; ++layer) {
      if (places_[std::size_t(layer)].group < 0) {
        return fail(StatusCode::invalid_argument, "rules: layer ", layer, " is in no group");
      }
    }
    return {};
  }
  /// The rules of the groups, each with its layers in ascending order.
  [[nodiscard]] std::vector<LayerRule> rules() const {
    std::vector<LayerRule> rules(groups_.size());
    for (Index layer = 0; layer < options_.layers; ++layer) {
      LayerRule& rule = rules[std::size_t(place(layer).group)];
      rule.rule = group(layer).index.rule();
      rule.layers.push_back(layer);
    }
    return rules;
  }
  /// `layer` if there is such a layer, else 0.
  [[nodiscard]] Index checked(Index layer) const noexcept { return layer >= 0 && layer < options_.layers ? layer : 0; }

  /// true if the pool serves only this cache: no fork, and not the cache that it was forked from.
  [[nodiscard]] bool alone() const noexcept {
    return pool_.handles() == 1 + LayerGroup::pool_handles * Index(groups_.size());
  }

  CacheOptions options_;               ///< `layers` is 0 after a move
  PoolHandle pool_;                    ///< declared before all that is allocated from it
  std::vector<StoredStream> streams_;  ///< of each layer
  std::vector<LayerGroup> groups_;     ///< one for each LayerRule
  std::vector<Place> places_;          ///< of layers

 private:
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
};

}  // namespace heed::inline HEED_ABI::detail
