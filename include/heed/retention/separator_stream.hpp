/// \file
/// SepLLM's streaming cache (arXiv 2412.12094, section on streaming): initial | separators | past | local, of bounded size.
#pragma once

#include <algorithm>

#include <heed/concepts.hpp>
#include <heed/retention/token_set.hpp>

namespace heed::inline HEED_ABI {

/// Whose trigger it is.
enum class StreamForm {
  manager,    ///< HKUDS/SepLLM's cache manager: after the step, once the length exceeds the capacity
  sep_cache,  ///< transformers' SepCache: before attention, once the length with the new token reaches the capacity
};

/// Everything is kept until the cache is full. Then the separators of the past join the block of separators, which keeps
/// the last `separators` of them, the rest of the past goes, and the last `local` tokens stay:
///
///     length after that = initial + separators + local ... capacity;   initial + separators + local < capacity
///
/// What a query sees depends on all that came before; there is no mask. The paper uses in-cache rank positions
/// (CacheOptions::positions), SepCache absolute ones.
///
/// `accumulate = false`: a compression drops all earlier separators. `bounded = false`: the block of separators and the
/// capacity grow by the separators that do not fit. `prompt`: so many first tokens never trigger a compression; SepCache
/// stores a prompt whole, however long.
struct SeparatorStream {
  Index initial = 0;
  Index separators = 0;
  Index local = 0;
  Index capacity = 0;
  TokenSet ids;
  StreamForm form = StreamForm::manager;
  bool accumulate = true;
  bool bounded = true;
  Index prompt = 0;

  static constexpr const char* name = "separator_stream";
  static constexpr bool has_history = true;
  static constexpr bool has_ranks = true;
  [[nodiscard]] Status validate() const {
    constexpr Index most = Index{1} << 48;
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
  /// The rule has a history, so the cache asks that.
  [[nodiscard]] Index rollback_floor(Index, Index) const noexcept { return 0; }
  /// A compression is due once the length exceeds the capacity, and not before `prompt` tokens; SepCache's waits for the
  /// step to end.
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
};

}  // namespace heed::inline HEED_ABI
