/// \file
/// StreamingLLM (arXiv 2309.17453): a window, and the first tokens, which attract attention whatever they say.
#pragma once

#include <algorithm>

#include <heed/retention/window.hpp>

namespace heed::inline HEED_ABI {

/// The two forms of StreamingLLM. They differ by one key.
enum class SinkForm {
  mask,              ///< a query sees initial + window keys, its own included; evict_for_space(1) of the paper's code
  evict_after_step,  ///< initial + window keys stay after a step, a query sees one more; __call__ of the paper's code
};

/// Attention sinks and a window:
///
///     visible(i, j) = j <= i and (j < initial or i - j < window)            form mask
///     visible(i, j) = j <= i and (j < initial or i - j < window + 1)        form evict_after_step
///
/// The paper uses in-cache rank positions (CacheOptions::positions). Absolute positions also work: the rule is then a
/// mask. A Retention (concepts.hpp).
struct SinkWindow {
  Index initial = 0;               ///< first tokens that always stay, at least 0
  Index window = 0;                ///< keys, at least 1 and less than unlimited
  SinkForm form = SinkForm::mask;  ///< which of the two forms

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "sinks";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = true;
  [[nodiscard]] Status validate() const {
    if (initial < 0) return fail(StatusCode::invalid_argument, "initial is ", initial, ", must be at least 0");
    if (window < 1 || window == unlimited) {
      return fail(StatusCode::invalid_argument, "window is ", window, ", must be at least 1 and less than unlimited");
    }
    return {};
  }
  [[nodiscard]] constexpr bool needs_ids() const noexcept { return false; }
  [[nodiscard]] constexpr bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] constexpr Role role(Index position, std::int32_t) const noexcept {
    return position < initial ? Role::initial : Role::plain;
  }
  [[nodiscard]] constexpr bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] constexpr Recall recall(const History& h) const noexcept { return recent().recall(h); }
  [[nodiscard]] constexpr Index rollback_floor(Index evicted, Index begin) const noexcept {
    return recent().rollback_floor(evicted, begin);
  }
  [[nodiscard]] constexpr MostKept most_kept() const noexcept {
    return {.recent = seen_window(), .landmarks = initial, .everything = recent().keeps_everything()};
  }
  template <class Field>
  void describe(Field&& field) const {
    field("initial", initial);
    field("window", window);
    field("form", Index(form));
  }
  /// \}

  /// What room_for() leaves of a cache.
  struct Room {
    Index initial = 0;  ///< first tokens that stay
    Index recent = 0;   ///< last tokens that stay
  };
  /// What evict_for_space(coming) of the paper's code leaves of a cache of `cached` tokens, so that `coming` more fit.
  /// For engines that make room themselves, with KvCache::compact().
  [[nodiscard]] constexpr Room room_for(Index cached, Index coming) const noexcept {
    cached = std::max<Index>(cached, 0);
    coming = std::max<Index>(coming, 0);
    if ((Count(cached) + coming).value() <= (Count(initial) + window).value()) return {.initial = cached, .recent = 0};
    return {.initial = std::min(initial, cached), .recent = std::clamp<Index>(window - coming, 0, cached)};
  }

 private:
  [[nodiscard]] constexpr Index seen_window() const noexcept {
    return form == SinkForm::mask ? window : detail::moved_position(window, 1);
  }
  [[nodiscard]] constexpr SlidingWindow recent() const noexcept { return {seen_window()}; }
};

}  // namespace heed::inline HEED_ABI
