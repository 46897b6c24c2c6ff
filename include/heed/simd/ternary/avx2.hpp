/// \file
/// Ternary products with AVX2. Products are added in 16 bits. After at most 60 additions the sums are widened to 32
/// bits.
#pragma once

#include <heed/simd/ternary/scalar.hpp>

#if defined(__AVX2__)
#include <immintrin.h>

#include <cstring>

namespace heed::inline HEED_ABI {

/// TernaryLoops of AVX2.
struct TernaryAvx2 {
  /// As in TernaryScalar.
  /// \{
  static constexpr const char* name = "avx2";
  static constexpr Index tile_tokens = 4;

  template <TernaryLayout L>
  static void rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += 16) sixteen_rows<L>(w + 4 * r, blocks, q, acc + r);
  }

  template <TernaryLayout L>
  static void unpack(const std::byte* w, Index blocks, std::uint8_t* panel) {
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes, panel += L::planes * L::block_bytes) {
      for (Index at = 0; at < L::block_bytes; at += 32) {
        __m256i x = load(w + at);
        HEED_UNROLL
        for (int p = L::planes - 1; p >= 0; --p) store(panel + p * L::block_bytes + at, take_code<L>(x, p));
      }
    }
  }

  static void tile(const std::uint8_t* panel, Index quads, const std::int8_t* q, Index, bool resume,
                   std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += 16) four_tokens(panel + 4 * r, quads, q, resume, acc + r);
  }
  /// \}

 private:
  // One instruction adds two products: at most 2 * 2 * 128 = 512 in magnitude. 60 of these sums stay below 2^15.
  static constexpr Index safe_sums = 60;

  static __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void store(void* to, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }
  static __m256i bytes(int x) { return _mm256_set1_epi8(char(x)); }
  static __m256i quad(const std::int8_t* from) {
    std::int32_t x;
    std::memcpy(&x, from, 4);
    return _mm256_set1_epi32(x);
  }
  static __m256i widened(__m256i sum, __m256i pairs) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  // x - unit for bytes of at least `unit`, x for smaller ones: there the difference wraps around to a large number.
  static __m256i lower(__m256i x, int unit) { return _mm256_min_epu8(x, _mm256_sub_epi8(x, bytes(unit))); }

  // Plane p of every byte. The planes above p were taken out before.
  template <class L>
  [[gnu::always_inline]] static __m256i take_code(__m256i& x, int p) {
    if constexpr (L::planes == 4) {
      return _mm256_and_si256(_mm256_srli_epi16(x, 2 * p), bytes(3));
    } else {
      const int unit = L::plane_unit(p);
      const __m256i once = lower(x, unit), twice = lower(once, unit);
      const __m256i code = _mm256_add_epi8(_mm256_min_epu8(_mm256_sub_epi8(x, once), bytes(1)),
                                           _mm256_min_epu8(_mm256_sub_epi8(once, twice), bytes(1)));
      x = twice;
      return code;
    }
  }

  template <class L>
  static void sixteen_rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* out) {
    constexpr Index run = safe_sums / L::planes;
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (Index begin = 0; begin < blocks; begin += run) {
      __m256i pairs[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      for (Index b = begin; b < std::min(begin + run, blocks); ++b, w += L::block_bytes, q += L::block_cols) {
        __m256i x[2] = {load(w), load(w + 32)};
        HEED_UNROLL
        for (int p = L::planes - 1; p >= 0; --p) {
          const __m256i a = quad(q + 4 * p);
          HEED_UNROLL
          for (int n = 0; n < 2; ++n) {
            pairs[n] = _mm256_add_epi16(pairs[n], _mm256_maddubs_epi16(take_code<L>(x[n], p), a));
          }
        }
      }
      HEED_UNROLL
      for (int n = 0; n < 2; ++n) sum[n] = widened(sum[n], pairs[n]);
    }
    store(out, sum[0]);
    store(out + 8, sum[1]);
  }

  static void four_tokens(const std::uint8_t* panel, Index quads, const std::int8_t* q, bool resume,
                          std::int32_t* out) {
    if (!resume) {
      for (int t = 0; t < 4; ++t) std::fill_n(out + t * ternary_rows, 16, 0);
    }
    for (Index begin = 0; begin < quads; begin += safe_sums) {
      __m256i pairs[4][2];
      HEED_UNROLL
      for (int t = 0; t < 4; ++t) pairs[t][0] = pairs[t][1] = _mm256_setzero_si256();
      for (Index c = begin; c < std::min(begin + safe_sums, quads); ++c, panel += 4 * ternary_rows, q += 16) {
        const __m256i codes[2] = {load(panel), load(panel + 32)};
        HEED_UNROLL
        for (int t = 0; t < 4; ++t) {
          const __m256i a = quad(q + 4 * t);
          HEED_UNROLL
          for (int n = 0; n < 2; ++n) {
            pairs[t][n] = _mm256_add_epi16(pairs[t][n], _mm256_maddubs_epi16(codes[n], a));
          }
        }
      }
      HEED_UNROLL
      for (int t = 0; t < 4; ++t) {
        HEED_UNROLL
        for (int n = 0; n < 2; ++n) {
          std::int32_t* at = out + t * ternary_rows + n * 8;
          store(at, widened(load(at), pairs[t][n]));
        }
      }
    }
  }
};

}  // namespace heed::inline HEED_ABI
#endif
