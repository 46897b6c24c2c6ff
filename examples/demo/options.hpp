/// \file
/// What the user may ask of the demo.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "demo/backends.hpp"
#include "demo/rules.hpp"
#include "model/codec_models.hpp"
#include "program/program.hpp"

namespace heed_examples {

struct DemoOptions {
  std::vector<std::string> models;
  std::string rule = "trained";
  std::string positions = "absolute";
  std::string text;
  std::string data;
  std::string prompt = "Then Esther the queen answered";
  std::string json;
  std::string codec = "bf16";
  std::string backend;
  heed::Index tokens = 160;
  heed::Index threads = 1;
  heed::Index max_bytes = 0;
};

inline void add_options(CLI::App& app, DemoOptions& options, const std::vector<ModelBackend>& backends) {
  std::vector<std::string> names;
  names.reserve(backends.size());
  for (const ModelBackend& backend : backends) names.emplace_back(backend.name);
  options.backend = names.front();
  const auto codecs = heed::Codecs::names();
  app.add_option("--model", options.models, "Model file; repeatable. Default: one for each mechanism, in --data");
  app.add_option("--rule", options.rule, std::string("Which tokens stay, with --model: ") + rule_syntax())
      ->capture_default_str();
  app.add_option("--positions", options.positions, "Rotary positions, with --model: logical, or in-cache ranks")
      ->capture_default_str()
      ->check(CLI::IsMember({"absolute", "rank"}));
  app.add_option("--text", options.text, "Text to score. Default: heldout.txt in --data");
  app.add_option("--data", options.data, "Folder of models and text. Default: examples/data of the repository");
  app.add_option("--max-bytes", options.max_bytes, "Score only so many bytes of the text; 0 is all of it")
      ->check(whole_number(0));
  app.add_option("--prompt", options.prompt, "Text to continue")->capture_default_str();
  app.add_option("--tokens", options.tokens, "Bytes to continue it with")
      ->capture_default_str()
      ->check(whole_number(0));
  app.add_option("--codec", options.codec, "How the cache stores numbers")
      ->capture_default_str()
      ->check(CLI::IsMember(std::vector<std::string>(codecs.begin(), codecs.end())));
  app.add_option("--backend", options.backend, "Inner loops of the attention")
      ->capture_default_str()
      ->check(CLI::IsMember(names));
  app.add_option("--threads", options.threads, "Threads of the attention")
      ->capture_default_str()
      ->check(whole_number(1, heed::ThreadPool::max_workers));
  app.add_option("--json", options.json,
                 "Write the results to this file, too; - for standard output, the report then goes to standard error");
}

/// The data of a checkout: where this program was built from, or the current folder.
[[nodiscard]] inline std::filesystem::path data_folder(const DemoOptions& options) {
  if (!options.data.empty()) {
    if (!std::filesystem::is_directory(options.data)) throw ModelError("--data: " + options.data + " is no folder");
    return options.data;
  }
  const std::filesystem::path built_from = std::filesystem::path(HEED_SOURCE_DIR) / "examples/data";
  return std::filesystem::is_directory(built_from) ? built_from : std::filesystem::path("examples/data");
}

/// What to run: the files that --model names, else every mechanism and the default rules.
[[nodiscard]] inline std::vector<DemoRun> demo_runs(const DemoOptions& options) {
  if (options.models.empty()) {
    if (options.rule != "trained" || options.positions != "absolute") {
      throw UsageError("--rule and --positions need a --model");
    }
    std::vector<DemoRun> runs = default_runs(mechanism_names());
    for (DemoRun& run : runs) run.model = (data_folder(options) / (run.model + ".safetensors")).string();
    return runs;
  }
  std::vector<DemoRun> runs;
  for (const std::string& model : options.models) {
    runs.push_back({.model = model,
                    .rule = options.rule,
                    .positions = options.positions == "rank" ? heed::Positions::rank : heed::Positions::absolute});
  }
  return runs;
}

/// The text to score, cut to --max-bytes.
[[nodiscard]] inline std::vector<std::uint8_t> read_text(const DemoOptions& options) {
  const std::filesystem::path path =
      options.text.empty() ? data_folder(options) / "heldout.txt" : std::filesystem::path(options.text);
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) throw ModelError("--text: cannot open " + path.string());
  std::vector<std::uint8_t> text{std::istreambuf_iterator<char>(file), {}};
  if (options.max_bytes > 0) text.resize(std::min(text.size(), std::size_t(options.max_bytes)));
  if (text.size() < 2) {
    throw ModelError("--text: " + std::to_string(text.size()) + " bytes of " + path.string() +
                     " to score, must be at least 2");
  }
  return text;
}

}  // namespace heed_examples
