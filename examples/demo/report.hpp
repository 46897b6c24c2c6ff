/// \file
/// The results as a table and as JSON.
#pragma once

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/evaluate.hpp"

namespace heed_examples {

/// One model's results.
struct DemoRow {
  std::string mechanism;
  std::string rule;
  bool ranks = false;  ///< in-cache rank positions
  std::string file;
  heed::Index parameters = 0;
  double formula_bytes_per_token = 0;
  Evaluation evaluation = {};
  std::optional<double> trained_bits_per_byte = {};  ///< PyTorch's number, if the same text was scored
  std::string continuation = {};

  [[nodiscard]] std::string name() const {
    return mechanism + (rule == "trained" ? "" : " " + rule) + (ranks ? " ranks" : "");
  }
  /// Percent of the tokens of a whole window that were in the cache at its end.
  [[nodiscard]] double kept_percent() const {
    const heed::RetentionCounters& r = evaluation.retention;
    return r.seen == 0 ? 0 : 100 * double(r.kept) / double(r.seen);
  }
};

struct Summary {
  double median = 0;
  double mean = 0;
};

[[nodiscard]] inline Summary summary(std::vector<float> samples) {
  if (samples.empty()) return {};
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / double(samples.size());
  const auto middle = samples.begin() + std::ptrdiff_t(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return {*middle, mean};
}

/// Three tables, none wider than a terminal of 80 columns: what a token costs, what is left of it and what it is worth,
/// how long a step takes.
inline void print_table(std::FILE* out, const std::vector<DemoRow>& rows) {
  std::fprintf(out, "%-28s %10s | %s\n", "", "", "KV bytes per token kept");
  std::fprintf(out, "%-28s %10s | %8s %8s %10s\n", "model and rule", "parameters", "measured", "formula", "allocated");
  for (const DemoRow& row : rows) {
    const heed::CacheBytes& cache = row.evaluation.cache;
    std::fprintf(out, "%-28s %10lld | %8.4g %8.4g %10.1f\n", row.name().c_str(), static_cast<long long>(row.parameters),
                 cache.per_token_kept(), row.formula_bytes_per_token,
                 double(cache.allocated) / std::max(cache.kept, 1.0));
  }
  std::fprintf(out, "\n%-28s | %-24s | %s\n", "", "at the end of a window", "bits per byte");
  std::fprintf(out, "%-28s | %8s %6s %8s | %7s %7s\n", "model and rule", "KV bytes", "tokens", "kept", "heed",
               "PyTorch");
  for (const DemoRow& row : rows) {
    const heed::CacheBytes& cache = row.evaluation.cache;
    char trained[16] = "-";
    if (row.trained_bits_per_byte) std::snprintf(trained, sizeof trained, "%.4f", *row.trained_bits_per_byte);
    std::fprintf(out, "%-28s | %8lld %6lld %6.1f %% | %7.4f %7s\n", row.name().c_str(),
                 static_cast<long long>(cache.live), static_cast<long long>(cache.seen), row.kept_percent(),
                 row.evaluation.bits_per_byte, trained);
  }
  std::fprintf(out, "\n%-28s | %-17s | %s\n", "", "us per step", "of it attention");
  std::fprintf(out, "%-28s | %8s %8s | %8s %8s\n", "model and rule", "median", "mean", "median", "mean");
  for (const DemoRow& row : rows) {
    const Summary step = summary(row.evaluation.step_us), attention = summary(row.evaluation.attention_us);
    std::fprintf(out, "%-28s | %8.1f %8.1f | %8.1f %8.1f\n", row.name().c_str(), step.median, step.mean,
                 attention.median, attention.mean);
  }
}

[[nodiscard]] inline nlohmann::ordered_json to_json(const DemoRow& row) {
  const heed::CacheBytes& cache = row.evaluation.cache;
  const Summary step = summary(row.evaluation.step_us), attention = summary(row.evaluation.attention_us);
  nlohmann::ordered_json json{{"mechanism", row.mechanism},
                              {"rule", row.rule},
                              {"positions", row.ranks ? "rank" : "absolute"},
                              {"file", row.file},
                              {"parameters", row.parameters},
                              {"kv_bytes_per_token", cache.per_token_kept()},
                              {"kv_bytes_per_token_seen", cache.per_token_seen()},
                              {"kv_bytes_per_token_formula", row.formula_bytes_per_token},
                              {"kv_bytes", cache.live},
                              {"kv_bytes_allocated", cache.allocated},
                              {"kv_tokens_seen", cache.seen},
                              {"kv_tokens_kept", cache.kept},
                              {"kv_kept_percent", row.kept_percent()},
                              {"bytes_scored", row.evaluation.scored},
                              {"bits_per_byte", row.evaluation.bits_per_byte},
                              {"step_us_median", step.median},
                              {"step_us_mean", step.mean},
                              {"attention_us_median", attention.median},
                              {"attention_us_mean", attention.mean},
                              {"continuation", row.continuation}};
  if (row.trained_bits_per_byte) json["bits_per_byte_pytorch"] = *row.trained_bits_per_byte;
  return json;
}

}  // namespace heed_examples
