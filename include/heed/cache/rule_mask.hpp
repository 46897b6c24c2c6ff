/// \file
/// A rule as a mask over a text that is held whole: for full forward passes, evaluation, and tests of caches that
/// evict.
#pragma once

#include <span>
#include <utility>

#include <heed/cache/support.hpp>
#include <heed/cache/token_index.hpp>
#include <heed/retention/landmark_mask.hpp>

namespace heed::inline HEED_ABI {

/// What the queries of a whole text see under a rule: a SplitMask over keys 0 .. tokens() - 1, key i at position i.
/// attend() with it gives the same bits as a cache that evicts by the rule, for any steps in which that cache gets the
/// text.
///
/// Movable. One that was moved from has no tokens; attend() refuses its mask().
class RuleMask {
 public:
  /// The mask for a text with these token ids. Errors: those of rule.validate(); unsupported for a rule with a history,
  /// which no mask can say; out_of_memory.
  [[nodiscard]] static Result<RuleMask> create(const AnyRule& rule, std::span<const std::int32_t> ids,
                                               const MemoryResource& memory = default_memory()) {
    if (Status status = rule.validate(); !status.ok()) return status;
    if (Status status = supports(CacheFeature::mask, rule, Positions::absolute, false); !status.ok()) return status;
    RuleMask made(detail::TokenIndex(rule, Positions::absolute, 0));
    Status status = made.index_.prepare(memory);
    if (status.ok()) {
      status = made.index_.plan(memory, Index(ids.size()), [&](Index i) { return ids[std::size_t(i)]; });
    }
    if (!status.ok()) return status;
    return made;
  }

  /// Number of tokens of the text.
  [[nodiscard]] Index tokens() const noexcept { return index_.reaches().empty() ? 0 : index_.planned(); }
  /// The mask. It points to memory that this object owns, so it stays valid if the object moves.
  [[nodiscard]] LandmarkMask mask() const& noexcept { return index_.mask(true); }
  LandmarkMask mask() const&& = delete;  // the mask would point to memory that is already free

 private:
  explicit RuleMask(detail::TokenIndex index) noexcept : index_(std::move(index)) {}

  detail::TokenIndex index_;
};

}  // namespace heed::inline HEED_ABI
