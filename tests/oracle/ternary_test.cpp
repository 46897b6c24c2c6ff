// Facts about the ternary mechanisms that can be worked out by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "oracle/golden_cases.hpp"
#include "oracle/matmulfree.hpp"
#include "oracle/random.hpp"
#include "oracle/ternary_packings.hpp"

namespace heed_test::ternary_test {
namespace {

using oracle::Bytes;
using oracle::GateOrder;
using oracle::I2sBlock;
using oracle::Int;
using oracle::Numbers;
using oracle::Rounding;
using oracle::TernaryWeights;
using oracle::Trits;
using oracle::golden::distance;
using oracle::golden::expect_near;
constexpr double tolerance = 1e-14;

Numbers random_numbers(std::uint64_t seed, Int n, double deviation = 1) {
  oracle::Random random(seed);
  return oracle::doubles(random.gaussians(n, deviation));
}

TernaryWeights random_ternary(Int rows, Int cols, double scale = 0.75) {
  oracle::Random random(11);
  TernaryWeights weights{.rows = rows, .cols = cols, .scale = scale};
  for (Int i = 0; i < rows * cols; ++i) weights.w.push_back(std::int8_t(random.below(3) - 1));
  return weights;
}

/// Rows of one weight matrix, all -1 but where it is said.
TernaryWeights minus_ones(Int cols, const std::vector<std::pair<Int, int>>& others) {
  TernaryWeights weights{.rows = 1, .cols = cols, .w = Trits(std::size_t(cols), -1), .scale = 1};
  for (const auto& [k, w] : others) weights.w[std::size_t(k)] = std::int8_t(w);
  return weights;
}

TEST(OracleRounding, Halves) {
  const Numbers x = {0.5, 1.5, 2.5, 126.5, 0.49999999999999994, 0.75, 3, 0};
  const Numbers even = {0, 2, 2, 126, 0, 1, 3, 0}, away = {1, 2, 3, 127, 0, 1, 3, 0};
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (const double sign : {1.0, -1.0}) {
      EXPECT_EQ(oracle::rounded(sign * x[i], Rounding::half_even), sign * even[i]) << x[i];
      EXPECT_EQ(oracle::rounded(sign * x[i], Rounding::half_away), sign * away[i]) << x[i];
    }
  }
  EXPECT_TRUE(std::isnan(oracle::rounded(std::nan(""), Rounding::half_even)));
}

TEST(OracleTernaryWeights, HalfOfTheMeanIsZero) {  // the mean is 1
  const auto got = oracle::quantized_weights({0.5, -0.5, 1.5, -1.5, 0.5625, -0.5625, 0, 2.875}, 4);
  EXPECT_EQ(got.rows, 2);
  EXPECT_EQ(got.scale, 1);
  EXPECT_EQ(got.w, (Trits{0, 0, 1, -1, 1, -1, 0, 1}));
}

TEST(OracleTernaryWeights, ZerosHaveTheSmallestScale) {
  const auto zero = oracle::quantized_weights(Numbers(6, 0.0), 3);
  EXPECT_EQ(zero.scale, 1e-5);
  EXPECT_EQ(zero.w, Trits(6, 0));
  const auto tiny = oracle::quantized_weights({4e-6, -6e-6}, 2);  // 0.4 and 0.6 of the smallest scale
  EXPECT_EQ(tiny.scale, 1e-5);
  EXPECT_EQ(tiny.w, (Trits{0, -1}));
}

TEST(OracleQuantizedRows, EveryRowHasItsScale) {
  const auto rows = oracle::quantized_rows({127, -0.5, 1.5, -2.5,  // scale 1
                                            -254, 1, 3, 5,         // scale 1/2
                                            0, 0, 0, 0,            // the smallest size is 1e-5
                                            3e-6, -3e-6, 1e-9, 0},
                                           4);
  EXPECT_EQ(rows.q, (Trits{127, 0, 2, -2, -127, 0, 2, 2, 0, 0, 0, 0, 38, -38, 0, 0}));
  EXPECT_EQ(rows.absmax, (Numbers{127, 254, 1e-5, 1e-5}));
  const auto away = oracle::quantized_rows({127, -0.5, 1.5, -2.5}, 4, Rounding::half_away);
  EXPECT_EQ(away.q, (Trits{127, -1, 2, -3}));
}

TEST(OracleQuantizedRows, MinusA128DoesNotOccur) {
  oracle::Random random(3);
  for (int i = 0; i < 1000; ++i) {
    const double a = std::exp(20 * random.gaussian());
    const auto rows = oracle::quantized_rows({-a, a}, 2);
    EXPECT_GE(rows.q[0], -127) << a;
    EXPECT_EQ(rows.q[0], -rows.q[1]) << a;
  }
}

TEST(OracleBitLinear, ByHand) {  // the row has q = (64, -127, 0) and a = 254
  oracle::BitLinear linear{.weights = {.rows = 3, .cols = 3, .w = {1, 0, -1, 1, -1, 1, -1, -1, 0}, .scale = 0.25}};
  const Numbers x = {128, -254, 0.5};
  EXPECT_EQ(linear.inputs(x).q, (Trits{64, -127, 0}));
  EXPECT_EQ(linear(x), (Numbers{64 * 2 * 0.25, 191 * 2 * 0.25, 63 * 2 * 0.25}));

  linear.norm = {2, 1, 1};  // mean square of (1, 7, 5) is 25: normed (1/3, 7/6, 5/6) with eps 11
  linear.eps = 11;
  EXPECT_EQ(linear.inputs({1, 7, 5}).q, (Trits{36, 127, 91}));
  expect_near({linear.inputs({1, 7, 5}).absmax}, {7.0 / 6}, tolerance, "a");
  expect_near(linear({1, 7, 5}), {-55 * 7.0 / 6 / 127 / 4, 0, -163 * 7.0 / 6 / 127 / 4}, tolerance, "y");
}

TEST(OracleBitLinear, ZeroRowAndZeroWeight) {
  oracle::BitLinear linear = oracle::bit_linear(random_numbers(1, 12), Numbers(4, 1.0));
  EXPECT_EQ(linear(Numbers(4, 0.0)), Numbers(3, 0.0));
  linear.weights = oracle::quantized_weights(Numbers(12, 0.0), 4);
  EXPECT_EQ(linear({1, 2, 3, 4}), Numbers(3, 0.0));
}

TEST(OracleBitLinear, EpsShowsInRowsOfItsSize) {
  oracle::BitLinear linear = oracle::bit_linear(random_numbers(1, 12), Numbers(4, 1.0), 1e-6);
  const Numbers small = {1e-4, -2e-4, 3e-4, 1e-4};
  const Numbers y = linear(small);
  linear.eps = 1e-8;
  EXPECT_GT(distance(linear(small), y), 0.1);
}

TEST(OracleBitLinear, MaddubsSumsOf128PairsDoNotFitInt16) {
  // A kernel that adds codes w + 1 times q in 16 bits, 128 pairs of products to a lane, and subtracts sum(q) last.
  constexpr Int cols = 4096, pairs = 128, lanes = cols / (2 * pairs);
  const TernaryWeights weights{.rows = 1, .cols = cols, .w = Trits(cols, 1)};
  const Trits q(cols, 127);
  EXPECT_EQ(oracle::integer_products(q, weights), (std::vector<Int>{520192}));
  const Int lane = pairs * 2 * (2 * 127);
  EXPECT_EQ(lane, 65024);
  EXPECT_EQ(Int{std::int16_t(lane)} * lanes - cols * 127, -528384);
}

TEST(OracleLowerBounds, ZerosAreEvenSteps) {
  for (const Int layers : {1, 2, 24}) {
    SCOPED_TRACE(layers);
    Numbers want;
    for (Int l = 0; l < layers; ++l) want.insert(want.end(), 3, double(l) / double(layers));
    expect_near(oracle::lower_bounds(Numbers(std::size_t(layers * 3), 0.0), 3), want, tolerance, "l / L");
  }
}

TEST(OracleLowerBounds, ByHand) {  // softmax over layers: (1, 2, 5) / 8 and (1/3, 1/3, 1/3)
  const Numbers got = oracle::lower_bounds({std::log(1.0), 900, std::log(2.0), 900, std::log(5.0), 900}, 2);
  expect_near(got, {0, 0, 2.0 / 8, 1.0 / 3, 7.0 / 8, 2.0 / 3}, tolerance, "bounds");
}

TEST(OracleLowerBounds, RiseFromZeroToLessThanOne) {
  constexpr std::size_t width = 5;
  const Numbers got = oracle::lower_bounds(random_numbers(2, 24 * width, 3), width);
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_LT(got[i], 1);
    if (i < width) {
      EXPECT_EQ(got[i], 0);
    } else {
      EXPECT_GT(got[i], got[i - width]);
    }
  }
}

