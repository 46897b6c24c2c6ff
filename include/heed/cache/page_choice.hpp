/// \file
/// How many tokens a page should have, and how many pages hold what a rule keeps.
#pragma once

#include <algorithm>

#include <heed/cache/page_layout.hpp>
#include <heed/checked.hpp>
#include <heed/floats.hpp>
#include <heed/rule.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// How many pages of `tokens` tokens hold `kept`, wherever the recent tokens begin: their first and last page may be used in
/// part. `unlimited` without a bound.
[[nodiscard]] constexpr Index most_pages(const MostKept& kept, Index tokens) noexcept {
  if (!kept.bounded()) return unlimited;
  const Index recent = kept.recent <= 1 ? 1 : (kept.recent - 2) / tokens + 2;
  return recent + (kept.landmarks + tokens - 1) / tokens;
}

}  // namespace detail

/// Tokens of a page where the caller names none. A power of two, so that caches of one shape share few sizes.
///
/// Long pages read fastest. Measured with MHA, 128 bf16 numbers a head and 32,768 keys, against one block: pages of 64
/// tokens 65 %, of 256 tokens 90 %, of 1024 tokens 97 %. Short pages waste least, because the unused part of a page is
/// allocated.
///
///     a rule with a bound     the longest pages, at most 1024 tokens, that hold the bound in 1.2 times its rows; that is
///                             about an eighth of a window
///     `capacity` is known     the longest, 16 ... 1024 tokens, that hold it in 1.25 times its rows
///     no bound, no capacity   256 tokens; 128 for a rule that evicts, whose recent tokens use parts of pages
///
/// `token_bytes` is the size of a token's rows in all layers of the group.
[[nodiscard]] constexpr Index automatic_page_tokens(const MostKept& kept, bool evicts, Index capacity,
                                                    Index token_bytes) noexcept {
  constexpr Index longest = 1024;
  if (kept.bounded()) {
    const double most = detail::smaller(double(kept.recent) + double(kept.landmarks), double(kept.total));
    const double rows = (most - 1) * double(token_bytes);
    Index best = longest;
    double least = 0;
    for (Index tokens = longest; tokens >= 4; tokens /= 2) {
      const double page = double(tokens) * double(token_bytes) + double(2 * block_alignment + detail::read_slack);
      const double bytes = page * double(detail::most_pages(kept, tokens));
      if (bytes <= 1.2 * rows) return tokens;
      if (least == 0 || bytes < least) least = bytes, best = tokens;
    }
    return best;
  }
  if (evicts) return 128;
  if (capacity == 0) return 256;
  Index tokens = longest;
  while (tokens > 16 && double(round_up(Count(capacity), tokens).value()) > 1.25 * double(capacity)) tokens /= 2;
  return tokens;
}

}  // namespace heed::inline HEED_ABI
