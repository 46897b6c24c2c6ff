/// \file
/// A model, described by its attention layers.
#pragma once

#include <algorithm>
#include <array>

#include <heed/analysis/costs.hpp>

namespace heed::inline HEED_ABI::analysis {

/// Layers of one kind.
struct EqualLayers {
  Index layers = 0;          ///< number of layers
  AttentionCosts attention;  ///< of one layer
  RowFormat format;          ///< how rows are stored in the source's figures
  Index max_context = 0;     ///< most tokens that a query can see, for chunked and windowed layers; 0: all

  /// Tokens that a query sees of a context of `context` tokens.
  [[nodiscard]] constexpr Index visible(Index context) const noexcept {
    return max_context == 0 ? context : std::min(context, max_context);
  }
};

/// A model with one kind of layer, or with two (hybrid models).
struct Model {
  const char* name = "";              ///< as its publisher writes it
  std::array<EqualLayers, 2> groups;  ///< the second one may have 0 layers
  Index mtp_layers = 0;  ///< multi-token prediction layers, as in groups[0]; not counted in any total below
};

/// A model whose layers are all equal.
[[nodiscard]] constexpr Model uniform_model(const char* name, Index layers, const AttentionCosts& attention,
                                            const RowFormat& format, Index mtp_layers = 0) noexcept {
  return {.name = name,
          .groups = {EqualLayers{.layers = layers, .attention = attention, .format = format}, EqualLayers{}},
          .mtp_layers = mtp_layers};
}

/// `model` with its MTP layers counted as main layers: what a server holds that speculates with them.
[[nodiscard]] constexpr Model with_mtp_layers(Model model) noexcept {
  model.groups[0].layers = (Count(model.groups[0].layers) + model.mtp_layers).value();
  model.mtp_layers = 0;
  return model;
}

namespace detail {
template <class F>
[[nodiscard]] constexpr Index sum_of_layers(const Model& model, F per_layer) noexcept {
  Count sum = 0;
  for (const EqualLayers& group : model.groups) sum = sum + Count(group.layers) * per_layer(group);
  return sum.value();
}
}  // namespace detail

/// Number of layers, without MTP layers.
[[nodiscard]] constexpr Index num_layers(const Model& model) noexcept {
  return detail::sum_of_layers(model, [](const EqualLayers&) { return Index{1}; });
}

/// KV elements that a token leaves in all layers.
[[nodiscard]] constexpr Index kv_elements_per_token(const Model& model) noexcept {
  return detail::sum_of_layers(model, [](const EqualLayers& g) { return kv_elements_per_token(g.attention); });
}

/// KV bytes that a token leaves in all layers, stored in the model's own formats.
[[nodiscard]] constexpr Index kv_bytes_per_token(const Model& model) noexcept {
  return detail::sum_of_layers(model, [](const EqualLayers& g) { return kv_bytes_per_token(g.attention, g.format); });
}

/// The same with every layer stored in `format`.
[[nodiscard]] constexpr Index kv_bytes_per_token(const Model& model, const RowFormat& format) noexcept {
  return detail::sum_of_layers(model, [&](const EqualLayers& g) { return kv_bytes_per_token(g.attention, format); });
}

/// Cache bytes of one decoded token in all layers, in the model's own formats: kv_bytes_per_token times the visible
/// context, plus the bytes of states.
[[nodiscard]] constexpr Index decode_kv_bytes(const Model& model, Index context) noexcept {
  return detail::sum_of_layers(
      model, [&](const EqualLayers& g) { return decode_kv_bytes(g.attention, g.visible(context), g.format); });
}

/// FLOPs of one decoded token in softmax attention and state updates, all layers.
[[nodiscard]] constexpr Index attention_flops(const Model& model, Index context) noexcept {
  return detail::sum_of_layers(model,
                               [&](const EqualLayers& g) { return attention_flops(g.attention, g.visible(context)); });
}

/// FLOPs of one token in the attention's projections, all layers.
[[nodiscard]] constexpr Index linear_flops(const Model& model) noexcept {
  return detail::sum_of_layers(model, [](const EqualLayers& g) { return linear_flops(g.attention); });
}

}  // namespace heed::inline HEED_ABI::analysis
