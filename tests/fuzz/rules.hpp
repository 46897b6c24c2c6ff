/// \file
/// Small rules of every kind.
#pragma once

#include "fuzz/bytes.hpp"
#include "lists/rules.hpp"

namespace heed_fuzz {

/// Tokens 1 and 2 are marks. Numbers that the rule refuses are drawn in vain: then it is a small rule of its kind.
[[nodiscard]] inline heed::AnyRule rule(Bytes& in) {
  const auto& kinds = heed_examples::rule_kinds();
  const auto& kind = kinds[std::size_t(in.pick(0, heed::Index(kinds.size()) - 1))];
  const heed_examples::RuleMarks marks{.anchors = {1, 2}, .separators = {1, 2}};
  heed_examples::RuleKind::Numbers numbers = kind.of({});
  for (heed::Index& number : numbers) number = in.pick(0, 2 * number + 1);
  const heed::AnyRule drawn = kind.make(numbers, marks);
  return drawn.validate().ok() ? drawn : kind.rule({}, marks);
}

}  // namespace heed_fuzz
