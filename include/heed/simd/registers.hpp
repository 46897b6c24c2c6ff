/// \file
/// Operations on vector registers that need neither xsimd nor Eigen: loads of narrow numbers, the word transpose.
/// Written with GNU vector extensions, which GCC and Clang map to the instructions of each ISA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__F16C__) || defined(__AVX2__) || defined(__FMA__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
// GCC drops a vector_size attribute that depends on a template parameter, hence one struct per width.
template <int W>
struct VectorTypes;
template <>
struct VectorTypes<4> {
  using Words [[gnu::vector_size(16)]] = std::uint32_t;
  using Halves [[gnu::vector_size(8)]] = std::uint16_t;
  using Bytes [[gnu::vector_size(4)]] = std::int8_t;
  using Floats [[gnu::vector_size(16)]] = float;
  using Ints [[gnu::vector_size(16)]] = std::int32_t;
};
template <>
struct VectorTypes<8> {
  using Words [[gnu::vector_size(32)]] = std::uint32_t;
  using Halves [[gnu::vector_size(16)]] = std::uint16_t;
  using Bytes [[gnu::vector_size(8)]] = std::int8_t;
  using Floats [[gnu::vector_size(32)]] = float;
  using Ints [[gnu::vector_size(32)]] = std::int32_t;
};
template <>
struct VectorTypes<16> {
  using Words [[gnu::vector_size(64)]] = std::uint32_t;
  using Halves [[gnu::vector_size(32)]] = std::uint16_t;
  using Bytes [[gnu::vector_size(16)]] = std::int8_t;
  using Floats [[gnu::vector_size(64)]] = float;
  using Ints [[gnu::vector_size(64)]] = std::int32_t;
};
}  // namespace detail

// GCC 12's AVX-512 intrinsics read a variable that they leave uninitialised on purpose, with a mask that ignores it
// (GCC bug 105593). -Wall reports each one that is inlined. What a user calls is not between push and pop.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// Operations on the native register `Traits::type` of `Traits::size` floats: the base of heed's vector types. Memory
/// may have any alignment.
template <class Traits>
struct Registers {
  static constexpr int W = int(Traits::size);  ///< floats of a register
  static_assert(W == 4 || W == 8 || W == 16, "a register holds 4, 8 or 16 floats");
  using Reg = typename Traits::type;                       ///< W floats
  using Words = typename detail::VectorTypes<W>::Words;    ///< W unsigned integers of 32 bits
  using Halves = typename detail::VectorTypes<W>::Halves;  ///< W unsigned integers of 16 bits
  using Bytes = typename detail::VectorTypes<W>::Bytes;    ///< W signed integers of 8 bits
  using Ints = typename detail::VectorTypes<W>::Ints;      ///< W signed integers of 32 bits
  static constexpr int width = W;                          ///< W, under the name that the loops use

  /// The same bits as integers.
  [[gnu::always_inline]] static Words words(Reg x) { return (Words)x; }
  /// The same bits as floats.
  [[gnu::always_inline]] static Reg floats(Words x) { return (Reg)x; }

  /// Lane i of the result is lane (i + N) % W of x.
  template <int N>
  [[gnu::always_inline]] static Reg rotate(Reg x) {
    return [&]<int... At>(std::integer_sequence<int, At...>) __attribute__((always_inline)) {
      return (Reg)__builtin_shufflevector(words(x), words(x), ((At + N) % W)...);
    }
    (std::make_integer_sequence<int, W>{});
  }
  /// Lane 0.
  [[gnu::always_inline]] static float first(Reg x) { return ((typename detail::VectorTypes<W>::Floats)x)[0]; }

  /// Reads W words of 32 bits.
  [[gnu::always_inline]] static Reg load_words(const std::byte* from) {
    Reg x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }

  /// Reads W words of 16 bits.
  [[gnu::always_inline]] static Halves load_halves(const std::byte* from) {
    Halves h;
    std::memcpy(&h, from, sizeof h);
    return h;
  }

