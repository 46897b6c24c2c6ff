/// \file
/// The retention rule a model was trained with: the `retention` object of its config.
#pragma once

#include <optional>
#include <vector>

#include <heed/retention/anchors.hpp>
#include <heed/retention/any_rule.hpp>
#include <heed/retention/separators.hpp>

#include "model/config.hpp"

namespace heed_examples {

/// . , ; : ? ! and the end of a line, of text whose tokens are bytes.
[[nodiscard]] inline heed::TokenSet byte_separators() { return {'.', ',', ';', ':', '?', '!', '\n'}; }
/// Ends of sentences and of lines.
[[nodiscard]] inline heed::TokenSet byte_anchors() { return {'.', '\n'}; }

/// {"rule": "anchors", "anchor_ids", "anchor_sees_anchors"} or {"rule": "separators", "initial", "window",
/// "separator_ids"}; without a `retention` object, everything is kept. Throws ModelError.
[[nodiscard]] inline heed::AnyRule trained_rule(const ModelConfig& config) {
  const std::optional<ConfigKeys> keys = config.keys.object("retention");
  if (!keys) return heed::Causal{};
  const auto ids = [&](const char* key) { return heed::TokenSet(keys->integers(key, 0, config.vocab_size - 1)); };
  const std::string rule = keys->text("rule");
  heed::AnyRule made;
  if (rule == "anchors") {
    made = heed::Anchors{.ids = ids("anchor_ids"), .anchor_sees_anchors = keys->flag("anchor_sees_anchors")};
  } else if (rule == "separators") {
    made = heed::Separators{.initial = keys->integer("initial", 0, config.max_positions),
                            .window = keys->integer("window", 1, config.max_positions),
                            .ids = ids("separator_ids")};
  } else {
    config.keys.fail("config 'retention' has the rule \"" + rule + "\", known are anchors, separators");
  }
  if (const heed::Status status = made.validate(); !status.ok()) {
    config.keys.fail("config 'retention': " + status.message());
  }
  return made;
}

}  // namespace heed_examples
