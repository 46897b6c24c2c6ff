// Shapes at the ends of 64 bits, for everything that is made from a checkpoint's tensors, and for the analysis.
#include "extremes/numbers.hpp"

#include <cmath>
#include <vector>

namespace heed_test::layers_test {
namespace {

const std::vector<float> none, one(1, 0.5f);

/// A tensor that says it has this shape, of no numbers or of one.
heed::Tensor tensor(Index rows, Index cols, bool empty) { return {empty ? none : one, rows, cols}; }

TEST(Extremes, Projections) {
  for_extremes([](Index rows, Index cols) {
    for (const bool empty : {false, true}) {
      const heed::Tensor weight = tensor(rows, cols, empty);
      const bool right = rows == 1 && cols == 1 && !empty;
      EXPECT_EQ(heed::Projection::create("w", weight, rows, cols).ok(), right);
      EXPECT_EQ(heed::RmsNorm::create("w", weight, cols, 1e-6).ok(), right);
      EXPECT_EQ(heed::BitLinear<>::create("w", weight, rows, cols).ok(), right);
      expect_said(heed::ternary_from_floats<>("w", weight));
      expect_said(heed::check_tensor("w", weight, rows, cols));
      EXPECT_EQ(heed::make_value_map(weight, weight, cols, {}).ok(), false);
      std::vector<float> folded(1);
      EXPECT_EQ(heed::fold_value_map(one, rows, one, folded).ok(), rows == 1);
      EXPECT_EQ(heed::fold_value_map(none, rows, none, {}).ok(), false);
      std::vector<float> bounds(1);
      EXPECT_EQ(heed::forget_lower_bounds(weight.data, rows, cols, bounds).ok(), right);
    }
  });
}

TEST(Extremes, TernaryImports) {
  const std::vector<std::uint8_t> no_bytes, byte(1, 0x55), block(66), line(40);
  const std::vector<std::int8_t> value(1);
  for_extremes([&](Index rows, Index cols) {
    EXPECT_EQ(heed::ternary_from_values<>("w", value, rows, cols, 1).ok(), rows == 1 && cols == 1);
    EXPECT_FALSE(heed::ternary_from_values<>("w", {}, rows, cols, 1).ok());
    for (const auto& bytes : {no_bytes, byte, block, line}) {
      const bool small = rows == 1 && cols == 1;
      const auto hf = heed::ternary_from_hugging_face<>("w", bytes, rows, cols, 1, heed::WeightScale::multiplier);
      EXPECT_TRUE(!hf.ok() || small);
      EXPECT_FALSE(heed::ternary_from_i2_s<>("w", bytes, rows, cols, heed::I2sBlock::x86).ok());
      EXPECT_FALSE(heed::ternary_from_i2_s<>("w", bytes, rows, cols, heed::I2sBlock::arm).ok());
      EXPECT_FALSE(heed::ternary_from_ggml<>("w", bytes, rows, cols, heed::GgmlTernary::tq2_0).ok());
      EXPECT_FALSE(heed::ternary_from_ggml<>("w", bytes, rows, cols, heed::GgmlTernary::tq1_0).ok());
    }
    for (const Index all : {heed::TwoBit::bytes(rows, cols), heed::FiveTrits::bytes(rows, cols)}) {
      if (rows > 0 && cols > 0) {
        EXPECT_GT(all, 0);
      }
    }
    const auto fill = [](Index, std::span<std::int8_t> to) -> heed::Status {
      std::fill(to.begin(), to.end(), std::int8_t{0});
      return {};
    };
    const bool possible = rows >= 1 && cols >= 1 && rows <= 1 && cols <= 1;
    EXPECT_EQ(heed::TernaryMatrix<>::create("w", rows, cols, 1, fill, little_memory()).ok(), possible);
  });
}

TEST(Extremes, Layers) {
  for_extremes([](Index hidden, Index heads, Index dim) {
    for (const bool empty : {false, true}) {
      const bool right = hidden == 1 && heads == 1 && dim == 1 && !empty;
      const heed::Gqa shape{.num_heads = heads, .num_kv_heads = heads, .head_dim = dim, .scale = 1};
      const Index width = (heed::Count(heads) * dim).value();
      // As large as 64 bits make of it, which is what wrapped before.
      const auto wrapped = Index(std::uint64_t(heads) * std::uint64_t(dim));
      for (const Index rows : {width, wrapped}) {
        const heed::Tensor up = tensor(rows, hidden, empty), down = tensor(hidden, rows, empty);
        EXPECT_EQ(heed::GroupedLayer::create(hidden, shape, {}, {up, up, up, down}).ok(), right);
        EXPECT_EQ(heed::BitNetAttention<>::create(hidden, shape, {}, {}).ok(), false);
        const heed::MfaLayerOptions mfa{
            .hidden_size = hidden, .num_attention_heads = heads, .head_dim = dim, .share_q_dim = dim};
        const heed::MfaTensors tensors{.q_proj = tensor(dim, hidden, empty),
                                       .inter_norm = tensor(1, dim, empty),
                                       .wq = tensor(rows, dim, empty),
                                       .k_proj = tensor(dim, hidden, empty),
                                       .v_proj = tensor(dim, hidden, empty),
                                       .o_proj = down,
                                       .kr_n = tensor(dim, dim, empty),
                                       .kr_alpha = tensor(1, dim, empty)};
        EXPECT_EQ(heed::MfaLayer::create(mfa, tensors).ok(), right);
        EXPECT_EQ(heed::MfaKrLayer::create(mfa, tensors).ok(), right);
        const heed::MlaLayerOptions mla{.hidden_size = hidden,
                                        .num_attention_heads = heads,
                                        .q_lora_rank = dim,
                                        .kv_lora_rank = dim,
                                        .qk_nope_head_dim = dim,
                                        .qk_rope_head_dim = dim,
                                        .v_head_dim = dim,
                                        .rope_layout = heed::RopeLayout::half_split,
                                        .rope_theta = 10000};
        EXPECT_FALSE(heed::MlaLayer::create(mla, {up, up, up, up, up, up, up, down}).ok());  // one number is no pair
      }
      EXPECT_EQ(heed::MtpModule::create({.hidden_size = hidden}, {tensor(1, heads, empty), tensor(1, heads, empty),
                                                                  tensor(heads, dim, empty), tensor(1, heads, empty)})
                    .ok(),
                false);
    }
  });
}

// Layers that nobody made have a width of 0, by which nothing may be divided.
TEST(Extremes, LayersOfNothing) {
  const std::vector<float> some(3);
  std::vector<float> out(3);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::BitLinear<> linear;
  EXPECT_FALSE(heed::bit_linear<heed::Scalar>(linear, some, out, workspace, executor).ok());
  EXPECT_FALSE(heed::BitGlu<>().forward<heed::Scalar>(some, out, workspace, executor).ok());
  EXPECT_FALSE(heed::Mlgru<>().forward<heed::Scalar>(some, heed::RecurrentLayer(), out, workspace, executor).ok());
  auto state = heed::value_or_throw(heed::RecurrentState::create({.layers = 1, .width = 1}));
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
  const std::vector<std::int32_t> ids{0};
  const heed::MatMulFreeLm<> model;
  EXPECT_FALSE(model.forward<heed::Scalar>(ids, step, out, workspace, executor).ok());
}

TEST(Extremes, MatMulFree) {
  for_extremes([](Index vocabulary, Index width, Index layers) {
    for (const Index inner : {Index{1}, width}) {
      const heed::MatMulFreeConfig config{
          .vocab_size = vocabulary, .hidden_size = width, .num_hidden_layers = layers, .intermediate_size = inner};
      EXPECT_GE(config.state_bytes(), 0);
      EXPECT_GE(config.ternary_parameters(), 0);
      EXPECT_GE(config.embedding_parameters(), 0);
      EXPECT_GE(heed::MatMulFreeConfig::default_intermediate_size(width), 0);
      const auto made = heed::MatMulFreeLm<>::from_floats(
          config, [&](const char*) -> heed::Result<heed::Tensor> { return tensor(vocabulary, width, false); });
      expect_said(made);
      EXPECT_FALSE(made.ok());
    }
  });
}

TEST(Extremes, Rope) {
  for_extremes([](Index dim, Index rotary, Index n) {
    for (int field = 0; field < 3; ++field) {
      heed::RopeOptions options{.head_dim = dim,
                                .rotary_dim = rotary,
                                .layout = heed::RopeLayout::half_split,
                                .theta = 10000,
                                .table_positions = 64};
      if (field == 0) options.rotary_offset = n;
      if (field == 1) options.table_positions = n == std::numeric_limits<std::int32_t>::max() ? 1 : n;  // 2^31: long
      if (field == 2) options.yarn = heed::Yarn{.factor = 4, .original_max_position = n};
      expect_said(options.validate());
      if (rotary > 4096) continue;  // a table of 2^24 numbers is right, but takes its time
      expect_said(heed::Rope::create(options));
    }
  });
  for (const auto layout : {heed::RopeLayout::half_split, heed::RopeLayout::interleaved}) {
    const auto rope = heed::value_or_throw(heed::Rope::create(
        {.head_dim = 6, .rotary_dim = 4, .rotary_offset = 1, .layout = layout, .theta = 1e4, .table_positions = 128}));
    for_extremes([&](Index position, Index heads) {
      std::vector<float> rows{1, 2, 3, 4, 5, 6};
      const std::vector<Index> positions{position};
      EXPECT_EQ(rope.apply_rows(positions, heads, rows).ok(), heads == 1);
      EXPECT_EQ(rope.apply_rows(positions, heads, {}).ok(), heads == 0);
      EXPECT_EQ(rope.apply_rows({}, heads, {}).ok(), heads >= 0);
      rope.apply(position, rows.data(), heed::RopeDirection::inverse);
      double size = 0;
      for (const float x : rows) size += double(x) * double(x);
      EXPECT_NEAR(size, 91, 1e-3);  // rotations keep lengths, whatever the angle
    });
  }
}

TEST(Extremes, Analysis) {
  namespace a = heed::analysis;
  const auto sane = [](const a::AttentionCosts& costs, Index n) {
    EXPECT_GE(a::kv_elements_per_token(costs), 0);
    EXPECT_GE(a::kv_bytes_per_token(costs, a::rows_flashmla_fp8), 0);
    EXPECT_GE(a::parameters(costs), 0);
    EXPECT_GE(a::attention_flops(costs, n), 0);
    EXPECT_GE(a::decode_flops(costs, n), 0);
    EXPECT_GE(a::decode_bytes(costs, n, a::rows_4bit, n), 0);
    EXPECT_GE(a::total_effective_rank(costs), 0);
    const a::Model model = a::with_mtp_layers(a::uniform_model("m", n, costs, a::rows_16bit, n));
    EXPECT_GE(a::kv_bytes_per_token(model), 0);
    EXPECT_GE(a::num_layers(model), 0);
    EXPECT_GE(a::attention_flops(model, n), 0);
  };
  for_extremes([&](Index l, Index m, Index n) {
    for (const a::GroupedShape& shape :
         {a::GroupedShape{l, m, n, l}, a::mha_shape(l, m, n), a::mqa_shape(l, m, n), a::GroupedShape{1, l, m, n}}) {
      expect_said(shape.validate());
      sane(shape.costs(), l);
    }
    const a::MlaShape mla{l, m, n, l, m, n, l};
    expect_said(mla.validate());
    for (const a::MlaCount form : {a::MlaCount::absorbed, a::MlaCount::absorbed_full_width, a::MlaCount::expanded}) {
      sane(mla.costs(form), m);
    }
    EXPECT_GE(mla.expansion_flops_per_key(), 0);
    const a::MfaShape mfa{l, m, n, l, true};
    sane(mfa.costs(), n);
    sane(a::MfaKrShape{mfa, true}.costs(), n);
    sane(a::FpbaShape{l}.costs(), m);
    sane(a::LightningShape{l, m, n, l, m, n}.costs(), l);
    const a::GmhaSizes sizes{l, m, n, l, m, n};
    expect_said(sizes.validate());
    for (const a::GmhaRow& row : {a::gmha_fpba(sizes), a::gmha_gqa(sizes), a::gmha_mha(sizes), a::gmha_mqa(sizes),
                                  a::gmha_mla(sizes, a::MlaCache::two_latents_and_rope, a::MlaParameters::with_rope)}) {
      EXPECT_GE(row.kv_elements, 0);
      EXPECT_GE(row.parameters, 0);
      EXPECT_GE(row.ter(), 0);
    }
    EXPECT_GE((a::RowFormat{l, m, n, l}.bytes(m, n)), 0);
    EXPECT_GE(a::round_significant(l, int(std::clamp<Index>(m, INT32_MIN, INT32_MAX))), 0);
    std::ignore = a::ratio(l, m);
  });
}

}  // namespace
}  // namespace heed_test::layers_test
