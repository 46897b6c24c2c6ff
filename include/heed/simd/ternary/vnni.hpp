/// \file
/// Ternary products with VNNI: one instruction multiplies 4 unsigned codes with 4 signed activations and adds the
/// products to a 32-bit lane. Its saturating form is not used.
#pragma once

#include <heed/simd/ternary/scalar.hpp>

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include <immintrin.h>

#include <array>
#include <cstring>
#include <type_traits>

namespace heed::inline HEED_ABI {

namespace detail {

[[gnu::always_inline]] inline std::int32_t load_quad(const std::int8_t* from) noexcept {
  std::int32_t x;
  std::memcpy(&x, from, 4);
  return x;
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
/// 16 lanes.
struct Zmm {
  using Reg = __m512i;
  static constexpr const char* name = "avx512-vnni";
  static constexpr int lanes = 16;
  static constexpr Index tile_tokens = 12;
  static Reg load(const void* from) { return _mm512_loadu_si512(from); }
  static void store(void* to, Reg x) { _mm512_storeu_si512(to, x); }
  static Reg bytes(int x) { return _mm512_set1_epi8(char(x)); }
  static Reg words(int x) { return _mm512_set1_epi32(x); }
  static Reg both(Reg a, Reg b) { return _mm512_and_si512(a, b); }
  static Reg add(Reg a, Reg b) { return _mm512_add_epi32(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mullo_epi32(a, b); }
  static Reg add_bytes(Reg a, Reg b) { return _mm512_add_epi8(a, b); }
  static Reg sub_bytes(Reg a, Reg b) { return _mm512_sub_epi8(a, b); }
  static Reg min_bytes(Reg a, Reg b) { return _mm512_min_epu8(a, b); }
  // Without intrinsics: of those GCC 12 warns that they use uninitialised values.
  static Reg shift(Reg x, int n) { return (Reg)((__v16su)x >> n); }
  static Reg shift_signed(Reg x, int n) { return (Reg)((__v16si)x >> n); }
#if defined(__AVX512VBMI__)
  /// Entry number x of a table of 128 bytes, for every byte x < 128.
  static Reg look_up(const std::uint8_t* table, Reg x) {
    return _mm512_permutex2var_epi8(load(table), x, load(table + 64));
  }
#endif
  // In assembly, because GCC 12 copies the accumulator before and after the intrinsic: 1.8 times as slow in cache.
  [[gnu::always_inline]] static Reg dot(Reg acc, Reg codes, Reg q) {
#if defined(__clang__)
    return _mm512_dpbusd_epi32(acc, codes, q);
#else
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(q));
    return acc;
#endif
  }
};
#endif

#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
/// 8 lanes.
struct Ymm {
  using Reg = __m256i;
  static constexpr const char* name = "avx-vnni";
  static constexpr int lanes = 8;
  static constexpr Index tile_tokens = 4;
  static Reg load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void store(void* to, Reg x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }
  static Reg bytes(int x) { return _mm256_set1_epi8(char(x)); }
  static Reg words(int x) { return _mm256_set1_epi32(x); }
  static Reg both(Reg a, Reg b) { return _mm256_and_si256(a, b); }
  static Reg add(Reg a, Reg b) { return _mm256_add_epi32(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mullo_epi32(a, b); }
  static Reg add_bytes(Reg a, Reg b) { return _mm256_add_epi8(a, b); }
  static Reg sub_bytes(Reg a, Reg b) { return _mm256_sub_epi8(a, b); }
  static Reg min_bytes(Reg a, Reg b) { return _mm256_min_epu8(a, b); }
  static Reg shift(Reg x, int n) { return _mm256_srli_epi32(x, n); }
  static Reg shift_signed(Reg x, int n) { return _mm256_srai_epi32(x, n); }
  [[gnu::always_inline]] static Reg dot(Reg acc, Reg codes, Reg q) {
#if defined(__clang__) && defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(acc, codes, q);
#elif defined(__clang__)
    return _mm256_dpbusd_epi32(acc, codes, q);
#elif defined(__AVXVNNI__)
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(codes), "x"(q));
    return acc;
#else
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(q));
    return acc;
#endif
  }
};
#endif

}  // namespace detail

/// TernaryLoops on the registers of V.
template <class V>
struct TernaryVnni {
  using Reg = typename V::Reg;  ///< a register of integers
  /// As in TernaryScalar.
  /// \{
  static constexpr const char* name = V::name;
  static constexpr Index tile_tokens = V::tile_tokens;

