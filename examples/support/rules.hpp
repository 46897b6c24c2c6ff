/// \file
/// One instance of every rule that ships.
#pragma once

#include <string>
#include <vector>

#include <heed/heed.hpp>

namespace heed_examples {

struct NamedRule {
  std::string name;  ///< how the documents call it
  heed::AnyRule rule;
  std::string floor;  ///< of truncate(), in words
};

/// e: the latest evicted position; N: tokens seen.
[[nodiscard]] inline std::vector<NamedRule> shipped_rules() {
  return {
      {"Causal", heed::Causal{}, "0"},
      {"SlidingWindow{n}", heed::SlidingWindow{8}, "e + n"},
      {"SinkWindow{a, w}", heed::SinkWindow{2, 8}, "e + w; form evict_after_step: e + w + 1"},
      {"Anchors{ids}", heed::Anchors{.ids = {1}}, "the latest anchor + 1"},
      {"Separators{a, n, ids}", heed::Separators{.initial = 2, .window = 8, .ids = {1}}, "e + n"},
      {"FixedGrid{a, n, distance, first}", heed::FixedGrid{2, 8, 3, 0}, "e + n"},
      {"SeparatorStream, manager",
       heed::SeparatorStream{.initial = 2, .separators = 2, .local = 4, .capacity = 11, .ids = {1}},
       "N at the last compression"},
      {"SeparatorStream, sep_cache",
       heed::SeparatorStream{
           .initial = 2, .separators = 2, .local = 4, .capacity = 11, .ids = {1}, .form = heed::StreamForm::sep_cache},
       "N after the step of the last compression"},
  };
}

}  // namespace heed_examples
