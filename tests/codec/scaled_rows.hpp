/// \file
/// Two codecs that are written in tests: signed bytes with a factor per row, and with one per block.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include <heed/concepts.hpp>

#include "codec/signed_bytes.hpp"

namespace heed_test {

/// Signed bytes behind a factor at the head of the row.
struct Scaled : SignedBytes<4> {
  static constexpr const char* name = "scaled";
  static constexpr heed::Factors factors = heed::Factors::per_row;
  static constexpr heed::Index view_step = 4;
  static constexpr heed::Index row_alignment = 4;
  static heed::Index row_bytes(heed::Index width) { return 4 + width; }
  static heed::Index factor_bytes(heed::Index) { return 0; }
  static void encode(const float* in, heed::Index width, std::byte* row, std::byte*) {
    float most = 0;
    for (heed::Index i = 0; i < width; ++i) most = std::max(most, std::abs(in[i]));
    const float factor = most / 127;
    std::memcpy(row, &factor, sizeof factor);
    for (heed::Index i = 0; i < width; ++i) {
      row[4 + i] = std::byte(int(factor > 0 ? std::nearbyint(in[i] / factor) : 0) & 255);
    }
  }
  static float factor(const std::byte* row, const std::byte*, heed::Index) {
    float factor;
    std::memcpy(&factor, row, sizeof factor);
    return factor;
  }
};
static_assert(heed::Codec<Scaled>);

/// Signed bytes with a factor for every 32 of them, in the plane. Factors are powers of two.
struct BlockScaled : SignedBytes<0> {
  static constexpr const char* name = "block scaled";
  static constexpr heed::Factors factors = heed::Factors::per_block;
  static constexpr heed::Index view_step = 32;
  static constexpr heed::Index row_alignment = 4;
  static heed::Index row_bytes(heed::Index width) { return width; }
  static heed::Index factor_bytes(heed::Index width) { return (width + 31) / 32 * 4; }
  static void encode(const float* in, heed::Index width, std::byte* row, std::byte* entry) {
    for (heed::Index block = 0; block * 32 < width; ++block) {
      const float factor = std::ldexp(1.0f, -5 - int(block % 3));
      std::memcpy(entry + block * 4, &factor, sizeof factor);
      for (heed::Index i = block * 32; i < std::min(width, block * 32 + 32); ++i) {
        row[i] = std::byte(int(std::clamp(std::nearbyint(in[i] / factor), -127.0f, 127.0f)) & 255);
      }
    }
  }
  static float factor(const std::byte*, const std::byte* entry, heed::Index i) {
    float factor;
    std::memcpy(&factor, entry + i * 4, sizeof factor);
    return factor;
  }
};
static_assert(heed::Codec<BlockScaled>);

}  // namespace heed_test
