/// \file
/// A number that stands for a rule and its parameters.
#pragma once

#include <cstdint>

#include <heed/concepts.hpp>
#include <heed/retention/token_set.hpp>

namespace heed::inline HEED_ABI {

/// 64-bit FNV-1a hash of a rule's name and parameters: the same in every build. A rule describes itself to it.
class RuleFingerprint {
 public:
  /// Of the rule called `name`, without a parameter yet.
  explicit RuleFingerprint(const char* name) noexcept { add_text(name); }
  /// Adds a parameter. A set of ids adds its size, then each id.
  /// \{
  void operator()(const char* field, Index value) noexcept {
    add_text(field);
    for (int shift = 0; shift < 64; shift += 8) add((std::uint64_t(value) >> shift) & 0xff);
  }
  void operator()(const char* field, const TokenSet& set) noexcept {
    (*this)(field, Index(set.ids().size()));
    for (const std::int32_t id : set.ids()) (*this)(field, id);
  }
  /// \}
  /// The hash so far.
  [[nodiscard]] std::uint64_t value() const noexcept { return hash_; }

 private:
  void add(std::uint64_t byte) noexcept { hash_ = (hash_ ^ byte) * 0x100000001b3u; }
  void add_text(const char* text) noexcept {
    for (; *text != 0; ++text) add(std::uint8_t(*text));
    add(0);
  }

  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

/// That of AnyRule(rule). Allocates nothing.
template <Retention R>
[[nodiscard]] std::uint64_t fingerprint_of(const R& rule) {
  RuleFingerprint made(R::name);
  rule.describe(made);
  return made.value();
}

}  // namespace heed::inline HEED_ABI
