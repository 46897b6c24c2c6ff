/// \file
/// Keys, values and queries of the kinds on which arithmetic differs.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include <heed/types.hpp>

#include "oracle/random.hpp"

namespace bench {

using heed::Index;

/// A kind of data. Channels with outliers are what real keys have: few, large, and a slow wave over the positions.
struct DataKind {
  const char* name = "";
  double deviation = 1;      ///< of the logits
  double outlier = 0;        ///< amplitude of the keys' outlier channels; 0: none
  double query_outlier = 1;  ///< factor of the queries' numbers in these channels
};

inline constexpr DataKind data_kinds[] = {
    {.name = "Gaussian, logits 1", .deviation = 1},
    {.name = "Gaussian, logits 4", .deviation = 4},
    {.name = "outliers x10", .deviation = 1.5, .outlier = 10},
    {.name = "outliers x30", .deviation = 1.5, .outlier = 30},
    {.name = "outliers x30, small in q", .deviation = 1.5, .outlier = 30, .query_outlier = 1.0 / 30},
};

/// One head's numbers, in rows of `dim`.
struct Data {
  std::vector<float> q, k, v;
  float scale = 1;  ///< gives the logits their deviation
};

inline constexpr Index outlier_channels = 4;

/// `keys` keys and values and `queries` queries, which are bf16 numbers: no math rounds them.
[[nodiscard]] inline Data make_data(const DataKind& kind, Index queries, Index keys, Index dim, std::uint64_t seed) {
  oracle::Random random(seed);
  Data data{.q = random.gaussians(queries * dim), .k = random.gaussians(keys * dim), .v = random.gaussians(keys * dim)};
  for (Index channel = 0; kind.outlier > 0 && channel < outlier_channels; ++channel) {
    const Index d = (2 * channel + 1) * dim / (2 * outlier_channels);
    for (Index i = 0; i < keys; ++i) {
      data.k[std::size_t(i * dim + d)] = float(kind.outlier * std::cos(0.01 * double(channel + 1) * double(i)));
    }
    for (Index i = 0; i < queries; ++i) data.q[std::size_t(i * dim + d)] *= float(kind.query_outlier);
  }
  for (float& x : data.q) x = float(oracle::round_to_bf16(x));
  double sum = 0, squares = 0;
  for (Index i = 0; i < queries; ++i) {
    for (Index j = 0; j < keys; ++j) {
      double dot = 0;
      for (Index d = 0; d < dim; ++d) {
        dot += double(data.q[std::size_t(i * dim + d)]) * double(data.k[std::size_t(j * dim + d)]);
      }
      sum += dot;
      squares += dot * dot;
    }
  }
  const double count = double(queries * keys), mean = sum / count;
  data.scale = float(kind.deviation / std::sqrt(squares / count - mean * mean));
  return data;
}

}  // namespace bench
