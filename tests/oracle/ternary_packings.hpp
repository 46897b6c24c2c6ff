/// \file
/// How other projects store ternary weights, written down byte by byte; code(w) = w + 1.
///
///     Hugging Face  R = ceil(rows / 4);  bits 2i of byte [r][k] = code of row i R + r        (rows far apart)
///     I2_S          blocks of 4 B weights in B bytes: bits 6, 4, 2, 0 of byte p = code of p, B + p, 2 B + p, 3 B + p;
///                   B = 32 where x86 wrote the file, 16 where ARM did; 32 bytes at the end, first a float scale m
///     TQ2_0         256 weights: per half, bits 0, 2, 4, 6 of byte p of 32 = code of p, 32 + p, 64 + p, 96 + p;
///                   then a half-precision scale: 66 bytes
///     TQ1_0         256 weights: 32 bytes of 5 digits for 160, 16 bytes of 5 digits for 80, 4 bytes of 4 digits for
///                   16, then a half-precision scale: 54 bytes. Digit n of byte p of B is the code of n B + p, the
///                   first digit the highest of v < 3^5, stored as ceil(v 256 / 243). Four digits get a 0 behind.
///
/// Sources: huggingface/transformers (integrations/bitnet.py), microsoft/BitNet (ggml-bitnet-mad.cpp, ACT_PARALLEL),
/// ggml-org/llama.cpp (ggml-quants.c). The last three know no rows that are not whole blocks.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "oracle/bitlinear.hpp"
#include "oracle/random.hpp"

namespace oracle {

using Bytes = std::vector<std::uint8_t>;
using Trits = std::vector<std::int8_t>;

inline unsigned code_of(std::int8_t w) { return unsigned(w + 1); }
inline std::int8_t weight_of(unsigned code) { return std::int8_t(int(code) - 1); }

inline void require_whole_blocks(Int weights, Int block) {
  if (weights % block != 0)
    throw std::invalid_argument(std::to_string(weights) + " weights, blocks are " + std::to_string(block));
}

// Hugging Face. The scale is a tensor of its own there.

/// [ceil(rows / 4)][cols]
inline Bytes hf_packed(const TernaryWeights& weights) {
  const Int packed_rows = (weights.rows + 3) / 4;
  Bytes bytes(std::size_t(packed_rows * weights.cols), 0);
  for (Int row = 0; row < weights.rows; ++row) {
    const Int i = row / packed_rows, r = row % packed_rows;
    for (Int k = 0; k < weights.cols; ++k) {
      const unsigned code = code_of(weights.w[std::size_t(row * weights.cols + k)]);
      bytes[std::size_t(r * weights.cols + k)] |= std::uint8_t(code << (2 * i));
    }
  }
  return bytes;
}

/// [4 ceil(rows / 4)][cols]: rows that nobody packed come out as -1, the caller drops them.
inline Trits hf_unpacked(const Bytes& bytes) {
  Trits w;
  for (const int i : {0, 1, 2, 3}) {
    for (const unsigned byte : bytes) w.push_back(weight_of(byte >> (2 * i) & 3));
  }
  return w;
}

// I2_S

/// Bytes of a block by the machine that wrote the file, which does not say.
enum class I2sBlock : Int { x86 = 32, arm = 16 };

inline Bytes i2_s_packed(const TernaryWeights& weights, I2sBlock written_by) {
  const Int block = Int(written_by);
  require_whole_blocks(Int(weights.w.size()), 4 * block);  // rows need not begin with one
  Bytes bytes(weights.w.size() / 4, 0);
  for (Int k = 0; k < Int(weights.w.size()); ++k) {
    const Int plane = k % (4 * block) / block, p = k % block;
    bytes[std::size_t(k / (4 * block) * block + p)] |=
        std::uint8_t(code_of(weights.w[std::size_t(k)]) << (6 - 2 * plane));
  }
  const float scale = float(weights.scale);
  const std::size_t end = bytes.size();
  bytes.resize(end + 32, 0);
  std::memcpy(bytes.data() + end, &scale, sizeof scale);
  return bytes;
}

inline TernaryWeights i2_s_unpacked(const Bytes& bytes, Int cols, I2sBlock written_by) {
  const Int block = Int(written_by), count = (Int(bytes.size()) - 32) * 4;
  require_whole_blocks(count, 4 * block);
  TernaryWeights weights{.rows = count / cols, .cols = cols};
  for (Int k = 0; k < count; ++k) {
    const Int plane = k % (4 * block) / block, p = k % block;
    const unsigned byte = bytes[std::size_t(k / (4 * block) * block + p)];
    weights.w.push_back(weight_of(byte >> (6 - 2 * plane) & 3));
  }
  float scale = 0;
  std::memcpy(&scale, bytes.data() + count / 4, sizeof scale);
  weights.scale = scale;
  return weights;
}

// ggml

/// The bits of a positive number rounded to half precision, or of 0.
inline std::uint16_t f16_bits(double number) {
  const double half = round_to_f16(number);
  if (half < 0x1p-14) return std::uint16_t(half * 0x1p24);
  const int exponent = std::ilogb(half);
  return std::uint16_t((exponent + 15) * 1024 + int(std::ldexp(half, 10 - exponent)) - 1024);
}
inline double f16_number(std::uint16_t bits) {
  const int exponent = bits >> 10, fraction = bits & 1023;
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
}

/// A format's blocks of 256 weights: how many bytes they have, and which digits of which byte a weight is.
struct GgmlBlock {
  static constexpr Int weights = 256;

