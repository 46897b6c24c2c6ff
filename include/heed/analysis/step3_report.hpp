/// \file
/// The cost tables of the Step-3 report (arXiv 2507.19427, tables 2 and 3): models, devices, and the printed figures.
///
/// All figures are per decoded token. KV is 8-bit, except Llama-4's full layers and MiniMax-M1's softmax layers, which
/// are 16-bit. The report counts MLA's values as wide as its keys (MlaCount::absorbed_full_width); the absorbed form
/// needs 5.6 % fewer FLOPs.
#pragma once

#include <array>

#include <heed/analysis/accelerator.hpp>
#include <heed/analysis/lightning_shape.hpp>
#include <heed/analysis/models.hpp>

namespace heed::inline HEED_ABI::analysis {

/// A model of the report, and the figures that the report prints for it, with three digits, at contexts of 8192 and
/// 32768 tokens.
struct ReportRow {
  Model model;                            ///< its layers, in the report's formats
  Index printed_kv_bytes_8k = 0;          ///< cache bytes read per token at a context of 8192
  Index printed_attention_flops_8k = 0;   ///< FLOPs of scores and values at 8192
  Index printed_kv_bytes_32k = 0;         ///< cache bytes read per token at 32768
  Index printed_attention_flops_32k = 0;  ///< FLOPs of scores and values at 32768
  Index printed_linear_flops = 0;         ///< FLOPs of the attention's projections
  Index printed_ffn_flops = 0;            ///< FLOPs of the FFN
  Index exact_ffn_flops = 0;              ///< 0: unknown, because the sizes of the experts are not known here

