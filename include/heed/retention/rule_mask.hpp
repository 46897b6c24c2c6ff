/// \file
/// A rule as a mask over tokens that are all there: full forward passes, evaluation, tests of caches that forget.
#pragma once

#include <span>
#include <utility>

#include <heed/cache/support.hpp>

namespace heed::inline HEED_ABI {

/// What the queries of a whole text see under a rule, as a SplitMask over keys 0 ... tokens - 1 at the same positions.
/// attend() with it gives the same bits as a cache that evicts by the rule, in any calls.
class RuleMask {
 public:
  /// For tokens with these ids. What rule.validate() says; unsupported for a rule with a history, which is no mask;
  /// out_of_memory.
  [[nodiscard]] static Result<RuleMask> create(const AnyRule& rule, std::span<const std::int32_t> ids,
                                               const MemoryResource& memory = default_memory()) {
    if (Status status = rule.validate(); !status.ok()) return status;
    if (Status status = supports(CacheFeature::mask, rule, Positions::absolute, false); !status.ok()) return status;
    RuleMask made(TokenIndex(rule, Positions::absolute, 0));
    Status status = made.index_.prepare(memory);
    if (status.ok()) {
      status = made.index_.plan(memory, Index(ids.size()), [&](Index i) { return ids[std::size_t(i)]; });
    }
    if (!status.ok()) return status;
    return made;
  }

  [[nodiscard]] Index tokens() const noexcept { return index_.planned(); }
  /// Points into this object, which may move.
  [[nodiscard]] LandmarkMask mask() const noexcept { return index_.mask(true); }

 private:
  explicit RuleMask(TokenIndex index) noexcept : index_(std::move(index)) {}

  TokenIndex index_;
};

}  // namespace heed::inline HEED_ABI
