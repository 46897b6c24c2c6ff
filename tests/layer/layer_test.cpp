// Layers from a checkpoint's tensors: rows have the same bits alone and together, values meet float64, and wrong shapes
// are named. tests/golden runs them on the vectors of the official code.
#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/layer/grouped.hpp>
#include <heed/layer/mfa.hpp>
#include <heed/layer/mla.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <list>
#include <map>
#include <numeric>

#include "oracle/layer.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"
#include "policy/worst.hpp"

namespace heed_test::layer_test {
namespace {

using heed::Tensor;

/// Owns random tensors, scaled so that products keep the size of their inputs.
class Weights {
 public:
  Tensor operator()(Index rows, Index cols) {
    kept_.push_back(random_.gaussians(rows * cols));
    for (float& x : kept_.back()) x *= float(1 / std::sqrt(double(cols)));
    return {kept_.back(), rows, cols};
  }
  std::vector<float> numbers(Index count) { return random_.gaussians(count); }

 private:
  oracle::Random random_{42};
  std::list<std::vector<float>> kept_;
};

std::vector<double> product(const std::vector<float>& x, const Tensor& w) {
  return oracle::linear(oracle::doubles(x), oracle::doubles({w.data.begin(), w.data.end()}), w.cols);
}

std::vector<Index> positions_of(Index tokens) {
  std::vector<Index> positions(static_cast<std::size_t>(tokens));
  std::iota(positions.begin(), positions.end(), 3);
  return positions;
}

TEST(Projection, IsTheProductWithTheSameBitsForAnyRowsAndWorkers) {
  Weights weights;
  heed::SerialExecutor serial;
  auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  for (const auto& [out, in] : {std::pair<Index, Index>{1, 1}, {600, 33}, {17, 257}, {256, 64}, {513, 5}}) {
    const Tensor w = weights(out, in);
    const heed::Projection layer = heed::value_or_throw(heed::Projection::create("w", w, out, in));
    const std::vector<float> x = weights.numbers(9 * in);
    std::vector<float> y(std::size_t(9 * out)), threads = y, alone = y;
    layer.apply<Backend>(9, x.data(), y.data(), serial);
    layer.apply<Backend>(9, x.data(), threads.data(), *pool);
    for (Index r = 0; r < 9; ++r) layer.apply<Backend>(1, x.data() + r * in, alone.data() + r * out, serial);
    EXPECT_LE(worst(y, product(x, w)), 1) << out << " x " << in;
    EXPECT_EQ(y, threads);
    EXPECT_EQ(y, alone);
  }
}

TEST(RmsNorm, NormalisesRowsAndSparesWhatLiesBetween) {
  Weights weights;
  const Tensor gain = weights(1, 24);
  const heed::RmsNorm norm = heed::value_or_throw(heed::RmsNorm::create("gain", gain, 24, 1e-3));
  std::vector<float> rows = weights.numbers(5 * 30);
  const std::vector<float> before = rows;
  norm.apply(5, rows.data(), 30);
  for (Index r = 0; r < 5; ++r) {
    const std::vector<double> row(before.begin() + r * 30, before.begin() + r * 30 + 24);
    const auto want = oracle::rms_norm(row, oracle::doubles({gain.data.begin(), gain.data.end()}), 1e-3);
    EXPECT_LE(worst({rows.begin() + r * 30, rows.begin() + r * 30 + 24}, want), 0.1);
    EXPECT_TRUE(std::equal(rows.begin() + r * 30 + 24, rows.begin() + (r + 1) * 30, before.begin() + r * 30 + 24));
  }
  EXPECT_EQ(heed::RmsNorm::create("gain", gain, 24, -1).status().code(), heed::StatusCode::invalid_argument);
}

heed::GroupedTensors grouped_tensors(Weights& w, const heed::Gqa& g, Index hidden) {
  return {w(g.num_heads * g.head_dim, hidden), w(g.num_kv_heads * g.head_dim, hidden),
          w(g.num_kv_heads * g.v_head_dim, hidden), w(hidden, g.num_heads * g.v_head_dim)};
}

TEST(GroupedLayer, ProjectsRotatesAndPutsOut) {
  Weights weights;
  const heed::Gqa shape{.num_heads = 6, .num_kv_heads = 2, .head_dim = 16, .v_head_dim = 12, .scale = 0.25f};
  const heed::RopeOptions rope{.head_dim = 16, .layout = heed::RopeLayout::half_split, .theta = 1e4};
  const heed::GroupedTensors t = grouped_tensors(weights, shape, 40);
  const auto layer = heed::value_or_throw(heed::GroupedLayer::create(40, shape, rope, t));
  const auto still = heed::value_or_throw(heed::GroupedLayer::create(40, shape, {}, t));
  heed::SerialExecutor executor;
  const std::vector<float> x = weights.numbers(7 * 40);
  const std::vector<Index> positions = positions_of(7);
  std::vector<float> q(7 * 96), k(7 * 32), v(7 * 24), q0 = q, k0 = k, v0 = v, y(7 * 40);
  ASSERT_TRUE(layer.project<Backend>(x, positions, q, k, v, executor).ok());
  ASSERT_TRUE(still.project<Backend>(x, positions, q0, k0, v0, executor).ok());
  EXPECT_LE(worst(q0, product(x, t.q_proj)), 1);
  EXPECT_LE(worst(k0, product(x, t.k_proj)), 1);
  EXPECT_LE(worst(v, product(x, t.v_proj)), 1);
  const heed::Rope turn = heed::value_or_throw(heed::Rope::create(rope));
  ASSERT_TRUE(turn.apply_rows(positions, 6, q0).ok());
  ASSERT_TRUE(turn.apply_rows(positions, 2, k0).ok());
  EXPECT_EQ(q, q0);
  EXPECT_EQ(k, k0);
  const std::vector<float> heads = weights.numbers(7 * 72);
  ASSERT_TRUE(layer.output<Backend>(heads, y, executor).ok());
  EXPECT_LE(worst(y, product(heads, t.o_proj)), 1);

  EXPECT_EQ(layer.project<Backend>(std::span(x).first(279), positions, q, k, v, executor).message(),
            "x has 279 numbers, must have 280 for 7 tokens");
  EXPECT_EQ(layer.output<Backend>(heads, std::span(y).first(1), executor).message(),
            "y has 1 number, must have 280 for 7 tokens");
}

heed::MlaLayerOptions mla_options() {
  return {.hidden_size = 30,
          .num_attention_heads = 3,
          .q_lora_rank = 14,
          .kv_lora_rank = 20,
          .qk_nope_head_dim = 10,
          .qk_rope_head_dim = 8,
          .v_head_dim = 6,
          .rope_layout = heed::RopeLayout::interleaved,
          .rope_theta = 1e4};
}
heed::MlaTensors mla_tensors(Weights& w) {
  return {.q_proj = w(54, 30),
          .q_a_proj = w(14, 30),
          .q_a_layernorm = w(1, 14),
          .q_b_proj = w(54, 14),
          .kv_a_proj_with_mqa = w(28, 30),
          .kv_a_layernorm = w(1, 20),
          .kv_b_proj = w(48, 20),
          .o_proj = w(30, 18)};
}
heed::MfaLayerOptions mfa_options() {
  return {.hidden_size = 30,
          .num_attention_heads = 3,
          .head_dim = 8,
          .share_q_dim = 14,
          .rope = heed::RopeOptions{.head_dim = 8, .layout = heed::RopeLayout::half_split, .theta = 1e4}};
}
heed::MfaTensors mfa_tensors(Weights& w) {
  return {.q_proj = w(14, 30),
          .inter_norm = w(1, 14),
          .wq = w(24, 14),
          .k_proj = w(8, 30),
          .v_proj = w(8, 30),
          .o_proj = w(30, 24),
          .kr_n = w(8, 8),
          .kr_alpha = w(1, 8)};
}

/// The scale has mscale squared, and the root is of a head's query, not of a cached row.
TEST(MlaLayer, ScaleOfTheModels) {
  Weights weights;
  heed::MlaLayerOptions options = mla_options();
  const heed::MlaTensors tensors = mla_tensors(weights);
  EXPECT_FLOAT_EQ(heed::value_or_throw(heed::MlaLayer::create(options, tensors)).policy().scale,
                  float(1 / std::sqrt(18.0)));
  options.yarn = heed::Yarn{.factor = 40, .original_max_position = 4096, .mscale = 1, .mscale_all_dim = 1};
  EXPECT_FLOAT_EQ(heed::value_or_throw(heed::MlaLayer::create(options, tensors)).policy().scale,
                  float(1.873854 / std::sqrt(18.0)));
}

TEST(MfaLayer, ScaleHasYarnsFactor) {
  Weights weights;
  heed::MfaLayerOptions options = mfa_options();
  const heed::MfaTensors tensors = mfa_tensors(weights);
  EXPECT_FLOAT_EQ(heed::value_or_throw(heed::MfaLayer::create(options, tensors)).policy().scale,
                  float(1 / std::sqrt(8.0)));
  options.rope->yarn = heed::Yarn{.factor = 40, .original_max_position = 4096, .mscale = 1, .mscale_all_dim = 1};
  for (const float scale : {heed::value_or_throw(heed::MfaLayer::create(options, tensors)).policy().scale,
                            heed::value_or_throw(heed::MfaKrLayer::create(options, tensors)).policy().scale}) {
    EXPECT_FLOAT_EQ(scale, float(1.873854 / std::sqrt(8.0)));
  }
}

/// A whole layer in any calls: the same bits.
TEST(MlaLayer, TokensOneByOneAreTokensTogether) {
  Weights weights;
  const auto layer = heed::value_or_throw(heed::MlaLayer::create(mla_options(), mla_tensors(weights)));
  heed::SerialExecutor executor;
  const std::vector<float> x = weights.numbers(11 * 30);
  const auto run = [&](Index each) {
    auto cache = heed::value_or_throw(heed::KvCache<heed::Mla, heed::F32>::create(layer.policy(), {}));
    heed::Workspace workspace;
    std::vector<float> y(11 * 30);
    for (Index token = 0; token < 11; token += each) {
      const Index count = std::min(each, 11 - token);
      std::vector<Index> positions(static_cast<std::size_t>(count));
      std::iota(positions.begin(), positions.end(), token);
      std::vector<float> q(std::size_t(count * 54)), rows(std::size_t(count * 28)), heads(std::size_t(count * 18));
      const auto tokens = std::span(x).subspan(std::size_t(token * 30), std::size_t(count * 30));
      heed::check(layer.project<Backend>(tokens, positions, q, rows, workspace, executor));
      auto step = heed::value_or_throw(cache.begin(heed::NumTokens(count)));
      heed::check(step.write(0, std::span<const float>(rows)));
      heed::check(heed::attend<Backend>(layer.policy(), q, step.keys(0), heads, workspace, executor));
      heed::check(step.commit());
      heed::check(layer.output<Backend>(heads, std::span(y).subspan(std::size_t(token * 30), std::size_t(count * 30)),
                                        executor));
    }
    return y;
  };
  const std::vector<float> whole = run(11);
  EXPECT_EQ(whole, run(1));
  EXPECT_EQ(whole, run(4));
}

/// M folded into o_proj at load, or applied per query.
TEST(MfaKrLayer, FoldedAndPerQueryAgree) {
  Weights weights;
  const heed::MfaTensors tensors = mfa_tensors(weights);
  heed::SerialExecutor executor;
  const std::vector<float> x = weights.numbers(9 * 30);
  const auto run = [&](heed::ValueMap where) {
    const auto layer = heed::value_or_throw(heed::MfaKrLayer::create(mfa_options(), tensors, where));
    EXPECT_EQ(layer.policy().value_map.empty(), where == heed::ValueMap::folded);
    heed::Workspace workspace;
    std::vector<float> q(9 * 24), k(9 * 8), heads(9 * 24), y(9 * 30);
    heed::check(layer.project<Backend>(x, positions_of(9), q, k, workspace, executor));
    auto cache = heed::value_or_throw(heed::KvCache<heed::MfaKr, heed::F32>::create(layer.policy(), {}));
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(9)));
    heed::check(step.write(0, std::span<const float>(k)));
    heed::check(heed::attend<Backend>(layer.policy(), q, step.keys(0), heads, workspace, executor));
    heed::check(layer.output<Backend>(heads, y, executor));
    return y;
  };
  const std::vector<float> folded = run(heed::ValueMap::folded), per_query = run(heed::ValueMap::per_query);
  for (std::size_t i = 0; i < folded.size(); ++i) EXPECT_NEAR(folded[i], per_query[i], 2e-6);
}

