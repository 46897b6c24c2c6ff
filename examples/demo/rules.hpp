/// \file
/// Retention rules by name, and the runs of the demo.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include <heed/retention/separator_stream.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

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
inline constexpr const char* rule_syntax =
    "trained, full, window:N, sinks:INITIAL,WINDOW, anchors, separators:INITIAL,WINDOW or "
    "stream:INITIAL,SEPARATORS,LOCAL,CAPACITY";

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
  if (name == "full" && n.empty()) rule = heed::Causal{};
  if (name == "window" && n.size() == 1) rule = heed::SlidingWindow{n[0]};
  if (name == "sinks" && n.size() == 2) rule = heed::SinkWindow{.initial = n[0], .window = n[1]};
  if (name == "anchors" && n.empty()) rule = heed::Anchors{.ids = byte_anchors()};
  if (name == "separators" && n.size() == 2) {
    rule = heed::Separators{.initial = n[0], .window = n[1], .ids = byte_separators()};
  }
  if (name == "stream" && n.size() == 4) {
    rule = heed::SeparatorStream{
        .initial = n[0], .separators = n[1], .local = n[2], .capacity = n[3], .ids = byte_separators()};
  }
  if (bad || !rule) throw UsageError("--rule is '" + text + "', must be " + rule_syntax);
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
