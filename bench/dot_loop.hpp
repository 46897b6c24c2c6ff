/// \file
/// Arithmetic at the rate of the execution units: independent accumulators in registers, no memory.
///
/// An operation of latency L issued on P ports needs L * P accumulators: FMA 4 x 2 = 8, vdpbf16ps 6 x 2 = 12 (Zen 5).
/// More do no harm as long as they fit in registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <benchmark/benchmark.h>

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include <heed/types.hpp>

namespace bench {

using heed::Index;

/// What the target cannot do.
struct Absent {
  static constexpr double operations = 0;
};

/// acc + x * y. The products are tiny, so sums neither overflow nor become subnormal.
struct FmaF32 {
#if defined(__AVX512F__)
  using Reg = __m512;
  static constexpr int chains = 24;
  static Reg operand() { return _mm512_set1_ps(0x1p-10f); }
  static Reg step(Reg acc, Reg x, Reg y) { return _mm512_fmadd_ps(x, y, acc); }
#elif defined(__FMA__)
  using Reg = __m256;
  static constexpr int chains = 12;
  static Reg operand() { return _mm256_set1_ps(0x1p-10f); }
  static Reg step(Reg acc, Reg x, Reg y) { return _mm256_fmadd_ps(x, y, acc); }
#elif defined(__ARM_NEON)
  using Reg = float32x4_t;
  static constexpr int chains = 24;
  static Reg operand() { return vdupq_n_f32(0x1p-10f); }
  static Reg step(Reg acc, Reg x, Reg y) { return vfmaq_f32(acc, x, y); }
#else
  using Reg [[gnu::vector_size(16)]] = float;
  static constexpr int chains = 8;
  static Reg operand() { return Reg{0x1p-10f, 0x1p-10f, 0x1p-10f, 0x1p-10f}; }
  static Reg step(Reg acc, Reg x, Reg y) { return acc + x * y; }
#endif
  static constexpr double operations = 2.0 * sizeof(Reg) / sizeof(float);
};

#if defined(__AVX512BF16__)
struct DotBf16 {
  using Reg = __m512;
  static constexpr int chains = 24;
  static constexpr double operations = 64;                   // 32 products, 32 sums
  static Reg operand() { return _mm512_set1_ps(0x1p-10f); }  // every other bf16 is 0, which costs the same
  static Reg step(Reg acc, Reg x, Reg y) { return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)y); }
};
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
struct DotBf16 {
  using Reg = float32x4_t;
  static constexpr int chains = 24;
  static constexpr double operations = 16;
  static Reg operand() { return vdupq_n_f32(0x1p-10f); }
  static Reg step(Reg acc, Reg x, Reg y) {
    return vbfdotq_f32(acc, vreinterpretq_bf16_f32(x), vreinterpretq_bf16_f32(y));
  }
};
#else
using DotBf16 = Absent;
#endif

#if defined(__AVX512VNNI__)
struct DotInt8 {
  using Reg [[gnu::vector_size(64)]] = int;  // not __m512i: GCC copies between its two element types every round
  static constexpr int chains = 24;
  static constexpr double operations = 128;
  static Reg operand() { return Reg(_mm512_set1_epi8(1)); }
  static Reg step(Reg acc, Reg x, Reg y) { return Reg(_mm512_dpbusd_epi32(__m512i(acc), __m512i(x), __m512i(y))); }
};
#elif defined(__AVX2__)
struct DotInt8 {
  using Reg = __m256i;
  static constexpr int chains = 8;
  static constexpr double operations = 64;
  static Reg operand() { return _mm256_set1_epi8(1); }
  // The accumulator takes part in the product, or the compiler would see that every step adds the same.
  static Reg step(Reg acc, Reg x, Reg y) {
    const Reg pairs = _mm256_maddubs_epi16(_mm256_xor_si256(x, acc), y);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};
#elif defined(__ARM_FEATURE_DOTPROD)
struct DotInt8 {
  using Reg = int32x4_t;
  static constexpr int chains = 24;
  static constexpr double operations = 32;
  static Reg operand() { return vreinterpretq_s32_s8(vdupq_n_s8(1)); }
  static Reg step(Reg acc, Reg x, Reg y) { return vdotq_s32(acc, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(y)); }
};
#else
using DotInt8 = Absent;
#endif

/// `rounds` steps of every chain: rounds * chains * operations operations.
template <class Op>
void run_chains(Index rounds) {
  using Reg = typename Op::Reg;
  Reg x = Op::operand(), y = Op::operand();
  benchmark::DoNotOptimize(x);  // unknown operands cannot be folded, and unknown accumulators are not the same one
  benchmark::DoNotOptimize(y);
  const auto all = [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
    Reg acc[] = {(static_cast<void>(I), Op::operand())...};
    (benchmark::DoNotOptimize(acc[I]), ...);
    for (Index r = 0; r < rounds; ++r) ((acc[I] = Op::step(acc[I], x, y)), ...);
    (benchmark::DoNotOptimize(acc[I]), ...);
  };
  all(std::make_index_sequence<std::size_t(Op::chains)>());
}

}  // namespace bench