/// Every tensor of every layer, one row too few: the message names it and both shapes.
TEST(Layers, NameTheTensorOfAWrongShape) {
  Weights weights;
  const auto shorter = [](Tensor t) {
    return t.rows > 1 ? Tensor{t.data.first(t.data.size() - std::size_t(t.cols)), t.rows - 1, t.cols}
                      : Tensor{t.data.first(t.data.size() - 1), 1, t.cols - 1};
  };
  const auto expect = [](const heed::Status& status, const std::string& name, const Tensor& right) {
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument) << name;
    const std::string must = "must be [" + std::to_string(right.rows) + ", " + std::to_string(right.cols) + "]";
    EXPECT_EQ(status.message().substr(0, name.size() + 5), name + " has ") << status.message();
    EXPECT_NE(status.message().find(must), std::string::npos) << status.message();
  };
  const heed::MlaTensors mla = mla_tensors(weights);
  for (const auto& [name, member] :
       std::map<std::string, Tensor heed::MlaTensors::*>{{"q_a_proj", &heed::MlaTensors::q_a_proj},
                                                         {"q_a_layernorm", &heed::MlaTensors::q_a_layernorm},
                                                         {"q_b_proj", &heed::MlaTensors::q_b_proj},
                                                         {"kv_a_proj_with_mqa", &heed::MlaTensors::kv_a_proj_with_mqa},
                                                         {"kv_a_layernorm", &heed::MlaTensors::kv_a_layernorm},
                                                         {"kv_b_proj", &heed::MlaTensors::kv_b_proj},
                                                         {"o_proj", &heed::MlaTensors::o_proj}}) {
    heed::MlaTensors wrong = mla;
    wrong.*member = shorter(mla.*member);
    expect(heed::MlaLayer::create(mla_options(), wrong).status(), name, mla.*member);
  }
  heed::MlaLayerOptions direct = mla_options();
  direct.q_lora_rank = 0;
  EXPECT_TRUE(heed::MlaLayer::create(direct, mla).ok());
  heed::MlaTensors no_q = mla;
  no_q.q_proj = {};
  expect(heed::MlaLayer::create(direct, no_q).status(), "q_proj", mla.q_proj);
  direct.q_lora_rank = -1;
  EXPECT_EQ(heed::MlaLayer::create(direct, mla).status().message(), "q_lora_rank is -1, must be in 0 .. 16777216");

  const heed::MfaTensors mfa = mfa_tensors(weights);
  for (const auto& [name, member] :
       std::map<std::string, Tensor heed::MfaTensors::*>{{"q_proj", &heed::MfaTensors::q_proj},
                                                         {"inter_norm", &heed::MfaTensors::inter_norm},
                                                         {"wq", &heed::MfaTensors::wq},
                                                         {"k_proj", &heed::MfaTensors::k_proj},
                                                         {"v_proj", &heed::MfaTensors::v_proj},
                                                         {"o_proj", &heed::MfaTensors::o_proj},
                                                         {"kr_n", &heed::MfaTensors::kr_n},
                                                         {"kr_alpha", &heed::MfaTensors::kr_alpha}}) {
    heed::MfaTensors wrong = mfa;
    wrong.*member = shorter(mfa.*member);
    if (name.starts_with("kr_")) {
      EXPECT_TRUE(heed::MfaLayer::create(mfa_options(), wrong).ok()) << "MFA has no " << name;
    } else {
      expect(heed::MfaLayer::create(mfa_options(), wrong).status(), name, mfa.*member);
    }
    if (name == "v_proj") {
      EXPECT_TRUE(heed::MfaKrLayer::create(mfa_options(), wrong).ok()) << "MFA-KR has no v_proj";
    } else {
      expect(heed::MfaKrLayer::create(mfa_options(), wrong).status(), name, mfa.*member);
    }
  }

  const heed::Gqa shape{.num_heads = 2, .num_kv_heads = 1, .head_dim = 4, .scale = 1};
  const heed::GroupedTensors grouped = grouped_tensors(weights, shape, 9);
  for (const auto& [name, member] :
       std::map<std::string, Tensor heed::GroupedTensors::*>{{"q_proj", &heed::GroupedTensors::q_proj},
                                                             {"k_proj", &heed::GroupedTensors::k_proj},
                                                             {"v_proj", &heed::GroupedTensors::v_proj},
                                                             {"o_proj", &heed::GroupedTensors::o_proj}}) {
    heed::GroupedTensors wrong = grouped;
    wrong.*member = shorter(grouped.*member);
    expect(heed::GroupedLayer::create(9, shape, {}, wrong).status(), name, grouped.*member);
  }
}

}  // namespace
}  // namespace heed_test::layer_test
