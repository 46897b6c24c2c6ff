/// \file
/// The activation quantiser: one row of floats to int8, with or without an RMSNorm before it.
///
/// Its result must not depend on the instruction set: near .5 the last bit decides which integer comes out. So the code
/// leaves the compiler no multiply-add to fuse.
#pragma once

#include <cstdint>
#include <cstring>

#include <heed/floats.hpp>
#include <heed/simd/rms.hpp>

namespace heed::inline HEED_ABI {

/// How an activation exactly between two integers is rounded.
enum class Rounding {
  half_even,  ///< to the even one, as PyTorch
  half_away   ///< away from zero, as MatMul-free LM's fused GPU kernel
};

namespace detail {

/// A row whose largest activation is smaller is quantised as if it were this. So a row of zeros gives zeros.
inline constexpr float least_absmax = 1e-5f;

/// Sixteen numbers on every ISA: the compiler cuts them into registers.
using Floats16 [[gnu::vector_size(64)]] = float;
using Words16 [[gnu::vector_size(64)]] = std::uint32_t;
using Ints16 [[gnu::vector_size(64)]] = std::int32_t;

/// The row to quantise: x * norm.lift * norm.rstd * gain, or x if gain is null. Nothing is owned.
struct NormedRow {
  const float* x = nullptr;
  Index n = 0;
  RmsFactors norm = {};
  const float* gain = nullptr;

  [[gnu::always_inline]] void load(Index at, Floats16& to) const noexcept {
    float v[16];
    load_16(x, at, n, v);
    std::memcpy(&to, v, sizeof to);
    if (gain == nullptr) return;
    Floats16 g;
    load_16(gain, at, n, v);
    std::memcpy(&g, v, sizeof g);
    if (norm.lift != 1) to = to * norm.lift;
    to = to * norm.rstd * g;
  }
};

/// What quantize_row() returns besides the integers.
struct QuantizedRow {
  float scale = 0;       ///< a / 127: activation = integer * scale; NaN if the row has a number that is not finite
  std::int32_t sum = 0;  ///< sum of the integers
};

/// Quantises a row of n numbers: a = max(max |x|, 1e-5), q = round(x * (127 / a)), |q| <= 127. Writes q to `to` in
/// quads of four, `quad_stride` bytes apart, then zeros up to `padded` numbers (a multiple of 4). If a number of the
/// row is not finite, the integers are zeros and the scale is NaN, so that every output is NaN.
inline QuantizedRow quantize_row(const NormedRow& row, Rounding rounding, Index padded, std::int8_t* to,
                                 Index quad_stride) noexcept {
  Words16 most{};  // largest float without its sign: as integers such floats compare alike, and NaN is the largest
  for (Index i = 0; i < row.n; i += 16) {
    Floats16 v;
    row.load(i, v);
    const Words16 size = (Words16)v & 0x7fffffffu;
    most = size > most ? size : most;
  }
  std::uint32_t largest = 0;
  for (int j = 0; j < 16; ++j) largest = most[j] > largest ? most[j] : largest;
  const bool finite = largest < 0x7f800000u;
  const float found = detail::bits_as<float>(largest), absmax = found > least_absmax ? found : least_absmax;
  const float factor = 127.0f / absmax;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, half to even

  Ints16 sums{};
  for (Index i = 0; i < round_up(padded, 16); i += 16) {
    alignas(64) float product[16] = {};
    if (finite && i < row.n) {
      Floats16 v;
      row.load(i, v);
      v = v * factor;
      std::memcpy(product, &v, sizeof v);
    }
    asm("" : "+m"(product));  // the product must be rounded: the compiler must not fuse it with the addition below
    Floats16 v;
    std::memcpy(&v, product, sizeof v);
    const Floats16 shifted = v + magic;
    Ints16 q = (Ints16)shifted - detail::bits_as<std::int32_t>(magic);
    if (rounding == Rounding::half_away) {
      const Floats16 over = v - (shifted - magic);
      q -= (over == 0.5f) & (v > 0.0f);
      q += (over == -0.5f) & (v < 0.0f);
    }
    sums += q;
    std::int8_t packed[16];
    for (int j = 0; j < 16; ++j) packed[j] = std::int8_t(q[j]);
    for (Index quad = 0; quad < 4 && i + 4 * quad < padded; ++quad, to += quad_stride) {
      std::memcpy(to, packed + 4 * quad, 4);
    }
  }
  QuantizedRow made{.scale = absmax / 127.0f};
  for (int j = 0; j < 16; ++j) made.sum += sums[j];
  if (!finite) made.scale = detail::bits_as<float>(0x7fc00000u);
  return made;
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
