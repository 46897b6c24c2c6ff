/// \file
/// Ternary loops for a backend with `W` float lanes: the fastest that the compiler's flags allow.
#pragma once

#include <type_traits>

#include <heed/simd/ternary/avx2.hpp>
#include <heed/simd/ternary/lanes.hpp>
#include <heed/simd/ternary/neon.hpp>
#include <heed/simd/ternary/vnni.hpp>

namespace heed::inline HEED_ABI::detail {

template <int W>
struct TernaryOf {
  using type = TernaryLanes<W>;
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
template <>
struct TernaryOf<16> {
  using type = TernaryVnni512;
};
#elif defined(__AVX2__)  // AVX-512 without VNNI
template <>
struct TernaryOf<16> {
  using type = TernaryAvx2;
};
#endif

#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
template <>
struct TernaryOf<8> {
  using type = TernaryVnni256;
};
#elif defined(__AVX2__)
template <>
struct TernaryOf<8> {
  using type = TernaryAvx2;
};
#endif

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
template <>
struct TernaryOf<4> {
  using type = TernaryNeon;
};
#endif

}  // namespace heed::inline HEED_ABI::detail
