// heed_tables: what attention mechanisms cost, by the formulas. Every figure that papers and reports print of it is
// computed and set beside the printed one. Exits with 1 if one of them does not come out, with 2 for a wrong command line.
#include <algorithm>
#include <cstdio>

#include <CLI/CLI.hpp>

#include <heed/config.hpp>

#include "program/program.hpp"
#include "tables/sections.hpp"

namespace heed_examples {
namespace {

void write_json(JsonOutput& out, const std::vector<Section>& sections) {
  nlohmann::ordered_json json{{"heed", heed::version_string()}};
  for (const Section& section : sections) {
    for (const Table& table : section.tables) json[section.name].push_back(to_json(table));
  }
  out.write(json.dump(2) + "\n");
}

int run(const std::vector<std::string>& names, const heed::analysis::GmhaSizes& sizes, const std::string& file) {
  if (heed::Status status = sizes.validate(); !status.ok()) throw UsageError(status.message());
  JsonOutput json(file);
  std::vector<Section> sections;
  int published = 0, reproduced = 0;
  for (Section& section : all_sections(sizes)) {
    if (!names.empty() && std::find(names.begin(), names.end(), section.name) == names.end()) continue;
    for (const Table& table : section.tables) {
      std::fprintf(json.report(), "%s\n", to_text(table).c_str());
      published += table.published();
      reproduced += table.reproduced();
    }
    sections.push_back(std::move(section));
  }
  std::fprintf(json.report(), "%d of %d published figures come out%s\n", reproduced, published,
               reproduced == published ? "" : "; the others are marked (!)");
  if (json.wanted()) write_json(json, sections);
  return reproduced == published ? exit_ok : exit_failure;
}

}  // namespace
}  // namespace heed_examples

int main(int argc, char** argv) {
  heed::analysis::GmhaSizes sizes = heed_examples::default_sizes;
  std::vector<std::string> names;
  std::string json;
  CLI::App app("What attention mechanisms cost: KV bytes, parameters, FLOPs and ranks, by the formulas.");
  app.add_option("--section", names, "Print only this; repeatable")
      ->check(CLI::IsMember({"kv", "costs", "mla", "ranks", "ternary"}));
  app.add_option("--hidden-size", sizes.hidden_size, "D of the table of mechanisms")->capture_default_str();
  app.add_option("--heads", sizes.num_heads, "n, heads of MHA, GQA and MQA; d = D / n")->capture_default_str();
  app.add_option("--kv-heads", sizes.num_kv_heads, "g, groups of GQA")->capture_default_str();
  app.add_option("--latent-dim", sizes.latent_dim, "C, latent of MLA and head size of MFA")->capture_default_str();
  app.add_option("--latent-heads", sizes.latent_heads, "m, heads of MLA and MFA")->capture_default_str();
  app.add_option("--rope-dim", sizes.rope_dim, "d_r, MLA's shared rope key")->capture_default_str();
  app.add_option("--json", json,
                 "Write the tables to this file, too; - for standard output, the text then goes to standard error");
  return heed_examples::run_program("heed_tables", app, argc, argv,
                                    [&] { return heed_examples::run(names, sizes, json); });
}
