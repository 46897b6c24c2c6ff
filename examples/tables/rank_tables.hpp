/// \file
/// Cache, parameters and ranks of the mechanisms, in symbols and for given sizes.
#pragma once

#include <heed/analysis/gmha.hpp>
#include <heed/analysis/step3_report.hpp>

#include "tables/table.hpp"

namespace heed_examples {

namespace ha = heed::analysis;

struct GmhaEntry {
  const char* mechanism;
  const char* elements;
  const char* parameters;
  const char* heads;
  const char* frh;
  const char* slsd;
  const char* ter;
  ha::GmhaRow row;
};

[[nodiscard]] inline std::vector<GmhaEntry> gmha_entries(const ha::GmhaSizes& s) {
  using Cache = ha::MlaCache;
  using Mla = ha::MlaParameters;
  using Mfa = ha::MfaParameters;
  using Mixer = ha::MfaKrMixer;
  return {
      {"FPBA", "2 D^2", "2 D^3", "D", "D", "D", "D^2", ha::gmha_fpba(s)},
      {"MHA", "2 D", "4 D^2", "n", "d", "D", "n d", ha::gmha_mha(s)},
      {"GQA", "2 g d", "(2 + 2 g/n) D^2", "n", "d", "g d", "n d", ha::gmha_gqa(s)},
      {"MQA", "2 d", "(2 + 2/n) D^2", "n", "d", "d", "n d", ha::gmha_mqa(s)},
      {"MLA, 2 latents", "2 C", "5 D C + D^2", "m", "d", "C", "m d",
       ha::gmha_mla(s, Cache::two_latents, Mla::short_sum)},
      {"MLA, 2 latents and rope", "2 C + d_r", "D (3 C + d_r + m d) + m C (3 d + d_r)", "m", "d", "C", "m d",
       ha::gmha_mla(s, Cache::two_latents_and_rope, Mla::with_rope)},
      {"MLA, cached as deployed", "C + d_r", "D (3 C + d_r + m d) + m C (3 d + d_r)", "m", "d", "C", "m d",
       ha::gmha_mla(s, Cache::latent_and_rope, Mla::with_rope)},
      {"MFA, O_c of D x C", "2 C", "D (3 C + m C) + m C^2", "m", "C", "C", "m C", ha::gmha_mfa(s, Mfa::full_output)},
      {"MFA, O_c of C x C", "2 C", "3 C D + 2 m C^2", "m", "C", "C", "m C", ha::gmha_mfa(s, Mfa::square_output)},
      {"MFA-KR", "C", "D (2 C + m C) + m C^2 + C^2 + C", "m", "C", "C", "m C", ha::gmha_mfa_kr(s, Mixer::kept)},
      {"MFA-KR, mixer folded", "C", "D (2 C + m C) + m C^2", "m", "C", "C", "m C", ha::gmha_mfa_kr(s, Mixer::folded)},
  };
}

[[nodiscard]] inline std::vector<Table> gmha_tables(const ha::GmhaSizes& s) {
  const std::vector<std::string> columns = {"mechanism", "KV elements", "parameters", "heads", "FRH", "SLSD", "TER"};
  Table symbols{
      .title = "Per layer, after the MFA paper (arXiv 2412.19255) [sec]; MFA-KR inferred [inf]",
      .notes = {"Summaries disagree on MLA's cache and parameters and on MFA's parameters [?]: all versions are shown.",
                "Which cache count of MLA goes with which parameter count is open. Ranks are nominal.",
                "An O_c of C x C does not lead back to D."},
      .columns = columns,
      .rows = {}};
  char title[160];
  const auto size = [](heed::Index n) { return static_cast<long long>(n); };
  std::snprintf(title, sizeof title, "The same for D %lld, n %lld, d %lld, g %lld, C %lld, m %lld, d_r %lld",
                size(s.hidden_size), size(s.num_heads), size(s.head_dim()), size(s.num_kv_heads), size(s.latent_dim),
                size(s.latent_heads), size(s.rope_dim));
  Table numbers{.title = title, .notes = {}, .columns = columns, .rows = {}};
  for (const GmhaEntry& e : gmha_entries(s)) {
    symbols.rows.push_back({words(e.mechanism), words(e.elements), words(e.parameters), words(e.heads), words(e.frh),
                            words(e.slsd), words(e.ter)});
    numbers.rows.push_back({words(e.mechanism), count(e.row.kv_elements), count(e.row.parameters), count(e.row.heads),
                            count(e.row.frh), count(e.row.slsd), count(e.row.ter())});
  }
  return {symbols, numbers};
}

[[nodiscard]] inline Table layer_table() {
  Table table{
      .title = "Layers of published models",
      .notes = {"FRH of MLA without the shared rope part, as the paper counts."},
      .columns = {"model", "KV elements", "projections", "norms", "heads", "FRH", "SLSD", "TER", "published TER"},
      .rows = {}};
  const auto row = [&](const char* name, const ha::AttentionCosts& layer, const char* figure) {
    const Cell ter = count(ha::total_effective_rank(layer));
    table.rows.push_back({words(name), count(ha::kv_elements_per_token(layer)), count(layer.projection_parameters),
                          count(layer.norm_parameters), count(layer.num_heads),
                          count(layer.factorization_rank_per_head), count(layer.shared_latent_subspace_dim), ter,
                          *figure == '\0' ? words("-") : printed(figure, ter.text)});
  };
  row("Step-3", ha::step3_attention.costs(), "16,384");
  row("DeepSeek-V3", ha::deepseek_v3_attention.costs(ha::MlaCount::absorbed), "16,384");
  row("Qwen3-235B", ha::qwen3_235b_attention.costs(), "8,192");
  row("Kimi-K2", ha::kimi_k2_attention.costs(ha::MlaCount::absorbed), "");
  row("DeepSeek-V2-Lite", ha::deepseek_v2_lite_attention.costs(ha::MlaCount::absorbed), "");
  row("Llama-3-8B", ha::llama_3_8b_attention.costs(), "");
  row("SmolLM2-135M", ha::smollm2_135m_attention.costs(), "");
  row("stories260K", ha::stories260k_attention.costs(), "");
  return table;
}

}  // namespace heed_examples
