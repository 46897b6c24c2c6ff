// heed_tables: what attention mechanisms cost, by the formulas. Every figure that papers and reports print of it is
// computed and set beside the printed one. Exits with 1 if one of them does not come out.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>

#include <CLI/CLI.hpp>

#include <heed/config.hpp>

#include "tables/sections.hpp"

namespace heed_examples {
namespace {

void write_json(const std::string& file, const std::vector<Section>& sections) {
  nlohmann::ordered_json json{{"heed", heed::version_string()}};
  for (const Section& section : sections) {
    for (const Table& table : section.tables) json[section.name].push_back(to_json(table));
  }
  std::ofstream out(file);
  out << json.dump(2) << '\n';
  out.close();
  if (!out) throw std::runtime_error("--json: could not write " + file);
}

int run(const std::vector<std::string>& names, const heed::analysis::GmhaSizes& sizes, const std::string& json) {
  if (heed::Status status = sizes.validate(); !status.ok()) throw std::runtime_error(status.message());
  std::vector<Section> sections;
  int published = 0, reproduced = 0;
  for (Section& section : all_sections(sizes)) {
    if (!names.empty() && std::find(names.begin(), names.end(), section.name) == names.end()) continue;
    for (const Table& table : section.tables) {
      std::printf("%s\n", to_text(table).c_str());
      published += table.published();
      reproduced += table.reproduced();
    }
    sections.push_back(std::move(section));
  }
  std::printf("%d of %d published figures come out%s\n", reproduced, published,
              reproduced == published ? "" : "; the others are marked (!)");
  if (!json.empty()) write_json(json, sections);
  return reproduced == published ? 0 : 1;
}

}  // namespace
}  // namespace heed_examples

int main(int argc, char** argv) {
  try {
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
    app.add_option("--json", json, "Write the tables to this file, too");
    CLI11_PARSE(app, argc, argv);
    return heed_examples::run(names, sizes, json);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "heed_tables: %s\n", error.what());
    return 1;
  }
}
