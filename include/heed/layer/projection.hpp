/// \file
/// The projections around attention: y = x W^T, with W as checkpoints store it.
///
/// They use the backend's own product instead of a BLAS. A BLAS adds one row in another order than many: a token
/// projected alone would have other bits than the same token in a prompt.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>
#include <heed/layer/weights.hpp>
#include <heed/moved.hpp>

namespace heed::inline HEED_ABI {

/// A tensor of a checkpoint: row-major [rows, cols], or [cols] with rows = 1. Not owned; it is read only while a layer
/// is created.
struct Tensor {
  std::span<const float> data = {};  ///< rows * cols numbers
  Index rows = 0;                    ///< outputs, if it is a weight
  Index cols = 0;                    ///< inputs, if it is a weight

  /// true if there are no numbers: a tensor that the model does not have.
  [[nodiscard]] bool empty() const noexcept { return data.empty(); }
};

/// invalid_argument unless the tensor has this shape, naming it, its shape and the wanted one.
inline Status check_tensor(const char* name, const Tensor& tensor, Index rows, Index cols) {
  if (tensor.rows != rows || tensor.cols != cols) {
    return fail(StatusCode::invalid_argument, name, " has shape [", tensor.rows, ", ", tensor.cols, "], must be [",
                rows, ", ", cols, "]");
  }
  if (!detail::has_size(tensor.data.size(), Count(rows) * cols)) {
    return fail(StatusCode::invalid_argument, name, " has ", tensor.data.size(), " numbers, must have ",
                Count(rows) * cols);
  }
  return {};
}

namespace detail {

/// invalid_argument if a matrix of a layer has no rows or no columns.
[[nodiscard]] inline Status check_shape(const char* name, Index rows, Index cols) {
  if (rows >= 1 && cols >= 1) return {};
  return fail(StatusCode::invalid_argument, name, " must be [", rows, ", ", cols, "], which has no numbers");
}

}  // namespace detail

/// A linear layer without bias: y = x W^T, summed as the backend's `linear` sums (docs/design.md, "Maps and preparations").
/// Owns a copy of its weight, out * in numbers of `type`. It lies in panels of 64 outputs, each [in][64], so that a step
/// reads it from the first byte to the last. Immutable: threads may share it. One that was default-made or moved from has
/// in() = out() = 0, and its apply() writes nothing.
///
/// Error of y[o] against sum_i x[i] W[o][i], with S = sum_i |x[i] W[o][i]| and eps = 2^-24:
///
///     f32     (32 + in / 32) eps S
///     bf16    2^-8 S more. It is that of f32 on the rounded weights
class Projection {
 public:
  Projection() = default;

  /// From `weight` of shape [out, in]. invalid_argument naming `name` and the shapes, or out_of_memory.
  [[nodiscard]] static Result<Projection> create(const char* name, const Tensor& weight, Index out, Index in,
                                                 WeightType type = WeightType::f32) {
    if (Status status = detail::check_shape(name, out, in); !status.ok()) return status;
    if (Status status = check_tensor(name, weight, out, in); !status.ok()) return status;
    Result<detail::Weights> copy = detail::Weights::create(Count(out) * in, type, name);
    if (!copy.ok()) return copy.status();
    Projection made;
    made.weights_ = *std::move(copy);
    made.in_ = in;
    made.out_ = out;
    made.weights_.set_panels(0, weight.data.data(), out, in);
    return made;
  }

  /// Width of a row of x.
  [[nodiscard]] Index in() const noexcept { return in_; }
  /// Width of a row of y.
  [[nodiscard]] Index out() const noexcept { return out_; }
  /// How the weight is stored.
  [[nodiscard]] WeightType type() const noexcept { return weights_.type(); }
  /// Bytes of the stored weight.
  [[nodiscard]] Index bytes() const noexcept { return weights_.bytes(); }

  /// y[r] = W x[r]: x [rows][in()], y [rows][out()]. y must not overlap x. A row has the same bits alone and among
  /// others, for any number of workers.
  template <SimdBackend Backend, Executor E>
  void apply(Index rows, const float* x, float* y, E& executor) const {
    const Matrix all = weights_.panels(0, in_, out_);
    const auto columns = [&](Index task, Index) {
      const Index first = task * task_columns;
      Matrix part = all.moved(first * in_);
      part.out = std::min(task_columns, out_ - first);
      Backend::linear(part, rows, x, in_, y + first, out_);
    };
    executor.parallel_for((out_ + task_columns - 1) / task_columns, columns);
  }

 private:
  static constexpr Index task_columns = 4 * Matrix::panel_columns;

  detail::Weights weights_;
  detail::UntilMoved<Index> in_, out_;
};

}  // namespace heed::inline HEED_ABI
