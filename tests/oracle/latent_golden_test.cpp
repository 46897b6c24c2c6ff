// The latent family's layers against reference data that was not made with them, at every position.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "oracle/golden_cases.hpp"
#include "oracle/mfa.hpp"
#include "oracle/mla_of.hpp"

namespace heed_test::latent_golden_test {
namespace {

using oracle::Int;
using oracle::Numbers;
using oracle::golden::cases_of;
using oracle::golden::Safetensors;

/// A case, and comparisons with its tensors.
struct Golden {
  const oracle::golden::Case& one;
  Safetensors file = one.open();
  std::vector<Int> positions = file.get<Int>("positions");
  Numbers x = file.get<double>("x");

  [[nodiscard]] Int size(const char* name) const { return one.config.at(name); }
  [[nodiscard]] Numbers weight(const std::string& name) const { return file.get<double>(name + ".weight"); }

  /// Equal to float64 rounding, or to the rounding of a tensor that is stored in float32.
  void expect_exact(const std::string& name, const Numbers& got) const {
    if (!file.contains(name)) return;
    const Numbers want = file.get<double>(name);
    const bool rounded = file.info(name).dtype != heed_examples::Dtype::f64;
    oracle::golden::expect_near(got, want, rounded ? 0x1p-24 * largest(want) : 1e-12, name);
  }
  /// Official code that computed in float32 in places: 1e-6 relative, a few times more where angles are large.
  void expect_official(const std::string& name, const Numbers& got) const {
    if (!file.contains(name)) return;
    const Numbers want = file.get<double>(name);
    oracle::golden::expect_near(got, want, 5e-6 * std::max(1.0, largest(want)), name);
  }

 private:
  [[nodiscard]] static double largest(const Numbers& numbers) {
    double most = 0;
    for (const double number : numbers) most = std::max(most, std::abs(number));
    return most;
  }
};

TEST(OracleGolden, Mla) {
  const auto cases = cases_of({"mla"});
  ASSERT_GE(cases.size(), 6u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Golden g{one};
    const oracle::Mla mla = oracle::golden::mla_of(one.config, g.file);
    EXPECT_NEAR(mla.scale, double(one.config["softmax_scale"]), 1e-15);
    g.expect_exact("inv_freq_f64", mla.rotation.frequencies);

    const Numbers q = mla.queries(g.x, g.positions), rows = mla.rows(g.x, g.positions);
    g.expect_exact("q_nope_f64", oracle::columns(q, mla.query_width(), 0, mla.qk_nope_head_dim));
    g.expect_exact("q_pe_f64", oracle::columns(q, mla.query_width(), mla.qk_nope_head_dim, mla.qk_rope_head_dim));
    g.expect_exact("cache_latent", oracle::columns(rows, mla.row_width(), 0, mla.kv_lora_rank));
    g.expect_official("cache_k_pe", oracle::columns(rows, mla.row_width(), mla.kv_lora_rank, mla.qk_rope_head_dim));

    const oracle::Answer naive = mla.naive(q, rows), absorbed = mla.absorbed(q, rows);
    g.expect_exact("o_latent_f64", absorbed.o);
    for (const auto& [lse, o] : {std::pair{naive.lse, naive.o}, {absorbed.lse, mla.from_latent(absorbed.o)}}) {
      g.expect_exact("lse_f64", lse);
      g.expect_exact("o_heads_f64", o);
      g.expect_exact("out_f64", mla.output(o));
      g.expect_official("out", mla.output(o));
    }
  }
}

oracle::Mfa mfa_of(const Golden& g) {
  const auto& config = g.one.config;
  oracle::Mfa mfa{.num_heads = g.size("num_attention_heads"), .head_dim = g.size("head_dim")};
  mfa.scale = 1 / std::sqrt(double(mfa.head_dim));
  mfa.eps = config["rms_norm_eps"];
  if (config["rope_layout"].get<std::string>().starts_with("half")) {
    mfa.rotation.frequencies = oracle::rope_frequencies(mfa.head_dim, config["rope_theta"]);
  }
  mfa.q_proj = g.weight("q_proj");
  mfa.inter_norm = g.weight("inter_norm");
  mfa.wq = g.weight("wq");
  mfa.k_proj = g.weight("k_proj");
  mfa.o_proj = g.weight("o_proj");
  return mfa;
}

TEST(OracleGolden, Mfa) {
  const auto cases = cases_of({"mfa"});
  ASSERT_GE(cases.size(), 3u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Golden g{one};
    oracle::Mfa mfa = mfa_of(g);
    mfa.v_proj = g.weight("v_proj");
    EXPECT_NEAR(mfa.scale, double(one.config["softmax_scale"]), 1e-15);
    EXPECT_EQ(mfa.share_q_dim(), g.size("share_q_dim"));

    const Numbers q = mfa.queries(g.x, g.positions), v = mfa.values(g.x);
    const Numbers k = mfa.rotation.rotated(mfa.keys(g.x), mfa.head_dim, g.positions);
    g.expect_exact("q_f64", q);
    g.expect_exact("k_f64", k);
    g.expect_exact("v_f64", v);
    g.expect_official("cache_k", k);
    g.expect_official("cache_v", v);
    const oracle::Answer answer = mfa.attend(q, k, v);
    g.expect_exact("lse_f64", answer.lse);
    g.expect_exact("o_heads_f64", answer.o);
    g.expect_exact("out_f64", mfa.output(answer.o));
    g.expect_official("out", mfa.output(answer.o));
  }
}

TEST(OracleGolden, MfaKr) {
  const auto cases = cases_of({"mfa_kr"});
  ASSERT_GE(cases.size(), 3u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Golden g{one};
    const oracle::Mfa mfa = mfa_of(g);
    const oracle::KeyReuse reuse{g.file.get<double>("kr_N"), g.file.get<double>("kr_alpha")};
    EXPECT_NEAR(mfa.scale, double(one.config["softmax_scale"]), 1e-15);

    const Numbers q = mfa.queries(g.x, g.positions), k = mfa.keys(g.x);
    const Numbers rotated = mfa.rotation.rotated(k, mfa.head_dim, g.positions);
    g.expect_exact("q", q);
    g.expect_exact("cache_k_unrotated", k);
    g.expect_exact("k_rotated", rotated);
    g.expect_exact("v_explicit", reuse.values(k));

    const oracle::Answer explicit_values = mfa.attend(q, rotated, reuse.values(k)), folded = mfa.attend(q, rotated, k);
    const Numbers folded_o_proj = reuse.folded(mfa.o_proj);
    g.expect_exact("lse", explicit_values.lse);
    g.expect_exact("o_heads", explicit_values.o);
    g.expect_exact("z_heads", folded.o);
    g.expect_exact("o_heads", reuse.values(folded.o));
    g.expect_exact("o_proj_folded.weight", folded_o_proj);
    g.expect_exact("out", mfa.output(explicit_values.o));
    g.expect_exact("out", oracle::linear(folded.o, folded_o_proj, mfa.num_heads * mfa.head_dim));
  }
}

}  // namespace
}  // namespace heed_test::latent_golden_test