TEST(OracleMlgru, GatesByHand) {  // the mean square of (1, 7) is 25, of (7, 17) 169; eps 11 and 56 make roots 6 and 15
  const Numbers gain = {2, 3};
  const auto gated = [&](GateOrder order, const Numbers& g, const Numbers& h, double eps) {
    return oracle::gated(order, g, h, gain, eps);
  };
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  expect_near(gated(GateOrder::norm_gate_swish_h, {1, 7}, {7, 17}, 11), {2 / 6.0 * silu(7), 21 / 6.0 * silu(17)},
              tolerance, "norm_gate_swish_h");
  expect_near(gated(GateOrder::norm_h_swish_gate, {1, 7}, {7, 17}, 56), {14 / 15.0 * silu(1), 51 / 15.0 * silu(7)},
              tolerance, "norm_h_swish_gate");
  expect_near(gated(GateOrder::sigmoid_gate, {0, std::log(3.0)}, {7, 16}, 11), {3.5, 12}, tolerance, "sigmoid_gate");
}

constexpr Int width = 6, tokens = 11;

oracle::BitLinear random_projection(std::uint64_t seed, Int out, Int in) {
  return oracle::bit_linear(random_numbers(seed, out * in), random_numbers(seed + 100, in));
}

oracle::Mlgru random_mlgru(GateOrder order = GateOrder::norm_gate_swish_h) {
  return {.i_proj = random_projection(1, width, width),
          .f_proj = random_projection(2, width, width),
          .g_proj = random_projection(3, width, width),
          .o_proj = random_projection(4, width, width),
          .g_norm = random_numbers(5, width),
          .lower_bound = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6},
          .order = order};
}