  Int bytes;  ///< with the scale, which is the last two
  /// The byte of a weight, and which of its digits, counted in the order of weights.
  std::pair<Int, int> (*place)(Int weight);
  /// The byte of its codes, in the order of weights, and back.
  std::uint8_t (*byte_of)(const std::vector<unsigned>& codes);
  unsigned (*code_of)(std::uint8_t byte, int digit);
};

inline const GgmlBlock tq2_0{
    .bytes = 66,
    .place =
        [](Int e) {
          return std::pair{e / 128 * 32 + e % 32, int(e % 128 / 32)};
        },
    .byte_of =
        [](const std::vector<unsigned>& codes) {
          return std::uint8_t(codes[0] + 4 * codes[1] + 16 * codes[2] + 64 * codes[3]);
        },
    .code_of = [](std::uint8_t byte, int digit) { return unsigned(byte) >> (2 * digit) & 3; },
};

inline const GgmlBlock tq1_0{
    .bytes = 54,
    .place =
        [](Int e) {
          if (e < 160) return std::pair{e % 32, int(e / 32)};
          if (e < 240) return std::pair{32 + (e - 160) % 16, int((e - 160) / 16)};
          return std::pair{48 + (e - 240) % 4, int((e - 240) / 4)};
        },
    .byte_of =
        [](const std::vector<unsigned>& codes) {
          unsigned v = 0;
          for (std::size_t n = 0; n < 5; ++n) v = 3 * v + (n < codes.size() ? codes[n] : 0);
          return std::uint8_t((v * 256 + 242) / 243);
        },
    .code_of =
        [](std::uint8_t byte, int digit) {
          unsigned v = byte * 243u / 256;  // what was rounded up, rounded down again
          for (int n = 4; n > digit; --n) v /= 3;
          return v % 3;
        },
};

/// A block of zeros has the scale 0, every other one that of the tensor.
inline Bytes ggml_packed(const TernaryWeights& weights, const GgmlBlock& format) {
  require_whole_blocks(weights.cols, GgmlBlock::weights);
  Bytes bytes;
  for (auto block = weights.w.begin(); block != weights.w.end(); block += GgmlBlock::weights) {
    std::vector<std::vector<unsigned>> codes(std::size_t(format.bytes - 2));
    bool zero = true;
    for (Int e = 0; e < GgmlBlock::weights; ++e) {
      codes[std::size_t(format.place(e).first)].push_back(oracle::code_of(block[e]));  // digits come in their order
      zero = zero && block[e] == 0;
    }
    for (const auto& of_byte : codes) bytes.push_back(format.byte_of(of_byte));
    const std::uint16_t scale = f16_bits(zero ? 0 : weights.scale);
    bytes.push_back(std::uint8_t(scale & 255));
    bytes.push_back(std::uint8_t(scale >> 8));
  }
  return bytes;
}

struct GgmlWeights {
  Trits w = {};
  Numbers scales = {};  ///< one per block
};

inline GgmlWeights ggml_unpacked(const Bytes& bytes, const GgmlBlock& format) {
  GgmlWeights weights;
  for (auto block = bytes.begin(); block != bytes.end(); block += format.bytes) {
    for (Int e = 0; e < GgmlBlock::weights; ++e) {
      const auto [byte, digit] = format.place(e);
      weights.w.push_back(weight_of(format.code_of(block[byte], digit)));
    }
    weights.scales.push_back(f16_number(std::uint16_t(block[format.bytes - 2] + 256 * block[format.bytes - 1])));
  }
  return weights;
}

}  // namespace oracle
