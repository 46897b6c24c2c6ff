/// \file
/// How every program here ends: 0 if all went well, 1 if something failed, 2 if the command line was wrong.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

#include "program/usage.hpp"

namespace heed_examples {

inline constexpr int exit_ok = 0;
inline constexpr int exit_failure = 1;
inline constexpr int exit_usage = 2;

/// Parses the command line and runs the program: `run()` returns its exit code. Exceptions become one line on stderr.
template <class Run>
[[nodiscard]] int run_program(const char* name, CLI::App& app, int argc, char** argv, const Run& run) {
  app.footer("Exit codes: 0 all went well, 1 something failed, 2 the command line was wrong.");
  try {
    app.parse(argc, argv);
    return run();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? exit_ok : exit_usage;  // --help is an "error" of code 0
  } catch (const UsageError& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return exit_usage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return exit_failure;
  }
}

/// A whole number in least .. most; the range is only named as far as it means something.
[[nodiscard]] inline CLI::Validator whole_number(std::int64_t least, std::int64_t most = INT64_MAX) {
  const std::string range = most == INT64_MAX ? "at least " + std::to_string(least)
                                              : "in " + std::to_string(least) + " .. " + std::to_string(most);
  return {[=](std::string& text) {
            std::int64_t number = 0;
            const bool good = CLI::detail::lexical_cast(text, number) && number >= least && number <= most;
            return good ? std::string() : text + ", must be a whole number, " + range;
          },
          ""};
}

/// Where --json writes: a file, standard output for "-", or nowhere. The report then goes to standard error, so that
/// standard output is JSON alone.
class JsonOutput {
 public:
  explicit JsonOutput(std::string path) : path_(std::move(path)) {
    if (path_.empty() || to_stdout()) return;
    file_.open(path_);
    if (!file_) throw std::runtime_error("--json: cannot open " + path_);
  }

  [[nodiscard]] bool wanted() const { return !path_.empty(); }
  [[nodiscard]] bool to_stdout() const { return path_ == "-"; }
  /// Where everything else is printed.
  [[nodiscard]] std::FILE* report() const { return to_stdout() ? stderr : stdout; }

  void write(const std::string& json) {
    bool good = false;
    if (to_stdout()) {
      good = std::fwrite(json.data(), 1, json.size(), stdout) == json.size() && std::fflush(stdout) == 0;
    } else {
      file_ << json;
      file_.close();
      good = bool(file_);
    }
    if (!good) throw std::runtime_error("--json: could not write " + path_);
  }

 private:
  std::string path_;
  std::ofstream file_;
};

}  // namespace heed_examples
