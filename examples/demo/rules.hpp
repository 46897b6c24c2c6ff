/// \file
/// Retention rules by name, and the runs of the demo.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "lists/rules.hpp"
#include "model/retention.hpp"
#include "program/usage.hpp"

namespace heed_examples {

/// One line of the table: a model, and which of its tokens stay.
struct DemoRun {
  std::string model;             ///< a file
  std::string rule = "trained";  ///< see parse_rule()
  heed::Positions positions = heed::Positions::absolute;
};

/// What --rule takes.
[[nodiscard]] inline std::string rule_syntax() {
  std::string text = "trained";
  for (const RuleKind& kind : rule_kinds()) {
    const bool last = &kind == &rule_kinds().back(), has_numbers = *kind.syntax != 0;
    text += (last ? " or " : ", ") + std::string(kind.name) + (has_numbers ? ":" : "") + kind.syntax;
  }
  return text;
}

/// The rule of a name; nothing for "trained". Throws UsageError.
[[nodiscard]] inline std::optional<heed::AnyRule> parse_rule(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  std::vector<heed::Index> n;
  bool bad = false;
  for (std::size_t at = colon; at < text.size() && !bad;) {
    const char* const first = text.data() + at + 1;
    heed::Index number = 0;
    const auto [last, error] = std::from_chars(first, text.data() + text.size(), number);
    bad = error != std::errc() || (last != text.data() + text.size() && *last != ',');
    n.push_back(number);
    at = std::size_t(last - text.data());
  }
  std::optional<heed::AnyRule> rule;
  if (!bad && name == "trained" && n.empty()) return rule;
  const RuleMarks marks{.anchors = byte_anchors(), .separators = byte_separators()};
  for (const RuleKind& kind : rule_kinds()) {
    if (!bad && name == kind.name && n.size() == kind.of({}).size()) rule = kind.make(n, marks);
  }
  if (bad || !rule) throw UsageError("--rule is '" + text + "', must be " + rule_syntax());
  if (const heed::Status status = rule->validate(); !status.ok()) {
    throw UsageError("--rule " + text + ": " + status.message());
  }
  return rule;
}

/// Every mechanism as it was trained, then the plain model under rules that it was not trained for.
[[nodiscard]] inline std::vector<DemoRun> default_runs(const std::vector<std::string>& mechanisms) {
  using heed::Positions;
  std::vector<DemoRun> runs;
  for (const std::string& mechanism : mechanisms) runs.push_back({.model = mechanism});
  runs.insert(runs.end(), {{"mha", "window:128", Positions::absolute},
                           {"mha", "sinks:4,124", Positions::rank},
                           {"mha", "separators:3,64", Positions::absolute},
                           {"mha", "stream:4,32,64,160", Positions::rank},
                           {"mla", "separators:3,64", Positions::absolute}});
  return runs;
}

}  // namespace heed_examples
