/// \file
/// Weights as float matrices, taken from a file by name and shape; and the two operations every layer is made of.
#pragma once

#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <heed/heed.hpp>

#include "model/config.hpp"

namespace heed_examples {

/// [tokens][numbers] for activations, [out][in] for weights.
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

/// A matrix or a vector as heed's layers take it. It must outlive the use.
template <class M>
[[nodiscard]] heed::Tensor tensor_of(const M& numbers) {
  return {{numbers.data(), std::size_t(numbers.size())}, numbers.rows(), numbers.cols()};
}

/// A product out = x weight^T with a weight [out][in].
[[nodiscard]] inline heed::Projection projection_of(const std::string& name, const Matrix& weight) {
  return heed::value_or_throw(
      heed::Projection::create(name.c_str(), tensor_of(weight), weight.rows(), weight.cols()));
}

/// Hands out the tensors of a file, each checked, and knows which ones nobody asked for.
class TensorReader {
 public:
  TensorReader(const Safetensors& file, std::string file_name) : file_(file), name_(std::move(file_name)) {}

  /// A tensor of shape [rows, cols] and any floating-point type, as floats.
  [[nodiscard]] Matrix matrix(const std::string& tensor, heed::Index rows, heed::Index cols) {
    const std::vector<float> numbers = take(tensor, {rows, cols});
    return Eigen::Map<const Matrix>(numbers.data(), rows, cols);
  }

  /// A tensor of shape [out, in] as a product.
  [[nodiscard]] heed::Projection projection(const std::string& tensor, heed::Index out, heed::Index in) {
    return projection_of(tensor, matrix(tensor, out, in));
  }

  /// A tensor of shape [size].
  [[nodiscard]] Vector vector(const std::string& tensor, heed::Index size) {
    const std::vector<float> numbers = take(tensor, {size});
    return Eigen::Map<const Vector>(numbers.data(), size);
  }

  /// The shape of a tensor, to be taken with numbers().
  [[nodiscard]] const std::vector<heed::Index>& shape(const std::string& tensor) const {
    return file_.info(tensor).shape;
  }
  /// A tensor of any shape.
  [[nodiscard]] std::vector<float> numbers(const std::string& tensor) { return take(tensor, shape(tensor)); }

  /// Throws if the file holds a tensor nobody took: a bias left out would make wrong text, not an error.
  void finish() const {
    for (const auto& [tensor, info] : file_.tensors()) {
      if (!taken_.contains(tensor)) fail("has tensor '" + tensor + "', which this mechanism does not use");
    }
  }

  /// Numbers taken so far.
  [[nodiscard]] heed::Index parameters() const { return parameters_; }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw ModelError(name_ + ": " + what); }

  [[nodiscard]] std::vector<float> take(const std::string& tensor, const std::vector<heed::Index>& shape) {
    const TensorInfo& info = file_.info(tensor);
    const std::string who = "tensor '" + tensor + "' ";
    if (info.dtype > Dtype::f16) fail(who + "holds " + info.dtype_name + ", must hold F64, F32, BF16 or F16");
    if (info.shape != shape) fail(who + "has shape " + text(info.shape) + ", the config asks for " + text(shape));
    std::vector<float> numbers = file_.get<float>(tensor);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (!std::isfinite(numbers[i])) fail(who + "holds " + std::to_string(numbers[i]) + " at " + std::to_string(i));
    }
    if (taken_.insert(tensor).second) parameters_ += info.size();
    return numbers;
  }

  [[nodiscard]] static std::string text(const std::vector<heed::Index>& shape) {
    std::string out = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    return out + "]";
  }

  const Safetensors& file_;
  std::string name_;
  std::set<std::string> taken_;
  heed::Index parameters_ = 0;
};

/// out = x weight^T. heed's own product, because a BLAS adds one row in another order than many: this way a prompt read at
/// once has the same bits as one read byte by byte, as heed's attention has.
inline void linear(const Matrix& x, const heed::Projection& weight, Matrix& out) {
  heed::SerialExecutor executor;
  out.resize(x.rows(), weight.out());
  weight.apply<heed::DefaultBackend>(x.rows(), x.data(), out.data(), executor);
}

/// out = x / sqrt(mean(x^2) + eps) * weight, row by row.
inline void rms_norm(const Matrix& x, const Vector& weight, float eps, Matrix& out) {
  out.resize(x.rows(), x.cols());
  for (heed::Index row = 0; row < x.rows(); ++row) {
    const float scale = 1 / std::sqrt(x.row(row).squaredNorm() / float(x.cols()) + eps);
    out.row(row) = (scale * x.row(row)).cwiseProduct(weight);
  }
}

}  // namespace heed_examples
