/// \file
/// The same products with bf16 weights, as fast as memory gives them: what ternary weights save.
#pragma once

#include <bit>

#include "ternary/common.hpp"

namespace bench {

/// Rows of bf16 weights times a vector that was split into its even and its odd numbers.
class Bf16Product {
 public:
  /// y[n] of rows [first, end). `cols` is a multiple of 32. One row at a time: two or four were slower from memory.
  static void rows(const std::uint16_t* w, Index cols, const float* even, const float* odd, Index first, Index end,
                   float* y) {
    for (Index n = first; n < end; ++n) {
      const std::uint16_t* row = w + n * cols;
      Floats sums[2] = {};
      for (Index c = 0; c < cols; c += 32) {
        __builtin_prefetch(row + c + prefetch);
        Words pairs;
        Floats a, b;  // by memcpy into locals: functions cannot pass vectors that the target does not have
        std::memcpy(&pairs, row + c, sizeof pairs);
        std::memcpy(&a, even + c / 2, sizeof a);
        std::memcpy(&b, odd + c / 2, sizeof b);
        sums[0] += (Floats)(pairs << 16) * a;
        sums[1] += (Floats)(pairs & 0xffff0000u) * b;
      }
      const Floats both = sums[0] + sums[1];
      float sum[16];
      std::memcpy(sum, &both, sizeof sum);
      for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
      }
      y[n] = sum[0];
    }
  }

 private:
  using Floats [[gnu::vector_size(64)]] = float;
  using Words [[gnu::vector_size(64)]] = std::uint32_t;
  static constexpr Index prefetch = 4096;  // numbers, 8 KiB
};

/// Seconds that the products of one token take in a model of this shape with bf16 weights: those of two layers, which
/// rotate (more than 256 MiB), times the layers; and the head.
[[nodiscard]] inline Timing time_bf16_model(const heed::MatMulFreeConfig& config, Index threads, int repeats) {
  const Index width = config.hidden_size, inner = config.intermediate_size;
  struct Product {
    Index out, in, at;
  };
  std::vector<Product> products;
  Index numbers = 0;
  const auto add = [&](Index out, Index in) {
    products.push_back({out, in, numbers});
    numbers += out * in;
  };
  for (int layer = 0; layer < 2; ++layer) {
    for (int i = 0; i < 4; ++i) add(width, width);
    add(2 * inner, width);
    add(width, inner);
  }
  add(config.vocab_size, width);
  static heed::Buffer weights;
  if (weights.size() != 2 * numbers) {
    weights = heed::value_or_throw(heed::Buffer::allocate(heed::default_memory(), 2 * numbers, "bf16 weights"));
    Gaussians gaussians(9);
    for (Index at = 0; at < numbers;) {
      const auto slice = gaussians.next(std::min(numbers - at, Gaussians::longest));
      heed::Bf16::encode(slice.data(), Index(slice.size()), weights.data() + 2 * at);
      at += Index(slice.size());
    }
  }
  const auto* const w = reinterpret_cast<const std::uint16_t*>(weights.data());
  Gaussians gaussians(10);
  std::vector<float> even, odd, y(std::size_t(std::max(config.vocab_size, 2 * inner)));
  for (const float x : gaussians.next(inner)) (even.size() == odd.size() ? even : odd).push_back(x);
  const auto run = [&](const Product& p) {
    constexpr Index step = 32;
    pool(threads).parallel_for((p.out + step - 1) / step, [&](Index task, Index) {
      Bf16Product::rows(w + p.at, p.in, even.data(), odd.data(), task * step, std::min(p.out, (task + 1) * step),
                        y.data());
    });
  };
  for (const Product& p : products) {
    run(p);
    const Index n = p.out - 1;
    double sum = 0, size = 0;
    for (Index c = 0; c < p.in; ++c) {
      const double weight = std::bit_cast<float>(std::uint32_t(w[p.at + n * p.in + c]) << 16);
      const double product = weight * double((c % 2 == 0 ? even : odd)[std::size_t(c / 2)]);
      sum += product, size += std::abs(product);
    }
    if (std::abs(double(y[std::size_t(n)]) - sum) <= size * 0x1p-20 && !corrupting()) continue;
    throw std::runtime_error("wrong answer: bf16 product");
  }
  const std::size_t head = products.size() - 1;
  const Timing layers = time_calls(repeats, threads, Limit::read_dram, [&] {
    for (std::size_t i = 0; i < head; ++i) run(products[i]);
  });
  const Timing last = time_calls(repeats, threads, Limit::read_dram, [&] {
    for (std::size_t i = 0; i < head; ++i) run(products[i]);
    run(products[head]);
  });
  Timing all = layers;
  all.seconds = last.seconds + layers.seconds * (double(config.num_hidden_layers) / 2 - 1);
  return all;
}

}  // namespace bench
