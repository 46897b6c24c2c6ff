/// \file
/// Ternary products with NEON's dot-product instructions (ARMv8.2 DotProd).
#pragma once

#include <heed/simd/ternary/scalar.hpp>

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

namespace heed::inline HEED_ABI {

/// TernaryLoops on NEON's dot product.
struct TernaryNeon {
  /// As in TernaryScalar.
  /// \{
  static constexpr const char* name = "neon-dotprod";
  static constexpr Index tile_tokens = 4;

  template <TernaryLayout L>
  static void rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += 4 * N) {
      int32x4_t sum[std::size_t(N)];
      HEED_UNROLL
      for (int n = 0; n < N; ++n) sum[n] = vdupq_n_s32(0);
      const std::byte* from = w + 4 * r;
      const std::int8_t* a = q;
      for (Index b = 0; b < blocks; ++b, from += L::block_bytes, a += L::block_cols) {
        uint8x16_t x[std::size_t(N)];
        HEED_UNROLL
        for (int n = 0; n < N; ++n) x[n] = load(from + 16 * n);
        HEED_UNROLL
        for (int p = L::planes - 1; p >= 0; --p) {
          const int8x16_t activations = quad(a + 4 * p);
          HEED_UNROLL
          for (int n = 0; n < N; ++n) sum[n] = vdotq_s32(sum[n], take_code<L>(x[n], p), activations);
        }
      }
      HEED_UNROLL
      for (int n = 0; n < N; ++n) vst1q_s32(acc + r + 4 * n, sum[n]);
    }
  }

  template <TernaryLayout L>
  static void unpack(const std::byte* w, Index blocks, std::uint8_t* panel) {
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes, panel += L::planes * L::block_bytes) {
      for (Index at = 0; at < L::block_bytes; at += 16) {
        uint8x16_t x = load(w + at);
        HEED_UNROLL
        for (int p = L::planes - 1; p >= 0; --p) {
          vst1q_u8(panel + p * L::block_bytes + at, vreinterpretq_u8_s8(take_code<L>(x, p)));
        }
      }
    }
  }

  static void tile(const std::uint8_t* panel, Index quads, const std::int8_t* q, Index, bool resume,
                   std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += 4 * N) {
      int32x4_t sum[4][std::size_t(N)];
      HEED_UNROLL
      for (int t = 0; t < 4; ++t) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) {
          sum[t][n] = resume ? vld1q_s32(acc + t * ternary_rows + r + 4 * n) : vdupq_n_s32(0);
        }
      }
      const std::uint8_t* from = panel + 4 * r;
      for (Index c = 0; c < quads; ++c, from += 4 * ternary_rows) {
        const int8x16_t a = vld1q_s8(q + 16 * c);  // 4 tokens
        HEED_UNROLL
        for (int n = 0; n < N; ++n) {
          const int8x16_t codes = vreinterpretq_s8_u8(vld1q_u8(from + 16 * n));
          sum[0][n] = vdotq_laneq_s32(sum[0][n], codes, a, 0);
          sum[1][n] = vdotq_laneq_s32(sum[1][n], codes, a, 1);
          sum[2][n] = vdotq_laneq_s32(sum[2][n], codes, a, 2);
          sum[3][n] = vdotq_laneq_s32(sum[3][n], codes, a, 3);
        }
      }
      HEED_UNROLL
      for (int t = 0; t < 4; ++t) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) vst1q_s32(acc + t * ternary_rows + r + 4 * n, sum[t][n]);
      }
    }
  }
  /// \}

 private:
  static constexpr int N = 4;

  static uint8x16_t load(const std::byte* from) { return vld1q_u8(reinterpret_cast<const std::uint8_t*>(from)); }
  static int8x16_t quad(const std::int8_t* from) {
    return vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const std::int32_t*>(from)));
  }
  // x - unit for bytes of at least `unit`, x for smaller ones: there the difference wraps around to a large number.
  static uint8x16_t lower(uint8x16_t x, int unit) { return vminq_u8(x, vsubq_u8(x, vdupq_n_u8(std::uint8_t(unit)))); }

  // Plane p of every byte. The planes above p were taken out before. Codes are 0 to 2, so signed bytes hold them.
  template <class L>
  [[gnu::always_inline]] static int8x16_t take_code(uint8x16_t& x, int p) {
    if constexpr (L::planes == 4) {
      return vreinterpretq_s8_u8(vandq_u8(vshlq_u8(x, vdupq_n_s8(std::int8_t(-2 * p))), vdupq_n_u8(3)));
    } else {
      const int unit = L::plane_unit(p);
      const uint8x16_t once = lower(x, unit), twice = lower(once, unit), one = vdupq_n_u8(1);
      const uint8x16_t code = vaddq_u8(vminq_u8(vsubq_u8(x, once), one), vminq_u8(vsubq_u8(once, twice), one));
      x = twice;
      return vreinterpretq_s8_u8(code);
    }
  }
};

}  // namespace heed::inline HEED_ABI
#endif
