/// \file
/// A mask with its type erased, so that the kernel is compiled once for all masks.
#pragma once

#include <cstdint>

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// A non-owning reference to any AttentionMask. The mask must outlive it.
class MaskRef {
 public:
  template <AttentionMask M>
    requires(!std::same_as<M, MaskRef>)
  MaskRef(const M& mask) noexcept  // NOLINT(google-explicit-constructor)
      : mask_(&mask),
        coverage_([](const void* m, Interval queries, Interval keys) {
          return static_cast<const M*>(m)->coverage(queries, keys);
        }),
        fill_([](const void* m, Index query, const Index* positions, Index count, std::uint64_t* bits) {
          for (Index k = 0; k < count; ++k) {
            const bool seen = static_cast<const M*>(m)->visible(query, positions[k]);
            bits[k / 64] |= std::uint64_t(seen) << (k % 64);
          }
        }) {}

  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const { return coverage_(mask_, queries, keys); }

  /// Sets bit k of `bits` if `query` sees the key at positions[k]; `bits` must be zero.
  void fill(Index query, const Index* positions, Index count, std::uint64_t* bits) const {
    fill_(mask_, query, positions, count, bits);
  }

 private:
  const void* mask_;
  Coverage (*coverage_)(const void*, Interval, Interval);
  void (*fill_)(const void*, Index, const Index*, Index, std::uint64_t*);
};

}  // namespace heed::inline HEED_ABI