  /// Zero-extends 16 bits to 32.
  [[gnu::always_inline]] static Words widen(Halves h) {
#if defined(__AVX512F__)  // GCC 12 makes five instructions of the conversion below
    if constexpr (W == 16) return (Words)_mm512_cvtepu16_epi32((__m256i)h);
#endif
#if defined(__AVX2__)
    if constexpr (W == 8) return (Words)_mm256_cvtepu16_epi32((__m128i)h);
#endif
    return __builtin_convertvector(h, Words);
  }
  /// The low 16 bits of each word.
  [[gnu::always_inline]] static Halves narrow(Words x) {
#if defined(__AVX512F__)
    if constexpr (W == 16) return (Halves)_mm512_cvtepi32_epi16((__m512i)x);
#endif
    return __builtin_convertvector(x, Halves);
  }
  /// Writes W words of 16 bits.
  [[gnu::always_inline]] static void store_halves(std::byte* to, Halves h) { std::memcpy(to, &h, sizeof h); }

  /// Reads W signed bytes.
  [[gnu::always_inline]] static Bytes load_bytes(const std::byte* from) {
    Bytes b;
    std::memcpy(&b, from, sizeof b);
    return b;
  }
  /// Integers as floats, exact up to magnitudes of 2^24.
  [[gnu::always_inline]] static Reg from_ints(Ints x) {
    return (Reg) __builtin_convertvector(x, typename detail::VectorTypes<W>::Floats);
  }
  /// Signed bytes as floats, exactly.
  [[gnu::always_inline]] static Reg from_bytes(Bytes b) {
#if defined(__AVX512F__)
    if constexpr (W == 16) return from_ints((Ints)_mm512_cvtepi8_epi32((__m128i)b));
#endif
    return from_ints(__builtin_convertvector(b, Ints));
  }

#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
  /// true: the ISA has an instruction that rounds a * b + c once.
  static constexpr bool has_fma = true;
  /// That instruction. xsimd 8.1's fma is not used, because on AVX-512 it multiplies and then adds.
  [[gnu::always_inline]] static Reg fused(Reg a, Reg b, Reg c) {
#if defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
#if defined(__AVX512F__)
    if constexpr (W == 16) return _mm512_fmadd_ps(a, b, c);
#endif
    if constexpr (W == 8) return _mm256_fmadd_ps(a, b, c);
    if constexpr (W == 4) return _mm_fmadd_ps(a, b, c);
#endif
  }
#else
  static constexpr bool has_fma = false;
#endif

  /// Words per row of one transposed block. With 16 lanes 8: a block and its accumulators fit in 32 registers. With fewer
  /// lanes 4: they fit in 16 registers, and 128-bit halves need no exchange.
  static constexpr int block_words = W == 16 ? 8 : 4;

  /// Reads N words of each of W rows, from byte `offset` on: lane j of block[c] is word c of row j. N is block_words or 4.
  template <int N = block_words>
  [[gnu::always_inline]] static void load_block(const std::byte* const* row, Index offset, Reg* block) {
    static_assert(N == block_words || N == 4, "a block has block_words words, or 4");
    if constexpr (N == 4) {
      load_four(row, offset, block);
    } else {
      load_eight(row, offset, block);
    }
  }

