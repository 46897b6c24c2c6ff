/// \file
/// Causal sliding window.
#pragma once

#include <algorithm>

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// The last `window` keys, the query itself included: visible(i, j) = 0 <= i - j < window.
/// llama.cpp's `n_swa` counts the same way. `window` must be at least 1.
struct SlidingWindow {
  Index window = 0;

  [[nodiscard]] Status validate() const {
    if (window >= 1) return {};
    return fail(StatusCode::invalid_argument, "window is ", window, ", must be at least 1");
  }
  [[nodiscard]] constexpr bool visible(Index query, Index key) const noexcept {
    return key <= query && query - key < window;
  }

  [[nodiscard]] constexpr Coverage coverage(Interval queries, Interval keys) const noexcept {
    const Index first_query = queries.begin, last_query = queries.end - 1, last_key = keys.end - 1;
    if (keys.begin > last_query || first_query - last_key >= window) return Coverage::none;
    return last_key <= first_query && last_query - keys.begin < window ? Coverage::full : Coverage::partial;
  }

  [[nodiscard]] constexpr bool keep(Index key, Index next_query) const noexcept { return next_query - key < window; }
};

}  // namespace heed::inline HEED_ABI