Numbers rows_of(const Numbers& x, Int first, Int count) {
  return {x.begin() + first * width, x.begin() + (first + count) * width};
}

TEST(OracleMlgru,
     StateIsTheSumOfWhatWasLetIn) {  // h_t = sum_s c_s prod_(s < r <= t) f_r, written without the recurrence
  const oracle::Mlgru mlgru = random_mlgru();
  Numbers state;
  const auto all = mlgru.scan(random_numbers(9, tokens * width), state);
  for (std::size_t d = 0; d < std::size_t(width); ++d) {
    const auto at = [&](Int t) { return std::size_t(t * width) + d; };
    double h = 0;
    for (Int s = 0; s < tokens; ++s) {
      double left = all.c[at(s)];
      for (Int r = s + 1; r < tokens; ++r) left *= all.f[at(r)];
      h += left;
      EXPECT_GT(all.f[at(s)], mlgru.lower_bound[d]);
      EXPECT_LT(all.f[at(s)], 1);
    }
    EXPECT_NEAR(all.h[at(tokens - 1)], h, tolerance);
    EXPECT_EQ(state[d], all.h[at(tokens - 1)]);
  }
}

TEST(OracleMlgru, ScanIsStepping) {
  for (const auto order : {GateOrder::norm_gate_swish_h, GateOrder::norm_h_swish_gate, GateOrder::sigmoid_gate}) {
    const oracle::Mlgru mlgru = random_mlgru(order);
    const Numbers u = random_numbers(9, tokens * width);
    Numbers at_once, by_steps, chunked, out;
    const auto all = mlgru.scan(u, at_once);
    for (Int t = 0; t < tokens; ++t) {
      const auto one = mlgru.step(rows_of(u, t, 1), by_steps);
      out.insert(out.end(), one.out.begin(), one.out.end());
    }
    EXPECT_EQ(out, all.out);
    EXPECT_EQ(by_steps, at_once);
    (void)mlgru.scan(rows_of(u, 0, 7), chunked);
    EXPECT_EQ(mlgru.scan(rows_of(u, 7, 4), chunked).out, rows_of(all.out, 7, 4));
  }
}

