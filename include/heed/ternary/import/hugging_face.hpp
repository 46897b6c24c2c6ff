/// \file
/// Ternary matrices as Hugging Face's BitNet integration packs them.
#pragma once

#include <heed/ternary/matrix.hpp>

namespace heed::inline HEED_ABI {

/// What the tensor `weight_scale` means. Two classes of the integration give it opposite meanings; `linear_class` in
/// config.json says which class was used.
enum class WeightScale {
  divisor,     ///< BitLinear (`bitlinear`): y = acc / (weight_scale * 127 / a)
  multiplier,  ///< AutoBitLinear (`autobitlinear`, BitNet b1.58 2B4T): y = acc * (a / 127) * weight_scale
};

/// From `packed` [ceil(rows / 4)][cols]: bits 2i and 2i + 1 of byte [r][c] hold weight [i * ceil(rows / 4) + r][c],
/// plus 1. invalid_argument naming `name` for a wrong size, a scale that is not positive, or the code 3.
template <TernaryLayout L = TwoBit>
[[nodiscard]] Result<TernaryMatrix<L>> ternary_from_hugging_face(const char* name, std::span<const std::uint8_t> packed,
                                                                 Index rows, Index cols, float weight_scale,
                                                                 WeightScale meaning) {
  const Index quarter = rows / 4 + (rows % 4 > 0 ? 1 : 0);
  if (rows < 1 || cols < 1 || !detail::has_size(packed.size(), Count(quarter) * cols)) {
    return fail(StatusCode::invalid_argument, name, " has ", packed.size(), " bytes, must have [", quarter, ", ", cols,
                "] for ", rows, " rows of ", cols);
  }
  const float scale = meaning == WeightScale::divisor ? 1 / weight_scale : weight_scale;
  return TernaryMatrix<L>::create(name, rows, cols, scale, [&](Index row, std::span<std::int8_t> to) -> Status {
    const std::uint8_t* bytes = packed.data() + row % quarter * cols;
    const int shift = 2 * int(row / quarter);
    for (std::size_t c = 0; c < to.size(); ++c) to[c] = std::int8_t(((bytes[c] >> shift) & 3) - 1);
    return {};
  });
}

}  // namespace heed::inline HEED_ABI
