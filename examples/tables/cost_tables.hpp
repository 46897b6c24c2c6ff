/// \file
/// What a decoded token costs: the Step-3 report's tables, and MLA's FLOPs against its bytes.
#pragma once

#include <heed/analysis/step3_report.hpp>

#include "tables/table.hpp"

namespace heed_examples {

namespace ha = heed::analysis;

/// `exact` and, beside it, its source's three digits.
inline void add_exact_and_printed(std::vector<Cell>& row, heed::Index exact, heed::Index figure) {
  row.push_back(count(exact));
  row.push_back(printed(scientific(figure), scientific(ha::round_significant(exact, 3))));
}

[[nodiscard]] inline std::vector<Table> report_tables() {
  Table attention{
      .title = "Step-3 report (arXiv 2507.19427), per decoded token: cache bytes read",
      .notes = {"8-bit KV; 16-bit in Llama-4's 12 full and MiniMax-M1's 10 softmax layers. Llama-4: 36 layers see at "
                "most 8,192",
                "tokens. MiniMax-M1: 70 layers read and write a state of 64 x 128 x 128 floats."},
      .columns = {"model", "B at 8,192", "printed", "B at 32,768", "printed"},
      .rows = {}};
  Table flops{
      .title = "FLOPs of attention",
      .notes = {"MLA as the report counts it, values as wide as keys: 4 H 576 per cached token. Absorbed MLA does "
                "2 H (576 + 512).",
                "MiniMax-M1: 10 FLOP per state element, fitted to the totals [inf]."},
      .columns = {"model", "at 8,192", "printed", "at 32,768", "printed", "exact at 8,192"},
      .rows = {}};
  Table linear{.title = "FLOPs of the projections and of the FFN",
               .notes = {"FFN: computed for Step-3, quoted for the others."},
               .columns = {"model", "projections", "printed", "FFN", "printed"},
               .rows = {}};
  for (const ha::ReportRow& r : ha::step3_report) {
    const heed::Index flops_8k = ha::attention_flops(r.model, 8192);
    attention.rows.push_back({words(r.model.name)});
    add_exact_and_printed(attention.rows.back(), ha::decode_kv_bytes(r.model, 8192), r.printed_kv_bytes_8k);
    add_exact_and_printed(attention.rows.back(), ha::decode_kv_bytes(r.model, 32768), r.printed_kv_bytes_32k);
    flops.rows.push_back({words(r.model.name)});
    add_exact_and_printed(flops.rows.back(), flops_8k, r.printed_attention_flops_8k);
    add_exact_and_printed(flops.rows.back(), ha::attention_flops(r.model, 32768), r.printed_attention_flops_32k);
    flops.rows.back().push_back(count(flops_8k));
    linear.rows.push_back({words(r.model.name)});
    add_exact_and_printed(linear.rows.back(), ha::linear_flops(r.model), r.printed_linear_flops);
    if (r.exact_ffn_flops != 0) {
      add_exact_and_printed(linear.rows.back(), r.exact_ffn_flops, r.printed_ffn_flops);
    } else {
      linear.rows.back().push_back(words("-"));
      linear.rows.back().push_back(words(scientific(r.printed_ffn_flops)));
    }
  }
  flops.rows[0].back() = count(ha::attention_flops(ha::deepseek_v3, 8192));
  flops.rows[1].back() = count(ha::attention_flops(ha::kimi_k2, 8192));
  return {attention, flops, linear};
}

[[nodiscard]] inline std::vector<Table> cost_model_tables() {
  Table intensity{.title = "FLOP per cache byte of attention, 8-bit KV, any context",
                  .notes = {"DeepSeek-V3 by the report's count; absorbed MLA has 483.6."},
                  .columns = {"model", "FLOP/B", "printed"},
                  .rows = {}};
  const auto row = [&](const char* name, const ha::AttentionCosts& layer, const char* figure) {
    const Cell value = decimal(ha::arithmetic_intensity(layer, ha::rows_8bit), 0);
    intensity.rows.push_back({words(name), value, printed(figure, value.text)});
  };
  row("Step-3", ha::step3_attention.costs(), "128");
  row("DeepSeek-V3", ha::deepseek_v3_attention.costs(ha::MlaCount::absorbed_full_width), "512");
  row("Qwen3-235B", ha::qwen3_235b_attention.costs(), "32");

  Table devices{.title = "Accelerators, prices at full use",
                .notes = {"U_b / U_f is the roofline that the prices imply; they have three digits."},
                .columns = {"device", "USD/FLOP U_f", "USD/B U_b", "U_b / U_f", "roofline as printed"},
                .rows = {}};
  for (const ha::Accelerator& a : ha::step3_report_accelerators) {
    char flop[32], byte[32];
    std::snprintf(flop, sizeof flop, "%.2e", a.usd_per_flop);
    std::snprintf(byte, sizeof byte, "%.2e", a.usd_per_byte);
    devices.rows.push_back({words(a.name),
                            {.text = flop, .value = a.usd_per_flop},
                            {.text = byte, .value = a.usd_per_byte},
                            decimal(a.priced_roofline(), 1),
                            decimal(a.printed_roofline, 0)});
  }

  Table costs{
      .title = "USD per million decoded tokens on the best pair of devices",
      .notes = {"max(FLOP_attention U_f, B_KV U_b) + FLOP_projections U_f on one device, FLOP_FFN U_f on the other."},
      .columns = {"model", "context", "attention on", "printed", "FFN on", "printed", "USD", "rounded", "printed"},
      .rows = {}};
  for (const ha::ReportCost& c : ha::step3_report_costs) {
    const ha::Placement best = ha::best_placement(c.row->work(c.context), ha::step3_report_accelerators);
    const double usd = 1e6 * best.usd_per_token;
    const std::string rounded = decimal(usd, 3).text;
    costs.rows.push_back({words(c.row->model.name), count(c.context), words(best.attention.name),
                          printed(c.attention_device, best.attention.name), words(best.ffn.name),
                          printed(c.ffn_device, best.ffn.name), decimal(usd, 6), words(rounded),
                          printed(decimal(c.printed_usd, 3).text, rounded)});
  }
  return {intensity, devices, costs};
}

[[nodiscard]] inline Table mla_intensity_table() {
  Table table{.title = "MLA with DeepSeek's sizes, one query token, per cached token and layer",
              .notes = {"re-expanded: latent rows are cached and every step expands them again."},
              .columns = {"form", "H", "FLOP", "row", "KV bytes", "FLOP/B", "published"},
              .rows = {}};
  const auto row = [&](const char* form, heed::Index heads, heed::Index flops, const char* stored, heed::Index bytes,
                       int decimals, const char* figure) {
    const Cell intensity = decimal(ha::ratio(flops, bytes), decimals);
    table.rows.push_back({words(form), count(heads), count(flops), words(stored), count(bytes), intensity,
                          *figure == '\0' ? words("-") : printed(figure, intensity.text)});
  };
  const auto absorbed = [&](const ha::MlaShape& shape, const char* stored, const ha::RowFormat& format, int decimals,
                            const char* figure) {
    const ha::AttentionCosts layer = shape.costs(ha::MlaCount::absorbed);
    row("absorbed", shape.num_heads, layer.flops_per_key, stored, ha::kv_bytes_per_token(layer, format), decimals,
        figure);
  };
  absorbed(ha::deepseek_v3_attention, "bf16", ha::rows_16bit, 1, "241.8");
  absorbed(ha::deepseek_v3_attention, "fp8-656", ha::rows_flashmla_fp8, 0, "425");
  absorbed(ha::deepseek_v3_attention, "q8_0", ha::rows_q8_0, 0, "455");
  absorbed(ha::kimi_k2_attention, "bf16", ha::rows_16bit, 1, "120.9");
  absorbed(ha::deepseek_v2_lite_attention, "bf16", ha::rows_16bit, 1, "30.2");
  const ha::MlaShape& v3 = ha::deepseek_v3_attention;
  const ha::AttentionCosts expanded = v3.costs(ha::MlaCount::expanded);
  row("expanded", 128, expanded.flops_per_key, "bf16", ha::kv_bytes_per_token(expanded, ha::rows_16bit), 1, "1.0");
  row("re-expanded", 128, expanded.flops_per_key + v3.expansion_flops_per_key(), "bf16",
      ha::kv_bytes_per_token(ha::deepseek_v3, ha::rows_16bit) / 61, 1, "");
  return table;
}

[[nodiscard]] inline Table mla_projection_table() {
  const ha::MlaShape& v3 = ha::deepseek_v3_attention;
  Table table{.title = "DeepSeek-V3, per new token and layer: its projections",
              .notes = {},
              .columns = {"part", "parameters", "MFLOP", "published"},
              .rows = {}};
  const auto row = [&](const char* part, heed::Index parameters, const char* figure) {
    const Cell mflop = decimal(2 * double(parameters) / 1e6, 1);
    table.rows.push_back({words(part), count(parameters), mflop, printed(figure, mflop.text)});
  };
  row("q", v3.query_parameters(), "97.5");
  row("kv_a", v3.latent_parameters(), "8.3");
  row("absorb, W_UK", v3.up_parameters(v3.qk_nope_head_dim), "16.8");
  row("de-absorb, W_UV", v3.up_parameters(v3.v_head_dim), "16.8");
  row("o", v3.output_parameters(), "234.9");
  const heed::Index bytes = 2 * (v3.up_parameters(v3.qk_nope_head_dim) + v3.up_parameters(v3.v_head_dim));
  table.notes.push_back("W_UK and W_UV in bf16 are " + decimal(double(bytes) / 1e6, 1, " MB").text +
                        ", the KV bytes of " + decimal(double(bytes) / 1152 / 1e3, 1, "k").text + " cached tokens.");
  return table;
}

}  // namespace heed_examples
