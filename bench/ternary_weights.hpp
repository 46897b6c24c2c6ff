/// \file
/// Ternary weights by the hundred million, and what layers of them should answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <heed/ternary/bit_linear.hpp>

#include "check.hpp"
#include "gaussian.hpp"
#include "oracle/bitlinear.hpp"
#include "oracle/random.hpp"

namespace bench {

/// Slices of one table of -1, 0 and 1, a third each: rows that start at different places are as good as independent.
class Ternaries {
 public:
  explicit Ternaries(std::uint64_t seed) : state_(seed) {}
  void fill(std::span<std::int8_t> row) {
    const std::vector<std::int8_t>& numbers = table();
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    for (std::size_t at = 0; at < row.size(); at += half) {
      const std::size_t count = std::min(half, row.size() - at);
      std::copy_n(numbers.begin() + std::ptrdiff_t((state_ >> 33) % half), count, row.begin() + std::ptrdiff_t(at));
    }
  }

 private:
  static constexpr std::size_t half = std::size_t{1} << 16;

  static const std::vector<std::int8_t>& table() {
    static const std::vector<std::int8_t> numbers = [] {
      std::vector<std::int8_t> made(2 * half);
      std::uint64_t state = 1;
      for (std::int8_t& w : made) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        w = std::int8_t(Index((state >> 33) % 3) - 1);
      }
      return made;
    }();
    return numbers;
  }

  std::uint64_t state_;
};

/// Gains of a norm: 1, more or less.
[[nodiscard]] inline std::vector<float> random_gains(Index count, Gaussians& numbers) {
  std::vector<float> gains;
  for (const float x : numbers.next(count)) gains.push_back(1 + 0.1f * x);
  return gains;
}

/// A layer with an inner norm, whose outputs are of the size of 1.
template <class L>
[[nodiscard]] heed::BitLinear<L> random_bit_linear(Index out, Index in, Ternaries& weights, Gaussians& numbers) {
  const auto read = [&](Index, std::span<std::int8_t> row) -> heed::Status {
    weights.fill(row);
    return {};
  };
  const float scale = 1 / std::sqrt(float(in) * 2 / 3);
  auto matrix = heed::value_or_throw(heed::TernaryMatrix<L>::create("weights", out, in, scale, read));
  const std::vector<float> gains = random_gains(in, numbers);
  return heed::value_or_throw(heed::BitLinear<L>::create("layer", std::move(matrix), {gains, 1, in}));
}

/// What a BitLinear gives for some rows and tokens, by the oracle. The sum of integers has to be exact, so an output may
/// be half an integer off; and another integer for every activation that float64 and float32 may round differently,
/// because it lies next to the middle between two (fewer than one a token).
class ExpectedSums {
 public:
  /// x is [tokens][in].
  template <class L>
  ExpectedSums(const heed::BitLinear<L>& linear, std::span<const float> x) : out_(linear.out()) {
    const Index in = linear.in(), tokens = Index(x.size()) / in;
    const std::vector<float> gain(linear.gain(), linear.gain() + in);
    std::vector<std::int8_t> row(static_cast<std::size_t>(in));
    for (Index i = 0; i < few; ++i) {
      const Index token = i * (tokens - 1) / (few - 1);
      const auto of_token = x.subspan(std::size_t(token * in), std::size_t(in));
      const oracle::Numbers normed = oracle::rms_norm(oracle::doubles({of_token.begin(), of_token.end()}),
                                                      oracle::doubles(gain), linear.options().norm_eps);
      const oracle::QuantizedRows quantized = oracle::quantized_rows(normed, in);
      const double unit = quantized.absmax[0] / 127;
      const auto doubtful = double(std::ranges::count_if(normed, [&](double v) {
        const double below = std::abs(v / unit) - std::floor(std::abs(v / unit));
        return std::abs(below - 0.5) < 127 * 0x1p-20;  // 16 roundings
      }));
      for (Index n = 0; n < rows_of_token; ++n) {
        Sample sample{.token = token, .row = n * (out_ - 1) / (rows_of_token - 1)};
        linear.weights().read_row(sample.row, row);
        sample.sum = double(oracle::integer_products(quantized.q, {.rows = 1, .cols = in, .w = row})[0]);
        sample.unit = unit * double(linear.weights().scale());
        sample.permitted = 0.5 + doubtful;
        samples_.push_back(sample);
      }
    }
  }

  /// The worst error over the permitted error in y [tokens][out]: at most 1 is right.
  [[nodiscard]] double worst(std::span<const float> y) const {
    double worst = 0;
    for (const Sample& sample : samples_) {
      double sum = double(y[std::size_t(sample.token * out_ + sample.row)]) / sample.unit;
      if (corrupting()) sum += 2 * sample.permitted;
      const double error = std::abs(sum - sample.sum) / sample.permitted;
      if (!(error <= worst)) worst = error;
    }
    return worst;
  }

 private:
  struct Sample {
    Index token = 0, row = 0;
    double sum = 0;        ///< of the integers
    double unit = 0;       ///< what one more of it adds to the output
    double permitted = 0;  ///< error of the sum
  };
  static constexpr Index few = 3, rows_of_token = 67;

  Index out_;
  std::vector<Sample> samples_;
};

}  // namespace bench
