#include "table.hpp"

#include <cstdio>
#include <string>
#include <vector>

namespace bench {
namespace {

using Run = benchmark::BenchmarkReporter::Run;

/// A counter in a column, or blanks.
void print(const Run& run, const char* counter, const char* format, double factor, int width) {
  const auto at = run.counters.find(counter);
  if (at == run.counters.end()) {
    std::printf(" %*s", width, "");
  } else {
    std::printf(format, factor * at->second.value);
  }
}

/// The limit that binds: the label has the source of the bytes, a blank, and the instructions.
std::string binding_limit(const Run& run) {
  const auto fraction = [&](const char* counter) {
    const auto at = run.counters.find(counter);
    return at == run.counters.end() ? 0.0 : at->second.value;
  };
  const std::size_t blank = run.report_label.find(' ');
  if (blank == std::string::npos) return run.report_label;
  return fraction("frac_peak") > fraction("frac_bandwidth") ? run.report_label.substr(blank + 1)
                                                            : run.report_label.substr(0, blank);
}

void print(const Run& run, double spread) {
  const double microseconds = run.real_accumulated_time * 1e6 / (run.iterations > 0 ? double(run.iterations) : 1.0);
  std::printf("%-64s %10.*f %5.1f", run.run_name.str().c_str(), microseconds < 100 ? 2 : 1, microseconds, 100 * spread);
  print(run, "GBps", " %7.1f", 1, 7);
  print(run, "frac_bandwidth", " %6.1f", 100, 6);
  print(run, "GFLOPs", " %8.1f", 1, 8);
  if (run.counters.contains("frac_roof")) {  // limits end here, without blanks
    print(run, "frac_peak", " %6.1f", 100, 6);
    print(run, "frac_roof", " %6.1f", 100, 6);
    std::printf(" %-16s", binding_limit(run).c_str());
    print(run, "err_bound", " %8.4f", 1, 8);
    print(run, "kv_bytes_per_token", " %7.0f", 1, 7);
    if (run.counters.contains("Gweights")) print(run, "Gweights", " %7.1f", 1, 7);
  }
  std::printf("\n");
}

}  // namespace

bool Table::ReportContext(const Context& context) {
  std::printf("%d CPUs", context.cpu_info.num_cpus);
  for (const auto& cache : context.cpu_info.caches) {
    std::printf(", L%d %s %d KiB", cache.level, cache.type.c_str(), cache.size / 1024);
  }
  if (context.cpu_info.scaling == benchmark::CPUInfo::ENABLED) std::printf(", frequency scaling is on");
  std::printf("\n");
  for (const auto& [name, text] : facts_) std::printf("%s: %s\n", name.c_str(), text.c_str());
  std::printf(
      "\nus: median of one call; +-%%: spread of the repetitions; GB/s: KV rows or packed weights, each read once;\n"
      "%%BW: of the read limit of the memory that holds them; GFLOP/s: useful operations; %%peak: of the peak of the\n"
      "math's instructions; %%roof: time at the limits over time taken; bound: the limit that binds; limits at as\n"
      "many threads, moments before and after; err: of the permitted error; B/token: KV cache of one layer;\n"
      "Gw/s: 1e9 ternary weights a second\n\n"
      "%-64s %10s %5s %7s %6s %8s %6s %6s %-16s %8s %7s %7s\n",
      "benchmark", "us", "+-%", "GB/s", "%BW", "GFLOP/s", "%peak", "%roof", "bound", "err", "B/token", "Gw/s");
  return true;
}

void Table::ReportRuns(const std::vector<Run>& runs) {
  double spread = 0;
  for (const Run& run : runs) {
    if (run.aggregate_name == "cv") spread = run.real_accumulated_time;
  }
  for (const Run& run : runs) {
    if (run.error_occurred) {
      std::printf("%-64s FAILED: %s\n", run.run_name.str().c_str(), run.error_message.c_str());
    } else if (run.aggregate_name == "median" || (run.run_type == Run::RT_Iteration && run.repetitions <= 1)) {
      print(run, spread);
    }
  }
  std::fflush(stdout);
}

}  // namespace bench