TEST(OracleMlgru, TheOrdersDiffer) {
  const auto out = [](GateOrder order) {
    Numbers state;
    return random_mlgru(order).scan(random_numbers(9, tokens * width), state).out;
  };
  EXPECT_GT(distance(out(GateOrder::norm_gate_swish_h), out(GateOrder::norm_h_swish_gate)), 0.1);
  EXPECT_GT(distance(out(GateOrder::norm_gate_swish_h), out(GateOrder::sigmoid_gate)), 0.1);
  EXPECT_GT(distance(out(GateOrder::norm_h_swish_gate), out(GateOrder::sigmoid_gate)), 0.1);
}

TEST(OracleMlgru, PaddingOnTheLeftIsNotThere) {
  const oracle::Mlgru mlgru = random_mlgru();
  const Numbers u = random_numbers(9, tokens * width);
  std::vector<bool> padding(tokens, false);
  padding[0] = padding[1] = true;
  Numbers padded, bare;
  const auto with = mlgru.scan(u, padded, padding), without = mlgru.scan(rows_of(u, 2, tokens - 2), bare);
  EXPECT_EQ(rows_of(with.h, 0, 2), Numbers(2 * width, 0.0));
  EXPECT_EQ(rows_of(with.out, 2, tokens - 2), without.out);
  EXPECT_EQ(padded, bare);
}

TEST(OracleMlgru, PaddingLaterFadesTheState) {  // c is masked, f is not
  const oracle::Mlgru mlgru = random_mlgru();
  const Numbers u = random_numbers(9, 2 * width);
  Numbers state;
  const auto all = mlgru.scan(u, state, {false, true});
  for (std::size_t d = 0; d < std::size_t(width); ++d) {
    EXPECT_EQ(all.c[width + d], 0);
    EXPECT_EQ(state[d], all.f[width + d] * all.h[d]);
    EXPECT_LT(all.f[width + d], 1);
  }
}

TEST(OracleMlgru, NoBoundIsTheBoundZero) {
  oracle::Mlgru mlgru = random_mlgru();
  const Numbers u = random_numbers(9, tokens * width);
  Numbers with, without, zero;
  const auto bounded = mlgru.scan(u, with);
  mlgru.lower_bound = {};
  const auto free = mlgru.scan(u, without);
  mlgru.lower_bound = Numbers(width, 0.0);
  EXPECT_EQ(mlgru.scan(u, zero).out, free.out);
  EXPECT_GT(distance(bounded.f, free.f), 0.05);
}

TEST(OracleGlu, TheFirstHalfIsTheGate) {
  const oracle::GluMixer mixer{.gate_proj = random_projection(1, 8, width),
                               .down_proj = random_projection(2, width, 4)};
  const Numbers u = random_numbers(3, width), both = mixer.gate_proj(u);
  Numbers product;
  for (std::size_t i = 0; i < 4; ++i) product.push_back(both[i] / (1 + std::exp(-both[i])) * both[4 + i]);
  expect_near(mixer(u), mixer.down_proj(product), tolerance, "SiLU(gate) up");

  oracle::GluMixer turned = mixer;
  std::rotate(turned.gate_proj.weights.w.begin(), turned.gate_proj.weights.w.begin() + 4 * width,
              turned.gate_proj.weights.w.end());
  EXPECT_GT(distance(turned(u), mixer(u)), 1e-2);
}

TEST(OracleMatmulFree, IntermediateSizesOfThePublishedModels) {
  EXPECT_EQ(oracle::matmul_free_intermediate_size(1024), 2816);
  EXPECT_EQ(oracle::matmul_free_intermediate_size(2048), 5632);
  EXPECT_EQ(oracle::matmul_free_intermediate_size(2560), 6912);
  EXPECT_EQ(oracle::matmul_free_intermediate_size(5120), 13824);
}

