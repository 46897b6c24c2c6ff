/// \file
/// The radix tree of ids against a list of sequences.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include <heed/cache/prefix/id_tree.hpp>

namespace heed_test::id_tree_test {
namespace {

using heed::Index;
using heed::detail::IdTree;
using Ids = std::vector<std::int32_t>;

struct Sequence {
  Ids ids;
  Index floor = 0;
  IdTree::Place place = 0;
};
using Sequences = std::map<std::uint64_t, Sequence>;

/// How long a beginning of `asked` a sequence can give; 0: none.
Index usable(const Sequence& sequence, const Ids& asked) {
  const auto end = std::mismatch(asked.begin(), asked.end(), sequence.ids.begin(), sequence.ids.end()).first;
  const Index common = end - asked.begin();
  return common >= sequence.floor ? common : 0;
}
void expect_longest(const IdTree& tree, const Sequences& all, const Ids& asked) {
  Index want = 0;
  std::uint64_t same = 0;
  for (const auto& [number, sequence] : all) {
    want = std::max(want, usable(sequence, asked));
    if (sequence.ids == asked) same = number;
  }
  const IdTree::Found found = tree.longest(asked);
  ASSERT_EQ(found.length, want);
  ASSERT_EQ(tree.exactly(asked), same);
  ASSERT_LE(found.compared, 2 * Index(asked.size()));
  if (want == 0) return;
  ASSERT_EQ(all.count(found.number), 1u);
  ASSERT_EQ(usable(all.at(found.number), asked), want);
}

/// Ids on distinct paths: a path of k sequences stores what they have in common once.
Index distinct_ids(const Sequences& all) {
  std::vector<Ids> prefixes;
  for (const auto& [number, sequence] : all) {
    for (std::size_t n = 1; n <= sequence.ids.size(); ++n) {
      prefixes.emplace_back(sequence.ids.begin(), sequence.ids.begin() + std::ptrdiff_t(n));
    }
  }
  std::sort(prefixes.begin(), prefixes.end());
  return std::unique(prefixes.begin(), prefixes.end()) - prefixes.begin();
}

TEST(IdTree, IsAListOfSequences) {
  std::mt19937_64 random(7);
  const auto pick = [&](Index least, Index most) { return least + Index(random() % std::uint64_t(most - least + 1)); };
  for (int repeat = 0; repeat < 60; ++repeat) {
    IdTree tree;
    Sequences all;
    std::uint64_t last = 0;
    const Index alphabet = pick(1, 3), longest = pick(1, 12);
    const auto text = [&] {
      Ids ids;
      for (Index n = pick(0, longest); n > 0; --n) ids.push_back(std::int32_t(pick(0, alphabet - 1)));
      return ids;
    };
    for (int turn = 0; turn < 120; ++turn) {
      const Ids ids = text();
      const auto known = tree.exactly(ids);
      if (pick(0, 2) == 0 && !all.empty()) {
        const auto victim = std::next(all.begin(), pick(0, Index(all.size()) - 1));
        tree.erase(victim->second.place);
        all.erase(victim);
      } else if (known != 0) {
        Sequence& sequence = all.at(known);
        sequence.floor = pick(0, Index(ids.size()));
        tree.set_floor(sequence.place, sequence.floor);
      } else if (!ids.empty()) {
        const Index floor = pick(0, 1) * pick(0, Index(ids.size()));
        ++last;
        all[last] = {ids, floor, tree.add(ids, last, floor)};
      }
      for (int ask = 0; ask < 5; ++ask) ASSERT_NO_FATAL_FAILURE(expect_longest(tree, all, text()));
      ASSERT_EQ(tree.empty(), all.empty());
      const Index nodes = (tree.bytes() - 4 * distinct_ids(all)) / IdTree::bytes_of(0);
      ASSERT_EQ(tree.bytes(), 4 * distinct_ids(all) + nodes * IdTree::bytes_of(0));
      ASSERT_LE(nodes, 2 * Index(all.size())) << "a node for each sequence, and for each place where they part";
      if (all.size() == 1) {
        ASSERT_EQ(tree.bytes(), IdTree::bytes_of(Index(all.begin()->second.ids.size())));
      }
    }
  }
}

/// What many sequences have in common is compared once.
TEST(IdTree, ComparesWhatIsSharedOnce) {
  constexpr Index shared = 8192;
  Ids common(shared);
  std::iota(common.begin(), common.end(), 0);
  IdTree tree;
  Ids ids = common;
  ids.resize(shared + 20);
  for (std::int32_t i = 0; i < 1000; ++i) {
    ids[shared] = i;
    tree.add(ids, std::uint64_t(i) + 1, 0);
  }
  EXPECT_LT(tree.bytes(), 4 * (shared + 1000 * 20) + 1001 * IdTree::bytes_of(0) + 1);
  Ids asked = common;
  asked.push_back(5000);
  const IdTree::Found cut = tree.longest(asked);
  EXPECT_EQ(cut.length, shared);
  EXPECT_LE(cut.compared, shared + 2);
  ids[shared] = 777;
  const IdTree::Found whole = tree.longest(ids);
  EXPECT_EQ(whole.length, shared + 20);
  EXPECT_EQ(whole.number, 778u);
  EXPECT_LE(whole.compared, shared + 22);
}

/// A sequence in each length: as deep as it is long.
TEST(IdTree, IsDeep) {
  constexpr Index depth = 5000;
  const Ids ids(depth, 3);
  IdTree tree;
  std::vector<IdTree::Place> places;
  for (Index n = 1; n <= depth; ++n)
    places.push_back(tree.add(std::span(ids).first(std::size_t(n)), std::uint64_t(n), n));
  EXPECT_EQ(tree.longest(ids).length, depth);
  EXPECT_EQ(tree.longest(std::span(ids).first(4321)).number, 4321u);
  for (const IdTree::Place place : places) tree.erase(place);
  EXPECT_TRUE(tree.empty());
  EXPECT_EQ(tree.bytes(), 0);
}

}  // namespace
}  // namespace heed_test::id_tree_test
