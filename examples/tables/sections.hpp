/// \file
/// All tables, by section.
#pragma once

#include <string>
#include <vector>

#include "tables/cost_tables.hpp"
#include "tables/kv_tables.hpp"
#include "tables/rank_tables.hpp"
#include "tables/ternary_tables.hpp"

namespace heed_examples {

struct Section {
  std::string name;
  std::vector<Table> tables;
};

/// Llama-3-8B's D, n and g with Step-3's C; m such that m C = D.
inline constexpr ha::GmhaSizes default_sizes{
    .hidden_size = 4096, .num_heads = 32, .num_kv_heads = 8, .latent_dim = 256, .latent_heads = 16, .rope_dim = 64};

[[nodiscard]] inline std::vector<Section> all_sections(const ha::GmhaSizes& sizes) {
  std::vector<Section> sections;
  sections.push_back(
      {"kv", {mfa_paper_table(), saving_table(), deepseek_table(), context_table(), other_models_table()}});
  sections.push_back({"costs", report_tables()});
  for (Table& table : cost_model_tables()) sections.back().tables.push_back(std::move(table));
  sections.push_back({"mla", {mla_intensity_table(), mla_projection_table()}});
  sections.push_back({"ranks", gmha_tables(sizes)});
  sections.back().tables.push_back(layer_table());
  sections.push_back({"ternary", {ternary_weights_table(), state_table()}});
  return sections;
}

}  // namespace heed_examples