oracle::MatmulFreeLm random_lm() {
  constexpr Int inner = 10, vocabulary = 13;
  std::uint64_t seed = 40;
  return oracle::MatmulFreeLm::load({.hidden_size = width, .num_hidden_layers = 3}, [&](const std::string& name) {
    const auto ends = [&](const char* with) { return name.ends_with(with); };
    Int size = width;
    if (ends("down_proj.norm.weight")) size = inner;
    if (ends("model.lower_bounds")) size = 3 * width;
    if (ends("embeddings.weight") || ends("lm_head.weight")) size = vocabulary * width;
    if (ends("i_proj.weight") || ends("f_proj.weight") || ends("g_proj.weight") || ends("o_proj.weight")) {
      size = width * width;
    }
    if (ends("gate_proj.weight")) size = 2 * inner * width;
    if (ends("down_proj.weight")) size = inner * width;
    return random_numbers(++seed, size);
  });
}

TEST(OracleMatmulFree, CallsOfAnySizeAreOneText) {
  const oracle::MatmulFreeLm lm = random_lm();
  const std::vector<Int> ids = {3, 1, 4, 1, 5, 9, 2, 6};
  const auto whole = lm.forward(ids, {8});
  EXPECT_EQ(whole.logits.size(), 8u * 13);
  EXPECT_EQ(whole.states.size(), 3u * width);
  for (const auto& chunks : {std::vector<Int>{1, 1, 1, 1, 1, 1, 1, 1}, {5, 3}, {3, 1, 4}}) {
    const auto parts = lm.forward(ids, chunks);
    EXPECT_EQ(parts.logits, whole.logits);
    EXPECT_EQ(parts.hidden_final, whole.hidden_final);
    ASSERT_EQ(parts.states.size(), chunks.size() * 3 * width);
    EXPECT_EQ(rows_of(parts.states, Int(chunks.size() - 1) * 3, 3), whole.states);
  }
}

TEST(OracleMatmulFree, PaddingOnTheLeftIsNotThere) {
  const oracle::MatmulFreeLm lm = random_lm();
  const auto padded = lm.forward({0, 0, 3, 1, 4}, {5}, {true, true, false, false, false});
  const auto bare = lm.forward({3, 1, 4}, {3});
  EXPECT_EQ(rows_of(padded.hidden_final, 2, 3), bare.hidden_final);
  EXPECT_EQ(padded.states, bare.states);
  EXPECT_EQ(lm.forward({0, 0, 3, 1, 4}, {1, 3, 1}, {true, true, false, false, false}).logits, padded.logits);
}

TEST(OraclePackings, HuggingFaceByHand) {
  const TernaryWeights four{.rows = 4, .cols = 1, .w = {-1, 0, 1, 1}};
  EXPECT_EQ(oracle::hf_packed(four), (Bytes{0 + (1 << 2) + (2 << 4) + (2 << 6)}));
  // Five rows are two packed ones: 0, 2, 4 in the first and 1, 3 in the second.
  const TernaryWeights five{.rows = 5, .cols = 1, .w = {1, 0, 1, -1, 0}};
  EXPECT_EQ(oracle::hf_packed(five), (Bytes{2 + (2 << 2) + (1 << 4), 1}));
  EXPECT_EQ(oracle::hf_unpacked(oracle::hf_packed(five)), (Trits{1, 0, 1, -1, 0, -1, -1, -1}));
}

TEST(OraclePackings, I2sByHand) {
  for (const auto& [block, bytes] : {std::pair{I2sBlock::x86, Int{32}}, {I2sBlock::arm, Int{16}}}) {
    SCOPED_TRACE(bytes);
    // Two blocks; the first byte of the first has all planes, the last of the second its lowest.
    TernaryWeights weights =
        minus_ones(8 * bytes, {{0, 1}, {bytes, 0}, {2 * bytes, 1}, {3 * bytes, 0}, {8 * bytes - 1, 1}});
    weights.scale = 1.5;
    Bytes want(std::size_t(2 * bytes), 0);
    want.front() = (2 << 6) + (1 << 4) + (2 << 2) + 1;
    want.back() = 2;
    want.insert(want.end(), {0, 0, 0xC0, 0x3F});  // 1.5f
    want.insert(want.end(), 28, 0);
    EXPECT_EQ(oracle::i2_s_packed(weights, block), want);
  }
}

