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
#include <heed/memory.hpp>
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

/// Floats of a layer, aligned for vectors.
class Floats {
 public:
  [[nodiscard]] static Result<Floats> create(Count count, const char* name) {
    const Count size = count * Index(sizeof(float));
    if (!size.fits()) return fail(StatusCode::out_of_memory, name, ": cannot allocate ", count, " floats");
    Result<Buffer> bytes = Buffer::allocate(default_memory(), size.value(), name);
    if (!bytes.ok()) return bytes.status();
    Floats made;
    made.bytes_ = *std::move(bytes);
    return made;
  }
  [[nodiscard]] float* data() noexcept { return reinterpret_cast<float*>(bytes_.data()); }
  [[nodiscard]] const float* data() const noexcept { return reinterpret_cast<const float*>(bytes_.data()); }
  [[nodiscard]] std::span<const float> span() const noexcept {
    return {data(), std::size_t(bytes_.size()) / sizeof(float)};
  }

 private:
  Buffer bytes_;
};

}  // namespace detail

/// A linear layer without bias. Owns a transposed copy of its weight, out * in floats. Immutable: threads may share it.
/// One that was default-made or moved from has in() = out() = 0, and its apply() writes nothing.
class Projection {
 public:
  Projection() = default;

  /// From `weight` of shape [out, in]. invalid_argument naming `name` and the shapes, or out_of_memory.
  [[nodiscard]] static Result<Projection> create(const char* name, const Tensor& weight, Index out, Index in) {
    if (Status status = detail::check_shape(name, out, in); !status.ok()) return status;
    if (Status status = check_tensor(name, weight, out, in); !status.ok()) return status;
    Result<detail::Floats> copy = detail::Floats::create(Count(out) * in, name);
    if (!copy.ok()) return copy.status();
    for (Index o = 0; o < out; ++o) {
      for (Index i = 0; i < in; ++i) copy->data()[i * out + o] = weight.data[std::size_t(o * in + i)];
    }
    Projection made;
    made.weights_ = *std::move(copy);
    made.in_ = in;
    made.out_ = out;
    return made;
  }

  /// Width of a row of x.
  [[nodiscard]] Index in() const noexcept { return in_; }
  /// Width of a row of y.
  [[nodiscard]] Index out() const noexcept { return out_; }
  /// The weight, transposed: [in][out].
  [[nodiscard]] Matrix matrix() const noexcept { return {weights_.data(), in_, out_, out_}; }

  /// y[r] = W x[r]: x [rows][in()], y [rows][out()]. y must not overlap x. A row has the same bits alone and among
  /// others, for any number of workers.
  template <SimdBackend Backend, Executor E>
  void apply(Index rows, const float* x, float* y, E& executor) const {
    const auto columns = [&](Index task, Index) {
      const Index first = task * task_columns;
      const Matrix part{weights_.data() + first, in_, std::min(task_columns, out_ - first), out_};
      Backend::linear(part, rows, x, in_, y + first, out_);
    };
    executor.parallel_for((out_ + task_columns - 1) / task_columns, columns);
  }

 private:
  static constexpr Index task_columns = 256;

  detail::Floats weights_;
  detail::UntilMoved<Index> in_, out_;
};

}  // namespace heed::inline HEED_ABI
