// Counts do not overflow, and round as papers do.
#include <heed/analysis/count.hpp>

#include <gtest/gtest.h>

#include <string>

#include <heed/analysis/fpba_shape.hpp>
#include <heed/analysis/gmha.hpp>
#include <heed/analysis/mla_shape.hpp>
#include <heed/analysis/models.hpp>
#include <heed/analysis/step3_report.hpp>

namespace heed_test::count_test {
namespace {

using namespace heed::analysis;
using heed::Index;

static_assert((2 * Count(3) + 4).value() == 10);
static_assert((Count(count_limit) + 1).value() == count_limit);
static_assert((Count(Index{1} << 40) * (Index{1} << 40)).value() == count_limit);
static_assert((Count(Index{1} << 40) * 0).value() == 0);

static_assert(round_significant(287'834'112, 3) == 288'000'000);
static_assert(round_significant(0, 3) == 0 && round_significant(999, 3) == 999 && round_significant(7, 3) == 7);
// half to even
static_assert(round_significant(9'995, 3) == 10'000 && round_significant(9'985, 3) == 9'980);
static_assert(round_significant(9'994, 3) == 9'990 && round_significant(9'986, 3) == 9'990);
static_assert(round_significant(count_limit, 3) == 9'220'000'000'000'000'000);
static_assert(round_significant(count_limit, 5) == count_limit);  // 9.2234e18 does not fit

static_assert(ratio(1, 0) == 0 && ratio(3, 4) == 0.75 && saved(3, 4) == 0.25);

TEST(Count, FpbaSticksAtTheLimitOnlyWhereItMust) {
  const auto weights = [](Index d) { return FpbaShape{.hidden_size = d}.costs().projection_parameters; };
  EXPECT_EQ(weights(7168), 736'586'891'264);
  EXPECT_EQ(weights(1'664'510), 9'223'361'306'863'702'000);
  EXPECT_EQ(weights(1'664'511), count_limit);
  EXPECT_EQ(weights(Index{1} << 40), count_limit);
}

TEST(Count, NoTotalWrapsAround) {
  const Index huge = Index{1} << 31;
  const GroupedShape gqa{.hidden_size = huge, .num_heads = huge, .num_kv_heads = huge, .head_dim = huge};
  const MlaShape mla{.hidden_size = huge,
                     .num_heads = huge,
                     .q_lora_rank = huge,
                     .kv_lora_rank = huge,
                     .qk_nope_head_dim = huge,
                     .qk_rope_head_dim = huge,
                     .v_head_dim = huge};
  const MfaShape mfa{.hidden_size = huge, .num_heads = huge, .head_dim = huge, .q_lora_rank = huge};
  for (const AttentionCosts& layer : {gqa.costs(), mla.costs(MlaCount::absorbed), mla.costs(MlaCount::expanded),
                                      mfa.costs(), MfaKrShape{.mfa = mfa, .keeps_mixer = true}.costs()}) {
    EXPECT_EQ(parameters(layer), count_limit);
    EXPECT_EQ(decode_flops(layer, huge), count_limit);
    EXPECT_GE(decode_kv_bytes(layer, huge, rows_16bit), huge);
    EXPECT_EQ(decode_bytes(layer, huge, rows_16bit, 2), count_limit);
  }
  EXPECT_EQ(kv_bytes_per_token(gqa.costs(), rows_16bit), count_limit);
}

TEST(Shapes, RefuseSizesThatMakeNoSense) {
  const auto expect = [](const heed::Status& status, const char* name, const char* number) {
    ASSERT_FALSE(status.ok()) << name;
    EXPECT_EQ(status.message().rfind(name, 0), 0u) << status.message();
    EXPECT_NE(status.message().find(number), std::string::npos) << status.message();
  };
  GroupedShape gqa = llama_3_8b_attention;
  ASSERT_TRUE(gqa.validate().ok());
  gqa.num_kv_heads = 5;
  expect(gqa.validate(), "num_kv_heads", "5");
  gqa.head_dim = -3;
  expect(gqa.validate(), "head_dim", "-3");
  MlaShape mla = deepseek_v2_lite_attention;  // without a query LoRA
  ASSERT_TRUE(mla.validate().ok());
  mla.q_lora_rank = -1;
  expect(mla.validate(), "q_lora_rank", "-1");
  mla.kv_lora_rank = 0;
  expect(mla.validate(), "kv_lora_rank", "0");
  MfaShape mfa = step3_attention;
  ASSERT_TRUE((MfaKrShape{.mfa = mfa}.validate().ok()));
  mfa.q_lora_rank = 0;
  expect(mfa.validate(), "q_lora_rank", "0");
  expect(FpbaShape{}.validate(), "hidden_size", "0");
  LightningShape lightning = minimax_m1_lightning;
  ASSERT_TRUE(lightning.validate().ok());
  lightning.num_projections = 0;
  expect(lightning.validate(), "num_projections", "0");
  GmhaSizes sizes{.hidden_size = 64, .num_heads = 8, .num_kv_heads = 4, .latent_dim = 16, .latent_heads = 8};
  ASSERT_TRUE(sizes.validate().ok());
  sizes.num_heads = 7;
  expect(sizes.validate(), "num_heads", "7");
  sizes.num_heads = 16, sizes.num_kv_heads = 3;
  expect(sizes.validate(), "num_kv_heads", "3");
  sizes.num_kv_heads = 4, sizes.rope_dim = -1;
  expect(sizes.validate(), "rope_dim", "-1");
}

}  // namespace
}  // namespace heed_test::count_test
