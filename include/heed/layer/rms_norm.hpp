/// \file
/// Root-mean-square normalisation (arXiv 1910.07467).
#pragma once

#include <cmath>

#include <heed/floats.hpp>
#include <heed/layer/projection.hpp>
#include <heed/simd/rms.hpp>

namespace heed::inline HEED_ABI {

/// out = weight * z / sqrt(mean(z^2) + eps), with the mean in float64. A row of zeros gives zeros, also with an eps of
/// 0, where the formula has no value and PyTorch returns NaN. Owns a copy of its weight. Give each norm of a model its
/// own eps: Hugging Face's MLA ignores rms_norm_eps for its latent norms and uses 1e-6. One that was default-made or
/// moved from has width() = 0, and its apply() writes nothing.
class RmsNorm {
 public:
  RmsNorm() = default;

  /// From a tensor of shape [width] and an eps that is finite and at least 0. invalid_argument naming `name`, or
  /// out_of_memory.
  [[nodiscard]] static Result<RmsNorm> create(const char* name, const Tensor& weight, Index width, double eps) {
    if (Status status = detail::check_shape(name, 1, width); !status.ok()) return status;
    if (Status status = check_tensor(name, weight, 1, width); !status.ok()) return status;
    if (!(eps >= 0 && detail::is_finite(eps))) {
      return fail(StatusCode::invalid_argument, name, ": eps is ", eps, ", must be a finite number of at least 0");
    }
    Result<detail::Floats> copy = detail::Floats::create(width, name);
    if (!copy.ok()) return copy.status();
    detail::copy(weight.data.data(), weight.data.data() + width, copy->data());
    RmsNorm made;
    made.weight_ = *std::move(copy);
    made.width_ = width;
    made.eps_ = eps;
    return made;
  }

  /// Numbers of a row.
  [[nodiscard]] Index width() const noexcept { return width_; }

  /// out = norm(z) for `rows` rows of width() floats. Rows of z are z_stride floats apart, rows of out out_stride. z
  /// and out may be the same memory.
  void apply(Index rows, const float* z, Index z_stride, float* out, Index out_stride) const noexcept {
    if (width_ == 0) return;
    for (Index r = 0; r < rows; ++r, z += z_stride, out += out_stride) {
      const detail::RmsFactors norm = detail::rms_factors(detail::sum_of_squares(z, width_), width_, eps_);
      for (Index i = 0; i < width_; ++i) out[i] = z[i] * norm.lift * norm.rstd * weight_.data()[i];
    }
  }
  /// The same in place.
  void apply(Index rows, float* z, Index stride) const noexcept { apply(rows, z, stride, z, stride); }

 private:
  detail::Floats weight_;
  detail::UntilMoved<Index> width_;
  double eps_ = 0;
};

}  // namespace heed::inline HEED_ABI
