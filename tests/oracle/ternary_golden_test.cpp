// The ternary mechanisms against reference data that was not made with them: integers to the last one, floats to 1e-12.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "oracle/golden_cases.hpp"
#include "oracle/matmulfree.hpp"
#include "oracle/ternary_packings.hpp"

namespace heed_test::ternary_golden_test {
namespace {

using oracle::Int;
using oracle::Numbers;
using oracle::Rounding;
using oracle::TernaryWeights;
using oracle::Trits;
using oracle::golden::cases_of;
using oracle::golden::Safetensors;

std::vector<Int> integers(const Trits& w) { return {w.begin(), w.end()}; }
std::vector<Int> integers(const oracle::Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

/// A case, and comparisons with its tensors.
struct Golden {
  const oracle::golden::Case& one;
  Safetensors file = one.open();

  [[nodiscard]] Numbers numbers(const std::string& name) const { return file.get<double>(name); }
  [[nodiscard]] double number(const std::string& name) const { return numbers(name).at(0); }
  [[nodiscard]] Int cols(const std::string& name) const { return file.info(name).shape.back(); }
  [[nodiscard]] Trits trits(const std::string& name) const {
    const auto from = file.get<Int>(name);
    return {from.begin(), from.end()};
  }
  [[nodiscard]] oracle::Bytes bytes(const std::string& name) const {
    const auto from = file.get<Int>(name);
    return {from.begin(), from.end()};
  }

  /// Where attention_mask is 0; empty if there is none.
  [[nodiscard]] std::vector<bool> padding() const {
    std::vector<bool> all;
    if (!file.contains("attention_mask")) return all;
    for (const Int seen : file.get<Int>("attention_mask")) all.push_back(seen == 0);
    return all;
  }

  void expect_same(const std::string& name, const std::vector<Int>& got) const {
    EXPECT_TRUE(got == file.get<Int>(name)) << name;
  }
  /// Equal to float64 rounding, relative to the largest number of the row: the official code adds rounded numbers where
  /// the oracle's integers cancel to 0. Numbers of a list, such as scales, are rows of one.
  void expect_near(const std::string& name, const Numbers& got) const {
    const Numbers want = numbers(name);
    ASSERT_EQ(got.size(), want.size()) << name;
    const std::size_t width = file.info(name).shape.size() < 2 ? 1 : std::size_t(cols(name));
    for (std::size_t row = 0; row < want.size(); row += width) {
      double largest = 0;
      for (std::size_t i = row; i < row + width; ++i) largest = std::max(largest, std::abs(want[i]));
      ASSERT_TRUE(std::isfinite(largest)) << name;
      for (std::size_t i = row; i < row + width; ++i) {
        EXPECT_TRUE(std::abs(got[i] - want[i]) <= 1e-12 * largest)
            << name << " " << i << ": " << got[i] << ", " << want[i];
      }
    }
  }
};

// What a row's scale is called in the files: 127 / a.
Numbers scales(const oracle::QuantizedRows& rows) {
  Numbers scales;
  for (const double a : rows.absmax) scales.push_back(127 / a);
  return scales;
}

// The layer of the MatMul-free models, with both eps that its code has.
void normed_bit_linear(const Golden& g) {
  oracle::BitLinear linear = oracle::bit_linear(g.numbers("weight"), g.numbers("norm.weight"));
  g.expect_near("weight_mean_abs", {linear.weights.scale});
  if (g.file.contains("weight_ternary")) {
    g.expect_same("weight_ternary", integers(linear.weights.w));
  } else {
    g.expect_same("weight_ternary_packed", integers(oracle::hf_packed(linear.weights)));
  }
  for (const auto& [name, eps] : std::map<std::string, double>{{"_eps1e-6", 1e-6}, {"_eps1e-8", 1e-8}}) {
    linear.eps = eps;
    const auto rows = linear.inputs(g.numbers("x"));
    g.expect_same("q" + name, integers(rows.q));
    g.expect_near("sx" + name, scales(rows));
    g.expect_same("acc" + name, oracle::integer_products(rows.q, linear.weights));
    g.expect_near("y" + name, linear(g.numbers("x")));
  }
}

// The layer of BitNet b1.58 2B4T: no norm, and a scale that divides or multiplies.
void bare_bit_linear(const Golden& g) {
  ASSERT_FALSE(g.one.config.at("norm_inside"));
  const Int cols = g.cols("x"), rows_of_weight = g.one.config.at("out_features");
  for (const double scale : {g.number("weight_scale_multiplier"), 1 / g.number("weight_scale_divisor")}) {
    oracle::BitLinear linear{.weights = {.rows = rows_of_weight, .cols = cols, .scale = scale}};
    linear.weights.w = oracle::hf_unpacked(g.bytes("weight_packed"));
    const auto rows = linear.inputs(g.numbers("x"));
    g.expect_same("q", integers(rows.q));
    g.expect_near("sx", scales(rows));
    g.expect_same("acc", oracle::integer_products(rows.q, linear.weights));
    g.expect_near("y", linear(g.numbers("x")));
  }
}

// Every sum is that of wide integers.
void long_sums(const Golden& g) {
  for (const Int cols : g.one.config.at("K")) {
    const std::string k = "_" + std::to_string(cols);
    const TernaryWeights weights{.rows = 5, .cols = cols, .w = g.trits("weight_ternary" + k)};
    g.expect_same("acc" + k, oracle::integer_products(g.trits("q" + k), weights));
  }
}

void activations(const Golden& g) {
  const auto even = oracle::quantized_rows(g.numbers("x"), g.cols("x"));
  const auto away = oracle::quantized_rows(g.numbers("x"), g.cols("x"), Rounding::half_away);
  g.expect_near("sx", scales(even));
  g.expect_same("q_half_even", integers(even.q));
  g.expect_same("q_half_away", integers(away.q));
}

void weights(const Golden& g) {
  for (const std::string name : g.one.config.at("matrices")) {
    const auto got = oracle::quantized_weights(g.numbers(name + ".weight"), g.cols(name + ".weight"));
    g.expect_same(name + ".ternary", integers(got.w));
    g.expect_near(name + ".mean_abs", {got.scale});
  }
}

void hf_packing(const Golden& g) {
  const auto& shapes = g.one.config.at("shapes");
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::string number = std::to_string(i);
    const TernaryWeights weights{.rows = shapes[i][0], .cols = shapes[i][1], .w = g.trits("ternary_" + number)};
    g.expect_same("packed_" + number, integers(oracle::hf_packed(weights)));
    g.expect_same("unpacked_" + number, integers(oracle::hf_unpacked(g.bytes("packed_" + number))));
  }
}

TEST(OracleGolden, BitLinear) {
  const std::map<std::string, std::function<void(const Golden&)>> checks = {
      {"bitlinear_mmf_k96", normed_bit_linear},
      {"bitlinear_mmf_1024x1024", normed_bit_linear},
      {"bitlinear_hf_2b4t_640x2560", bare_bit_linear},
      {"bitlinear_adversarial", long_sums},
      {"act_quant_ties", activations},
      {"weight_quant", weights},
      {"hf_pack", hf_packing}};
  const auto cases = cases_of({"bitlinear"});
  ASSERT_GE(cases.size(), checks.size());
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const auto check = checks.find(one.file.substr(0, one.file.find('.')));
    ASSERT_NE(check, checks.end()) << "nothing looks at this case";
    check->second({one});
  }
}

std::vector<bool> slice(const std::vector<bool>& padding, Int first, Int count) {
  if (padding.empty()) return {};
  return {padding.begin() + first, padding.begin() + first + count};
}

TEST(OracleGolden, Mlgru) {
  const auto cases = cases_of({"mlgru"});
  ASSERT_GE(cases.size(), 6u);
  int padded = 0;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Golden g{one};
    const Int width = one.config.at("hidden_size"), layer = one.config.at("layer_idx");
    const auto projection = [&](const std::string& name) {
      return oracle::bit_linear(g.numbers(name + ".weight"), g.numbers(name + ".norm.weight"),
                                one.config.at("bitlinear_norm_eps"));
    };
    oracle::Mlgru mlgru{.i_proj = projection("i_proj"),
                        .f_proj = projection("f_proj"),
                        .g_proj = projection("g_proj"),
                        .o_proj = projection("o_proj"),
                        .g_norm = g.numbers("g_norm.weight"),
                        .g_norm_eps = one.config.at("rms_norm_eps")};
    const Numbers bounds = oracle::lower_bounds(g.numbers("lower_bounds_param"), width);
    const Numbers bound = oracle::columns(bounds, Int(bounds.size()), layer * width, width);
    g.expect_near("lower_bound", bound);
    if (one.config.at("use_lower_bound") && layer > 0) mlgru.lower_bound = bound;

    const Numbers x = g.numbers("x");
    const std::vector<bool> padding = g.padding();
    padded += padding.empty() ? 0 : 1;
    for (const auto& [out, order] : {std::pair{"out_norm_gate_swish_h", oracle::GateOrder::norm_gate_swish_h},
                                     {"out_norm_h_swish_gate", oracle::GateOrder::norm_h_swish_gate}}) {
      mlgru.order = order;
      Numbers state;
      const auto whole = mlgru.scan(x, state, padding);
      g.expect_near("f", whole.f);
      g.expect_near("c", whole.c);
      g.expect_near("g", whole.g);
      g.expect_near("h", whole.h);
      g.expect_near(out, whole.out);

      Numbers later, states, in_calls;
      auto from = x.begin();
      for (const Int tokens : g.file.get<Int>("chunk_lens")) {
        const auto part =
            mlgru.scan({from, from + tokens * width}, later, slice(padding, (from - x.begin()) / width, tokens));
        from += tokens * width;
        states.insert(states.end(), later.begin(), later.end());
        in_calls.insert(in_calls.end(), part.out.begin(), part.out.end());
      }
      EXPECT_EQ(from, x.end());
      g.expect_near("state_after_calls", states);
      g.expect_near(out, in_calls);
    }
  }
  EXPECT_GE(padded, 4);
}