TEST(OraclePackings, Tq2ByHand) {
  const auto packed =
      oracle::ggml_packed(minus_ones(256, {{0, 1}, {32, 0}, {64, 1}, {96, 0}, {128 + 31, 1}}), oracle::tq2_0);
  Bytes want(64, 0);
  want[0] = 2 + (1 << 2) + (2 << 4) + (1 << 6);
  want[32 + 31] = 2;
  want.insert(want.end(), {0, 0x3C});  // 1 in half precision
  EXPECT_EQ(packed, want);
}

TEST(OraclePackings, Tq1ByHand) {
  const auto byte = [](unsigned v) { return std::uint8_t((v * 256 + 242) / 243); };
  EXPECT_EQ(byte(121), 128);  // five zeros
  EXPECT_EQ(byte(242), 255);  // five ones
  // In every part, the first digit of the first byte and the last one of the last.
  const auto packed = oracle::ggml_packed(
      minus_ones(256, {{0, 1}, {159, 1}, {160, 1}, {239, 1}, {240, 1}, {255, 1}, {32, 0}, {176, 0}, {244, 0}}),
      oracle::tq1_0);
  Bytes want(52, 0);
  want[0] = want[32] = want[48] = byte(2 * 81 + 27);
  want[31] = want[47] = byte(2);
  want[51] = byte(2 * 3);  // four digits are the upper ones of five
  want.insert(want.end(), {0, 0x3C});
  EXPECT_EQ(packed, want);
}

TEST(OraclePackings, AllBytesOfFiveDigitsAreReadByMultiplying) {  // as ggml does: digit n = ((byte 3^n mod 256) 3) >> 8
  for (unsigned v = 0; v < 243; ++v) {
    const std::vector<unsigned> digits = {v / 81, v / 27 % 3, v / 9 % 3, v / 3 % 3, v % 3};
    const std::uint8_t byte = oracle::tq1_0.byte_of(digits);
    unsigned power = 1;
    for (int n = 0; n < 5; ++n, power *= 3) {
      EXPECT_EQ(byte * power % 256 * 3 >> 8, digits[std::size_t(n)]) << v;
      EXPECT_EQ(oracle::tq1_0.code_of(byte, n), digits[std::size_t(n)]) << v;
    }
  }
}

// Every weight by the formulas of the formats' tables, which know nothing of the encoders.
TEST(OraclePackings, EveryWeightIsWhereTheFormatSays) {
  const TernaryWeights weights = random_ternary(7, 512);
  const Bytes hf = oracle::hf_packed(weights), x86 = oracle::i2_s_packed(weights, I2sBlock::x86);
  const Bytes arm = oracle::i2_s_packed(weights, I2sBlock::arm);
  const Bytes tq2 = oracle::ggml_packed(weights, oracle::tq2_0), tq1 = oracle::ggml_packed(weights, oracle::tq1_0);
  ASSERT_EQ(hf.size(), 2u * 512);
  ASSERT_EQ(x86.size(), 7u * 128 + 32);
  ASSERT_EQ(arm.size(), 7u * 128 + 32);
  ASSERT_EQ(tq2.size(), 7u * 2 * 66);
  ASSERT_EQ(tq1.size(), 7u * 2 * 54);
  const auto digit = [](unsigned byte, Int n) {
    unsigned power = 1;
    for (Int i = 0; i < n; ++i) power *= 3;
    return byte * power % 256 * 3 >> 8;
  };
  for (Int r = 0; r < 7; ++r) {
    for (Int k = 0; k < 512; ++k) {
      const unsigned code = unsigned(weights.w[std::size_t(r * 512 + k)] + 1);
      EXPECT_EQ(hf[std::size_t(r % 2 * 512 + k)] >> (r / 2 * 2) & 3, int(code));
      const Int in_128 = k % 128, in_64 = k % 64, in_256 = k % 256, block = r * 2 + k / 256;
      EXPECT_EQ(x86[std::size_t(r * 128 + k / 128 * 32 + in_128 % 32)] >> (6 - in_128 / 32 * 2) & 3, int(code));
      EXPECT_EQ(arm[std::size_t(r * 128 + k / 64 * 16 + in_64 % 16)] >> (6 - in_64 / 16 * 2) & 3, int(code));
      EXPECT_EQ(tq2[std::size_t(block * 66 + in_256 / 128 * 32 + in_128 % 32)] >> (in_128 / 32 * 2) & 3, int(code));
      const auto tq1_byte = [&](Int byte) { return unsigned(tq1[std::size_t(block * 54 + byte)]); };
      unsigned got = digit(tq1_byte(48 + in_256 % 4), (in_256 - 240) / 4);
      if (in_256 < 160) got = digit(tq1_byte(in_256 % 32), in_256 / 32);
      if (in_256 >= 160 && in_256 < 240) got = digit(tq1_byte(32 + in_256 % 16), (in_256 - 160) / 16);
      EXPECT_EQ(got, code) << r << " " << k;
    }
  }
}

