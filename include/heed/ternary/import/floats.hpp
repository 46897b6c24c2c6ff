/// \file
/// Ternary matrices from unpacked weights of a checkpoint: float master weights, or the ternary values themselves.
#pragma once

#include <algorithm>

#include <heed/floats.hpp>
#include <heed/layer/projection.hpp>
#include <heed/ternary/matrix.hpp>

namespace heed::inline HEED_ABI {

/// The smallest weight scale. So a matrix of zeros is quantised to zeros.
inline constexpr float least_quantiser_scale = 1e-5f;

/// BitNet b1.58's absmean quantiser (arXiv 2402.17764; also MatMul-free LM, arXiv 2406.02528):
///
///     m = max(mean |W|, 1e-5)          the scale of the whole tensor, in float32 from a float64 sum
///     w = clip(round(W / m), -1, 1)    |W| = m / 2 gives 0, as rounding half to even does
///
/// invalid_argument naming `name` for a wrong shape or a weight that is not finite.
template <TernaryLayout L = TwoBit>
[[nodiscard]] Result<TernaryMatrix<L>> ternary_from_floats(const char* name, const Tensor& weight) {
  if (Status status = check_tensor(name, weight, weight.rows, weight.cols); !status.ok()) return status;
  double sum = 0;
  for (std::size_t i = 0; i < weight.data.size(); ++i) {
    if (!detail::is_finite(weight.data[i])) {
      return fail(StatusCode::invalid_argument, name, " has ", weight.data[i], " at ", i, ", must be finite");
    }
    sum += detail::magnitude(double(weight.data[i]));
  }
  const auto count = double(std::max<std::size_t>(weight.data.size(), 1));
  const float scale = detail::larger(float(sum / count), least_quantiser_scale), half = scale / 2;
  return TernaryMatrix<L>::create(name, weight.rows, weight.cols, scale,
                                  [&](Index row, std::span<std::int8_t> to) -> Status {
                                    const float* w = weight.data.data() + row * weight.cols;
                                    for (std::size_t c = 0; c < to.size(); ++c) {
                                      to[c] = std::int8_t(int(w[c] > half) - int(w[c] < -half));
                                    }
                                    return {};
                                  });
}

/// From the ternary values themselves: `values` [rows][cols], each -1, 0 or 1. invalid_argument naming `name`.
template <TernaryLayout L = TwoBit>
[[nodiscard]] Result<TernaryMatrix<L>> ternary_from_values(const char* name, std::span<const std::int8_t> values,
                                                           Index rows, Index cols, float scale) {
  if (!detail::has_size(values.size(), Count(rows) * cols)) {
    return fail(StatusCode::invalid_argument, name, " has ", values.size(), " values, must have [", rows, ", ", cols,
                "]");
  }
  return TernaryMatrix<L>::create(name, rows, cols, scale, [&](Index row, std::span<std::int8_t> to) -> Status {
    std::copy_n(values.begin() + row * cols, cols, to.begin());
    return {};
  });
}

}  // namespace heed::inline HEED_ABI