TEST(OracleGolden, GluChannelMixer) {
  const auto cases = cases_of({"glu_channel_mixer"});
  ASSERT_GE(cases.size(), 1u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Golden g{one};
    const double eps = one.config.at("bitlinear_norm_eps");
    const oracle::GluMixer mixer{
        .gate_proj = oracle::bit_linear(g.numbers("gate_proj.weight"), g.numbers("gate_proj.norm.weight"), eps),
        .down_proj = oracle::bit_linear(g.numbers("down_proj.weight"), g.numbers("down_proj.norm.weight"), eps)};
    EXPECT_EQ(mixer.down_proj.weights.cols, Int{one.config.at("intermediate_size")});
    g.expect_near("out", mixer(g.numbers("x")));
  }
}

TEST(OracleGolden, MatmulFreeLm) {
  const auto cases = cases_of({"matmulfree_lm"});
  ASSERT_GE(cases.size(), 3u);
  int padded = 0;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Golden g{one};
    ASSERT_TRUE(one.config.at("gate_order").get<std::string>().starts_with("norm_gate_swish_h"));
    const oracle::MatmulFreeConfig config{.hidden_size = one.config.at("hidden_size"),
                                          .num_hidden_layers = one.config.at("num_hidden_layers"),
                                          .rms_norm_eps = one.config.at("rms_norm_eps"),
                                          .bitlinear_norm_eps = one.config.at("bitlinear_norm_eps"),
                                          .use_lower_bound = one.config.at("use_lower_bound")};
    const auto lm = oracle::MatmulFreeLm::load(config, [&](const std::string& name) { return g.numbers(name); });

    std::size_t looked_at = 0;
    for (const auto& [name, info] : g.file.tensors()) {
      if (!name.ends_with(".ternary")) continue;
      const std::string weight = name.substr(0, name.size() - std::string(".ternary").size());
      const auto got = oracle::quantized_weights(g.numbers(weight), g.cols(weight));
      g.expect_same(name, integers(got.w));
      g.expect_near(weight + ".mean_abs", {got.scale});
      ++looked_at;
    }
    EXPECT_EQ(looked_at, 1 + 6 * lm.layers.size());

    const auto ids = g.file.get<Int>("input_ids");
    const auto in_calls = lm.forward(ids, g.file.get<Int>("chunk_lens"), g.padding());
    const auto whole = lm.forward(ids, {Int(ids.size())}, g.padding());
    padded += g.padding().empty() ? 0 : 1;
    g.expect_near("states_after_calls", in_calls.states);
    for (const auto& answer : {in_calls, whole}) {
      g.expect_near("hidden_final", answer.hidden_final);
      g.expect_near("logits", answer.logits);
    }
  }
  EXPECT_GE(padded, 2);
}

}  // namespace
}  // namespace heed_test::ternary_golden_test
