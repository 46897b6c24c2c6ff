// A range of chunks is cut into nodes of the merge tree: as large as they can be, none across an end of the range.
#include <gtest/gtest.h>

#include <vector>

#include <heed/kernel/tree_nodes.hpp>

#include "oracle/random.hpp"

namespace heed_test::tree_nodes_test {
namespace {

using heed::Index;
using heed::Interval;
using heed::KeyRange;

std::vector<Interval> nodes_of(Interval chunks, Interval held = {0, KeyRange::all}) {
  std::vector<Interval> nodes;
  heed::detail::for_each_node(chunks, held, [&](Interval node) { nodes.push_back(node); });
  return nodes;
}

TEST(TreeNodes, OfSomeRanges) {
  EXPECT_EQ(nodes_of({0, 0}), (std::vector<Interval>{}));
  EXPECT_EQ(nodes_of({0, 8}), (std::vector<Interval>{{0, 8}}));
  EXPECT_EQ(nodes_of({1, 8}), (std::vector<Interval>{{1, 2}, {2, 4}, {4, 8}}));
  EXPECT_EQ(nodes_of({3, 13}), (std::vector<Interval>{{3, 4}, {4, 8}, {8, 12}, {12, 13}}));
  EXPECT_EQ(nodes_of({0, KeyRange::all}), (std::vector<Interval>{{0, KeyRange::all}}));
  EXPECT_EQ(nodes_of({6, KeyRange::all}, {0, 20}), (std::vector<Interval>{{6, 8}, {8, 16}, {16, 32}}));
  EXPECT_EQ(nodes_of({6, KeyRange::all}, {9, 12}), (std::vector<Interval>{{8, 16}}));
  EXPECT_EQ(nodes_of({6, KeyRange::all}, {0, 6}), (std::vector<Interval>{}));
  EXPECT_EQ(nodes_of({0, 9}, {5, 5}), (std::vector<Interval>{}));
}

TEST(TreeNodes, CoverTheRangeAndAreAsLargeAsTheyCanBe) {
  oracle::Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const Index top = Index{1} << (1 + random.below(32)), begin = random.below(top),
                end = begin + random.below(top - begin + 1);
    Index at = begin;
    const std::vector<Interval> nodes = nodes_of({begin, end});
    ASSERT_LE(Index(nodes.size()), heed::detail::most_nodes);
    for (const Interval node : nodes) {
      ASSERT_EQ(node.begin, at);
      ASSERT_GT(node.size(), 0);
      ASSERT_LE(node.end, end);
      ASSERT_EQ(node.size() & (node.size() - 1), 0);
      ASSERT_EQ(node.begin % node.size(), 0) << "a node of the tree";
      const Index parent = node.begin / (2 * node.size()) * (2 * node.size());
      ASSERT_TRUE(parent < begin || parent + 2 * node.size() > end) << "its parent would fit";
      at = node.end;
    }
    ASSERT_EQ(at, end);
  }
}

TEST(TreeNodes, TheBoundHoldsWhereverTheKeysLie) {
  oracle::Random random(2);
  for (int i = 0; i < 3000; ++i) {
    const Index begin = random.below(300), count = random.below(200), from = random.below(600);
    const Interval chunks{begin, random.below(3) == 0 ? KeyRange::all : begin + random.below(500)};
    ASSERT_LE(heed::detail::count_nodes(chunks, {from, from + count}), heed::detail::most_nodes_of(chunks, count))
        << chunks.begin << " " << chunks.end << " " << from << " " << count;
  }
}

}  // namespace
}  // namespace heed_test::tree_nodes_test
