/// \file
/// SepLLM's streaming cache (arXiv 2412.12094, section on streaming): initial | separators | past | local, of bounded
/// size.
#pragma once

#include <algorithm>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>
#include <heed/retention/token_set.hpp>

namespace heed::inline HEED_ABI {

/// When a compression happens. Two implementations exist.
enum class StreamForm {
  manager,    ///< HKUDS/SepLLM's cache manager: after a step, if the length exceeds the capacity
  sep_cache,  ///< transformers' SepCache: before attention, if the length with the new token reaches the capacity
};

/// Everything is kept until the cache is full. Then a compression keeps the `initial` first tokens, the latest
/// `separators` separators of the past, and the last `local` tokens. All other tokens are evicted:
///
///     length after a compression <= initial + separators + local < capacity        if bounded
///
/// Then the length grows to `capacity` again.
///
/// What a query sees depends on all earlier compressions, so no mask can say it. The paper uses in-cache rank positions
/// (CacheOptions::positions), SepCache absolute ones. A Retention (concepts.hpp).
struct SeparatorStream {
  Index initial = 0;     ///< first tokens that always stay, at least 0
  Index separators = 0;  ///< separators that stay, at least 1
  Index local = 0;       ///< last tokens that stay at a compression, at least 1
  Index capacity = 0;    ///< tokens; more than initial + separators + local
  TokenSet ids;          ///< separators; at least one id
  StreamForm form = StreamForm::manager;  ///< when a compression happens
  bool accumulate = true;                 ///< false: a compression drops all separators of earlier compressions
  bool bounded = true;  ///< false: any number of separators stays; the capacity grows by those beyond `separators`
  /// The first `prompt` tokens trigger no compression. SepCache stores a prompt whole, however long it is.
  Index prompt = 0;

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "separator_stream";
  static constexpr bool has_history = true;
  static constexpr bool has_ranks = true;
  [[nodiscard]] Status validate() const {
    constexpr Index most = detail::most_tokens;
    Status status = detail::check_range("initial", initial, 0, most);
    if (status.ok()) status = detail::check_range("separators", separators, 1, most);
    if (status.ok()) status = detail::check_range("local", local, 1, most);
    if (status.ok()) status = detail::check_range("capacity", capacity, 1, most);
    if (status.ok()) status = detail::check_range("prompt", prompt, 0, most);
    if (status.ok()) status = ids.validate("ids");
    if (status.ok() && initial + separators + local >= capacity) {
      status = fail(StatusCode::invalid_argument, "capacity is ", capacity,
                    ", must be more than initial + separators + local = ", initial + separators + local);
    }
    return status;
  }
  [[nodiscard]] bool needs_ids() const noexcept { return true; }
  [[nodiscard]] bool evicts_before_step() const noexcept { return form == StreamForm::sep_cache; }
  [[nodiscard]] Role role(Index position, std::int32_t id) const noexcept {
    if (position < initial) return Role::initial;
    return ids.contains(id) ? Role::landmark : Role::plain;
  }
  [[nodiscard]] bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] Recall recall(const History& h) const noexcept {
    const Index grown = bounded ? 0 : std::max<Index>(0, h.most_landmarks - separators);
    const bool before = form == StreamForm::sep_cache;
    const bool full = before ? h.seen + 1 >= capacity + grown : h.seen > capacity + grown;
    const Index trigger = before ? h.next : h.next - 1;
    if (!full || trigger < prompt) return {.begin = h.begin};
    return {.begin = before ? h.next + 1 - local : h.next - local,
            .landmarks = bounded ? separators : unlimited,
            .forget = !accumulate};
  }
  /// The recent tokens begin at `begin` since a compression, which left the last `local` tokens. So at least begin +
  /// `local` tokens had come. A snapshot is checked against it.
  [[nodiscard]] Index rollback_floor(Index, Index begin) const noexcept { return begin == 0 ? 0 : begin + local; }
  /// The longest that the cache gets before a compression. The 2 covers both forms of the trigger.
  [[nodiscard]] MostKept most_kept() const noexcept {
    if (!bounded) return {};
    const Index most = std::max(capacity, prompt) + 2;
    return {.recent = most, .landmarks = initial + separators, .total = most};
  }
  template <class Field>
  void describe(Field&& field) const {
    field("initial", initial);
    field("separators", separators);
    field("local", local);
    field("capacity", capacity);
    field("ids", ids);
    field("form", Index(form));
    field("accumulate", Index(accumulate));
    field("bounded", Index(bounded));
    field("prompt", prompt);
  }
  /// \}
};

}  // namespace heed::inline HEED_ABI
