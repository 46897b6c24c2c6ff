/// \file
/// SepLLM's mask (arXiv 2412.12094), and the ablation that keeps a grid of tokens in place of separators.
#pragma once

#include <heed/concepts.hpp>
#include <heed/retention/token_set.hpp>
#include <heed/retention/window.hpp>

namespace heed::inline HEED_ABI {

/// The first tokens, every separator, and a window that includes the query itself:
///
///     visible(i, j) = j <= i and (j < initial or id(j) in ids or i - j < window)
///
/// This is the form of training, prefill and unbounded decoding; SeparatorStream is the bounded form. Positions are
/// absolute. If layers have different windows, give each its own rule (LayerRule). The paper's experiments use initial
/// = 3. A Retention (concepts.hpp).
struct Separators {
  Index initial = 0;  ///< first tokens that always stay, at least 0
  Index window = 0;   ///< keys, at least 1; `unlimited`: the layer sees everything
  TokenSet ids;       ///< separators; at least one id

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "separators";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = false;
  [[nodiscard]] Status validate() const {
    if (initial < 0) return fail(StatusCode::invalid_argument, "initial is ", initial, ", must be at least 0");
    if (Status status = recent().validate(); !status.ok()) return status;
    return ids.validate("ids");
  }
  [[nodiscard]] bool needs_ids() const noexcept { return true; }
  [[nodiscard]] bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] Role role(Index position, std::int32_t id) const noexcept {
    if (position < initial) return Role::initial;
    return ids.contains(id) ? Role::landmark : Role::plain;
  }
  [[nodiscard]] bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] Recall recall(const History& h) const noexcept { return recent().recall(h); }
  [[nodiscard]] Index rollback_floor(Index evicted, Index begin) const noexcept {
    return recent().rollback_floor(evicted, begin);
  }
  [[nodiscard]] MostKept most_kept() const noexcept {
    return {.recent = window, .everything = recent().keeps_everything()};
  }
  template <class Field>
  void describe(Field&& field) const {
    field("initial", initial);
    field("window", window);
    field("ids", ids);
  }
  /// \}

 private:
  [[nodiscard]] SlidingWindow recent() const noexcept { return {window}; }
};

/// FixLLM, the ablation of SepLLM's paper: a token stays if its position lies on a grid, whatever it says:
///
///     visible(i, j) = j <= i and (j < initial or (j >= first and (j - first) mod distance = 0) or i - j < window)
///
/// The paper does not say where its grid begins: choose `first`. Positions are absolute. A Retention (concepts.hpp).
struct FixedGrid {
  Index initial = 0;   ///< first tokens that always stay, at least 0
  Index window = 0;    ///< keys, at least 1; `unlimited`: the layer sees everything
  Index distance = 0;  ///< from one grid position to the next, at least 1
  Index first = 0;     ///< first position of the grid, at least 0

  /// What Retention asks for.
  /// \{
  static constexpr const char* name = "grid";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = false;
  [[nodiscard]] Status validate() const {
    if (initial < 0) return fail(StatusCode::invalid_argument, "initial is ", initial, ", must be at least 0");
    if (Status status = recent().validate(); !status.ok()) return status;
    if (distance < 1) return fail(StatusCode::invalid_argument, "distance is ", distance, ", must be at least 1");
    if (first < 0) return fail(StatusCode::invalid_argument, "first is ", first, ", must be at least 0");
    return {};
  }
  [[nodiscard]] bool needs_ids() const noexcept { return false; }
  [[nodiscard]] bool evicts_before_step() const noexcept { return false; }
  [[nodiscard]] Role role(Index position, std::int32_t) const noexcept {
    if (position < initial) return Role::initial;
    return position >= first && (position - first) % distance == 0 ? Role::landmark : Role::plain;
  }
  [[nodiscard]] bool sees_landmarks(Index, std::int32_t) const noexcept { return true; }
  [[nodiscard]] Recall recall(const History& h) const noexcept { return recent().recall(h); }
  [[nodiscard]] Index rollback_floor(Index evicted, Index begin) const noexcept {
    return recent().rollback_floor(evicted, begin);
  }
  [[nodiscard]] MostKept most_kept() const noexcept {
    return {.recent = window, .everything = recent().keeps_everything()};
  }
  template <class Field>
  void describe(Field&& field) const {
    field("initial", initial);
    field("window", window);
    field("distance", distance);
    field("first", first);
  }
  /// \}

 private:
  [[nodiscard]] SlidingWindow recent() const noexcept { return {window}; }
};

}  // namespace heed::inline HEED_ABI
