// Layers of one model that share a Rope: what they make has the bits of layers with a Rope each.
#include <heed/exec/serial.hpp>
#include <heed/layer/grouped.hpp>
#include <heed/layer/mfa.hpp>
#include <heed/layer/mla.hpp>

#include <gtest/gtest.h>

#include <list>

#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test::shared_rope_test {
namespace {

using heed::Rope;
using heed::RopeOptions;
using heed::Tensor;
using heed::value_or_throw;

constexpr Index tokens = 3, hidden = 20;
const heed::Yarn yarn{.factor = 4, .original_max_position = 64, .mscale = 1, .mscale_all_dim = 1};
const RopeOptions rotation{.head_dim = 8, .layout = heed::RopeLayout::half_split, .theta = 1e4, .yarn = yarn};

class Tensors {
 public:
  Tensor operator()(Index rows, Index cols) {
    kept_.push_back(random_.gaussians(rows * cols));
    return {kept_.back(), rows, cols};
  }

 private:
  oracle::Random random_{1};
  std::list<std::vector<float>> kept_;
};

std::vector<float> x() { return oracle::Random(2).gaussians(tokens * hidden); }
std::vector<Index> positions() { return {70, 71, 72}; }

heed::Result<heed::GroupedLayer> grouped(const std::optional<RopeOptions>& own, const Rope* shared) {
  Tensors w;
  return heed::GroupedLayer::create(hidden, {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1}, own,
                                    {w(32, hidden), w(16, hidden), w(16, hidden), w(hidden, 32)}, heed::WeightType::f32,
                                    shared);
}
std::vector<float> rows_of(const heed::GroupedLayer& layer) {
  heed::SerialExecutor executor;
  std::vector<float> q(tokens * 32), k(tokens * 16), v(tokens * 16);
  heed::check(layer.project<Backend>(x(), positions(), q, k, v, executor));
  q.insert(q.end(), k.begin(), k.end());
  return q;
}

heed::Result<heed::MlaLayer> mla(bool own, const Rope* shared) {
  Tensors w;
  heed::MlaLayerOptions options{.hidden_size = hidden,
                                .num_attention_heads = 2,
                                .kv_lora_rank = 12,
                                .qk_nope_head_dim = 6,
                                .qk_rope_head_dim = 8,
                                .v_head_dim = 4,
                                .shared_rope = shared};
  if (own) options.rope_layout = rotation.layout, options.rope_theta = rotation.theta, options.yarn = yarn;
  return heed::MlaLayer::create(options, {.q_proj = w(28, hidden),
                                          .q_a_proj = {},
                                          .q_a_layernorm = {},
                                          .q_b_proj = {},
                                          .kv_a_proj_with_mqa = w(20, hidden),
                                          .kv_a_layernorm = w(1, 12),
                                          .kv_b_proj = w(20, 12),
                                          .o_proj = w(hidden, 8)});
}
std::vector<float> rows_of(const heed::MlaLayer& layer) {
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  std::vector<float> q(tokens * 28), rows(tokens * 20);
  heed::check(layer.project<Backend>(x(), positions(), q, rows, workspace, executor));
  q.insert(q.end(), rows.begin(), rows.end());
  q.push_back(layer.policy().scale);
  return q;
}

heed::Result<heed::MfaLayer> mfa(const std::optional<RopeOptions>& own, const Rope* shared) {
  Tensors w;
  return heed::MfaLayer::create({.hidden_size = hidden,
                                 .num_attention_heads = 3,
                                 .head_dim = 8,
                                 .share_q_dim = 10,
                                 .rope = own,
                                 .shared_rope = shared},
                                {.q_proj = w(10, hidden),
                                 .inter_norm = w(1, 10),
                                 .wq = w(24, 10),
                                 .k_proj = w(8, hidden),
                                 .v_proj = w(8, hidden),
                                 .o_proj = w(hidden, 24),
                                 .kr_n = {},
                                 .kr_alpha = {}});
}
std::vector<float> rows_of(const heed::MfaLayer& layer) {
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  std::vector<float> q(tokens * 24), k(tokens * 8), v(tokens * 8);
  heed::check(layer.project<Backend>(x(), positions(), q, k, v, workspace, executor));
  q.insert(q.end(), k.begin(), k.end());
  q.push_back(layer.policy().scale);
  return q;
}

TEST(SharedRope, RotatesAsALayersOwn) {
  const Rope rope = value_or_throw(Rope::create(rotation));
  EXPECT_EQ(rows_of(value_or_throw(grouped({}, &rope))), rows_of(value_or_throw(grouped(rotation, nullptr))));
  EXPECT_NE(rows_of(value_or_throw(grouped({}, &rope))), rows_of(value_or_throw(grouped({}, nullptr))));
  EXPECT_EQ(rows_of(value_or_throw(mla(false, &rope))), rows_of(value_or_throw(mla(true, nullptr))));
  EXPECT_EQ(rows_of(value_or_throw(mfa({}, &rope))), rows_of(value_or_throw(mfa(rotation, nullptr))));
  EXPECT_EQ(value_or_throw(grouped({}, &rope)).unrotated_policy().rope, &rope);
  EXPECT_EQ(value_or_throw(mla(false, &rope)).unrotated_policy().rope, &rope);
}

TEST(SharedRope, IsTheOnlyOneAndOfTheHeadsWidth) {
  const Rope rope = value_or_throw(Rope::create(rotation));
  RopeOptions wide = rotation;
  wide.head_dim = wide.rotary_dim = 16;
  const Rope other = value_or_throw(Rope::create(wide));
  const char* const both = "rope and shared_rope are both given, must be one of them";
  const char* const width = "shared_rope->options().head_dim is 16, must be head_dim 8";
  EXPECT_EQ(grouped(rotation, &rope).status().message(), both);
  EXPECT_EQ(grouped({}, &other).status().message(), width);
  EXPECT_EQ(mla(true, &rope).status().message(), both);
  EXPECT_EQ(mla(false, &other).status().message(), width);
  EXPECT_EQ(mla(false, nullptr).status().message(), "layout is 0, must be set to interleaved or half_split");
  EXPECT_EQ(mfa(rotation, &rope).status().message(), both);
  EXPECT_EQ(mfa({}, &other).status().message(), width);
}

}  // namespace
}  // namespace heed_test::shared_rope_test