 private:
  using Eight = typename detail::VectorTypes<8>::Words;
  using Four = typename detail::VectorTypes<4>::Words;
  // Transposes the 4x4 blocks of words inside each 128-bit lane.
  [[gnu::always_inline]] static void transpose_four(const Reg* x, Reg* t) {
    const Reg a = unpack<0>(x[0], x[1]), b = unpack<2>(x[0], x[1]);
    const Reg c = unpack<0>(x[2], x[3]), d = unpack<2>(x[2], x[3]);
    t[0] = unpack_pairs<0>(a, c);
    t[1] = unpack_pairs<2>(a, c);
    t[2] = unpack_pairs<0>(b, d);
    t[3] = unpack_pairs<2>(b, d);
  }
  // Register j holds the four words of rows j, j + 4, ..., one row in each 128-bit lane.
  [[gnu::always_inline]] static void load_four(const std::byte* const* row, Index offset, Reg* block) {
    Reg x[4];
    HEED_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Four a = four_words(row[j] + offset);
      if constexpr (W == 4) {
        x[j] = (Reg)a;
      } else {
        const Eight low = join(a, four_words(row[j + 4] + offset));
        if constexpr (W == 8) {
          x[j] = (Reg)low;
        } else {
          x[j] = join(low, join(four_words(row[j + 8] + offset), four_words(row[j + 12] + offset)));
        }
      }
    }
    transpose_four(x, block);
  }
  // For 16 lanes: rows 0-3 and 4-7, then 8-11 and 12-15, in the halves of a register.
  [[gnu::always_inline]] static void load_eight(const std::byte* const* row, Index offset, Reg* block) {
    Reg x[8], t[8];
    HEED_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int first = j < 4 ? j : j + 4;
      Eight low, high;
      std::memcpy(&low, row[first] + offset, sizeof low);
      std::memcpy(&high, row[first + 4] + offset, sizeof high);
      x[j] = join(low, high);
    }
    HEED_UNROLL
    for (int r = 0; r < 8; r += 4) transpose_four(x + r, t + r);
    HEED_UNROLL
    for (int c = 0; c < 4; ++c) {  // then the 128-bit blocks themselves
      block[c] = every_other<0>(t[c], t[4 + c]);
      block[4 + c] = every_other<1>(t[c], t[4 + c]);
    }
  }
  [[gnu::always_inline]] static Four four_words(const std::byte* from) {
    Four x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  [[gnu::always_inline]] static Eight join(Four low, Four high) {
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
  }
  [[gnu::always_inline]] static Reg join(Eight low, Eight high) {
    return (Reg)__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  // a[h], b[h], a[h+1], b[h+1] of every 128-bit lane
  template <int H>
  [[gnu::always_inline]] static Reg unpack(Reg a, Reg b) {
#if defined(__AVX512F__)  // GCC 12 makes two-source permutations of the shuffles below, at half the rate
    if constexpr (W == 16) return H == 0 ? _mm512_unpacklo_ps(a, b) : _mm512_unpackhi_ps(a, b);
#endif
    return shuffle_lanes<H, H + W, H + 1, H + 1 + W>(a, b);
  }
  // a[h], a[h+1], b[h], b[h+1] of every 128-bit lane
  template <int H>
  [[gnu::always_inline]] static Reg unpack_pairs(Reg a, Reg b) {
#if defined(__AVX512F__)
    if constexpr (W == 16) {
      return (Reg)(H == 0 ? _mm512_unpacklo_pd((__m512d)a, (__m512d)b) : _mm512_unpackhi_pd((__m512d)a, (__m512d)b));
    }
#endif
    return shuffle_lanes<H, H + 1, H + W, H + 1 + W>(a, b);
  }
  template <int P0, int P1, int P2, int P3>
  [[gnu::always_inline]] static Reg shuffle_lanes(Reg a, Reg b) {
    return [&]<int... At>(std::integer_sequence<int, At...>) __attribute__((always_inline)) {
      return (Reg)__builtin_shufflevector(words(a), words(b),
                                          ((At % 4 == 0   ? P0
                                            : At % 4 == 1 ? P1
                                            : At % 4 == 2 ? P2
                                                          : P3) +
                                           At / 4 * 4)...);
    }
    (std::make_integer_sequence<int, W>{});
  }
  // 128-bit blocks P, P+2 of a, then P, P+2 of b (16 lanes)
  template <int P>
  [[gnu::always_inline]] static Reg every_other(Reg a, Reg b) {
#if defined(__AVX512F__)
    if constexpr (W == 16) return _mm512_shuffle_f32x4(a, b, P == 0 ? 0x88 : 0xdd);
#endif
    return [&]<int... At>(std::integer_sequence<int, At...>) __attribute__((always_inline)) {
      return (Reg)__builtin_shufflevector(words(a), words(b),
                                          ((At / 8) * W + 4 * (P + 2 * ((At / 4) % 2)) + At % 4)...);
    }
    (std::make_integer_sequence<int, W>{});
  }
};

namespace detail {
/// A register of W floats of no particular instruction set. Codecs are checked against it.
template <int W>
struct AnyRegister {
  using type = typename VectorTypes<W>::Floats;
  static constexpr int size = W;
};
/// A vector type of W floats of no instruction set: loads, stores and integers, without arithmetic of floats.
template <int W>
using AnyLanes = Registers<AnyRegister<W>>;

/// Floats of the widest register of this translation unit's instruction set.
#if defined(__AVX512F__)
inline constexpr int native_lanes = 16;
#elif defined(__AVX__)
inline constexpr int native_lanes = 8;
#else
inline constexpr int native_lanes = 4;
#endif
}  // namespace detail

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic pop
#endif

}  // namespace heed::inline HEED_ABI
