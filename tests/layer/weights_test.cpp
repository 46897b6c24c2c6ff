// Weights as bfloat16: a Projection within its bound of float64 with the same bits for any rows and workers, and layers
// that compute what layers of the rounded tensors compute.
#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/layer/grouped.hpp>
#include <heed/layer/mfa.hpp>
#include <heed/layer/mla.hpp>
#include <heed/layer/mtp.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <list>

#include "oracle/layer.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test::weights_test {
namespace {

using heed::Tensor;
using heed::value_or_throw;
using heed::WeightType;

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Owns random tensors, and those with every number rounded to bfloat16.
class Tensors {
 public:
  explicit Tensors(bool round) : round_(round) {}
  Tensor operator()(Index rows, Index cols) {
    kept_.push_back(random_.gaussians(rows * cols));
    for (float& x : kept_.back()) {
      x *= float(1 / std::sqrt(double(cols)));
      if (round_) x = heed::Bf16::to_float(heed::Bf16::from_float(x));
    }
    return {kept_.back(), rows, cols};
  }
  /// A norm's gain, which no layer rounds.
  Tensor gain(Index width) {
    kept_.push_back(random_.gaussians(width));
    return {kept_.back(), 1, width};
  }

 private:
  bool round_;
  oracle::Random random_{42};
  std::list<std::vector<float>> kept_;
};

/// The largest error of y = W x over what Projection permits; infinite for NaN.
double worst(const std::vector<float>& y, const std::vector<float>& x, const Tensor& w, WeightType type) {
  const double eps = std::ldexp(1.0, -24), blocks = double((w.cols + 31) / 32);
  double most = 0;
  for (std::size_t at = 0; at < y.size(); ++at) {
    const std::size_t cols = std::size_t(w.cols), row = at / std::size_t(w.rows), o = at % std::size_t(w.rows);
    double sum = 0, size = 0;
    for (std::size_t i = 0; i < cols; ++i) {
      const double term = double(x[row * cols + i]) * double(w.data[o * cols + i]);
      sum += term, size += std::fabs(term);
    }
    const double permitted = ((32 + blocks) * eps + (type == WeightType::bf16 ? std::ldexp(1.0, -8) : 0)) * size;
    const double error = std::fabs(double(y[at]) - sum);
    if (!(error <= permitted)) return std::numeric_limits<double>::infinity();
    if (permitted > 0) most = std::max(most, error / permitted);
  }
  return most;
}

TEST(Weights, AProjectionIsWithinItsBoundWithTheSameBitsForAnyRowsAndWorkers) {
  Tensors tensors(false);
  oracle::Random random(7);
  heed::SerialExecutor serial;
  auto pool = value_or_throw(heed::ThreadPool::create(3));
  for (const WeightType type : {WeightType::f32, WeightType::bf16}) {
    double most = 0;
    for (const auto& [out, in] :
         {std::pair<Index, Index>{1, 1}, {600, 33}, {17, 257}, {256, 64}, {513, 5}, {64, 1000}}) {
      const Tensor w = tensors(out, in);
      const auto layer = value_or_throw(heed::Projection::create("w", w, out, in, type));
      EXPECT_EQ(layer.type(), type);
      EXPECT_EQ(layer.bytes(), out * in * (type == WeightType::f32 ? 4 : 2));
      const std::vector<float> x = random.gaussians(9 * in);
      std::vector<float> y(std::size_t(9 * out)), threads = y, alone = y;
      layer.apply<Backend>(9, x.data(), y.data(), serial);
      layer.apply<Backend>(9, x.data(), threads.data(), *pool);
      for (Index r = 0; r < 9; ++r) layer.apply<Backend>(1, x.data() + r * in, alone.data() + r * out, serial);
      most = std::max(most, worst(y, x, w, type));
      EXPECT_TRUE(same(y, threads)) << out << " x " << in;
      EXPECT_TRUE(same(y, alone)) << out << " x " << in;
    }
    EXPECT_LE(most, 1) << int(type);
  }
}

/// Without rounding bf16 would have the bits of f32, and the bound of f32 would hold.
TEST(Weights, RoundingIsOfTheWeightsAlone) {
  Tensors tensors(false), rounded(true);
  heed::SerialExecutor executor;
  const std::vector<float> x = oracle::Random(8).gaussians(3 * 200);
  const auto product = [&](const Tensor& w, WeightType type) {
    std::vector<float> y(3 * 100);
    value_or_throw(heed::Projection::create("w", w, 100, 200, type)).apply<Backend>(3, x.data(), y.data(), executor);
    return y;
  };
  const Tensor w = tensors(100, 200), r = rounded(100, 200);
  EXPECT_TRUE(same(product(w, WeightType::bf16), product(r, WeightType::f32)));
  EXPECT_TRUE(same(product(r, WeightType::bf16), product(r, WeightType::f32)));
  EXPECT_FALSE(same(product(w, WeightType::bf16), product(w, WeightType::f32)));
  EXPECT_GT(worst(product(w, WeightType::bf16), x, w, WeightType::f32), 1);
}

TEST(Weights, ATypeThatDoesNotExistIsRefused) {
  const std::vector<float> w(6);
  EXPECT_EQ(heed::Projection::create("w", {w, 2, 3}, 2, 3, WeightType(7)).status().message(),
            "w: weight type is 7, must be f32 or bf16");
}

constexpr Index tokens = 5, hidden = 40;

std::vector<Index> positions() { return {3, 4, 5, 6, 7}; }

/// y of a layer whose checkpoint has numbers that are rounded before, or when the layer is created.
std::vector<float> grouped(bool before) {
  Tensors w(before);
  const heed::Gqa shape{.num_heads = 6, .num_kv_heads = 2, .head_dim = 16, .v_head_dim = 12, .scale = 0.25f};
  const auto layer = value_or_throw(
      heed::GroupedLayer::create(hidden, shape, {}, {w(96, hidden), w(32, hidden), w(24, hidden), w(hidden, 72)},
                                 before ? WeightType::f32 : WeightType::bf16));
  heed::SerialExecutor executor;
  oracle::Random random(3);
  const std::vector<float> x = random.gaussians(tokens * hidden), heads = random.gaussians(tokens * 72);
  std::vector<float> q(tokens * 96), k(tokens * 32), v(tokens * 24), y(tokens * hidden);
  heed::check(layer.project<Backend>(x, positions(), q, k, v, executor));
  heed::check(layer.output<Backend>(heads, y, executor));
  for (const auto* part : {&k, &v, &y}) q.insert(q.end(), part->begin(), part->end());
  return q;
}

std::vector<float> mla(bool before, heed::MlaForm form) {
  Tensors w(before);
  const heed::MlaLayerOptions options{.hidden_size = hidden,
                                      .num_attention_heads = 3,
                                      .q_lora_rank = 14,
                                      .kv_lora_rank = 70,
                                      .qk_nope_head_dim = 10,
                                      .qk_rope_head_dim = 8,
                                      .v_head_dim = 66,
                                      .rope_layout = heed::RopeLayout::interleaved,
                                      .rope_theta = 1e4,
                                      .weights = before ? WeightType::f32 : WeightType::bf16};
  const heed::MlaTensors tensors{.q_proj = {},
                                 .q_a_proj = w(14, hidden),
                                 .q_a_layernorm = w.gain(14),
                                 .q_b_proj = w(54, 14),
                                 .kv_a_proj_with_mqa = w(78, hidden),
                                 .kv_a_layernorm = w.gain(70),
                                 .kv_b_proj = w(3 * 76, 70),
                                 .o_proj = w(hidden, 3 * 66)};
  const auto layer = value_or_throw(heed::MlaLayer::create(options, tensors));
  EXPECT_EQ(layer.policy().weights.is_bf16(), !before);
  auto cache = value_or_throw(heed::KvCache<heed::Mla, heed::F32>::create(layer.policy(), {}));
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  const std::vector<float> x = oracle::Random(4).gaussians(tokens * hidden);
  std::vector<float> q(tokens * 54), rows(tokens * 78), heads(tokens * 3 * 66), y(tokens * hidden);
  heed::check(layer.project<Backend>(x, positions(), q, rows, workspace, executor));
  auto step = value_or_throw(cache.begin(heed::NumTokens(tokens)));
  heed::check(step.write(0, rows));
  heed::check(
      heed::attend_mla<Backend>(layer.policy(), form, q, step.keys(0), heed::Causal{}, heads, workspace, executor));
  heed::check(layer.output<Backend>(heads, y, executor));
  for (const auto* part : {&rows, &heads, &y}) q.insert(q.end(), part->begin(), part->end());
  return q;
}

heed::MfaLayerOptions mfa_options(bool before) {
  return {.hidden_size = hidden,
          .num_attention_heads = 3,
          .head_dim = 8,
          .share_q_dim = 14,
          .weights = before ? WeightType::f32 : WeightType::bf16};
}
heed::MfaTensors mfa_tensors(Tensors& w) {
  return {.q_proj = w(14, hidden),
          .inter_norm = w.gain(14),
          .wq = w(24, 14),
          .k_proj = w(8, hidden),
          .v_proj = w(8, hidden),
          .o_proj = w(hidden, 24),
          .kr_n = {},
          .kr_alpha = {}};
}

std::vector<float> mfa(bool before) {
  Tensors w(before);
  const auto layer = value_or_throw(heed::MfaLayer::create(mfa_options(before), mfa_tensors(w)));
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  oracle::Random random(5);
  const std::vector<float> x = random.gaussians(tokens * hidden), heads = random.gaussians(tokens * 24);
  std::vector<float> q(tokens * 24), k(tokens * 8), v(tokens * 8), y(tokens * hidden);
  heed::check(layer.project<Backend>(x, positions(), q, k, v, workspace, executor));
  heed::check(layer.output<Backend>(heads, y, executor));
  for (const auto* part : {&k, &v, &y}) q.insert(q.end(), part->begin(), part->end());
  return q;
}

std::vector<float> mtp(bool before) {
  Tensors w(before);
  const heed::MtpTensors tensors{.enorm = w.gain(hidden),
                                 .hnorm = w.gain(hidden),
                                 .eh_proj = w(hidden, 2 * hidden),
                                 .shared_head_norm = w.gain(hidden)};
  const auto module = value_or_throw(heed::MtpModule::create(
      {.hidden_size = hidden, .weights = before ? WeightType::f32 : WeightType::bf16}, tensors));
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  oracle::Random random(6);
  const std::vector<float> embeddings = random.gaussians(tokens * hidden), hiddens = random.gaussians(tokens * hidden);
  std::vector<float> x(tokens * hidden);
  heed::check(module.combine<Backend>(embeddings, hiddens, positions(), x, workspace, executor));
  return x;
}

TEST(Weights, ALayerOfBf16IsTheLayerOfTheRoundedTensors) {
  EXPECT_TRUE(same(grouped(false), grouped(true)));
  EXPECT_TRUE(same(mla(false, heed::MlaForm::absorbed), mla(true, heed::MlaForm::absorbed)));
  EXPECT_TRUE(same(mla(false, heed::MlaForm::expanded), mla(true, heed::MlaForm::expanded)));
  EXPECT_TRUE(same(mfa(false), mfa(true)));
  EXPECT_TRUE(same(mtp(false), mtp(true)));
}

TEST(Weights, MlaTakesOneTypeOfTheRightSize) {
  Tensors w(false);
  heed::Mla mla{.num_heads = 2, .kv_lora_rank = 8, .qk_nope_head_dim = 6, .v_head_dim = 10, .scale = 1};
  const Tensor kv_b = w(32, 8);
  const auto floats = value_or_throw(heed::PackedMlaWeights::create(mla, kv_b));
  const auto halves = value_or_throw(heed::PackedMlaWeights::create(mla, kv_b, WeightType::bf16));
  mla.weights = halves.weights();
  EXPECT_TRUE(mla.validate().ok());
  mla.weights.w_uk_bf16 = mla.weights.w_uk_bf16.first(95);
  EXPECT_EQ(mla.validate().message(), "weights.w_uk_bf16 has 95 numbers, must have 96");
  mla.weights = halves.weights();
  mla.weights.w_ukv_bf16 = {};
  EXPECT_EQ(mla.validate().message(), "weights.w_ukv_bf16 has 0 numbers, must have 256");
  mla.weights = halves.weights();
  mla.weights.w_ukv = floats.weights().w_ukv;
  EXPECT_EQ(mla.validate().message(), "weights has 256 floats beside bf16 numbers, must have one of them");
}

/// The order of the numbers in memory changes no bit.
TEST(Weights, MlaReadsPanelsAsItReadsRows) {
  constexpr Index heads = 3, rank = 70, nope = 80, width = nope + 66, queries = 4;
  heed::Mla mla{.num_heads = heads,
                .kv_lora_rank = rank,
                .qk_rope_head_dim = 4,
                .qk_nope_head_dim = nope,
                .v_head_dim = width - nope,
                .scale = 0.1f};
  Tensors w(false);
  const Tensor kv_b = w(heads * width, rank);
  const auto packed = value_or_throw(heed::PackedMlaWeights::create(mla, kv_b));
  std::vector<float> uk(heads * nope * rank), ukv(heads * rank * width);
  for (Index h = 0; h < heads; ++h) {
    for (Index n = 0; n < width; ++n) {
      for (Index r = 0; r < rank; ++r) {
        const float number = kv_b.data[std::size_t((h * width + n) * rank + r)];
        if (n < nope) uk[std::size_t((h * nope + n) * rank + r)] = number;
        ukv[std::size_t((h * rank + r) * width + n)] = number;
      }
    }
  }
  auto cache = value_or_throw(heed::KvCache<heed::Mla, heed::F32>::create(mla, {}));
  oracle::Random random(9);
  auto step = value_or_throw(cache.begin(heed::NumTokens(queries)));
  heed::check(step.write(0, random.gaussians(queries * mla.row_width())));
  const std::vector<float> q = random.gaussians(queries * heads * mla.qk_head_dim());
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  const auto out_of = [&](const heed::MlaWeights& weights, heed::MlaForm form) {
    mla.weights = weights;
    std::vector<float> out(std::size_t(queries * heads * mla.v_head_dim));
    heed::check(heed::attend_mla<Backend>(mla, form, q, step.keys(0), heed::Causal{}, out, workspace, executor));
    return out;
  };
  for (const heed::MlaForm form : {heed::MlaForm::absorbed, heed::MlaForm::expanded}) {
    EXPECT_TRUE(same(out_of({uk, ukv}, form), out_of(packed.weights(), form)));
  }
}

}  // namespace
}  // namespace heed_test::weights_test
