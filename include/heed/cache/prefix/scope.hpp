/// \file
/// Who may use a prefix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

/// Whatever makes the rows of equal ids differ, or must not be shared: a LoRA adapter, an image's hash, a tenant's salt.
/// An entry is found in its own scope only. Scopes are equal if their numbers are, or all their bytes. A number never equals
/// bytes. The default scope differs from all of these.
class PrefixScope {
 public:
  PrefixScope() = default;
  /// The scope of a number, or of a string of bytes.
  /// \{
  explicit PrefixScope(std::uint64_t number) : key_(1 + sizeof number, 'n') {
    std::memcpy(key_.data() + 1, &number, sizeof number);
  }
  explicit PrefixScope(std::string_view bytes) : key_("b") { key_ += bytes; }
  explicit PrefixScope(std::span<const std::byte> bytes)
      : PrefixScope(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())) {}
  /// \}

  /// What is compared.
  [[nodiscard]] const std::string& key() const noexcept { return key_; }

 private:
  std::string key_;
};

}  // namespace heed::inline HEED_ABI
