/// \file
/// Softmax weights of math::Bf16 on a vector type.
#pragma once

#include <utility>

#include <heed/math/bf16/pairs.hpp>
#include <heed/simd/logits.hpp>

namespace heed::inline HEED_ABI {

/// The loop over logits, on the vector type `V`.
template <class V>
struct Bf16WeightLoop {
  using Reg = typename V::Reg;      ///< W floats
  using Words = typename V::Words;  ///< W words

  /// Weights of `count` logits: 2^-8 exp(s[k] - max), rounded to bf16, at p[k ^ 1]. 0 up to the next multiple of 16. Returns
  /// the largest logit and the sum of the rounded weights.
  static ChunkSum softmax(float* s, Index count, Bf16Weight* p) {
    return LogitLoops<V>::softmax_by(s, count, [p](Index k, Reg weights) __attribute__((always_inline)) {
      const Words bits = rounded(weights);
      V::store_halves(reinterpret_cast<std::byte*>(p + k), V::narrow(swapped(bits)));
      return V::floats(bits << 16);
    });
  }

 private:
  [[gnu::always_inline]] static Words rounded(Reg weights) {
#if defined(__AVX512BF16__)
    // Weights are not subnormal.
    if constexpr (V::width == 16) return V::widen((typename V::Halves)_mm512_cvtneps_pbh((__m512)weights));
#endif
    return heed::Bf16::template Writer<V>::rounded(weights);
  }
  // Lanes 2 i and 2 i + 1 change places.
  [[gnu::always_inline]] static Words swapped(Words x) {
    return [&]<int... At>(std::integer_sequence<int, At...>) __attribute__((always_inline)) {
      return (Words)__builtin_shufflevector(x, x, (At ^ 1)...);
    }
    (std::make_integer_sequence<int, V::width>{});
  }
};

}  // namespace heed::inline HEED_ABI