TEST(OraclePackings, RoundTrips) {
  const TernaryWeights weights = random_ternary(7, 512);  // the scale is 0.75, exact in every format
  Trits hf = oracle::hf_unpacked(oracle::hf_packed(weights));
  EXPECT_EQ(hf.size(), 8u * 512);
  hf.resize(weights.w.size());
  EXPECT_EQ(hf, weights.w);
  for (const I2sBlock block : {I2sBlock::x86, I2sBlock::arm}) {
    const auto got = oracle::i2_s_unpacked(oracle::i2_s_packed(weights, block), 512, block);
    EXPECT_EQ(got.w, weights.w);
    EXPECT_EQ(got.rows, 7);
    EXPECT_EQ(got.scale, 0.75);
  }
  for (const auto& format : {oracle::tq2_0, oracle::tq1_0}) {
    const auto got = oracle::ggml_unpacked(oracle::ggml_packed(weights, format), format);
    EXPECT_EQ(got.w, weights.w);
    EXPECT_EQ(got.scales, Numbers(14, 0.75));
  }
}

TEST(OraclePackings, I2sOfTheOtherMachineReadsOtherWeights) {
  const TernaryWeights weights = random_ternary(2, 256);
  const auto wrong = oracle::i2_s_unpacked(oracle::i2_s_packed(weights, I2sBlock::x86), 256, I2sBlock::arm);
  EXPECT_EQ(wrong.rows, 2);
  EXPECT_NE(wrong.w, weights.w);
}

TEST(OraclePackings, ABlockOfZerosHasTheScaleZero) {
  TernaryWeights weights = random_ternary(1, 512);
  std::fill_n(weights.w.begin(), 256, std::int8_t{0});
  for (const auto& format : {oracle::tq2_0, oracle::tq1_0}) {
    const auto got = oracle::ggml_unpacked(oracle::ggml_packed(weights, format), format);
    EXPECT_EQ(got.w, weights.w);
    EXPECT_EQ(got.scales, (Numbers{0, 0.75}));
  }
}

TEST(OraclePackings, BlocksMustBeWhole) {
  EXPECT_THROW(oracle::i2_s_packed(random_ternary(3, 64), I2sBlock::x86), std::invalid_argument);
  EXPECT_NO_THROW(oracle::i2_s_packed(random_ternary(2, 64), I2sBlock::x86));  // a block of both rows
  EXPECT_NO_THROW(oracle::i2_s_packed(random_ternary(2, 64), I2sBlock::arm));
  EXPECT_THROW(oracle::ggml_packed(random_ternary(2, 128), oracle::tq1_0), std::invalid_argument);
}

TEST(OraclePackings, HalfPrecisionScales) {
  for (const auto& [number, bits] : {std::pair{1.0, 0x3C00},
                                     {0.75, 0x3A00},
                                     {65504.0, 0x7BFF},
                                     {0x1p-14, 0x0400},
                                     {0x1p-24, 0x0001},
                                     {0.0, 0x0000},
                                     {1e-5, 0x00A8},
                                     {0.1, 0x2E66}}) {
    EXPECT_EQ(oracle::f16_bits(number), bits) << number;
    EXPECT_EQ(oracle::f16_number(std::uint16_t(bits)), oracle::round_to_f16(number)) << number;
  }
}

}  // namespace
}  // namespace heed_test::ternary_test
