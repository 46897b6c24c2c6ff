// heed_demo: small language models, one for each attention mechanism, read held-out text byte by byte through heed's
// KV cache, and go on with a prompt. Prints what each costs and what it is worth.
#include <cstdio>

#include "demo/drafts.hpp"
#include "demo/options.hpp"
#include "demo/progress.hpp"
#include "demo/report.hpp"
#include "program/printable.hpp"
#include "program/program.hpp"

namespace heed_examples {
namespace {

constexpr heed::Index window = 1024;  // the context of the models, and of the trainer's own evaluation

std::span<const std::uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// Before the long run: a prompt that does not fit should not cost a minute.
void check_prompt(const DemoOptions& options, const std::string& file, const ModelConfig& config) {
  if (options.prompt.empty()) throw UsageError("--prompt is empty, must be at least 1 byte");
  const heed::Index size = heed::Index(options.prompt.size());
  if (options.tokens > config.max_positions - size) {
    throw UsageError("--prompt of " + std::to_string(size) + " bytes and --tokens " + std::to_string(options.tokens) +
                     " exceed the " + std::to_string(config.max_positions) + " positions of " + file);
  }
}

DemoRow run_model(const DemoRun& run, const DemoOptions& options, const ModelBackend& backend,
                  std::span<const std::uint8_t> text, heed::ThreadPool& pool) {
  const std::filesystem::path path = run.model;
  const std::string file = path.filename().string();
  const std::optional<heed::AnyRule> rule = parse_rule(run.rule);
  LanguageModel model = LanguageModel::open(
      path, {.backend = &backend, .executor = &pool, .codec = options.codec, .rule = rule, .positions = run.positions});
  check_prompt(options, file, model.config());
  DemoRow row{.mechanism = model.config().mechanism,
              .rule = run.rule,
              .ranks = run.positions == heed::Positions::rank,
              .file = file,
              .parameters = model.parameters()};
  Progress progress(file, heed::Index(text.size()));
  row.evaluation = evaluate(model, text,
                            {.window = std::min(window, model.config().max_positions),
                             .progress = [&](heed::Index done) { progress.update(done); }});
  progress.finish();
  const double kept = row.evaluation.cache.kept;
  if (kept > 0) row.formula_bytes_per_token = double(model.memory().formula_bytes(heed::Index(kept))) / kept;
  if (options.text.empty() && options.max_bytes == 0 && !rule)
    row.trained_bits_per_byte = model.trained_bits_per_byte();
  const std::vector<std::uint8_t> continuation = greedy(model, bytes_of(options.prompt), options.tokens);
  row.continuation.assign(continuation.begin(), continuation.end());
  return row;
}

// Of a model that has an MTP module, in its own file or in the one beside it, and was run as it was trained.
std::optional<DraftReport> run_drafts(const DemoRun& run, const DemoOptions& options, const ModelBackend& backend,
                                      std::span<const std::uint8_t> text, heed::ThreadPool& pool) {
  if (run.rule != "trained" || run.positions != heed::Positions::absolute) return {};
  const std::filesystem::path path = run.model;
  const ModelOptions model_options{.backend = &backend, .executor = &pool, .codec = options.codec};
  LanguageModel model = LanguageModel::open(path, model_options);
  const std::filesystem::path module = path.parent_path() / (path.stem().string() + "_mtp.safetensors");
  auto* const decoder = dynamic_cast<Decoder*>(&model.network());
  if (decoder != nullptr && std::filesystem::exists(module)) attach_mtp(*decoder, module, model_options);
  Drafter* const drafter = model.network().drafter();
  if (drafter == nullptr) return {};
  return measure_drafts(model, *drafter, text);
}

void write_json(JsonOutput& out, const DemoOptions& options, std::size_t text_bytes, const std::vector<DemoRow>& rows,
                const std::vector<DraftReport>& drafts) {
  nlohmann::ordered_json json{{"heed", heed::version_string()},
                              {"isa", heed::isa_name()},
                              {"backend", options.backend},
                              {"codec", options.codec},
                              {"threads", options.threads},
                              {"text_bytes", text_bytes},
                              {"window", window},
                              {"prompt", options.prompt},
                              {"models", nlohmann::ordered_json::array()}};
  for (const DemoRow& row : rows) json["models"].push_back(to_json(row));
  json["drafts"] = nlohmann::ordered_json::array();
  for (const DraftReport& report : drafts) json["drafts"].push_back(to_json(report));
  // A model's bytes need not be UTF-8, which JSON is.
  out.write(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

int run(const DemoOptions& options, const std::vector<ModelBackend>& backends) {
  const auto backend = std::find_if(backends.begin(), backends.end(),
                                    [&](const ModelBackend& candidate) { return candidate.name == options.backend; });
  const std::vector<std::uint8_t> text = read_text(options);
  const std::vector<DemoRun> runs = demo_runs(options);
  for (const DemoRun& one : runs) std::ignore = parse_rule(one.rule);  // before the long run
  auto pool = heed::ThreadPool::create(options.threads);
  if (!pool.ok()) throw ModelError("--threads: " + pool.status().message());
  JsonOutput json(options.json);
  std::FILE* const report = json.report();

  std::fprintf(report, "heed %s, %s loops for %s, %lld thread%s; cache in %s\n", heed::version_string(),
               backend->name, heed::isa_name(), static_cast<long long>(options.threads),
               options.threads == 1 ? "" : "s", options.codec.c_str());
  std::fprintf(report, "%zu bytes of text, one at a time, in windows of %lld\n\n", text.size(),
               static_cast<long long>(window));
  std::fflush(report);
  std::vector<DemoRow> rows;
  rows.reserve(runs.size());
  for (const DemoRun& one : runs) rows.push_back(run_model(one, options, *backend, text, **pool));

  print_table(report, rows);
  std::fprintf(report, "\n\"%s\" goes on with:\n", printable(options.prompt).c_str());
  for (const DemoRow& row : rows) {
    std::fprintf(report, "%-28s \"%s\"\n", row.name().c_str(), printable(row.continuation).c_str());
  }
  std::vector<DraftReport> drafts;
  for (const DemoRun& one : runs) {
    if (auto made = run_drafts(one, options, *backend, text, **pool)) drafts.push_back(*std::move(made));
  }
  bool same = true;
  for (const DraftReport& made : drafts) {
    print_drafts(report, made);
    for (const DraftRow& row : made.rows) same &= row.same_text;
  }
  if (json.wanted()) write_json(json, options, text.size(), rows, drafts);
  if (!same) throw ModelError("drafts changed the text");
  return exit_ok;
}

}  // namespace
}  // namespace heed_examples

int main(int argc, char** argv) {
  const auto backends = heed_examples::demo_backends();
  heed_examples::DemoOptions options;
  CLI::App app("Small language models, one for each attention mechanism, on heed.");
  heed_examples::add_options(app, options, backends);
  return heed_examples::run_program("heed_demo", app, argc, argv,
                                    [&] { return heed_examples::run(options, backends); });
}
