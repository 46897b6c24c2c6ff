// Runs a folder of golden cases through heed's public interface. See README of the set for the format; every case of a
// mechanism that handlers/ knows is run, and a case that asks for an option nobody knows fails.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <heed/codec/codecs.hpp>
#include <heed/config.hpp>
#include <heed/simd/backends.hpp>

#include "golden/registry.hpp"
#include "program/program.hpp"

namespace {

using namespace heed_golden;
namespace fs = std::filesystem;

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", x);
  return text;
}

std::string pad(std::string text, std::size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

Report run(const nlohmann::json& entry, const fs::path& folder, Handler handler, const Setup& setup) {
  Report report;
  try {
    Case one(entry, folder);
    handler(one, setup, report);
    for (const std::string& name : one.finish()) report.note("tensor '" + name + "' was not compared");
  } catch (const std::exception& error) {
    report.fail(error.what());
  }
  return report;
}

// Size and presence, which every listed file must have, handler or not.
std::string problem_with_file(const nlohmann::json& entry, const fs::path& folder) {
  const std::string name = entry.at("file");
  std::error_code error;
  const auto size = fs::file_size(folder / name, error);
  if (error) return "the file is missing";
  if (entry.contains("bytes") && entry["bytes"] != size) {
    return "the file has " + std::to_string(size) + " bytes, the index says " + entry["bytes"].dump();
  }
  return "";
}

// The error nearest to its tolerance, and the largest in units of the error bound.
std::string summary(const Report& report) {
  std::string text = std::to_string(report.checks().size()) + " checks";
  if (const Check* worst = report.worst(Against::reference)) {
    text +=
        ", worst error " + number(worst->error) + " (tolerance " + number(worst->tolerance) + ", " + worst->what + ")";
  }
  if (const Check* worst = report.worst(Against::bound)) text += ", " + number(worst->error) + " of the bound";
  return text;
}

void print(const Report& report, bool verbose) {
  for (const Check& check : report.checks()) {
    if (!verbose && check.passed()) continue;
    std::cout << "    " << (check.passed() ? "ok    " : "FAIL  ") << check.what;
    if (check.tolerance > 0)
      std::cout << ": error " << number(check.error) << ", tolerance " << number(check.tolerance);
    if (!check.where.empty() && !check.passed()) std::cout << ", at " << check.where;
    std::cout << "\n";
  }
  if (!verbose) return;
  for (const std::string& note : report.notes()) std::cout << "    note  " << note << "\n";
}

int run_all(const fs::path& folder, const std::string& only, const Setup& setup, bool verbose) {
  std::ifstream file(folder / "index.json");
  if (!file) {
    std::cerr << (folder / "index.json").string() << " cannot be opened\n";
    return 1;
  }
  const auto index = nlohmann::json::parse(file);
  std::cout << "heed " << heed::version_string() << " (" << heed::isa_name() << "), backend " << setup.backend
            << ", codec " << setup.codec << "\n";
  if (setup.codec != "f32") {
    std::cout << "Keys and values are stored in " << setup.codec << ", so results are compared with the float64 oracle "
              << "on the rounded rows,\nnot with the reference of the case, which knows no rounding.\n";
  }
  int ran = 0, failed = 0, unhandled = 0;
  for (const auto& entry : index.at("cases")) {
    const std::string name = entry.at("file"), mechanism = entry.at("mechanism");
    if (name.find(only) == std::string::npos) continue;
    std::cout << pad(name, 44) << " " << pad(mechanism, 18) << " ";
    if (const std::string problem = problem_with_file(entry, folder); !problem.empty()) {
      std::cout << "FAIL  " << problem << "\n";
      ++failed;
      continue;
    }
    const auto handler = handlers().find(mechanism);
    if (handler == handlers().end()) {
      std::cout << "no handler\n";
      ++unhandled;
      continue;
    }
    const Report report = run(entry, folder, handler->second, setup);
    ++ran;
    failed += report.passed() ? 0 : 1;
    std::cout << (report.passed() ? "pass  " : "FAIL  ") << summary(report) << "\n";
    print(report, verbose);
  }
  std::cout << ran << " cases run, " << failed << " failed or missing, " << unhandled << " without a handler\n";
  if (ran == 0) std::cout << "FAIL: no case was run\n";
  return ran == 0 || failed != 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Runs a folder of golden cases through heed"};
  std::string folder, only;
  const auto backends = heed::Backends::names(), codecs = heed::Codecs::names();
  Setup setup{.backend = backends.front(), .codec = codecs.front()};
  bool verbose = false;
  app.add_option("folder", folder, "the folder with index.json")->required();
  app.add_option("--backend", setup.backend, "whose loops run")
      ->capture_default_str()
      ->check(CLI::IsMember(std::vector<std::string>(backends.begin(), backends.end())));
  app.add_option("--codec", setup.codec, "how keys and values are stored")
      ->capture_default_str()
      ->check(CLI::IsMember(std::vector<std::string>(codecs.begin(), codecs.end())));
  app.add_option("--only", only, "run only files whose name contains this");
  app.add_flag("--verbose", verbose, "print every comparison");
  return heed_examples::run_program("heed_golden", app, argc, argv,
                                    [&] { return run_all(folder, only, setup, verbose); });
}
