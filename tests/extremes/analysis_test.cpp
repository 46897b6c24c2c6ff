// Numbers at the ends of 64 bits and of float64, for what the analysis makes of costs, devices and formats.
#include "extremes/numbers.hpp"

#include <cmath>
#include <vector>

namespace heed_test::analysis_test {
namespace {

namespace a = heed::analysis;

TEST(Extremes, DecodeWork) {
  for_extremes([](Index m, Index n) {
    for_extreme_floats([&](double flop, double byte) {
      const a::DecodeWork work{.attention_flops = m, .kv_bytes = n, .linear_flops = n, .ffn_flops = m};
      const a::Accelerator one{.name = "one", .usd_per_flop = flop, .usd_per_byte = byte};
      const a::Accelerator other{.name = "other", .usd_per_flop = byte, .usd_per_byte = flop};
      const double usd = a::usd_per_token(work, one, other);
      const std::vector<a::Accelerator> devices{one, other};
      const a::Placement best = a::best_placement(work, devices);
      EXPECT_FALSE(std::isnan(best.usd_per_token));
      if (m >= 0 && n >= 0 && flop >= 0 && byte >= 0 && std::isfinite(flop) && std::isfinite(byte)) {
        EXPECT_GE(usd, 0);
        // The two are inlined apart: one may fuse a product into a sum where the other rounds it.
        EXPECT_LE(best.usd_per_token, usd * (1 + 1e-15));
      }
      std::ignore = one.priced_roofline();
    });
    EXPECT_TRUE(std::isinf(a::best_placement({m, n, m, n}, {}).usd_per_token));
    const a::ReportRow& row = a::step3_report[5];
    for (const Index number : {row.work(m).attention_flops, row.work(n).kv_bytes, row.work(m).linear_flops}) {
      EXPECT_GE(number, 0);
    }
  });
}

TEST(Extremes, AnalysisOfRows) {
  for_extremes([](Index l, Index m, Index n) {
    const a::KvRows rows{l, m, n};
    EXPECT_GE(rows.elements(), 0);
    if (std::min({l, m, n}) < 0) {
      EXPECT_TRUE(rows.elements() == heed::count_limit || l == 0 || (m == 0 && n == 0));
    }
    EXPECT_GE(a::plain_rows(n).bytes(rows), 0);
    EXPECT_GE(a::plain_rows(l).bytes(m, n), 0);
    if (n < 0 && m > 0) {
      EXPECT_EQ(a::plain_rows(n).bytes(m), heed::count_limit);
    }
    for (const a::RowFormat& format : {a::plain_rows(n), a::RowFormat{l, m, n, l}, a::rows_flashmla_fp8}) {
      const a::AttentionCosts costs{.keys = rows,
                                    .values = {n, l, m},
                                    .num_heads = m,
                                    .factorization_rank_per_head = l,
                                    .projection_parameters = n,
                                    .norm_parameters = m,
                                    .flops_per_key = l,
                                    .flops_per_step = n,
                                    .state_bytes_per_step = m};
      EXPECT_GE(a::linear_flops(costs), 0);
      EXPECT_GE(a::decode_kv_bytes(costs, n, format), 0);
      EXPECT_FALSE(std::isnan(a::arithmetic_intensity(costs, format)));
      const a::Model model{"m", {a::EqualLayers{l, costs, format, m}, a::EqualLayers{n, costs, format, l}}, n};
      EXPECT_GE(a::decode_kv_bytes(model, m), 0);
      EXPECT_GE(a::linear_flops(model), 0);
      EXPECT_GE(a::kv_elements_per_token(model), 0);
      EXPECT_GE(a::kv_bytes_per_token(model, format), 0);
    }
    EXPECT_TRUE(std::isfinite(a::saved(m, n)));
    EXPECT_GE(a::gated_ffn_flops(m, n), 0);
    const a::MfaPaperModel paper{"m", l, m, n};
    EXPECT_GE(paper.mha_bytes_per_token(), 0);
    EXPECT_GE(paper.mfa_bytes_per_token(), 0);
    EXPECT_GE(paper.mfa_kr_bytes_per_token(), 0);
  });
}

TEST(Extremes, AnalysisOfMfa) {
  for_extremes([](Index l, Index m, Index n) {
    const a::GmhaSizes sizes{l, m, n, m, n, l};
    for (const a::GmhaRow& row :
         {a::gmha_mfa(sizes, a::MfaParameters::full_output), a::gmha_mfa(sizes, a::MfaParameters::square_output),
          a::gmha_mfa_kr(sizes, a::MfaKrMixer::kept), a::gmha_mfa_kr(sizes, a::MfaKrMixer::folded)}) {
      EXPECT_GE(row.kv_elements, 0);
      EXPECT_GE(row.parameters, 0);
      EXPECT_GE(row.ter(), 0);
    }
    const a::MfaShape theory = a::mfa_theory(l, m, n);
    EXPECT_EQ(theory.validate().ok(), std::min({l, m, n}) >= 1);
    expect_said(theory.validate());
    EXPECT_EQ(theory.circuit_rank(), n);
    EXPECT_GE(a::parameters(theory.costs()), 0);
    if (const heed::Status status = a::check_sizes(m, {{"a", l}, {"b", n}}); !status.ok()) {
      expect_refused(status, l < m ? l : n);
      EXPECT_EQ(status.message()[0], l < m ? 'a' : 'b');
    } else {
      EXPECT_TRUE(l >= m && n >= m);
    }
  });
}

}  // namespace
}  // namespace heed_test::analysis_test
