/// \file
/// The retention rules that ship, by name. Programs and tests iterate over this list; a new rule is an entry here.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <heed/retention/anchors.hpp>
#include <heed/retention/any_rule.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

namespace heed_examples {

/// Tokens that rules look for.
struct RuleMarks {
  heed::TokenSet anchors{1};
  heed::TokenSet separators{1};
};
/// How much a rule keeps: `initial` tokens at the start, `window` at the end.
struct RuleSizes {
  heed::Index initial = 2;
  heed::Index window = 8;
};

/// One rule, or one form of a rule.
struct RuleKind {
  using Numbers = std::vector<heed::Index>;

  const char* name;                                                 ///< in --rule and in tests
  const char* syntax;                                               ///< of its numbers
  Numbers (*of)(const RuleSizes& sizes);                            ///< its numbers for these sizes
  heed::AnyRule (*make)(const Numbers& n, const RuleMarks& marks);  ///< the rule of its numbers
  const char* title;                                                ///< in documents
  const char* floor;                                                ///< of truncate(), in words

  /// The rule for these sizes.
  [[nodiscard]] heed::AnyRule rule(const RuleSizes& sizes = {}, const RuleMarks& marks = {}) const {
    return make(of(sizes), marks);
  }
};

/// All of them. In `floor`, e is the latest evicted position, N the number of tokens seen.
[[nodiscard]] inline const std::vector<RuleKind>& rule_kinds() {
  using Numbers = RuleKind::Numbers;
  using Sizes = RuleSizes;
  using Marks = RuleMarks;
  using heed::AnyRule;
  constexpr auto none = [](const Sizes&) { return Numbers{}; };
  constexpr auto both = [](const Sizes& s) { return Numbers{s.initial, s.window}; };
  constexpr auto stream = [](const Sizes& s) {
    const heed::Index separators = s.window / 4 + 1, local = s.window / 2 + 1;
    return Numbers{s.initial, separators, local, s.initial + separators + local + s.window / 4 + 1};
  };
  static const std::vector<RuleKind> all{
      {"full", "", none, [](const Numbers&, const Marks&) -> AnyRule { return heed::Causal{}; }, "Causal", "0"},
      {"window", "N", [](const Sizes& s) { return Numbers{s.window}; },
       [](const Numbers& n, const Marks&) -> AnyRule { return heed::SlidingWindow{n[0]}; }, "SlidingWindow{n}",
       "e + n"},
      {"sinks", "INITIAL,WINDOW", both,
       [](const Numbers& n, const Marks&) -> AnyRule {
         return heed::SinkWindow{n[0], n[1]};
       },
       "SinkWindow{a, w}", "e + w"},
      {"sinks_after_step", "INITIAL,WINDOW", both,
       [](const Numbers& n, const Marks&) -> AnyRule {
         return heed::SinkWindow{n[0], n[1], heed::SinkForm::evict_after_step};
       },
       "SinkWindow{a, w}, evict_after_step", "e + w + 1"},
      {"anchors", "", none, [](const Numbers&, const Marks& m) -> AnyRule { return heed::Anchors{.ids = m.anchors}; },
       "Anchors{ids}", "the latest anchor + 1"},
      {"separators", "INITIAL,WINDOW", both,
       [](const Numbers& n, const Marks& m) -> AnyRule {
         return heed::Separators{n[0], n[1], m.separators};
       },
       "Separators{a, n, ids}", "e + n"},
      {"grid", "INITIAL,WINDOW,DISTANCE,FIRST",
       [](const Sizes& s) {
         return Numbers{s.initial, s.window, 3, 0};
       },
       [](const Numbers& n, const Marks&) -> AnyRule {
         return heed::FixedGrid{n[0], n[1], n[2], n[3]};
       },
       "FixedGrid{a, n, distance, first}", "e + n"},
      {"stream", "INITIAL,SEPARATORS,LOCAL,CAPACITY", stream,
       [](const Numbers& n, const Marks& m) -> AnyRule {
         return heed::SeparatorStream{
             .initial = n[0], .separators = n[1], .local = n[2], .capacity = n[3], .ids = m.separators};
       },
       "SeparatorStream, manager", "N at the last compression"},
      {"sep_cache", "INITIAL,SEPARATORS,LOCAL,CAPACITY", stream,
       [](const Numbers& n, const Marks& m) -> AnyRule {
         return heed::SeparatorStream{.initial = n[0],
                                      .separators = n[1],
                                      .local = n[2],
                                      .capacity = n[3],
                                      .ids = m.separators,
                                      .form = heed::StreamForm::sep_cache};
       },
       "SeparatorStream, sep_cache", "N after the step of the last compression"}};
  return all;
}

/// A rule of every kind, for these sizes.
[[nodiscard]] inline std::vector<heed::AnyRule> every_rule(const RuleSizes& sizes = {}, const RuleMarks& marks = {}) {
  std::vector<heed::AnyRule> made;
  for (const RuleKind& kind : rule_kinds()) made.push_back(kind.rule(sizes, marks));
  return made;
}

}  // namespace heed_examples
