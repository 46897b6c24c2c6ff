/// \file
/// Published models: their attention's sizes, as data.
///
/// `<model>_attention` is the shape of one layer. `<model>` is all layers, with 16 bits per cached element unless a
/// comment says otherwise. MLA is absorbed.
#pragma once

#include <heed/analysis/grouped_shape.hpp>
#include <heed/analysis/mfa_shape.hpp>
#include <heed/analysis/mla_shape.hpp>
#include <heed/analysis/model.hpp>

namespace heed::inline HEED_ABI::analysis {

/// Source: config.json on Hugging Face.
/// \{
inline constexpr GroupedShape llama_3_8b_attention{
    .hidden_size = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
inline constexpr Model llama_3_8b = uniform_model("Llama-3-8B", 32, llama_3_8b_attention.costs(), rows_16bit);

inline constexpr GroupedShape smollm2_135m_attention{
    .hidden_size = 576, .num_heads = 9, .num_kv_heads = 3, .head_dim = 64};
inline constexpr Model smollm2_135m = uniform_model("SmolLM2-135M", 30, smollm2_135m_attention.costs(), rows_16bit);
/// \}

/// The smallest model of karpathy/llama2.c, stored in float32.
inline constexpr GroupedShape stories260k_attention{
    .hidden_size = 64, .num_heads = 8, .num_kv_heads = 4, .head_dim = 8};
/// Its 5 layers.
inline constexpr Model stories260k = uniform_model("stories260K", 5, stories260k_attention.costs(), rows_f32);

/// Source: the configurations in deepseek-ai/DeepSeek-V3 inference/configs and on Hugging Face.
/// \{
inline constexpr MlaShape deepseek_v2_lite_attention{.hidden_size = 2048,
                                                     .num_heads = 16,
                                                     .q_lora_rank = 0,
                                                     .kv_lora_rank = 512,
                                                     .qk_nope_head_dim = 128,
                                                     .qk_rope_head_dim = 64,
                                                     .v_head_dim = 128};
inline constexpr Model deepseek_v2_lite =
    uniform_model("DeepSeek-V2-Lite", 27, deepseek_v2_lite_attention.costs(MlaCount::absorbed), rows_16bit);

inline constexpr MlaShape deepseek_v2_attention{.hidden_size = 5120,
                                                .num_heads = 128,
                                                .q_lora_rank = 1536,
                                                .kv_lora_rank = 512,
                                                .qk_nope_head_dim = 128,
                                                .qk_rope_head_dim = 64,
                                                .v_head_dim = 128};
inline constexpr Model deepseek_v2 =
    uniform_model("DeepSeek-V2", 60, deepseek_v2_attention.costs(MlaCount::absorbed), rows_16bit);

inline constexpr MlaShape deepseek_v3_attention{.hidden_size = 7168,
                                                .num_heads = 128,
                                                .q_lora_rank = 1536,
                                                .kv_lora_rank = 512,
                                                .qk_nope_head_dim = 128,
                                                .qk_rope_head_dim = 64,
                                                .v_head_dim = 128};
/// V3 and R1: 61 layers, and one for multi-token prediction.
inline constexpr Model deepseek_v3 =
    uniform_model("DeepSeek-V3", 61, deepseek_v3_attention.costs(MlaCount::absorbed), rows_16bit, 1);

inline constexpr MlaShape kimi_k2_attention{.hidden_size = 7168,
                                            .num_heads = 64,
                                            .q_lora_rank = 1536,
                                            .kv_lora_rank = 512,
                                            .qk_nope_head_dim = 128,
                                            .qk_rope_head_dim = 64,
                                            .v_head_dim = 128};
inline constexpr Model kimi_k2 = uniform_model("Kimi-K2", 61, kimi_k2_attention.costs(MlaCount::absorbed), rows_16bit);
/// \}

/// Step-3 (arXiv 2507.19427).
inline constexpr MfaShape step3_attention{
    .hidden_size = 7168, .num_heads = 64, .head_dim = 256, .q_lora_rank = 2048, .query_norm = true};
/// 61 layers with 16 bits an element. The report counts 8 bits.
inline constexpr Model step3 = uniform_model("Step-3", 61, step3_attention.costs(), rows_16bit);
/// What Step-3 would be with keys reused as values. No such model was published.
inline constexpr Model step3_key_reuse =
    uniform_model("Step-3 with key reuse", 61, MfaKrShape{.mfa = step3_attention}.costs(), rows_16bit);

/// MFA as replicated for MLRA (SongtaoLiu0823/MLRA model/mfa.py).
inline constexpr MfaShape mlra_mfa_attention{
    .hidden_size = 3072, .num_heads = 24, .head_dim = 256, .q_lora_rank = 2048, .query_norm = true};
/// Its 24 layers.
inline constexpr Model mlra_mfa = uniform_model("MLRA's MFA", 24, mlra_mfa_attention.costs(), rows_16bit);

/// A model of the MFA paper (arXiv 2412.19255). Its numbers of heads are not known; its cache does not depend on them.
struct MfaPaperModel {
  const char* name = "";  ///< as the paper calls it
  Index layers = 0;       ///< number of layers
  Index hidden_size = 0;  ///< D
  Index head_dim = 0;     ///< C

  /// KV bytes per token at 16 bits an element. Elements per layer: 2 D for MHA, 2 C for MFA, C for MFA-KR.
  /// \{
  [[nodiscard]] constexpr Index mha_bytes_per_token() const noexcept { return bytes(2 * Count(hidden_size)); }
  [[nodiscard]] constexpr Index mfa_bytes_per_token() const noexcept { return bytes(2 * Count(head_dim)); }
  [[nodiscard]] constexpr Index mfa_kr_bytes_per_token() const noexcept { return bytes(head_dim); }
  /// \}

 private:
  [[nodiscard]] constexpr Index bytes(Count elements) const noexcept { return (2 * elements * layers).value(); }
};

/// Layers, D and C are inferred from the KV bytes that the paper prints.
/// \{
inline constexpr MfaPaperModel mfa_paper_1b{.name = "1B dense", .layers = 20, .hidden_size = 2048, .head_dim = 256};
inline constexpr MfaPaperModel mfa_paper_7b{.name = "7B MoE", .layers = 24, .hidden_size = 2048, .head_dim = 256};
/// \}

}  // namespace heed::inline HEED_ABI::analysis
