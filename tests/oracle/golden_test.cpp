// The oracle against reference data that was not made with it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "oracle/attention.hpp"
#include "oracle/golden_cases.hpp"
#include "oracle/merge.hpp"
#include "oracle/rope.hpp"

namespace heed_test::golden_test {
namespace {

using oracle::Int;
using oracle::golden::cases_of;
using oracle::golden::expect_near;
using Case = oracle::golden::Case;
using Numbers = std::vector<double>;

Numbers rotated(Numbers rows, Int heads, const nlohmann::json& config, const std::vector<Int>& positions) {
  const Int dim = config["head_dim"], rotary = config["rotary_dim"];
  if (rotary == 0) return rows;
  const auto f = oracle::rope_frequencies(rotary, config["rope_theta"]);
  const bool interleaved = config["rope_layout"].get<std::string>().starts_with("interleaved");
  for (Int r = 0; r * dim < Int(rows.size()); ++r) {
    oracle::rotate(rows.data() + r * dim, double(positions[std::size_t(r / heads)]), f, interleaved);
  }
  return rows;
}

TEST(OracleGolden, RotationAndAttention) {
  const auto cases = cases_of({"mha", "gqa", "mqa"});
  ASSERT_GE(cases.size(), 8u);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.file);
    const auto file = c.open();
    const auto& config = c.config;
    oracle::Problem p{.heads = config["num_attention_heads"],
                      .kv_heads = config["num_key_value_heads"],
                      .key_dim = config["head_dim"],
                      .value_dim = config["v_head_dim"],
                      .scale = config["softmax_scale"]};
    const auto positions = file.get<Int>("positions");
    p.q = rotated(file.get<double>("q_pre_rope"), p.heads, config, positions);
    p.k = rotated(file.get<double>("k_pre_rope"), p.kv_heads, config, positions);
    p.v = file.get<double>("v");
    // Some files store what went into the reference rounded to f32.
    const double tolerance = file.info("k_pre_rope").dtype == heed_examples::Dtype::f64 ? 1e-13 : 1e-6;
    if (file.contains("k_rot")) {
      expect_near(p.k, file.get<double>("k_rot"), tolerance, "k_rot");
      expect_near(p.q, file.get<double>("q_rot"), tolerance, "q_rot");
    }
    if (config["sliding_window"].is_number()) p.visible = oracle::window(config["sliding_window"]);
    if (config["attn_logit_softcapping"].is_number()) p.soft_cap = config["attn_logit_softcapping"];
    if (config["alibi"]) p.slopes = file.get<double>("alibi_slopes");
    if (config["attention_sink_logits"]) p.sinks = file.get<double>("sink_logits");
    const oracle::Answer answer = oracle::attention(p);
    expect_near(answer.o, file.get<double>("o_heads"), tolerance, "o_heads");
    expect_near(answer.lse, file.get<double>("lse"), tolerance, "lse");
  }
}

TEST(OracleGolden, Merge) {
  const auto cases = cases_of({"softmax_merge"});
  ASSERT_GE(cases.size(), 3u);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.file);
    const auto file = c.open();
    const auto lse_parts = file.get<double>("lse_partial"), o_parts = file.get<double>("o_partial");
    const auto lse = file.get<double>("lse"), o = file.get<double>("o");
    const std::size_t rows = lse.size(), parts = lse_parts.size() / rows, dim = o.size() / rows;
    for (std::size_t r = 0; r < rows; ++r) {
      std::vector<oracle::State> states(parts);
      for (std::size_t p = 0; p < parts; ++p) {
        const auto from = o_parts.begin() + std::ptrdiff_t((p * rows + r) * dim);
        states[p] = {lse_parts[p * rows + r], Numbers(from, from + std::ptrdiff_t(dim))};
      }
      const oracle::State merged = oracle::merge(states);
      expect_near({merged.lse}, {lse[r]}, 1e-12, "lse");
      const auto want = o.begin() + std::ptrdiff_t(r * dim);
      expect_near(merged.o, Numbers(want, want + std::ptrdiff_t(dim)), 1e-14, "o");
    }
  }
}

}  // namespace
}  // namespace heed_test::golden_test