  /// The exact FLOPs of the FFN if they are known, else the printed ones.
  [[nodiscard]] constexpr Index ffn_flops() const noexcept {
    return exact_ffn_flops == 0 ? printed_ffn_flops : exact_ffn_flops;
  }
  /// Work to decode one token at a context of `context` tokens.
  [[nodiscard]] constexpr DecodeWork work(Index context) const noexcept {
    return {.attention_flops = attention_flops(model, context),
            .kv_bytes = decode_kv_bytes(model, context),
            .linear_flops = linear_flops(model),
            .ffn_flops = ffn_flops()};
  }
};

/// FLOPs of one token in gated FFNs: 6 hidden_size active_width, where active_width is the sum of the active widths.
/// Each FFN has three products of hidden_size x width.
[[nodiscard]] constexpr Index gated_ffn_flops(Index hidden_size, Index active_width) noexcept {
  return (6 * Count(hidden_size) * active_width).value();
}

/// Step-3: 5 dense layers of width 18432, 56 with 3 routed and 1 shared expert of width 5120.
inline constexpr Index step3_ffn_flops = gated_ffn_flops(step3_attention.hidden_size, 5 * 18432 + 56 * (3 + 1) * 5120);

/// One layer with softmax attention.
/// \{
inline constexpr GroupedShape qwen3_235b_attention{
    .hidden_size = 4096, .num_heads = 64, .num_kv_heads = 4, .head_dim = 128};
inline constexpr GroupedShape qwen3_32b_attention{
    .hidden_size = 5120, .num_heads = 64, .num_kv_heads = 8, .head_dim = 128};
inline constexpr GroupedShape llama_4_maverick_attention{
    .hidden_size = 5120, .num_heads = 40, .num_kv_heads = 8, .head_dim = 128};
inline constexpr GroupedShape minimax_m1_attention{
    .hidden_size = 6144, .num_heads = 64, .num_kv_heads = 8, .head_dim = 128};
/// \}
/// 5 projections of D x 8192. The 10 FLOPs per state element are not in the report: they were fitted to its totals.
inline constexpr LightningShape minimax_m1_lightning{.hidden_size = 6144,
                                                     .num_heads = 64,
                                                     .head_dim = 128,
                                                     .num_projections = 5,
                                                     .flops_per_state_element = 10,
                                                     .state_element_bytes = 8};
/// One layer.
/// \{
inline constexpr GroupedShape ernie_4_5_attention{
    .hidden_size = 8192, .num_heads = 64, .num_kv_heads = 8, .head_dim = 128};
inline constexpr GroupedShape pangu_pro_attention{
    .hidden_size = 5120, .num_heads = 40, .num_kv_heads = 8, .head_dim = 128};
/// \}

/// 36 of 48 layers have chunked attention over at most 8192 tokens.
inline constexpr Model llama_4_maverick{
    .name = "Llama-4 Maverick",
    .groups = {
        EqualLayers{
            .layers = 36, .attention = llama_4_maverick_attention.costs(), .format = rows_8bit, .max_context = 8192},
        EqualLayers{.layers = 12, .attention = llama_4_maverick_attention.costs(), .format = rows_16bit}}};

/// 10 of 80 layers have softmax attention.
inline constexpr Model minimax_m1{
    .name = "MiniMax-M1",
    .groups = {EqualLayers{.layers = 10, .attention = minimax_m1_attention.costs(), .format = rows_16bit},
               EqualLayers{.layers = 70, .attention = minimax_m1_lightning.costs(), .format = rows_f32}}};

/// The models of the report.
inline constexpr std::array<ReportRow, 9> step3_report = {
    ReportRow{uniform_model("DeepSeek-V3", 61, deepseek_v3_attention.costs(MlaCount::absorbed_full_width), rows_8bit),
              288'000'000, 147'000'000'000, 1'150'000'000, 589'000'000'000, 22'800'000'000, 48'400'000'000},
    ReportRow{uniform_model("Kimi-K2", 61, kimi_k2_attention.costs(MlaCount::absorbed_full_width), rows_8bit),
              288'000'000, 73'700'000'000, 1'150'000'000, 295'000'000'000, 12'300'000'000, 48'400'000'000},
    ReportRow{uniform_model("Qwen3-235B", 94, qwen3_235b_attention.costs(), rows_8bit),  //
              789'000'000, 25'200'000'000, 3'150'000'000, 101'000'000'000, 13'400'000'000, 28'400'000'000},
    ReportRow{uniform_model("Qwen3-32B", 64, qwen3_32b_attention.costs(), rows_8bit),  //
              1'070'000'000, 17'200'000'000, 4'290'000'000, 68'700'000'000, 12'100'000'000, 50'300'000'000},
    ReportRow{llama_4_maverick,  //
              1'010'000'000, 8'050'000'000, 2'210'000'000, 14'100'000'000, 6'040'000'000, 24'200'000'000},
    ReportRow{minimax_m1,  //
              923'000'000, 3'420'000'000, 1'930'000'000, 11'500'000'000, 37'500'000'000, 54'400'000'000},
    ReportRow{uniform_model("ERNIE 4.5", 54, ernie_4_5_attention.costs(), rows_8bit),  //
              906'000'000, 14'500'000'000, 3'620'000'000, 58'000'000'000, 16'300'000'000, 76'100'000'000},
    ReportRow{uniform_model("Pangu Pro", 48, pangu_pro_attention.costs(), rows_8bit),  //
              805'000'000, 8'050'000'000, 3'220'000'000, 32'200'000'000, 6'040'000'000, 23'800'000'000},
    ReportRow{uniform_model("Step-3", 61, step3_attention.costs(), rows_8bit),  //
              256'000'000, 32'700'000'000, 1'020'000'000, 131'000'000'000, 20'700'000'000, 53'300'000'000,
              step3_ffn_flops},
};

/// The devices of the report.
inline constexpr std::array<Accelerator, 4> step3_report_accelerators = {
    Accelerator{.name = "H800", .usd_per_flop = 2.80e-19, .usd_per_byte = 1.66e-16, .printed_roofline = 591},
    Accelerator{.name = "H20", .usd_per_flop = 7.51e-19, .usd_per_byte = 5.56e-17, .printed_roofline = 74},
    Accelerator{.name = "A800", .usd_per_flop = 6.68e-19, .usd_per_byte = 1.04e-16, .printed_roofline = 156},
    Accelerator{.name = "910B", .usd_per_flop = 6.65e-19, .usd_per_byte = 1.16e-16, .printed_roofline = 175},
};

/// A cost that the report prints, on the best pair of devices.
struct ReportCost {
  const ReportRow* row = nullptr;  ///< the model
  Index context = 0;               ///< tokens
  double printed_usd = 0;          ///< USD per million decoded tokens
  const char* attention_device = "";  ///< name of the Accelerator that does attention
  const char* ffn_device = "";        ///< name of the Accelerator that does the FFN
};

/// The costs of the report.
inline constexpr std::array<ReportCost, 6> step3_report_costs = {
    ReportCost{&step3_report[8], 8192, 0.055, "H20", "H800"},
    ReportCost{&step3_report[8], 32768, 0.129, "H20", "H800"},
    ReportCost{&step3_report[0], 8192, 0.068, "H800", "H800"},
    ReportCost{&step3_report[0], 32768, 0.211, "H800", "H800"},
    ReportCost{&step3_report[2], 8192, 0.062, "H20", "H800"},
    ReportCost{&step3_report[2], 32768, 0.193, "H20", "H800"},
};

}  // namespace heed::inline HEED_ABI::analysis
