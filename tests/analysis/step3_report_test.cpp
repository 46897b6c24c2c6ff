// The Step-3 report's cost tables: exact integers, the printed digits, and the cost model.
#include <heed/analysis/step3_report.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string_view>

namespace heed_test::step3_report_test {
namespace {

using namespace heed::analysis;
using heed::Index;

struct Exact {
  std::string_view name;
  Index layers, kv_8k, flops_8k, kv_32k, flops_32k, linear;
};

constexpr std::array<Exact, 9> exact = {
    Exact{"DeepSeek-V3", 61, 287'834'112, 147'371'065'344, 1'151'336'448, 589'484'261'376, 22'826'844'160},
    Exact{"Kimi-K2", 61, 287'834'112, 73'685'532'672, 1'151'336'448, 294'742'130'688, 12'336'889'856},
    Exact{"Qwen3-235B", 94, 788'529'152, 25'232'932'864, 3'154'116'608, 100'931'731'456, 13'404'995'584},
    Exact{"Qwen3-32B", 64, 1'073'741'824, 17'179'869'184, 4'294'967'296, 68'719'476'736, 12'079'595'520},
    Exact{"Llama-4 Maverick", 48, 1'006'632'960, 8'053'063'680, 2'214'592'512, 14'092'861'440, 6'039'797'760},
    Exact{"MiniMax-M1", 80, 922'746'880, 3'418'357'760, 1'929'379'840, 11'471'421'440, 37'497'077'760},
    Exact{"ERNIE 4.5", 54, 905'969'664, 14'495'514'624, 3'623'878'656, 57'982'058'496, 16'307'453'952},
    Exact{"Pangu Pro", 48, 805'306'368, 8'053'063'680, 3'221'225'472, 32'212'254'720, 6'039'797'760},
    Exact{"Step-3", 61, 255'852'544, 32'749'125'632, 1'023'410'176, 130'996'502'528, 20'660'092'928},
};

constexpr bool exactly(std::size_t i) {
  const Model& m = step3_report[i].model;
  const Exact& e = exact[i];
  return e.name == m.name && num_layers(m) == e.layers && decode_kv_bytes(m, 8192) == e.kv_8k &&
         attention_flops(m, 8192) == e.flops_8k && decode_kv_bytes(m, 32768) == e.kv_32k &&
         attention_flops(m, 32768) == e.flops_32k && linear_flops(m) == e.linear;
}
static_assert(exactly(0));
static_assert(exactly(1));
static_assert(exactly(2));
static_assert(exactly(3));
static_assert(exactly(4));
static_assert(exactly(5));
static_assert(exactly(6));
static_assert(exactly(7));
static_assert(exactly(8));

TEST(Step3Report, IntegersRoundToThePrintedDigits) {
  // KV 8K, FLOP 8K, KV 32K, FLOP 32K, linear, FFN: as printed
  constexpr double as_printed[9][6] = {
      {2.88e8, 1.47e11, 1.15e9, 5.89e11, 2.28e10, 4.84e10}, {2.88e8, 7.37e10, 1.15e9, 2.95e11, 1.23e10, 4.84e10},
      {7.89e8, 2.52e10, 3.15e9, 1.01e11, 1.34e10, 2.84e10}, {1.07e9, 1.72e10, 4.29e9, 6.87e10, 1.21e10, 5.03e10},
      {1.01e9, 8.05e9, 2.21e9, 1.41e10, 6.04e9, 2.42e10},   {9.23e8, 3.42e9, 1.93e9, 1.15e10, 3.75e10, 5.44e10},
      {9.06e8, 1.45e10, 3.62e9, 5.80e10, 1.63e10, 7.61e10}, {8.05e8, 8.05e9, 3.22e9, 3.22e10, 6.04e9, 2.38e10},
      {2.56e8, 3.27e10, 1.02e9, 1.31e11, 2.07e10, 5.33e10},
  };
  for (std::size_t i = 0; i < 9; ++i) {
    const ReportRow& row = step3_report[i];
    const auto expect = [&](Index computed, Index printed, int column) {
      EXPECT_EQ(printed, Index(std::llround(as_printed[i][column]))) << row.model.name << " column " << column;
      EXPECT_EQ(round_significant(computed, 3), printed) << row.model.name << " column " << column;
    };
    expect(exact[i].kv_8k, row.printed_kv_bytes_8k, 0);
    expect(exact[i].flops_8k, row.printed_attention_flops_8k, 1);
    expect(exact[i].kv_32k, row.printed_kv_bytes_32k, 2);
    expect(exact[i].flops_32k, row.printed_attention_flops_32k, 3);
    expect(exact[i].linear, row.printed_linear_flops, 4);
    expect(row.ffn_flops(), row.printed_ffn_flops, 5);
  }
}

static_assert(step3_ffn_flops == 53'288'632'320);
static_assert(parameters(step3_attention.costs()) == 169'347'072);
static_assert(step3_attention.costs().projection_parameters == 169'345'024);

// "MFA 128, MLA 512, Qwen3-235B 32" FLOP per byte of 8-bit cache; 2 m / b and 2 H / (G b)
static_assert(arithmetic_intensity(step3_attention.costs(), rows_8bit) == 128);
static_assert(arithmetic_intensity(step3_attention.costs(), rows_16bit) == 64);
static_assert(arithmetic_intensity(deepseek_v3_attention.costs(MlaCount::absorbed_full_width), rows_8bit) == 512);
static_assert(arithmetic_intensity(qwen3_235b_attention.costs(), rows_8bit) == 32);
static_assert(arithmetic_intensity(MfaKrShape{.mfa = step3_attention}.costs(), rows_8bit) == 256);

TEST(Step3Report, CountsMlaWiderThanItIs) {
  const auto flops = [](MlaCount form) { return double(deepseek_v3_attention.costs(form).flops_per_key); };
  const double lower = 1 - flops(MlaCount::absorbed) / flops(MlaCount::absorbed_full_width);
  EXPECT_EQ(std::round(1000 * lower), 56);  // 5.6 %
}

TEST(Step3Report, HybridModelsSaturateOrStayConstant) {
  // Only 12 of Llama-4's layers see more than 8192 tokens; only 10 of MiniMax-M1's have a cache at all.
  EXPECT_EQ(decode_kv_bytes(llama_4_maverick, 32768) - decode_kv_bytes(llama_4_maverick, 8192),
            12 * 2 * 8 * 128 * 2 * (32768 - 8192));
  EXPECT_EQ(decode_kv_bytes(minimax_m1, 0), Index{70} * 64 * 128 * 128 * 8);
  EXPECT_EQ(attention_flops(minimax_m1, 0), Index{70} * 64 * 128 * 128 * 10);
  EXPECT_EQ(kv_bytes_per_token(minimax_m1), 10 * 2 * 8 * 128 * 2);
}

TEST(Step3Report, RooflinesAreTheRatioOfPricesWithinTheirDigits) {
  constexpr std::array<double, 4> printed = {591, 74, 156, 175};
  // Half a unit of the third digit of each price, and of the roofline's last.
  const auto slack = [](double price) { return 0.005 * std::pow(10, std::floor(std::log10(price))) / price; };
  for (std::size_t i = 0; i < 4; ++i) {
    const Accelerator& a = step3_report_accelerators[i];
    EXPECT_EQ(a.printed_roofline, printed[i]) << a.name;
    const double allowed = a.priced_roofline() * (slack(a.usd_per_flop) + slack(a.usd_per_byte)) + 0.5;
    EXPECT_NEAR(a.priced_roofline(), a.printed_roofline, allowed) << a.name;
  }
}

TEST(Step3Report, SixCostsComeOut) {
  constexpr std::array<double, 6> as_printed = {0.055, 0.129, 0.068, 0.211, 0.062, 0.193};
  constexpr std::array<std::string_view, 6> models = {"Step-3",      "Step-3",     "DeepSeek-V3",
                                                      "DeepSeek-V3", "Qwen3-235B", "Qwen3-235B"};
  for (std::size_t i = 0; i < 6; ++i) {
    const ReportCost& cost = step3_report_costs[i];
    ASSERT_EQ(cost.row->model.name, models[i]);
    ASSERT_EQ(cost.printed_usd, as_printed[i]);
    ASSERT_EQ(cost.context, i % 2 == 0 ? 8192 : 32768);
    const Placement best = best_placement(cost.row->work(cost.context), step3_report_accelerators);
    EXPECT_EQ(std::round(1e9 * best.usd_per_token), std::round(1e3 * as_printed[i])) << i;
    EXPECT_STREQ(best.attention.name, cost.attention_device);
    EXPECT_STREQ(best.attention.name, models[i] == "DeepSeek-V3" ? "H800" : "H20");
    EXPECT_STREQ(best.ffn.name, "H800");
    EXPECT_STREQ(cost.ffn_device, "H800");
  }
}

TEST(Step3Report, BestPlacementIsNoDearerThanAny) {
  for (const ReportRow& row : step3_report) {
    const DecodeWork work = row.work(8192);
    const Placement best = best_placement(work, step3_report_accelerators);
    for (const Accelerator& a : step3_report_accelerators) {
      for (const Accelerator& f : step3_report_accelerators) {
        EXPECT_LE(best.usd_per_token, usd_per_token(work, a, f) * (1 + 1e-15));  // fused or not, as the compiler likes
      }
    }
    EXPECT_DOUBLE_EQ(best.usd_per_token, usd_per_token(work, best.attention, best.ffn));
  }
  EXPECT_TRUE(std::isinf(best_placement({}, {}).usd_per_token));
}

}  // namespace
}  // namespace heed_test::step3_report_test
