/// \file
/// heed_bench: attention and ternary products beside the limits of the machine it runs on.
///
///     heed_bench                                      everything, about ten minutes on an idle machine
///     heed_bench --benchmark_filter=decode/gqa        some of it
///     heed_bench --benchmark_out=r.json --benchmark_context=commit=$(git rev-parse --short HEAD)
///
/// Every option is Google Benchmark's. The exit code is 1 if an answer was wrong, 2 if nothing ran.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <heed/config.hpp>

#include "bandwidth.hpp"
#include "check.hpp"
#include "limits.hpp"
#include "table.hpp"

namespace {

using bench::Index;

bench::Facts describe_machine() {
  bench::Facts facts = {{"cpu", bench::cpu_name()},
                        {"heed", std::string(heed::version_string()) + " " + heed::isa_name()},
                        {"compiler", HEED_BENCH_COMPILER},
                        {"flags", HEED_BENCH_FLAGS}};
  for (const Index threads : bench::thread_counts()) {
    const std::string suffix = "/threads:" + std::to_string(threads);
    for (const bench::Limit limit : bench::all_limits) {
      if (!bench::exists(limit)) continue;
      char text[32];
      std::snprintf(text, sizeof text, "%.1f %s", bench::measure(limit, threads), bench::unit(limit));
      facts.emplace_back(std::string("limit/") + bench::name(limit) + suffix, text);
    }
    facts.emplace_back("read_loop" + suffix, bench::read_loop_name(threads));
  }
  return facts;
}

}  // namespace

int main(int argc, char** argv) {
  // Defaults come first, so that the user's options win.
  std::vector<std::string> options = {argv[0], "--benchmark_filter=-^smoke/", "--benchmark_min_time=0.08",
                                      "--benchmark_repetitions=5"};
  bool list = false, own_format = false;
  std::string context;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--corrupt") {  // proves in a test that a wrong answer is noticed
      bench::corrupt_checks();
      continue;
    }
    constexpr std::string_view given = "--benchmark_context=";
    if (option.starts_with(given)) context = option.substr(given.size());
    list |= option.starts_with("--benchmark_list_tests");
    own_format |= option.starts_with("--benchmark_format=") && !option.ends_with("=console");
    options.emplace_back(option);
  }
  std::vector<char*> arguments;
  for (std::string& option : options) arguments.push_back(option.data());
  auto count = int(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  bench::Facts facts = list ? bench::Facts() : describe_machine();
  for (const auto& [name, text] : facts) benchmark::AddCustomContext(name, text);  // for JSON
  if (!context.empty()) facts.emplace_back("context", context);
  bench::Table table(facts);
  const std::size_t ran =
      own_format || list ? benchmark::RunSpecifiedBenchmarks() : benchmark::RunSpecifiedBenchmarks(&table);
  benchmark::Shutdown();
  if (ran == 0) return 2;
  return bench::failures() == 0 ? 0 : 1;
}
