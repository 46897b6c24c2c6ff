/// \file
/// Gates of recurrent and gated layers, written once over a vector type.
#pragma once

#include <algorithm>
#include <cstring>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Elementwise loops over arrays of n floats. `V` is the vector type, `Exp::exp` its exponential. The result for a
/// number does not depend on its place in the array. `out` may be `a` or `b`.
template <class V, class Exp>
struct GateLoops {
  using Reg = typename V::Reg;          ///< W floats
  static constexpr Index W = V::width;  ///< floats of a register

  /// 1 / (1 + exp(-x)). It cannot overflow, because only exp(-|x|) is computed.
  [[gnu::always_inline]] static Reg sigmoid(Reg x) {
    const Reg zero = V::set1(0), minus = V::sub(zero, x);
    const Reg e = Exp::exp(V::select_less(x, zero, x, minus));
    const Reg s = V::div(V::set1(1), V::add(V::set1(1), e));
    return V::select_less(x, zero, V::mul(e, s), s);
  }
  /// x * sigmoid(x), also called SiLU.
  [[gnu::always_inline]] static Reg swish(Reg x) { return V::mul(x, sigmoid(x)); }

  /// out = sigmoid(a) * b.
  static void sigmoid_times(const float* a, const float* b, Index n, float* out) {
    zip(
        a, b, n, out, [](Reg x, Reg y) __attribute__((always_inline)) { return V::mul(sigmoid(x), y); });
  }
  /// out = swish(a) * b.
  static void swish_times(const float* a, const float* b, Index n, float* out) {
    zip(
        a, b, n, out, [](Reg x, Reg y) __attribute__((always_inline)) { return V::mul(swish(x), y); });
  }
  /// out = max(a, 0)^2 * b.
  static void relu_squared_times(const float* a, const float* b, Index n, float* out) {
    zip(
        a, b, n, out, [](Reg x, Reg y) __attribute__((always_inline)) {
          const Reg positive = V::select_less(x, V::set1(0), V::set1(0), x);  // a NaN stays
          return V::mul(V::mul(positive, positive), y);
        });
  }

  /// Mixes a state of `n` floats with an input by a forget gate:
  ///
  ///     f = sigmoid(forget);   f = bound + (1 - bound) f        the second only if bound is not null
  ///     state <- f state + swish(input) (1 - f)                 f state if `masked`
  static void gated_mix(const float* input, const float* forget, const float* bound, bool masked, Index n,
                        float* state) {
    for (Index i = 0; i < n; i += W) {
      const Index count = std::min(W, n - i);
      Reg f = sigmoid(some(forget + i, count));
      if (bound != nullptr) {
        const Reg lowest = some(bound + i, count);
        f = V::fma(V::sub(V::set1(1), lowest), f, lowest);
      }
      Reg c = V::mul(swish(some(input + i, count)), V::sub(V::set1(1), f));
      if (masked) c = V::set1(0);
      put(state + i, count, V::fma(f, some(state + i, count), c));
    }
  }

 private:
  template <class F>
  [[gnu::always_inline]] static void zip(const float* a, const float* b, Index n, float* out, const F& f) {
    for (Index i = 0; i < n; i += W) {
      const Index count = std::min(W, n - i);
      put(out + i, count, f(some(a + i, count), some(b + i, count)));
    }
  }
  // Pads the last register with zeros, so that its numbers are computed like all others.
  [[gnu::always_inline]] static Reg some(const float* from, Index count) {
    if (count == W) return V::load(from);
    float padded[std::size_t(W)] = {};
    std::memcpy(padded, from, std::size_t(count) * sizeof(float));
    return V::load(padded);
  }
  [[gnu::always_inline]] static void put(float* to, Index count, Reg x) {
    if (count == W) return V::store(to, x);
    float padded[std::size_t(W)];
    V::store(padded, x);
    std::memcpy(to, padded, std::size_t(count) * sizeof(float));
  }
};

}  // namespace heed::inline HEED_ABI
