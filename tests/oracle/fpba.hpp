/// \file
/// Fully parameterised bilinear attention (FPBA) in float64: the most general attention of its kind, of which MHA, GQA,
/// MQA, MLA and MFA without norms and rotations are special cases.
///
///     o_i = sum_c ( sum_j softmax_j( scale x_i W_c x_j^T ) x_j U_c ),   j visible to i
///
/// The MFA paper (arXiv 2412.19255) has one channel c for each of the D hidden dims, and scale 1/sqrt(D). A mechanism
/// with n <= D heads needs n of them; the others have U_c = 0.
#pragma once

#include "oracle/attention.hpp"

namespace oracle {

/// One channel: two D x D matrices, row-major.
struct BilinearChannel {
  std::vector<double> w = {};  ///< query-key circuit
  std::vector<double> u = {};  ///< value-output circuit
};

/// x W for a row x of D numbers and a D x D matrix W.
inline std::vector<double> row_times(const double* x, const std::vector<double>& matrix, Int d) {
  std::vector<double> y(std::size_t(d), 0.0);
  for (Int r = 0; r < d; ++r) {
    for (Int c = 0; c < d; ++c) y[std::size_t(c)] += x[r] * matrix[std::size_t(r * d + c)];
  }
  return y;
}

/// FPBA of x [tokens][d], token i at position i; the result has the same shape. 0 where nothing is visible.
inline std::vector<double> fpba(const std::vector<double>& x, Int d, const std::vector<BilinearChannel>& channels,
                                double scale, const Visible& visible = causal()) {
  const Int tokens = Int(x.size()) / d;
  std::vector<double> out(x.size(), 0.0), s(std::size_t(tokens), 0.0);
  for (const BilinearChannel& channel : channels) {
    for (Int i = 0; i < tokens; ++i) {
      const std::vector<double> query = row_times(x.data() + i * d, channel.w, d);
      double max = -infinity;
      for (Int j = 0; j < tokens; ++j) {
        double dot = 0;
        for (Int c = 0; c < d; ++c) dot += query[std::size_t(c)] * x[std::size_t(j * d + c)];
        s[std::size_t(j)] = visible(i, j) ? scale * dot : -infinity;
        max = std::max(max, s[std::size_t(j)]);
      }
      if (max == -infinity) continue;
      double sum = 0;
      std::vector<double> mean(std::size_t(d), 0.0);
      for (Int j = 0; j < tokens; ++j) {
        const double weight = std::exp(s[std::size_t(j)] - max);
        sum += weight;
        for (Int c = 0; c < d; ++c) mean[std::size_t(c)] += weight * x[std::size_t(j * d + c)];
      }
      for (double& number : mean) number /= sum;
      const std::vector<double> o = row_times(mean.data(), channel.u, d);
      for (Int c = 0; c < d; ++c) out[std::size_t(i * d + c)] += o[std::size_t(c)];
    }
  }
  return out;
}

}  // namespace oracle
