/// \file
/// KV bytes per token: the MFA paper's models, the DeepSeek family in every format, and smaller ones.
#pragma once

#include <heed/analysis/models.hpp>

#include "tables/table.hpp"

namespace heed_examples {

namespace ha = heed::analysis;

inline constexpr double kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

/// 163,840 as "163K": K = 1000, the rest cut off. The paper does this at 1B.
[[nodiscard]] inline std::string cut_thousands(heed::Index bytes) { return std::to_string(bytes / 1000) + "K"; }
/// 24,576 as "24.6K". The paper does this at 7B.
[[nodiscard]] inline std::string rounded_thousands(heed::Index bytes) {
  return decimal(double(bytes) / 1000, 1, "K").text;
}
/// What is saved, in percent, cut after one decimal: 15/16 as "93.7 %".
[[nodiscard]] inline std::string cut_percent_saved(heed::Index part, heed::Index whole) {
  const heed::Index tenths = 1000 * (whole - part) / whole;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " %";
}

[[nodiscard]] inline Table mfa_paper_table() {
  Table table{.title = "MFA paper (arXiv 2412.19255): KV bytes per token, 16 bits, all layers",
              .notes = {"printed: known through secondary summaries [sec]; cut at 1B, rounded at 7B. L, D, C are "
                        "inferred from them."},
              .columns = {"model", "L", "D", "C", "MHA", "printed", "MFA", "printed", "MFA-KR", "printed"},
              .rows = {}};
  const auto row = [&](const ha::MfaPaperModel& m, const auto& form, const char* mha, const char* mfa,
                       const char* mfa_kr) {
    table.rows.push_back({words(m.name), count(m.layers), count(m.hidden_size), count(m.head_dim),
                          count(m.mha_bytes_per_token()), printed(mha, form(m.mha_bytes_per_token())),
                          count(m.mfa_bytes_per_token()), printed(mfa, form(m.mfa_bytes_per_token())),
                          count(m.mfa_kr_bytes_per_token()), printed(mfa_kr, form(m.mfa_kr_bytes_per_token()))});
  };
  row(ha::mfa_paper_1b, cut_thousands, "163K", "20K", "10K");
  row(ha::mfa_paper_7b, rounded_thousands, "196.6K", "24.6K", "12.3K");
  return table;
}

[[nodiscard]] inline Table saving_table() {
  const ha::MfaPaperModel& m = ha::mfa_paper_1b;
  const heed::Index deployed_mla = ha::kv_elements_per_token(ha::deepseek_v3_attention.costs(ha::MlaCount::absorbed));
  const heed::Index claimed_mla = 1152;  // what the paper's claim implies
  const heed::Index mfa = 2 * m.head_dim, mfa_kr = m.head_dim, mha = 2 * m.hidden_size;
  Table table{.title = "KV cache saved, elements per token and layer (D 2048, C 256)",
              .notes = {"printed [sec]. MLA 1,152 [inf]: the count that the paper's claim against MLA implies; "
                        "deployed MLA caches 576."},
              .columns = {"of", "elements", "against", "elements", "kept", "saved", "printed"},
              .rows = {}};
  const auto row = [&](const char* of, heed::Index part, const char* against, heed::Index whole, const char* figure,
                       const std::string& computed) {
    table.rows.push_back({words(of), count(part), words(against), count(whole), percent(ha::ratio(part, whole)),
                          percent(ha::saved(part, whole)), *figure == '\0' ? words("-") : printed(figure, computed)});
  };
  row("MFA", mfa, "MHA", mha, "87.5 %", cut_percent_saved(mfa, mha));
  row("MFA-KR", mfa_kr, "MHA", mha, "93.7 %", cut_percent_saved(mfa_kr, mha));
  row("MFA", mfa, "MLA as claimed", claimed_mla, "56 %", percent(ha::saved(mfa, claimed_mla), 0).text);
  row("MFA", mfa, "MLA as deployed", deployed_mla, "", "");
  row("MFA-KR", mfa_kr, "MFA", mfa, "", "");
  return table;
}

struct MlaModel {
  ha::MlaShape shape;
  ha::Model model;
};

[[nodiscard]] inline std::vector<MlaModel> mla_models() {
  return {{ha::deepseek_v2_lite_attention, ha::deepseek_v2_lite},
          {ha::deepseek_v2_attention, ha::deepseek_v2},
          {ha::deepseek_v3_attention, ha::deepseek_v3},
          {ha::kimi_k2_attention, ha::kimi_k2}};
}

/// Bytes per token of a mechanism in the place of `m`'s own attention, all layers.
[[nodiscard]] inline heed::Index in_place_of(const MlaModel& m, const ha::AttentionCosts& costs,
                                             const ha::RowFormat& format) {
  return ha::kv_bytes_per_token(ha::uniform_model("", ha::num_layers(m.model), costs, format));
}

[[nodiscard]] inline Table deepseek_table() {
  Table table{.title = "DeepSeek and Kimi: KV bytes per token, all main layers",
              .notes = {"MHA, GQA and MQA: 16 bits, the model's own head count, heads of 128."},
              .columns = {"stored as", "B/layer"},
              .rows = {}};
  for (const MlaModel& m : mla_models()) {
    table.columns.push_back(m.model.name);
    table.columns.push_back("KiB");
  }
  const auto row = [&](const char* name, bool same_per_layer, const auto& bytes_of) {
    const MlaModel first = mla_models().front();
    std::vector<Cell> cells = {words(name),
                               same_per_layer ? count(bytes_of(first) / ha::num_layers(first.model)) : words("-")};
    for (const MlaModel& m : mla_models()) {
      cells.push_back(count(bytes_of(m)));
      cells.push_back(decimal(double(bytes_of(m)) / kib, 1));
    }
    table.rows.push_back(std::move(cells));
  };
  const auto mla = [&](const char* name, const ha::RowFormat& format) {
    row(name, true, [&](const MlaModel& m) { return ha::kv_bytes_per_token(m.model, format); });
  };
  mla("MLA 16-bit", ha::rows_16bit);
  mla("MLA fp8-656", ha::rows_flashmla_fp8);
  mla("MLA q8_0", ha::rows_q8_0);
  mla("MLA Q8_KV", ha::rows_q8_kv);
  row("expanded K192 + V128", false,
      [](const MlaModel& m) { return in_place_of(m, m.shape.costs(ha::MlaCount::expanded), ha::rows_16bit); });
  const auto grouped = [&](const char* name, bool same_per_layer, heed::Index kv_heads) {
    row(name, same_per_layer, [&](const MlaModel& m) {
      const ha::GroupedShape shape{.hidden_size = m.shape.hidden_size,
                                   .num_heads = m.shape.num_heads,
                                   .num_kv_heads = kv_heads == 0 ? m.shape.num_heads : kv_heads,
                                   .head_dim = 128};
      return in_place_of(m, shape.costs(), ha::rows_16bit);
    });
  };
  grouped("MHA x 128", false, 0);
  grouped("GQA-8 x 128", true, 8);
  grouped("MQA x 128", true, 1);
  return table;
}

[[nodiscard]] inline Table context_table() {
  Table table{.title = "What that is for one sequence",
              .notes = {},
              .columns = {"model", "stored as", "tokens", "B/token", "bytes", "size", "published"},
              .rows = {}};
  const auto row = [&](const char* name, const char* format, heed::Index tokens, heed::Index bytes, double unit,
                       int decimals, const char* unit_name, const char* figure) {
    const heed::Index total = (ha::Count(bytes) * tokens).value();
    const Cell size = decimal(double(total) / unit, decimals, unit_name);
    table.rows.push_back(
        {words(name), words(format), count(tokens), count(bytes), count(total), size, printed(figure, size.text)});
  };
  const MlaModel v3 = mla_models()[2];
  const ha::GroupedShape gqa8{.hidden_size = 7168, .num_heads = 128, .num_kv_heads = 8, .head_dim = 128};
  const heed::Index expanded = in_place_of(v3, v3.shape.costs(ha::MlaCount::expanded), ha::rows_16bit);
  const heed::Index tokens = 131072;
  row("V3", "MLA 16-bit", tokens, ha::kv_bytes_per_token(v3.model), gib, 2, " GiB", "8.58 GiB");
  row("V3 + MTP layer", "MLA 16-bit", tokens, ha::kv_bytes_per_token(ha::with_mtp_layers(v3.model)), gib, 2, " GiB",
      "8.72 GiB");
  row("V3", "MLA fp8-656", tokens, ha::kv_bytes_per_token(v3.model, ha::rows_flashmla_fp8), gib, 2, " GiB", "4.88 GiB");
  row("V3's layers", "GQA-8, 16-bit", tokens, in_place_of(v3, gqa8.costs(), ha::rows_16bit), gib, 1, " GiB",
      "30.5 GiB");
  row("V3", "expanded, 16-bit", tokens, expanded, gib, 0, " GiB", "610 GiB");
  row("R1", "expanded, 16-bit", 16384, expanded, mib, 0, " MiB", "78080 MiB");
  return table;
}

[[nodiscard]] inline Table other_models_table() {
  Table table{.title = "Others: KV bytes per token",
              .notes = {"Step-3 with key reuse is no published model: MFA-KR of that shape."},
              .columns = {"model", "layers", "elements", "stored as", "B/token", "B/token 8-bit"},
              .rows = {}};
  const auto row = [&](const ha::Model& model, const char* format) {
    table.rows.push_back({words(model.name), count(ha::num_layers(model)), count(ha::kv_elements_per_token(model)),
                          words(format), count(ha::kv_bytes_per_token(model)),
                          count(ha::kv_bytes_per_token(model, ha::rows_8bit))});
  };
  row(ha::llama_3_8b, "16-bit");
  row(ha::smollm2_135m, "16-bit");
  row(ha::stories260k, "f32");
  row(ha::step3, "16-bit");
  row(ha::step3_key_reuse, "16-bit");
  row(ha::mlra_mfa, "16-bit");
  return table;
}

}  // namespace heed_examples
