// Parameters, FLOPs and ranks of a layer, by mechanism.
#include <heed/analysis/fpba_shape.hpp>
#include <heed/analysis/gmha.hpp>
#include <heed/analysis/models.hpp>
#include <heed/analysis/step3_report.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace heed_test::costs_test {
namespace {

using namespace heed::analysis;
using heed::Index;

// --- MLA: FLOP per cached token and layer, and per byte of it --------------------------------------------------------

constexpr AttentionCosts v3 = deepseek_v3_attention.costs(MlaCount::absorbed);
constexpr AttentionCosts v3_expanded = deepseek_v3_attention.costs(MlaCount::expanded);
static_assert(v3.flops_per_key == 278'528);
static_assert(kimi_k2_attention.costs(MlaCount::absorbed).flops_per_key == 139'264);
static_assert(deepseek_v2_lite_attention.costs(MlaCount::absorbed).flops_per_key == 34'816);
static_assert(v3_expanded.flops_per_key == 81'920 && kv_bytes_per_token(v3_expanded, rows_16bit) == 81'920);
static_assert(v3_expanded.flops_per_key + deepseek_v3_attention.expansion_flops_per_key() == 33'636'352);
static_assert(round_significant(33'636'352, 3) == 33'600'000);

TEST(MlaCosts, FlopPerByteComesOut) {
  const auto intensity = [](const MlaShape& shape, const RowFormat& format) {
    return arithmetic_intensity(shape.costs(MlaCount::absorbed), format);
  };
  EXPECT_EQ(std::round(10 * intensity(deepseek_v3_attention, rows_16bit)), 2418);
  EXPECT_EQ(std::round(intensity(deepseek_v3_attention, rows_flashmla_fp8)), 425);
  EXPECT_EQ(std::round(intensity(deepseek_v3_attention, rows_q8_0)), 455);
  EXPECT_EQ(std::round(10 * intensity(kimi_k2_attention, rows_16bit)), 1209);
  EXPECT_EQ(std::round(10 * intensity(deepseek_v2_lite_attention, rows_16bit)), 302);
  EXPECT_EQ(arithmetic_intensity(v3_expanded, rows_16bit), 1);
}

TEST(MlaCosts, MegaFlopsPerNewTokenComeOut) {
  const MlaShape& s = deepseek_v3_attention;
  const auto tenths = [](Index parameters) { return std::round(10 * 2 * double(parameters) / 1e6); };
  EXPECT_EQ(tenths(s.query_parameters()), 975);
  EXPECT_EQ(tenths(s.latent_parameters()), 83);
  EXPECT_EQ(tenths(s.up_parameters(s.qk_nope_head_dim)), 168);
  EXPECT_EQ(tenths(s.up_parameters(s.v_head_dim)), 168);
  EXPECT_EQ(tenths(s.output_parameters()), 2349);
  const Index up_bytes = 2 * (s.up_parameters(s.qk_nope_head_dim) + s.up_parameters(s.v_head_dim));
  EXPECT_EQ(std::round(double(up_bytes) / 1e5), 336);                                               // 33.6 MB
  EXPECT_EQ(std::round(double(up_bytes) / double(kv_bytes_per_token(v3, rows_16bit)) / 100), 291);  // 29.1k tokens
}

// --- parameters ------------------------------------------------------------------------------------------------------

constexpr Index mla_parameters(Index d, Index h) {
  return d * 1536 + 1536 * h * 192 + d * 576 + 512 * h * 256 + h * 128 * d;
}
static_assert(v3.projection_parameters == mla_parameters(7168, 128));
static_assert(parameters(v3) == mla_parameters(7168, 128) + 1536 + 512);
static_assert(kimi_k2_attention.costs(MlaCount::absorbed).projection_parameters == mla_parameters(7168, 64));
static_assert(parameters(deepseek_v2_lite_attention.costs(MlaCount::absorbed)) ==
              2048 * 16 * 192 + 2048 * 576 + 512 * 16 * 256 + 16 * 128 * 2048 + 512);
static_assert(v3_expanded.projection_parameters == v3.projection_parameters);
static_assert(parameters(llama_3_8b_attention.costs()) == 2 * 4096 * 4096 + 2 * 4096 * 1024);
static_assert(parameters(step3_attention.costs()) == 7168 * 2048 + 2 * 7168 * 256 + 2048 * 16384 + 16384 * 7168 + 2048);

TEST(MfaCosts, AnotherHeadCostsWeightsAndNoCache) {
  MfaShape more = step3_attention;
  ++more.num_heads;
  const AttentionCosts before = step3_attention.costs(), after = more.costs();
  EXPECT_EQ(parameters(after) - parameters(before), 256 * 7168 + 2048 * 256);
  EXPECT_EQ(kv_elements_per_token(after), kv_elements_per_token(before));
}

TEST(MfaCosts, KeyReuseHalvesTheCacheAtTheSameFlops) {
  const AttentionCosts mfa = step3_attention.costs();
  const AttentionCosts folded = MfaKrShape{.mfa = step3_attention}.costs();
  const AttentionCosts kept = MfaKrShape{.mfa = step3_attention, .keeps_mixer = true}.costs();
  EXPECT_EQ(2 * kv_elements_per_token(folded), kv_elements_per_token(mfa));
  EXPECT_EQ(folded.flops_per_key, mfa.flops_per_key);
  EXPECT_EQ(parameters(mfa) - parameters(folded), 7168 * 256);
  EXPECT_EQ(parameters(kept) - parameters(folded), 256 * 256 + 256);
}

TEST(MfaCosts, ANarrowQueryBoundsTheRank) {
  EXPECT_EQ(step3_attention.circuit_rank(), 256);
  MfaShape narrow = step3_attention;
  narrow.q_lora_rank = 100;
  EXPECT_EQ(narrow.circuit_rank(), 100);
  EXPECT_EQ(narrow.costs().factorization_rank_per_head, 256) << "nominal";
}

// --- FPBA ------------------------------------------------------------------------------------------------------------

static_assert(FpbaShape{.hidden_size = 100}.costs().flops_per_key == 40'000);
static_assert(parameters(FpbaShape{.hidden_size = 100}.costs()) == 2'000'000);

// --- the whole of a decode step --------------------------------------------------------------------------------------

TEST(Costs, OfADecodeStepAreTheSumOfItsParts) {
  const AttentionCosts layer = step3_attention.costs();
  EXPECT_EQ(attention_flops(layer, 1000), 4 * 64 * 256 * 1000);
  EXPECT_EQ(linear_flops(layer), 2 * layer.projection_parameters);
  EXPECT_EQ(decode_flops(layer, 1000), 4 * 64 * 256 * 1000 + 2 * layer.projection_parameters);
  EXPECT_EQ(decode_kv_bytes(layer, 1000, rows_16bit), 2 * 256 * 2 * 1000);
  EXPECT_EQ(decode_bytes(layer, 1000, rows_16bit, 2), 2 * 256 * 2 * 1000 + 2 * parameters(layer));
  EXPECT_EQ(arithmetic_intensity(layer, rows_16bit), 64);
  EXPECT_EQ(arithmetic_intensity(minimax_m1_lightning.costs(), rows_f32), 0);
}

// --- ranks -----------------------------------------------------------------------------------------------------------

static_assert(total_effective_rank(step3_attention.costs()) == 16'384);
static_assert(total_effective_rank(v3) == 16'384);
static_assert(total_effective_rank(qwen3_235b_attention.costs()) == 8'192);

// The paper's comparison agrees with the layers' own counts wherever both are defined.
constexpr GmhaSizes sizes{
    .hidden_size = 4096, .num_heads = 32, .num_kv_heads = 8, .latent_dim = 256, .latent_heads = 48, .rope_dim = 64};

constexpr bool agree(const GmhaRow& row, const AttentionCosts& layer) {
  return row == GmhaRow{kv_elements_per_token(layer), parameters(layer), layer.num_heads,
                        layer.factorization_rank_per_head, layer.shared_latent_subspace_dim} &&
         row.ter() == total_effective_rank(layer);
}
static_assert(agree(gmha_fpba(sizes), FpbaShape{.hidden_size = 4096}.costs()));
static_assert(agree(gmha_mha(sizes), mha_shape(4096, 32, 128).costs()));
static_assert(agree(gmha_gqa(sizes), llama_3_8b_attention.costs()));
static_assert(agree(gmha_mqa(sizes), mqa_shape(4096, 32, 128).costs()));
static_assert(agree(gmha_mfa(sizes, MfaParameters::full_output), mfa_theory(4096, 48, 256).costs()));
static_assert(agree(gmha_mfa_kr(sizes, MfaKrMixer::folded), MfaKrShape{.mfa = mfa_theory(4096, 48, 256)}.costs()));
static_assert(agree(gmha_mfa_kr(sizes, MfaKrMixer::kept),
                    MfaKrShape{.mfa = mfa_theory(4096, 48, 256), .keeps_mixer = true}.costs()));

TEST(Gmha, RowsAreTheFormulas) {
  const Index D = 4096, n = 32, d = 128, g = 8, C = 256, m = 48, r = 64;
  EXPECT_EQ(gmha_fpba(sizes), (GmhaRow{2 * D * D, 2 * D * D * D, D, D, D}));
  EXPECT_EQ(gmha_fpba(sizes).ter(), D * D);
  EXPECT_EQ(gmha_mha(sizes), (GmhaRow{2 * D, 4 * D * D, n, d, D}));
  EXPECT_EQ(gmha_gqa(sizes), (GmhaRow{2 * g * d, 2 * D * D + 2 * g * D * D / n, n, d, g * d}));
  EXPECT_EQ(gmha_mqa(sizes), (GmhaRow{2 * d, 2 * D * D + 2 * D * D / n, n, d, d}));
  EXPECT_EQ(gmha_mqa(sizes).ter(), n * d);

  const Index with_rope = D * (3 * C + r + m * d) + m * C * (3 * d + r), short_sum = 5 * D * C + D * D;
  EXPECT_EQ(gmha_mla(sizes, MlaCache::two_latents, MlaParameters::with_rope), (GmhaRow{2 * C, with_rope, m, d, C}));
  EXPECT_EQ(gmha_mla(sizes, MlaCache::two_latents_and_rope, MlaParameters::short_sum),
            (GmhaRow{2 * C + r, short_sum, m, d, C}));
  EXPECT_EQ(gmha_mla(sizes, MlaCache::latent_and_rope, MlaParameters::with_rope), (GmhaRow{C + r, with_rope, m, d, C}));
  EXPECT_EQ(gmha_mla(sizes, MlaCache::latent_and_rope, MlaParameters::with_rope).ter(), m * d);

  EXPECT_EQ(gmha_mfa(sizes, MfaParameters::full_output), (GmhaRow{2 * C, D * (3 * C + m * C) + m * C * C, m, C, C}));
  EXPECT_EQ(gmha_mfa(sizes, MfaParameters::square_output), (GmhaRow{2 * C, 3 * C * D + 2 * m * C * C, m, C, C}));
  const Index kr = D * (2 * C + m * C) + m * C * C;
  EXPECT_EQ(gmha_mfa_kr(sizes, MfaKrMixer::folded), (GmhaRow{C, kr, m, C, C}));
  EXPECT_EQ(gmha_mfa_kr(sizes, MfaKrMixer::kept), (GmhaRow{C, kr + C * C + C, m, C, C}));
  EXPECT_EQ(gmha_mfa_kr(sizes, MfaKrMixer::kept).ter(), m * C);
}

}  // namespace
}  // namespace heed_test::costs_test
