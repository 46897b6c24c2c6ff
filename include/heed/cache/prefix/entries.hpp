/// \file
/// Caches by ids and scope, in order of use, with a count of what they hold.
#pragma once

#include <cstdint>
#include <iterator>
#include <list>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include <heed/cache/prefix/id_tree.hpp>
#include <heed/cache/prefix/meters.hpp>
#include <heed/cache/prefix/page_tally.hpp>
#include <heed/cache/prefix/scope.hpp>
#include <heed/heap.hpp>

namespace heed::inline HEED_ABI::detail {

/// What a PrefixCache stores. The PrefixCache checks and forks; this owns. Movable; one that was moved from may only be
/// destroyed or assigned to.
template <class Cache>
class PrefixEntries {
 public:
  using Ids = IdTree::Ids;

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] PrefixBytes bytes() const noexcept {
    return {.pages = tally_.bytes(), .bookkeeping = own_bytes_ + tree_bytes_};
  }
  /// bytes().total() of this entry alone.
  [[nodiscard]] static Index bytes_alone(Index tokens, const Cache& cache) {
    Index bytes = entry_bytes(cache) + IdTree::bytes_of(tokens);
    for_each_page_of(cache, [&bytes](const void*, Index page) { bytes += page; });
    return bytes;
  }

  /// The key of just these ids; 0 if there is none.
  [[nodiscard]] std::uint64_t exactly(Ids ids, const PrefixScope& scope) const {
    const auto tree = trees_.find(scope.key());
    return tree == trees_.end() ? 0 : tree->second.exactly(ids);
  }
  /// The key of the entry that can give the longest beginning of these ids.
  [[nodiscard]] IdTree::Found longest(Ids ids, const PrefixScope& scope) const {
    const auto tree = trees_.find(scope.key());
    return tree == trees_.end() ? IdTree::Found() : tree->second.longest(ids);
  }
  [[nodiscard]] const Cache& at(std::uint64_t key) const noexcept { return places_.find(key)->second->cache; }
  /// The cache of the latest used entry. There must be one.
  [[nodiscard]] const Cache& latest() const noexcept { return entries_.front().cache; }

  /// Makes the entry the latest used one.
  const Cache& use(std::uint64_t key) noexcept {
    entries_.splice(entries_.begin(), entries_, places_.find(key)->second);
    return latest();
  }
  /// As use(), and replaces the cache by another one of the same ids. Nothing changes if the heap has no memory
  /// (std::bad_alloc).
  void replace(std::uint64_t key, Cache cache) {
    tally_.add(cache);
    use(key);
    Entry& entry = entries_.front();
    tally_.remove(entry.cache);
    own_bytes_ -= entry.own_bytes;
    entry.own_bytes = entry_bytes(cache);
    own_bytes_ += entry.own_bytes;
    entry.cache = std::move(cache);
    entry.tree->second.set_floor(entry.place, entry.cache.rollback_floor());
  }
  /// A new entry of ids that are not there yet, the latest used one; its key. Nothing changes if the heap has no memory
  /// (std::bad_alloc).
  std::uint64_t add(Ids ids, Cache cache, const PrefixScope& scope) {
    const auto tree = trees_.try_emplace(scope.key()).first;
    Undo no_tree([&]() noexcept {
      if (tree->second.empty()) trees_.erase(tree);
    });
    const std::uint64_t key = last_key_ + 1;
    Entries made;
    made.push_front(Entry{key, std::move(cache), tree, 0, 0});
    Entry& entry = made.front();
    entry.own_bytes = entry_bytes(entry.cache);
    places_.emplace(key, made.begin());
    Undo no_place([&]() noexcept { places_.erase(key); });
    tally_.add(entry.cache);
    Undo no_pages([&]() noexcept { tally_.remove(entry.cache); });
    const Index tree_bytes = tree->second.bytes();
    entry.place = tree->second.add(ids, key, entry.cache.rollback_floor());
    // Nothing fails from here on.
    no_tree.keep();
    no_place.keep();
    no_pages.keep();
    tree_bytes_ += tree->second.bytes() - tree_bytes;
    own_bytes_ += entry.own_bytes;
    last_key_ = key;
    entries_.splice(entries_.begin(), made);
    return key;
  }
  /// false if there is no such entry.
  bool erase(std::uint64_t key) noexcept {
    const auto at = places_.find(key);
    if (at == places_.end()) return false;
    drop(at->second);
    return true;
  }
  /// There is one.
  void erase_oldest() noexcept { drop(std::prev(entries_.end())); }

 private:
  using Trees = std::map<std::string, IdTree>;  // by scope
  struct Entry {
    std::uint64_t key = 0;
    Cache cache;
    typename Trees::iterator tree;
    IdTree::Place place = 0;
    Index own_bytes = 0;
  };
  using Entries = std::list<Entry>;  // the latest used first

  /// What an entry holds without pages, ids and nodes of the tree.
  [[nodiscard]] static Index entry_bytes(const Cache& cache) { return own_bytes_of(cache) + Index(sizeof(Entry)); }

  void drop(typename Entries::iterator at) noexcept {
    tally_.remove(at->cache);
    own_bytes_ -= at->own_bytes;
    IdTree& tree = at->tree->second;
    tree_bytes_ -= tree.bytes();
    tree.erase(at->place);
    tree_bytes_ += tree.bytes();
    if (tree.empty()) trees_.erase(at->tree);
    places_.erase(at->key);
    entries_.erase(at);
  }

  Trees trees_;
  Entries entries_;
  std::unordered_map<std::uint64_t, typename Entries::iterator> places_;  // by key
  PageTally tally_;
  std::uint64_t last_key_ = 0;
  Index own_bytes_ = 0;
  Index tree_bytes_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail
