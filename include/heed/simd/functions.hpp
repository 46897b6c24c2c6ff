/// \file
/// exp and tanh of a register.
#pragma once

#include <cstdint>

#include <heed/simd/exponential.hpp>

namespace heed::inline HEED_ABI {

/// Functions of every lane, on the vector type `V`. A lane's result does not depend on the other lanes.
template <class V>
struct Functions {
  using Reg = typename V::Reg;  ///< W floats

  /// 2^Bias * exp(x). Exactly 0 if x < floor, where the scaled result would be subnormal. NaN for NaN. Worst error 1.1
  /// ulp on [-87.3, 88].
  template <int Bias = 0>
  [[gnu::always_inline]] static Reg exp(Reg x, float floor = detail::exponential::underflow) {
    using namespace detail::exponential;
    const Reg magic = V::set1(round_magic);
    const Reg shifted = V::fma(x, V::set1(log2e_high), magic);  // round(x log2 e) in the low bits
    Reg f;
    if constexpr (V::has_fma) {
      f = V::fma(x, V::set1(log2e_low), V::fma(x, V::set1(log2e_high), V::sub(magic, shifted)));
    } else {
      const Reg k = V::sub(shifted, magic);
      f = V::sub(V::sub(x, V::mul(k, V::set1(ln2_high))), V::mul(k, V::set1(ln2_low)));
      f = V::mul(f, V::set1(log2e_high));
    }
    Reg y = V::fma(V::set1(c6), f, V::set1(c5));
    y = V::fma(y, f, V::set1(c4));
    y = V::fma(y, f, V::set1(c3));
    y = V::fma(y, f, V::set1(c2));
    y = V::fma(y, f, V::set1(c1));
    y = V::fma(y, f, V::set1(1));
    const Reg power = V::floats((V::words(shifted) << 23) + (std::uint32_t(127 + Bias) << 23));
    return V::select_less(x, V::set1(floor), V::set1(0), V::mul(y, power));
  }

  /// tanh(x): an odd polynomial below 0.625 (where 1 - 2 / (e^2x + 1) cancels), exact +-1 for large |x|.
  [[gnu::always_inline]] static Reg tanh(Reg x) {
    const Reg size = V::max(x, V::sub(V::set1(0), x));
    const Reg bounded = V::select_less(V::set1(9.1f), size, V::set1(9.1f), size);  // a NaN stays
    const Reg big = V::sub(V::set1(1), V::div(V::set1(2), V::add(exp(V::add(bounded, bounded)), V::set1(1))));
    const Reg z = V::mul(x, x);
    // tanh(x) = x + x^3 P(x^2), P interpolated at Chebyshev nodes of [0, 0.625^2].
    Reg poly = V::fma(V::set1(-0.00609671418f), z, V::set1(0.0209971797f));
    poly = V::fma(poly, z, V::set1(-0.0538509078f));
    poly = V::fma(poly, z, V::set1(0.133327693f));
    poly = V::fma(poly, z, V::set1(-0.333333284f));
    const Reg near_zero = V::fma(V::mul(poly, z), x, x);
    const Reg signed_big = V::select_less(x, V::set1(0), V::sub(V::set1(0), big), big);
    return V::select_less(size, V::set1(0.625f), near_zero, signed_big);
  }
};

}  // namespace heed::inline HEED_ABI
