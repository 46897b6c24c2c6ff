/// \file
/// The part of a decoder layer behind the mixer.
#pragma once

#include <string>

#include "model/tensors.hpp"

namespace heed_examples {

/// Rows in, rows out; a row has the same bits alone and among others.
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual void apply(const Matrix& x, Matrix& out) = 0;
};

/// down(silu(gate x) * up x).
class SwiGlu : public FeedForward {
 public:
  /// `name` is "model.layers.0.mlp." and the like.
  SwiGlu(TensorReader& tensors, const std::string& name, heed::Index hidden, heed::Index inner)
      : gate_(tensors.projection(name + "gate_proj.weight", inner, hidden)),
        up_(tensors.projection(name + "up_proj.weight", inner, hidden)),
        down_(tensors.projection(name + "down_proj.weight", hidden, inner)) {}

  void apply(const Matrix& x, Matrix& out) override {
    linear(x, gate_, gates_);
    linear(x, up_, ups_);
    heed::DefaultBackend::Gates::swish_times(gates_.data(), ups_.data(), gates_.size(), gates_.data());
    linear(gates_, down_, out);
  }

 private:
  heed::Projection gate_, up_, down_;
  Matrix gates_, ups_;
};

}  // namespace heed_examples
