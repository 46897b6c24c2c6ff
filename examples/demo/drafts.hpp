/// \file
/// What drafts are worth: greedy text with a model's MTP module guessing ahead, beside plain greedy text.
#pragma once

#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/language_model.hpp"
#include "model/speculation.hpp"

namespace heed_examples {

/// The same bytes with so many drafts a step.
struct DraftRow {
  heed::Index drafts = 0;
  std::vector<double> acceptance = {};  ///< of draft number j
  double bytes_per_step = 0;
  double us_per_byte = 0;
  bool same_text = true;
};

struct DraftReport {
  std::string mechanism;
  heed::Index prompts = 0, prompt_bytes = 0, bytes = 0;
  double plain_us_per_byte = 0;
  std::vector<DraftRow> rows = {};
};

/// Greedy continuations of prompts from all over the text.
[[nodiscard]] inline DraftReport measure_drafts(LanguageModel& model, Drafter& drafter,
                                                std::span<const std::uint8_t> text) {
  const heed::Index positions = model.config().max_positions;
  DraftReport report{.mechanism = model.config().mechanism,
                     .prompt_bytes = std::min<heed::Index>(positions / 2, heed::Index(text.size())),
                     .bytes = positions / 4};
  const heed::Index step = std::max<heed::Index>(heed::Index(text.size()) / 8, report.prompt_bytes);
  std::vector<std::span<const std::uint8_t>> prompts;
  for (heed::Index at = 0; at + report.prompt_bytes <= heed::Index(text.size()); at += step) {
    prompts.push_back(text.subspan(std::size_t(at), std::size_t(report.prompt_bytes)));
  }
  report.prompts = heed::Index(prompts.size());
  std::vector<std::vector<heed::Token>> plain;
  const double bytes = double(report.prompts * report.bytes);
  for (const heed::Index drafts : {0, 1, 2, 3}) {
    DraftRow row{.drafts = drafts};
    std::vector<double> drafted(static_cast<std::size_t>(drafts)), accepted = drafted;
    heed::Index steps = 0;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      const SpeculativeRun run = speculate(model.network(), drafter, prompts[p], report.bytes, drafts);
      row.us_per_byte += std::chrono::duration<double, std::micro>(run.time).count() / bytes;
      steps += run.statistics.steps + 1;  // the first byte comes from the prompt
      for (std::size_t j = 0; j < drafted.size(); ++j) {
        drafted[j] += double(run.statistics.drafted[j]);
        accepted[j] += double(run.statistics.accepted[j]);
      }
      if (drafts == 0) {
        plain.push_back(run.tokens);
      } else {
        row.same_text &= std::equal(plain[p].begin(), plain[p].end(), run.tokens.begin());
      }
    }
    for (std::size_t j = 0; j < drafted.size(); ++j) row.acceptance.push_back(accepted[j] / std::max(drafted[j], 1.0));
    row.bytes_per_step = bytes / double(std::max<heed::Index>(steps, 1));
    if (drafts == 0) {
      report.plain_us_per_byte = row.us_per_byte;
    } else {
      report.rows.push_back(row);
    }
  }
  return report;
}

inline void print_drafts(std::FILE* out, const DraftReport& report) {
  std::fprintf(out, "\n%s with its MTP module: greedy text of %lld x %lld bytes, plain %.1f us a byte\n",
               report.mechanism.c_str(), static_cast<long long>(report.prompts), static_cast<long long>(report.bytes),
               report.plain_us_per_byte);
  std::fprintf(out, "%6s | %-24s | %9s | %9s | %8s |\n", "", "", "bytes per", "", "");
  std::fprintf(out, "%6s | %-24s | %9s | %9s | %8s | %s\n", "drafts", "accepted: 1st, 2nd, 3rd", "forward", "us a byte",
               "speed-up", "text");
  for (const DraftRow& row : report.rows) {
    std::string accepted;
    for (const double share : row.acceptance) {
      char text[16];
      std::snprintf(text, sizeof text, "%6.1f %%", 100 * share);
      accepted += text;
    }
    std::fprintf(out, "%6lld | %-24s | %9.2f | %9.1f | %8.2f | %s\n", static_cast<long long>(row.drafts),
                 accepted.c_str(), row.bytes_per_step, row.us_per_byte, report.plain_us_per_byte / row.us_per_byte,
                 row.same_text ? "the same" : "DIFFERENT");
  }
}

[[nodiscard]] inline nlohmann::ordered_json to_json(const DraftReport& report) {
  nlohmann::ordered_json json{{"mechanism", report.mechanism},
                              {"prompts", report.prompts},
                              {"bytes", report.bytes},
                              {"us_per_byte_plain", report.plain_us_per_byte},
                              {"runs", nlohmann::ordered_json::array()}};
  for (const DraftRow& row : report.rows) {
    json["runs"].push_back({{"drafts", row.drafts},
                            {"acceptance", row.acceptance},
                            {"bytes_per_forward", row.bytes_per_step},
                            {"us_per_byte", row.us_per_byte},
                            {"same_text", row.same_text}});
  }
  return json;
}

}  // namespace heed_examples
