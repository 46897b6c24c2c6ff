/// \file
/// SepLLM's mask: the first tokens, every separator, and a window that counts the query itself.
///
///     visible(i, j) = j <= i and (j < initial or separator(j) or i - j < window)
///
/// Positions are absolute. Without separators this is StreamingLLM's mask, with a grid in their place FixLLM's.
#pragma once

#include <limits>
#include <vector>

#include "oracle/marks.hpp"

namespace oracle {

struct Separators {
  /// The window of a layer that sees everything.
  static constexpr Int whole = std::numeric_limits<Int>::max();

  Marks separator = no_marks();
  Int initial = 0;
  Int window = whole;

  [[nodiscard]] bool visible(Int query, Int key) const {
    return key <= query && (key < initial || separator(key) || query - key < window);
  }
  /// After a step the next query is one further, so window - 1 of the latest tokens are enough.
  [[nodiscard]] bool keep(Int key, Int next) const { return key < initial || separator(key) || next - key < window; }
  [[nodiscard]] Tokens kept(Int count) const {
    return where(range(0, count), [&](Int key) { return keep(key, count); });
  }

  [[nodiscard]] Visible mask() const {
    return [*this](Int query, Int key) { return visible(query, key); };
  }
  [[nodiscard]] Trace trace(Int tokens) const {
    return oracle::trace(tokens, mask(), [this](Int key, Int next) { return keep(key, next); });
  }
};

/// The windows of a model in which some layers see everything: {0} is the paper's H, {0, last} its H/T.
inline std::vector<Int> layer_windows(Int layers, Int window, const Tokens& whole_layers) {
  std::vector<Int> windows(std::size_t(layers), window);
  for (const Int layer : whole_layers) windows.at(std::size_t(layer)) = Separators::whole;
  return windows;
}
/// One rule per layer; only the window differs.
inline std::vector<Separators> layered(const Separators& rule, const std::vector<Int>& windows) {
  std::vector<Separators> layers(windows.size(), rule);
  for (std::size_t layer = 0; layer < windows.size(); ++layer) layers[layer].window = windows[layer];
  return layers;
}

}  // namespace oracle
