/// \file
/// Ternary products with 32-bit integer lanes only, so that they work on every instruction set.
#pragma once

#include <heed/simd/registers.hpp>
#include <heed/simd/ternary/scalar.hpp>

namespace heed::inline HEED_ABI {

/// TernaryLoops on `W` lanes of 32 bits; W is 4, 8 or 16.
template <int W>
struct TernaryLanes {
  using Words = typename detail::VectorTypes<W>::Words;  ///< W lanes of 32 bits
  /// As in TernaryScalar.
  /// \{
  static constexpr const char* name = "lanes";
  static constexpr Index tile_tokens = 4;

  template <TernaryLayout L>
  static void rows(const std::byte* w, Index blocks, const std::int8_t* q, std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += W) {
      Words sum{};
      for (Index b = 0; b < blocks; ++b) {
        const Words x = load(w + b * L::block_bytes + 4 * r);
        const std::int8_t* a = q + b * L::block_cols;
        HEED_UNROLL
        for (int j = 0; j < 4; ++j) {
          Words byte = (x >> (8 * j)) & 0xffu;
          HEED_UNROLL
          for (int p = L::planes - 1; p >= 0; --p) sum += take_code<L>(byte, p) * factor(a[4 * p + j]);
        }
      }
      std::memcpy(acc + r, &sum, sizeof sum);
    }
  }

  template <TernaryLayout L>
  static void unpack(const std::byte* w, Index blocks, std::uint8_t* panel) {
    TernaryScalar::unpack<L>(w, blocks, panel);
  }

  static void tile(const std::uint8_t* panel, Index quads, const std::int8_t* q, Index, bool resume,
                   std::int32_t* acc) {
    for (Index r = 0; r < ternary_rows; r += W) {
      Words sum[4] = {};
      for (int t = 0; resume && t < 4; ++t) std::memcpy(&sum[t], acc + t * ternary_rows + r, sizeof sum[t]);
      for (Index c = 0; c < quads; ++c) {
        const Words x = load(panel + 4 * ternary_rows * c + 4 * r);
        HEED_UNROLL
        for (int j = 0; j < 4; ++j) {
          const Words codes = (x >> (8 * j)) & 0xffu;
          HEED_UNROLL
          for (int t = 0; t < 4; ++t) sum[t] += codes * factor(q[16 * c + 4 * t + j]);
        }
      }
      for (int t = 0; t < 4; ++t) std::memcpy(acc + t * ternary_rows + r, &sum[t], sizeof sum[t]);
    }
  }
  /// \}

 private:
  static Words load(const void* from) {
    Words x;
    std::memcpy(&x, from, sizeof x);
    return x;
  }
  // Modulo 2^32 a signed product is an unsigned one.
  static std::uint32_t factor(std::int8_t q) { return std::uint32_t(std::int32_t(q)); }

  // Plane p of every byte. The planes above p were taken out before.
  template <class L>
  [[gnu::always_inline]] static Words take_code(Words& byte, int p) {
    if constexpr (L::planes == 4) {
      return (byte >> (2 * p)) & 3u;
    } else {
      const auto unit = std::uint32_t(L::plane_unit(p));
      const Words code = Words((byte >= unit) & 1u) + Words((byte >= 2 * unit) & 1u);
      byte -= code * unit;
      return code;
    }
  }
};

}  // namespace heed::inline HEED_ABI
