// Draft trees: how they are made, what their nodes know of each other, and the bits of their masks.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include <heed/speculative/draft_tree.hpp>

#include "oracle/random.hpp"

namespace heed_test::draft_tree_test {
namespace {

using heed::DraftTree;
using heed::Index;
using heed::StatusCode;
using List = std::vector<Index>;

struct Tree {
  const char* name;
  List parents;
};

List random_parents(Index nodes, std::uint64_t seed) {
  oracle::Random random(seed);
  List parents{-1};
  for (Index i = 1; i < nodes; ++i) parents.push_back(random.below(20) == 0 ? -1 : random.below(i));
  return parents;
}

const std::vector<Tree>& trees() {
  static const std::vector<Tree> all{
      {"nothing", {}},
      {"one", {-1}},
      {"chain", {-1, 0, 1, 2, 3}},
      {"star", {-1, 0, 0, 0, 0, 0}},
      {"binary", {-1, 0, 0, 1, 1, 2, 2}},
      {"two roots", {-1, -1, 0, 1, 1, 2}},
      {"64 nodes", random_parents(64, 1)},
      {"65 nodes", random_parents(65, 2)},
      {"200 nodes", random_parents(200, 3)},
  };
  return all;
}

/// From a node to its root, by the parents alone.
List to_root(const List& parents, Index node) {
  List path;
  for (; node >= 0; node = parents[std::size_t(node)]) path.push_back(node);
  return path;
}

class DraftTrees : public testing::TestWithParam<Tree> {
 protected:
  [[nodiscard]] static const List& parents() { return GetParam().parents; }
  [[nodiscard]] static Index size() { return Index(parents().size()); }
  [[nodiscard]] static DraftTree tree() { return heed::value_or_throw(DraftTree::create(parents())); }
};
INSTANTIATE_TEST_SUITE_P(All, DraftTrees, testing::ValuesIn(trees()), [](const auto& one) {
  std::string name = one.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

TEST_P(DraftTrees, KnowParentsAndDepths) {
  const DraftTree t = tree();
  ASSERT_EQ(t.size(), size());
  for (Index node = 0; node < size(); ++node) {
    EXPECT_EQ(t.parent(node), parents()[std::size_t(node)]);
    EXPECT_EQ(t.depth(node), Index(to_root(parents(), node).size()) - 1);
  }
}

TEST_P(DraftTrees, PathsLeadFromARootToTheNode) {
  const DraftTree t = tree();
  for (Index node = 0; node < size(); ++node) {
    List want = to_root(parents(), node);
    std::reverse(want.begin(), want.end());
    EXPECT_EQ(t.path(node), want);
    for (Index depth = 0; depth <= t.depth(node); ++depth) EXPECT_EQ(t.ancestor(node, depth), want[std::size_t(depth)]);
    for (Index other = 0; other < size(); ++other) {
      EXPECT_EQ(t.on_path(other, node), std::find(want.begin(), want.end(), other) != want.end());
    }
  }
}

TEST_P(DraftTrees, PositionsAreDepthsBehindThePrefix) {
  const DraftTree t = tree();
  for (const Index prefix : {0, 7, 100000}) {
    const List positions = t.positions(prefix);
    ASSERT_EQ(Index(positions.size()), size());
    for (Index node = 0; node < size(); ++node) EXPECT_EQ(positions[std::size_t(node)], prefix + t.depth(node));
  }
}

TEST_P(DraftTrees, MaskIsThePrefixAndThePath) {
  const DraftTree t = tree();
  for (const Index prefix : {0, 5, 300}) {
    const heed::SuffixMask mask = t.mask(prefix);
    for (Index query = 0; query < size(); ++query) {
      for (Index key = 0; key < prefix; ++key) EXPECT_TRUE(mask.visible(prefix + query, key));
      for (Index key = 0; key < size(); ++key) {
        EXPECT_EQ(mask.visible(prefix + query, prefix + key), t.on_path(key, query)) << query << " " << key;
      }
      EXPECT_FALSE(mask.visible(prefix + query, prefix + size())) << "a key behind the step";
    }
  }
}

/// `none` and `full` are promises, for queries and keys of any step.
TEST_P(DraftTrees, MaskCoverageKeepsItsPromises) {
  const DraftTree t = tree();
  oracle::Random random(4);
  for (const Index prefix : {0, 3, 40}) {
    const heed::SuffixMask mask = t.mask(prefix);
    const Index end = prefix + size() + 4;
    for (int i = 0; i < 300; ++i) {
      const heed::Interval queries{random.below(end), end - random.below(3)},
          keys{random.below(end), random.below(end) + 1};
      const heed::Coverage coverage = mask.coverage(queries, keys);
      if (coverage == heed::Coverage::partial) continue;
      for (Index query = queries.begin; query < queries.end; ++query) {
        for (Index key = keys.begin; key < keys.end; ++key) {
          ASSERT_EQ(mask.visible(query, key), coverage == heed::Coverage::full)
              << query << " " << key << ", prefix " << prefix;
        }
      }
    }
  }
}

TEST(DraftTree, MaskCoverageOfEarlierQueries) {
  const DraftTree t = heed::value_or_throw(DraftTree::chain(4));
  const heed::SuffixMask mask = t.mask(10);
  EXPECT_EQ(mask.coverage({0, 10}, {0, 10}), heed::Coverage::full);
  EXPECT_EQ(mask.coverage({0, 10}, {10, 14}), heed::Coverage::none);
  EXPECT_EQ(mask.coverage({10, 14}, {14, 20}), heed::Coverage::none);
  EXPECT_EQ(mask.coverage({0, 10}, {8, 12}), heed::Coverage::partial) << "keys 8 and 9 are seen";
}

TEST_P(DraftTrees, PackedBitsGiveTheSameMask) {
  const DraftTree t = tree();
  std::vector<std::uint8_t> packed(std::size_t((size() * size() + 7) / 8));
  for (Index query = 0; query < size(); ++query) {
    for (Index key = 0; key < size(); ++key) {
      const Index bit = query * size() + key;
      if (t.on_path(key, query)) packed[std::size_t(bit / 8)] |= std::uint8_t(1 << (bit % 8));
    }
  }
  const auto rows = heed::suffix_bits(packed, size());
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  const heed::SuffixMask mask(9, *rows, (size() + 63) / 64);
  for (Index query = 0; query < size(); ++query) {
    for (Index key = 0; key < 9 + size(); ++key) {
      ASSERT_EQ(mask.visible(9 + query, key), t.mask(9).visible(9 + query, key)) << query << " " << key;
    }
  }
}

TEST(SuffixBits, AreThoseOfTheBytesLowestFirst) {
  const std::vector<std::uint8_t> packed{0b10010001, 0b00000001};  // of 3 tokens: 100 010 011
  EXPECT_EQ(*heed::suffix_bits(packed, 3), (std::vector<std::uint64_t>{0b001, 0b010, 0b110}));
}

TEST(SuffixBits, OfAnotherNumberOfBytesAreRefused) {
  const std::vector<std::uint8_t> two(2), none;
  EXPECT_EQ(heed::suffix_bits(two, 5).status().message(), "packed has 2 bytes, must have 4 for 5 tokens");
  EXPECT_EQ(heed::suffix_bits(two, 2).status().message(), "packed has 2 bytes, must have 1 for 2 tokens");
  EXPECT_EQ(heed::suffix_bits(none, 1).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(heed::suffix_bits(two, -4).status().code(), StatusCode::invalid_argument);
  EXPECT_TRUE(heed::suffix_bits(none, 0).ok());
  EXPECT_TRUE(heed::suffix_bits(two, 4).ok());
}

TEST(DraftTree, RefusesParentsThatAreNoEarlierNodes) {
  const auto refused = [](const List& parents) {
    const heed::Status status = DraftTree::create(parents).status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    return status.message();
  };
  EXPECT_EQ(refused({0}), "parents[0] is 0, must be -1 or an earlier node");
  EXPECT_EQ(refused({-1, 1}), "parents[1] is 1, must be -1 or an earlier node");
  EXPECT_EQ(refused({-1, 2, 0}), "parents[1] is 2, must be -1 or an earlier node");
  EXPECT_EQ(refused({-1, 0, -2}), "parents[2] is -2, must be -1 or an earlier node");
}

TEST(DraftTree, HasAtMost4096Nodes) {
  EXPECT_EQ(heed::value_or_throw(DraftTree::chain(4096)).depth(4095), 4095);
  EXPECT_EQ(DraftTree::chain(4097).status().message(), "nodes is 4097, must be in 0 .. 4096");
  EXPECT_EQ(DraftTree::chain(-1).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(DraftTree::create(List(4097, -1)).status().message(), "nodes is 4097, must be in 0 .. 4096");
}

TEST(DraftTree, OfAChainIsTheCausalMask) {
  const DraftTree chain = heed::value_or_throw(DraftTree::chain(70));
  for (Index query = 0; query < 70; ++query) {
    EXPECT_EQ(chain.depth(query), query);
    for (Index key = 0; key < 70; ++key) EXPECT_EQ(chain.on_path(key, query), key <= query);
  }
}

TEST(DraftTreeLinks, GiveNodesInDepthFirstOrder) {
  //       0           the links number nodes in levels
  //     /   \         .
  //    1     2
  //   / \     \       .
  //  3   4     5
  List order;
  const DraftTree t =
      heed::value_or_throw(DraftTree::from_links(List{1, 3, 5, -1, -1, -1}, List{-1, 2, -1, 4, -1, -1}, order));
  EXPECT_EQ(order, (List{0, 1, 3, 4, 2, 5}));
  List parents;
  for (Index i = 0; i < t.size(); ++i) parents.push_back(t.parent(i));
  EXPECT_EQ(parents, (List{-1, 0, 1, 1, 0, 4}));
}

TEST(DraftTreeLinks, OfNodesThatNothingLeadsToLeaveThemOut) {
  List order;
  const DraftTree t = heed::value_or_throw(DraftTree::from_links(List{3, 0, -1, -1}, List{-1, 2, 0, -1}, order));
  EXPECT_EQ(order, (List{0, 3}));
  EXPECT_EQ(t.parent(1), 0);
}

TEST(DraftTreeLinks, OfSiblingsOfTheFirstNodeMakeMoreRoots) {
  List order;
  const DraftTree t = heed::value_or_throw(DraftTree::from_links(List{-1, 2, -1}, List{1, -1, -1}, order));
  EXPECT_EQ(order, (List{0, 1, 2}));
  EXPECT_EQ((List{t.parent(0), t.parent(1), t.parent(2)}), (List{-1, -1, 1}));
}

TEST(DraftTreeLinks, OfRandomTreesComeBack) {
  for (std::uint64_t seed = 1; seed < 30; ++seed) {
    const List parents = random_parents(50, seed);
    List first_child(50, -1), next_sibling(50, -1);
    List last_child(50, -1);
    Index last_root = 0;
    for (Index node = 1; node < 50; ++node) {
      const Index parent = parents[std::size_t(node)];
      Index& before = parent < 0 ? last_root : last_child[std::size_t(parent)];
      (before < 0 ? first_child[std::size_t(parent)] : next_sibling[std::size_t(before)]) = node;
      before = node;
    }
    List order;
    const auto made = DraftTree::from_links(first_child, next_sibling, order);
    ASSERT_TRUE(made.ok()) << made.status().message();
    ASSERT_EQ(made->size(), 50);
    for (Index i = 0; i < 50; ++i) {
      const Index parent = made->parent(i);
      EXPECT_EQ(parent < 0 ? -1 : order[std::size_t(parent)], parents[std::size_t(order[std::size_t(i)])]);
    }
  }
}

TEST(DraftTreeLinks, ThatLeadNowhereOrBackAreRefused) {
  const auto refused = [](const List& first_child, const List& next_sibling) {
    List order;
    const heed::Status status = DraftTree::from_links(first_child, next_sibling, order).status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << testing::PrintToString(order);
    return status.message();
  };
  EXPECT_EQ(refused({5, -1}, {-1, -1}), "a link leads to node 5 of 2, or back");
  EXPECT_EQ(refused({-2, -1}, {-1, -1}), "a link leads to node -2 of 2, or back");
  EXPECT_EQ(refused({0}, {-1}), "a link leads to node 0 of 1, or back") << "its own child";
  EXPECT_EQ(refused({-1, -1}, {0, -1}), "a link leads to node 0 of 2, or back") << "its own sibling";
  EXPECT_EQ(refused({1, 2, 0}, {-1, -1, -1}), "a link leads to node 0 of 3, or back");
  EXPECT_EQ(refused({1, 2, -1, -1}, {-1, 2, -1, -1}), "a link leads to node 2 of 4, or back") << "two parents";
  EXPECT_EQ(refused({1, -1, -1, -1}, {-1, 2, 1, -1}), "a link leads to node 1 of 4, or back");
  EXPECT_EQ(refused({-1, -1}, {-1}), "next_sibling has 1 node, first_child 2");
}

TEST(DraftTreeLinks, OfNoNodesAreAnEmptyTree) {
  List order{7};
  EXPECT_EQ(heed::value_or_throw(DraftTree::from_links(List{}, List{}, order)).size(), 0);
  EXPECT_TRUE(order.empty());
}

}  // namespace
}  // namespace heed_test::draft_tree_test
