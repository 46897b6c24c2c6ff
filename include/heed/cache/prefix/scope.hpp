/// \file
/// What besides token ids decides whether a prefix may be used, and the meters of a PrefixCache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Whatever makes the rows of equal ids differ, or must not be shared: a LoRA adapter, an image's hash, a tenant's salt.
/// Entries are found in their own scope only. Scopes are equal if their numbers or all their bytes are; a number never
/// equals bytes. The default is a scope, too.
class PrefixScope {
 public:
  PrefixScope() = default;
  explicit PrefixScope(std::uint64_t number) : key_(1 + sizeof number, 'n') {
    std::memcpy(key_.data() + 1, &number, sizeof number);
  }
  explicit PrefixScope(std::string_view bytes) : key_("b") { key_ += bytes; }
  explicit PrefixScope(std::span<const std::byte> bytes)
      : PrefixScope(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())) {}

  /// What is compared.
  [[nodiscard]] const std::string& key() const noexcept { return key_; }

 private:
  std::string key_;
};

/// What the entries of a PrefixCache hold now.
struct PrefixBytes {
  Index pages = 0;  ///< of rows; a page that entries share counts once, one that a running cache shares counts, too
  Index bookkeeping = 0;  ///< of the entries' caches, their ids and the tree of ids
  [[nodiscard]] Index total() const noexcept { return pages + bookkeeping; }
};

/// What a PrefixCache has done so far.
struct PrefixCounters {
  Index finds = 0;
  Index hits = 0;          ///< finds that gave a cache
  Index asked_tokens = 0;  ///< ids of all finds
  Index found_tokens = 0;  ///< of these, tokens that need not be computed again
  Index compared = 0;      ///< ids compared in finds
  Index evicted = 0;       ///< entries that went to keep max_bytes
};

}  // namespace heed::inline HEED_ABI