  template <TernaryLayout L>
  static void rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += N * V::lanes) packed_rows<L, 1, N>(w + 4 * r, blocks, q, acc + r);
  }

  /// rows() for 4 tokens. It does not unpack the weights, because for 4 tokens that does not pay. q [quads][4][4],
  /// acc [4][32].
  template <TernaryLayout L>
  static void four_rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += V::lanes) packed_rows<L, 4, 1>(w + 4 * r, blocks, q, acc + r);
  }

  template <TernaryLayout L>
  static void unpack(const std::byte* w, Index blocks, std::uint8_t* panel) {
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes, panel += L::planes * L::block_bytes) {
      for (Index at = 0; at < L::block_bytes; at += bytes) {
        Reg x = V::load(w + at);
        HEED_UNROLL
        for (int p = L::planes - 1; p >= 0; --p) {
          V::store(panel + p * L::block_bytes + at, take_code<L>(x, p));
        }
      }
    }
  }

  static void tile(const std::uint8_t* panel, Index quads, const std::int8_t* q, Index tokens, bool resume,
                   std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += N * V::lanes) {
      const auto some = [&]<int T>(std::integral_constant<int, T>) {
        if (tokens == T) some_tokens<T>(panel + 4 * r, quads, q, resume, acc + r);
      };
      some(std::integral_constant<int, 4>{});
      if constexpr (tile_tokens == 12) {
        some(std::integral_constant<int, 8>{});
        some(std::integral_constant<int, 12>{});
      }
    }
  }
  /// \}

 private:
  static constexpr int bytes = V::lanes * 4;
  // Vectors of codes in use at once. A tile of 12 tokens then needs 24 accumulators, 2 codes and 1 operand of 32
  // registers; a tile of 4 tokens needs 8 + 2 + 1 of 16. Both hide the latency of the sums.
  static constexpr int N = 2;
  // How far ahead weights are prefetched: 8 KiB reached 99 % of read bandwidth, 1 KiB 65 %.
  static constexpr Index prefetch_bytes = 8192;

  [[gnu::always_inline]] static Reg zero() { return V::words(0); }
  [[gnu::always_inline]] static Reg quad(const std::int8_t* q) { return V::words(detail::load_quad(q)); }

  // x - unit for bytes of at least `unit`, x for smaller ones: there the difference wraps around to a large number.
  [[gnu::always_inline]] static Reg lower(Reg x, int unit) { return V::min_bytes(x, V::sub_bytes(x, V::bytes(unit))); }

  // Plane p of every byte. The planes above p were taken out before.
  template <class L>
  [[gnu::always_inline]] static Reg take_code(Reg& x, int p) {
    if constexpr (L::planes == 4) {
      return V::both(V::shift(x, 2 * p), V::bytes(3));
    } else {
      const int unit = L::plane_unit(p);
      const Reg once = lower(x, unit), twice = lower(once, unit), one = V::bytes(1);
      const Reg code =
          V::add_bytes(V::min_bytes(V::sub_bytes(x, once), one), V::min_bytes(V::sub_bytes(once, twice), one));
      x = twice;
      return code;
    }
  }

  // The planes of every byte, without shifting them down: plane p comes multiplied by a unit that combine() divides by.
  template <class L>
  [[gnu::always_inline]] static void planes_of(Reg x, Reg* planes) {
    if constexpr (L::planes == 4) {
      mask_planes(x, planes);
    } else if constexpr (has_look_up) {
      // A table turns the 81 values of four base-3 digits into four 2-bit codes. The rest of the byte is 81 times the
      // fifth digit.
      const Reg four = lower(lower(x, 81), 81);
      planes[4] = V::sub_bytes(x, four);
      mask_planes(V::look_up(four_codes.data(), four), planes);
    } else {
      HEED_UNROLL
      for (int p = L::planes - 1; p >= 0; --p) planes[p] = take_code<L>(x, p);
    }
  }
  [[gnu::always_inline]] static void mask_planes(Reg x, Reg* planes) {
    planes[0] = V::both(x, V::bytes(0x03));
    planes[1] = V::both(x, V::bytes(0x0c));
    planes[2] = V::both(x, V::bytes(0x30));
    planes[3] = V::both(x, V::bytes(0xc0));
  }

  // The sum of all planes. A plane's sum is an exact multiple of its unit. It stays below 2^31 for up to L::max_cols
  // columns. The largest plane grows by at most 128 * 128 per 4 columns of a byte, or by 162 * 128 per 5, in 4 bytes at
  // once: the limits would be 524,287 and 517,000 columns.
  template <class L>
  [[gnu::always_inline]] static Reg combine(const Reg* acc) {
    if constexpr (L::planes == 4 || has_look_up) {
      const Reg low = V::add(acc[0], V::shift_signed(acc[1], 2));
      const Reg four = V::add(low, V::add(V::shift_signed(acc[2], 4), V::shift_signed(acc[3], 6)));
      if constexpr (L::planes == 4) return four;
      constexpr std::uint32_t inverse_of_81 = 0x781948b1u;  // modulo 2^32: divides exact multiples
      static_assert(81u * inverse_of_81 == 1u);
      return V::add(four, V::mul(acc[4], V::words(int(inverse_of_81))));
    } else {
      return V::add(V::add(V::add(acc[0], acc[1]), V::add(acc[2], acc[3])), acc[4]);
    }
  }

  // T tokens times M vectors of rows, each plane with an accumulator of its own.
  template <TernaryLayout L, int T, int M>
  [[gnu::noinline]] static void packed_rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* out) {
    constexpr int P = L::planes;
    Reg acc[std::size_t(T)][std::size_t(M)][std::size_t(P)];
    HEED_UNROLL
    for (int t = 0; t < T; ++t) {
      HEED_UNROLL
      for (int m = 0; m < M; ++m) {
        HEED_UNROLL
        for (int p = 0; p < P; ++p) acc[t][m][p] = zero();
      }
    }
    for (Index b = 0; b < blocks; ++b, w += L::block_bytes, q += T * L::block_cols) {
      prefetch(w);
      Reg codes[std::size_t(M)][std::size_t(P)];
      HEED_UNROLL
      for (int m = 0; m < M; ++m) planes_of<L>(V::load(w + m * bytes), codes[m]);
      HEED_UNROLL
      for (int p = 0; p < P; ++p) {
        HEED_UNROLL
        for (int t = 0; t < T; ++t) {
          const Reg a = quad(q + 4 * (p * T + t));
          HEED_UNROLL
          for (int m = 0; m < M; ++m) acc[t][m][p] = V::dot(acc[t][m][p], codes[m][p], a);
        }
      }
    }
    HEED_UNROLL
    for (int t = 0; t < T; ++t) {
      HEED_UNROLL
      for (int m = 0; m < M; ++m) V::store(out + t * ternary_rows + m * V::lanes, combine<L>(acc[t][m]));
    }
  }

  template <int T>
  [[gnu::noinline]] static void some_tokens(const std::uint8_t* panel, Index quads, const std::int8_t* q, bool resume,
                                            std::int32_t* out) {
    Reg acc[std::size_t(T)][std::size_t(N)];
    HEED_UNROLL
    for (int t = 0; t < T; ++t) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) acc[t][n] = resume ? V::load(out + t * ternary_rows + n * V::lanes) : zero();
    }
    for (Index c = 0; c < quads; ++c, panel += 4 * ternary_rows, q += 4 * T) {
      Reg codes[std::size_t(N)];
      HEED_UNROLL
      for (int n = 0; n < N; ++n) codes[n] = V::load(panel + n * bytes);
      HEED_UNROLL
      for (int t = 0; t < T; ++t) {
        const Reg a = quad(q + 4 * t);
        HEED_UNROLL
        for (int n = 0; n < N; ++n) acc[t][n] = V::dot(acc[t][n], codes[n], a);
      }
    }
    HEED_UNROLL
    for (int t = 0; t < T; ++t) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) V::store(out + t * ternary_rows + n * V::lanes, acc[t][n]);
    }
  }

  // Prefetches the lines of a block, or of this half of it. The address may lie outside any object.
  [[gnu::always_inline]] static void prefetch(const std::byte* w) {
    const auto at = reinterpret_cast<std::uintptr_t>(w) + std::uintptr_t(prefetch_bytes);
    HEED_UNROLL
    for (int n = 0; n < N * bytes; n += 64) __builtin_prefetch(reinterpret_cast<const void*>(at + std::uintptr_t(n)));
  }

  static constexpr bool has_look_up = requires(Reg x) { V::look_up(nullptr, x); };
  static constexpr auto four_codes = [] {
    std::array<std::uint8_t, 128> made{};
    for (int value = 0; value < 81; ++value) {
      for (int p = 0, rest = value; p < 4; ++p, rest /= 3) {
        made[std::size_t(value)] = std::uint8_t(made[std::size_t(value)] | (rest % 3) << (2 * p));
      }
    }
    return made;
  }();
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
using TernaryVnni512 = TernaryVnni<detail::Zmm>;  ///< 16 lanes
#endif
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
using TernaryVnni256 = TernaryVnni<detail::Ymm>;  ///< 8 lanes
#endif

}  // namespace heed::inline HEED_ABI
#endif
