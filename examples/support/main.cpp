// Prints docs/support.md from heed::supports(), the function that refuses.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <heed/heed.hpp>

#include "lists/rules.hpp"

namespace heed_examples {
namespace {

using heed::CacheFeature;
using heed::Positions;

// "yes", or the number of the note that says why not.
std::string cell(const heed::Status& status, std::vector<std::string>& notes) {
  if (status.ok()) return "yes";
  auto at = std::find(notes.begin(), notes.end(), status.message());
  if (at == notes.end()) at = notes.insert(notes.end(), status.message());
  return "no [" + std::to_string(at - notes.begin() + 1) + "]";
}

void print() {
  std::vector<std::string> notes;
  std::printf(
      "# What goes with what\n\n"
      "Printed by `heed_support`; a test compares. Every policy and every codec works with every rule; what a table "
      "says\n"
      "\"no\" to is refused with the message of its note, when the cache is made or the call is made.\n\n"
      "## Rules and positions\n\n"
      "In-cache ranks need keys that are stored un-rotated and turned when they are read: `RotatedKeys<P>` for MHA, "
      "GQA,\n"
      "MQA, MFA and shared rows, `Mla::rope` for MLA in both forms, and MFA-KR as it is.\n\n"
      "| rule | absolute positions | in-cache ranks | in-cache ranks, keys stored rotated |\n|---|---|---|---|\n");
  for (const RuleKind& kind : rule_kinds()) {
    const auto can = [&](Positions positions, bool rotates) {
      return cell(heed::supports(CacheFeature::create, kind.rule(), positions, rotates), notes);
    };
    std::printf("| `%s` | %s | %s | %s |\n", kind.title, can(Positions::absolute, false).c_str(),
                can(Positions::rank, true).c_str(), can(Positions::rank, false).c_str());
  }
  std::printf("\n## Operations\n\n| rule | positions |");
  for (const CacheFeature feature : heed::all_cache_features) std::printf(" %s |", heed::name_of(feature));
  std::printf(" fewest tokens that truncate() can leave, apart from 0 |\n|---|---|");
  for (std::size_t i = 0; i <= heed::all_cache_features.size(); ++i) std::printf("---|");
  std::printf("\n");
  for (const RuleKind& kind : rule_kinds()) {
    for (const Positions positions : {Positions::absolute, Positions::rank}) {
      if (!heed::supports(CacheFeature::create, kind.rule(), positions, true).ok()) continue;
      std::printf("| `%s` | %s |", kind.title, positions == Positions::absolute ? "absolute" : "rank");
      for (const CacheFeature feature : heed::all_cache_features) {
        std::printf(" %s |", cell(heed::supports(feature, kind.rule(), positions, true), notes).c_str());
      }
      std::printf(" %s |\n", kind.floor);
    }
  }
  std::printf(
      "\nIf nothing was evicted, truncate() goes back to any length. e is the latest evicted position, N the number "
      "of\n"
      "tokens seen. `undo_tokens = r` delays eviction by r tokens and lowers the floor by r.\n\n## Notes\n\n");
  for (std::size_t i = 0; i < notes.size(); ++i) std::printf("%zu. %s.\n", i + 1, notes[i].c_str());
}

}  // namespace
}  // namespace heed_examples

int main() {
  heed_examples::print();
  return 0;
}
