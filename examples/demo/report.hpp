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

/// Printable ASCII as it is, anything else escaped: a model may say whatever it likes, but not to the terminal.
[[nodiscard]] inline std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned char>(c));
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c >= ' ' && c <= '~' ? std::string(1, c) : std::string(escaped);
    }
  }
  return out;
}

inline void print_table(const std::vector<DemoRow>& rows) {
  std::printf("%-29s %10s | %-31s | %-24s | %-16s | %-15s | %s\n", "", "", "KV bytes per token kept", "at the end",
              "bits per byte", "us per step", "of it attention");
  std::printf("%-29s %10s | %9s %9s %11s | %8s %6s %8s | %8s %7s | %7s %7s | %7s %7s\n", "model and rule", "parameters",
              "measured", "formula", "allocated", "KV bytes", "tokens", "kept", "heed", "PyTorch", "median", "mean",
              "median", "mean");
  for (const DemoRow& row : rows) {
    const heed::CacheBytes& cache = row.evaluation.cache;
    const Summary step = summary(row.evaluation.step_us), attention = summary(row.evaluation.attention_us);
    char trained[16] = "-";
    if (row.trained_bits_per_byte) std::snprintf(trained, sizeof trained, "%.4f", *row.trained_bits_per_byte);
    std::printf("%-29s %10lld | %9.4g %9.4g %11.1f | %8lld %6lld %6.1f %% | %8.4f %7s | %7.1f %7.1f | %7.1f %7.1f\n",
                row.name().c_str(), static_cast<long long>(row.parameters), cache.per_token_kept(),
                row.formula_bytes_per_token, double(cache.allocated) / std::max(cache.kept, 1.0),
                static_cast<long long>(cache.live), static_cast<long long>(cache.seen), row.kept_percent(),
                row.evaluation.bits_per_byte, trained, step.median, step.mean, attention.median, attention.mean);
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
