/// \file
/// Draft trees over foreign rows at any position.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/speculative/tree_mask.hpp>

namespace heed_test::tree_positions_test {
namespace {

using heed::Index;

/// A chain is causal attention, wherever positions begin.
TEST(TreePositions, RowsFromBeforeZero) {
  constexpr Index keys = 300, nodes = 3;
  std::vector<float> rows;
  for (Index i = 0; i < keys * 2; ++i) rows.push_back(float(std::sin(double(i))));
  const heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 8, 8};
  const auto tree = heed::value_or_throw(heed::DraftTree::chain(nodes));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  for (const Index first : {Index{-10}, Index{-400}, Index{0}}) {
    const heed::StridedSource<heed::F32> source(keys, stream, stream, first);
    const std::vector<float> q(nodes * 2, 0.5f);
    std::vector<float> of_tree(q.size(), std::nanf("")), causal(q.size(), std::nanf(""));
    const heed::TreeMask mask = heed::value_or_throw(heed::TreeMask::create(source, tree));
    ASSERT_TRUE(heed::attend<heed::Scalar>(policy, q, source, mask, of_tree, workspace, serial).ok());
    ASSERT_TRUE(heed::attend<heed::Scalar>(policy, q, source, heed::Causal{}, causal, workspace, serial).ok());
    EXPECT_EQ(of_tree, causal) << "from position " << first;
  }
}

}  // namespace
}  // namespace heed_test::tree_positions_test
