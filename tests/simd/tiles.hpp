/// \file
/// What the laws of tile functions are tested with: rows, targets, and comparison of bits.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include <heed/codec/codecs.hpp>
#include <heed/concepts.hpp>
#include <heed/simd/scalar.hpp>

#include "oracle/random.hpp"

namespace heed_test {

using heed::Index;
using heed::Scalar;

inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// Both NaN, or the same bits.
[[nodiscard]] inline bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0;
}
[[nodiscard]] inline bool same(const float* a, const float* b, Index n) {
  for (Index i = 0; i < n; ++i) {
    if (!same(a[i], b[i])) return false;
  }
  return true;
}

/// Encoded rows, each in a block of its own that ends where the backend may no longer read.
template <class C>
struct Rows {
  std::vector<std::unique_ptr<std::byte[]>> blocks;
  std::vector<const std::byte*> pointers, ahead;

  /// `readable` bytes of each row exist; those after the row are NaN. Rows start at any even address.
  Rows(oracle::Random& random, Index count, Index width, Index readable) {
    for (Index k = 0; k < count; ++k) {
      const Index shift = 2 * random.below(8);
      blocks.push_back(std::make_unique<std::byte[]>(std::size_t(shift + readable)));
      std::memset(blocks.back().get(), 0xff, std::size_t(shift + readable));
      C::encode(random.gaussians(width).data(), width, blocks.back().get() + shift);
      pointers.push_back(blocks.back().get() + shift);
    }
    ahead.assign(std::size_t(count) + 320, pointers.empty() ? nullptr : pointers[0]);
  }
  /// The rows as a view from number `offset` on.
  [[nodiscard]] heed::KeyRows keys(Index offset = 0) const {
    return {pointers.data(), ahead.data(), Index(pointers.size()), offset};
  }
};

/// Outputs of some rows with waiting states to merge with, twice: for the backend and for Scalar.
struct Targets {
  static constexpr Index width = 256;
  std::vector<float> out, left;
  std::vector<heed::RowTarget> rows;

  Targets(std::uint64_t seed, Index count) {
    oracle::Random random(seed);
    out = random.gaussians(count * width);  // parked sums
    left = random.gaussians(count * width * 3);
    for (Index r = 0; r < count; ++r) {
      heed::RowTarget& row = rows.emplace_back();
      row.out = out.data() + r * width;
      row.normalise = float(1 + random.uniform());
      row.merges = int(random.below(4));
      for (int m = 0; m < row.merges; ++m) {
        row.merge[m] = {left.data() + (r * 3 + m) * width, float(random.uniform()), float(random.uniform())};
      }
    }
  }
};

}  // namespace heed_test
