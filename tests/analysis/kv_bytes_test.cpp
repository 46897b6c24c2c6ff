// KV bytes per token: every figure that papers print of them, and agreement with what the policies describe.
#include <heed/analysis/fpba_shape.hpp>
#include <heed/analysis/models.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include <heed/policy/grouped.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/mla.hpp>

namespace heed_test::kv_bytes_test {
namespace {

using namespace heed::analysis;
using heed::Index;

// --- the MFA paper, 16 bits ------------------------------------------------------------------------------------------

static_assert(mfa_paper_1b.mha_bytes_per_token() == 163'840);
static_assert(mfa_paper_1b.mfa_bytes_per_token() == 20'480);
static_assert(mfa_paper_1b.mfa_kr_bytes_per_token() == 10'240);
static_assert(mfa_paper_7b.mha_bytes_per_token() == 196'608);
static_assert(mfa_paper_7b.mfa_bytes_per_token() == 24'576);
static_assert(mfa_paper_7b.mfa_kr_bytes_per_token() == 12'288);
// "163K / 20K / 10K" are cut, "196.6K / 24.6K / 12.3K" are rounded.
static_assert(163'840 / 1000 == 163 && 20'480 / 1000 == 20 && 10'240 / 1000 == 10);
static_assert(round_significant(196'608, 4) == 196'600);
static_assert(round_significant(24'576, 3) == 24'600 && round_significant(12'288, 3) == 12'300);

static_assert(saved(20'480, 163'840) == 0.875 && saved(24'576, 196'608) == 0.875);
static_assert(saved(10'240, 163'840) == 0.9375 && saved(12'288, 196'608) == 0.9375);
static_assert(ratio(20'480, 163'840) == 0.125 && ratio(10'240, 163'840) == 0.0625);

TEST(KvBytes, SavedAgainstMlaDependsOnHowMlaIsCounted) {
  const Index deployed = kv_elements_per_token(deepseek_v3_attention.costs(MlaCount::absorbed));
  EXPECT_EQ(deployed, 576);
  EXPECT_EQ(std::round(1e4 * saved(512, 1152)), 5556);      // the claim's count
  EXPECT_EQ(std::round(1e4 * saved(512, deployed)), 1111);  // what is deployed
}

TEST(KvBytes, OfThePaperModelsDoNotDependOnTheHeadCount) {
  for (const MfaPaperModel& m : {mfa_paper_1b, mfa_paper_7b}) {
    for (const Index heads : {1, 8, 16, 64}) {
      const auto total = [&](const AttentionCosts& layer) {
        return kv_bytes_per_token(uniform_model("", m.layers, layer, rows_16bit));
      };
      EXPECT_EQ(total(mha_shape(m.hidden_size, heads, m.hidden_size / heads).costs()), m.mha_bytes_per_token());
      const MfaShape mfa = mfa_theory(m.hidden_size, heads, m.head_dim);
      EXPECT_EQ(total(mfa.costs()), m.mfa_bytes_per_token());
      EXPECT_EQ(total(MfaKrShape{.mfa = mfa}.costs()), m.mfa_kr_bytes_per_token());
    }
  }
}

// --- DeepSeek and Kimi -----------------------------------------------------------------------------------------------

struct MlaFigures {
  Model model;
  MlaShape shape;
  Index latent, fp8, q8_0, expanded, mha, gqa8, mqa;
};

constexpr std::array<MlaFigures, 4> mla_figures = {
    MlaFigures{deepseek_v2_lite, deepseek_v2_lite_attention, 31'104, 17'712, 16'524, 276'480, 221'184, 110'592, 13'824},
    MlaFigures{deepseek_v2, deepseek_v2_attention, 69'120, 39'360, 36'720, 4'915'200, 3'932'160, 245'760, 30'720},
    MlaFigures{deepseek_v3, deepseek_v3_attention, 70'272, 40'016, 37'332, 4'997'120, 3'997'696, 249'856, 31'232},
    MlaFigures{kimi_k2, kimi_k2_attention, 70'272, 40'016, 37'332, 2'498'560, 1'998'848, 249'856, 31'232},
};

constexpr bool comes_out(const MlaFigures& f) {
  const Index layers = num_layers(f.model), heads = f.shape.num_heads, hidden = f.shape.hidden_size;
  const auto total = [&](const AttentionCosts& layer) { return layers * kv_bytes_per_token(layer, rows_16bit); };
  const GroupedShape gqa8{.hidden_size = hidden, .num_heads = heads, .num_kv_heads = 8, .head_dim = 128};
  return kv_bytes_per_token(f.model) == f.latent && kv_bytes_per_token(f.model, rows_flashmla_fp8) == f.fp8 &&
         kv_bytes_per_token(f.model, rows_q8_0) == f.q8_0 && total(f.shape.costs(MlaCount::expanded)) == f.expanded &&
         total(mha_shape(hidden, heads, 128).costs()) == f.mha && total(gqa8.costs()) == f.gqa8 &&
         total(mqa_shape(hidden, heads, 128).costs()) == f.mqa;
}
static_assert(comes_out(mla_figures[0]));
static_assert(comes_out(mla_figures[1]));
static_assert(comes_out(mla_figures[2]));
static_assert(comes_out(mla_figures[3]));

double tenths(double x) { return std::round(10 * x) / 10; }

TEST(KvBytes, PrintedKibibytesComeOut) {
  const auto kib = [](Index bytes) { return tenths(double(bytes) / 1024); };
  EXPECT_EQ(kib(kv_bytes_per_token(deepseek_v2_lite)), 30.4);
  EXPECT_EQ(kib(kv_bytes_per_token(deepseek_v2)), 67.5);
  EXPECT_EQ(kib(kv_bytes_per_token(deepseek_v3)), 68.6);
  EXPECT_EQ(kib(kv_bytes_per_token(deepseek_v3, rows_flashmla_fp8)), 39.1);
  EXPECT_EQ(kib(kv_bytes_per_token(deepseek_v3, rows_q8_0)), 36.5);
  const std::array<double, 4> expanded = {270, 4800, 4880, 2440};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(double(mla_figures[i].expanded) / 1024, expanded[i]);
  EXPECT_EQ(kib(kv_bytes_per_token(llama_3_8b)), 128);
}

TEST(KvBytes, OfLongSequencesComeOut) {
  const auto gib = [](Index bytes_per_token) { return double(bytes_per_token * 131'072) / double(Index{1} << 30); };
  const auto hundredths = [](double x) { return std::round(100 * x) / 100; };
  EXPECT_EQ(hundredths(gib(kv_bytes_per_token(deepseek_v3))), 8.58);
  EXPECT_EQ(hundredths(gib(kv_bytes_per_token(with_mtp_layers(deepseek_v3)))), 8.72);
  EXPECT_EQ(hundredths(gib(kv_bytes_per_token(deepseek_v3, rows_flashmla_fp8))), 4.88);
  EXPECT_EQ(gib(mla_figures[2].gqa8), 30.5);
  EXPECT_EQ(gib(mla_figures[2].expanded), 610);
  EXPECT_EQ(mla_figures[2].expanded * 16'384, Index{78'080} << 20);  // R1 at 16,384 tokens: 78,080 MiB
}

static_assert(num_layers(deepseek_v3) == 61 && num_layers(with_mtp_layers(deepseek_v3)) == 62);
static_assert(num_layers(with_mtp_layers(kimi_k2)) == 61);

TEST(KvBytes, OneMlaRowIsGqaWithTwoAndAQuarterGroups) {
  const Index group = kv_elements_per_token(mqa_shape(7168, 128, 128).costs());
  EXPECT_EQ(ratio(kv_elements_per_token(deepseek_v3_attention.costs(MlaCount::absorbed)), group), 2.25);
}

// --- others ----------------------------------------------------------------------------------------------------------

static_assert(kv_bytes_per_token(llama_3_8b) == 131'072);
static_assert(kv_bytes_per_token(smollm2_135m) == 23'040);
static_assert(kv_bytes_per_token(stories260k) == 1'280);
static_assert(kv_bytes_per_token(step3) == 62'464 && kv_bytes_per_token(step3, rows_8bit) == 31'232);
static_assert(kv_bytes_per_token(step3_key_reuse) == 31'232 &&
              kv_bytes_per_token(step3_key_reuse, rows_8bit) == 15'616);
static_assert(kv_elements_per_token(llama_3_8b) == 65'536 && kv_elements_per_token(step3) == 61 * 512);
static_assert(kv_elements_per_token(FpbaShape{.hidden_size = 100}.costs()) == 20'000);
static_assert(kv_bytes_per_token(mlra_mfa) == 24 * 2 * 256 * 2);

// --- the analysis and the library count the same ---------------------------------------------------------------------

template <class Policy>
Index described(const Policy& policy) {
  const heed::AttentionLayout layout = policy.layout();
  Index elements = 0;
  for (int i = 0; i < layout.num_streams; ++i) {
    const heed::StreamShape& stream = layout.streams[std::size_t(i)];
    elements += stream.num_heads * stream.width;
  }
  return elements;
}

TEST(KvBytes, AreWhatThePoliciesCache) {
  const auto& g = smollm2_135m_attention;
  EXPECT_EQ(described(heed::Gqa{.num_heads = g.num_heads, .num_kv_heads = g.num_kv_heads, .head_dim = g.head_dim}),
            kv_elements_per_token(g.costs()));
  EXPECT_EQ(described(heed::Mha{.num_heads = 12, .head_dim = 40}),
            kv_elements_per_token(mha_shape(480, 12, 40).costs()));
  EXPECT_EQ(described(heed::Mqa{.num_heads = 12, .head_dim = 40}),
            kv_elements_per_token(mqa_shape(480, 12, 40).costs()));
  const MlaShape& s = deepseek_v3_attention;
  const heed::Mla mla{.num_heads = s.num_heads,
                      .kv_lora_rank = s.kv_lora_rank,
                      .qk_rope_head_dim = s.qk_rope_head_dim,
                      .qk_nope_head_dim = s.qk_nope_head_dim,
                      .v_head_dim = s.v_head_dim};
  EXPECT_EQ(described(mla), kv_elements_per_token(s.costs(MlaCount::absorbed)));
  EXPECT_EQ(described(heed::Mfa{.num_heads = 64, .head_dim = 256}), kv_elements_per_token(step3_attention.costs()));
  EXPECT_EQ(described(heed::MfaKr{.num_heads = 64, .head_dim = 256}),
            kv_elements_per_token(MfaKrShape{.mfa = step3_attention}.costs()));
}

}  // namespace
}  // namespace heed_test::kv_bytes_test
