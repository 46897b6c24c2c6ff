// What a tree is asked once a step: positions for all layers of a rule, in memory that may be missing, and on paths of any
// length.
#include <algorithm>
#include <string>

#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "speculative/trees.hpp"

namespace heed_test::tree_step_test {
namespace {

using heed::DraftTree;
using heed::StatusCode;
using List = std::vector<Index>;

DraftTree binary() { return heed::value_or_throw(DraftTree::create(List{-1, 0, 0, 1, 1, 2, 2})); }

/// Rotates rows [tokens][heads][24] as layers do.
void rotate(const heed::Rope& rope, std::span<const Index> positions, std::vector<float>& rows) {
  const Index heads = Index(rows.size()) / 24 / Index(positions.size());
  heed::check(rope.apply_rows(positions, heads, rows));
}

/// Queries and keys rotated by a tree's positions give a node what decoding its path gives, rotated by the step's: layers of
/// two rules, each with one mask and one set of paths for all of its layers.
TEST(TreeStep, RotatesByThePositionsOfTheTree) {
  const Subject<heed::Gqa> subject = gqa();
  const DraftTree tree = binary();
  const heed::LayerRule rules[] = {{heed::SlidingWindow{5}, {0, 2}}, {heed::Causal{}, {1, 3}}};
  oracle::Random random(1);
  auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, heed::F32>::create(subject.policy, {.layers = 4}, rules));
  heed::check(begin(cache, random_rows(subject, 20, random)).commit());
  const Rows nodes = random_rows(subject, tree.size(), random);
  const auto rotated = [&](Rows rows, std::span<const Index> positions) {
    rotate(rope_of(24), positions, rows.q);
    rotate(rope_of(24), positions, rows.streams[0]);
    return rows;
  };
  std::vector<std::vector<Output>> want(4, std::vector<Output>(std::size_t(tree.size())));
  for (Index node = 0; node < tree.size(); ++node) {
    auto fork = heed::value_or_throw(cache.fork());
    for (const Index on_path : tree.path(node)) {
      auto step = heed::value_or_throw(fork.begin(nodes.part(on_path, 1).ids));
      for (Index layer = 0; layer < 4; ++layer) {
        const Rows row = rotated(nodes.part(on_path, 1), step.positions(layer));
        heed::check(step.write(layer, row.streams[0], row.streams[1]));
        want[std::size_t(layer)][std::size_t(node)] = attend(subject, row, step.keys(layer));
      }
      heed::check(step.commit());
    }
  }
  auto step = heed::value_or_throw(cache.begin(nodes.ids));
  heed::TreeMask masks[] = {mask_of(step.keys(0), tree), mask_of(step.keys(1), tree)};
  heed::TreePaths first[] = {paths_of(step.keys(0), tree), paths_of(step.keys(1), tree)};
  const heed::TreePaths paths[] = {std::move(first[0]), std::move(first[1])};
  for (Index layer = 0; layer < 4; ++layer) {
    const std::size_t group = std::size_t(layer % 2);
    ASSERT_TRUE(std::ranges::equal(masks[group].positions(), List{20, 21, 21, 22, 22, 22, 22}));
    ASSERT_TRUE(std::ranges::equal(paths[group].positions(), masks[group].positions()));
    const Rows rows = rotated(nodes, masks[group].positions());
    heed::check(step.write(layer, rows.streams[0], rows.streams[1]));
    const Output by_paths = attend(subject, rows, paths[group].keys(step.keys(layer)));
    const Output by_mask = attend(subject, rows, step.keys(layer), masks[group]);
    for (Index node = 0; node < tree.size(); ++node) {
      const Output& decoded = want[std::size_t(layer)][std::size_t(node)];
      ASSERT_TRUE(by_paths.row(node, tree.size()) == decoded) << "layer " << layer << ", node " << node;
      const Output near = by_mask.row(node, tree.size());
      for (std::size_t i = 0; i < near.out.size(); ++i) ASSERT_TRUE(std::abs(near.out[i] - decoded.out[i]) <= 2e-5f);
    }
  }
}

template <class P, class Keys>
heed::Status status_of(const Subject<P>& subject, const Rows& rows, const Keys& keys, heed::MaskRef mask = {}) {
  Output made = empty_output(subject, rows.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Status status = heed::attend<Backend>(subject.policy, rows.q, keys, mask, made.out, workspace, executor);
  if (!status.ok()) {
    EXPECT_TRUE(std::ranges::all_of(made.out, [](float x) { return std::isnan(x); })) << "untouched";
  }
  return status;
}

/// Whoever asks the step gets the positions of a text, slot by slot: then its tokens are no nodes, unless they are a text.
TEST(TreeStep, RefusesTheStepsOwnPositions) {
  const std::string message =
      "sequence 0: step.positions() was called, but the step is a tree's, whose nodes have other positions: rotate by "
      "positions() of the tree's ";
  const auto expect = [&](const auto& subject, heed::Positions positions, bool masks) {
    oracle::Random random(2);
    heed::CacheOptions options;
    options.positions = positions;
    auto cache = make_cache<heed::F32>(subject, options, heed::SlidingWindow{64});
    heed::check(begin(cache, random_rows(subject, 20, random)).commit());
    for (const bool chain : {false, true}) {
      const DraftTree tree = chain ? heed::value_or_throw(DraftTree::chain(7)) : binary();
      const Rows rows = random_rows(subject, 7, random);
      for (const bool early : {false, true}) {
        auto step = begin(cache, rows);
        if (early) {
          EXPECT_EQ(step.positions(0).size(), 7u);
        }
        const heed::TreePaths paths = paths_of(step.keys(0), tree);
        const heed::Result<heed::TreeMask> mask = heed::TreeMask::create(step.keys(0), tree);
        ASSERT_EQ(mask.ok(), masks);
        if (!early) {
          EXPECT_TRUE(status_of(subject, rows, paths.keys(step.keys(0))).ok());
          if (masks) {
            EXPECT_TRUE(status_of(subject, rows, step.keys(0), *mask).ok());
          }
          EXPECT_EQ(step.positions(0).size(), 7u);
        }
        const auto refused = [&](const heed::Status& status, const std::string& what) {
          EXPECT_EQ(status.code(), chain ? StatusCode::ok : StatusCode::wrong_state);
          EXPECT_EQ(status.message(), chain ? "" : message + what);
        };
        refused(status_of(subject, rows, paths.keys(step.keys(0))), "set of paths");
        if (masks) refused(status_of(subject, rows, step.keys(0), *mask), "mask");
        if (chain) {
          EXPECT_TRUE(std::ranges::equal(paths.positions(), step.positions(0)));
        }
      }
    }
  };
  expect(gqa(), heed::Positions::absolute, true);
  expect(mfa_kr(), heed::Positions::rank, false);
}

TEST(TreeStep, SaysWhenThereIsNoMemory) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(3);
  auto cache = make_cache<heed::F32>(subject, {}, heed::SlidingWindow{8});
  heed::check(begin(cache, random_rows(subject, 20, random)).commit());
  const Rows rows = random_rows(subject, 7, random);
  const DraftTree tree = binary();
  auto step = begin(cache, rows);
  CountingMemory memory;
  memory.failing_from = 0;
  memory.failures = 2;
  EXPECT_EQ(heed::TreeMask::create(step.keys(0), tree, memory.resource()).status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(heed::TreePaths::create(step.keys(0), tree, memory.resource()).status().code(), StatusCode::out_of_memory);
  {
    const auto mask = heed::TreeMask::create(step.keys(0), tree, memory.resource());
    const auto paths = heed::TreePaths::create(step.keys(0), tree, memory.resource());
    ASSERT_TRUE(mask.ok() && paths.ok());
    EXPECT_EQ(memory.blocks, 2) << "one block each";
    EXPECT_TRUE(status_of(subject, rows, step.keys(0), *mask).ok());
    EXPECT_TRUE(status_of(subject, rows, paths->keys(step.keys(0))).ok());
    EXPECT_EQ(memory.allocations, 4);
  }
  EXPECT_EQ(memory.blocks, 0);
  EXPECT_EQ(heed::TreeMask::create(step.keys(0), tree, heed::MemoryResource{}).status().code(),
            StatusCode::invalid_argument);
}

TEST(TreeStep, SaysWhatWasMovedFrom) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(4);
  auto cache = make_cache<heed::F32>(subject);
  const Rows rows = random_rows(subject, 7, random);
  const DraftTree tree = binary();
  auto step = begin(cache, rows);
  heed::TreeMask mask = mask_of(step.keys(0), tree);
  heed::TreePaths paths = paths_of(step.keys(0), tree);
  const auto keys = paths.keys(step.keys(0));
  const heed::TreeMask mask_now = std::move(mask);
  const heed::TreePaths paths_now = std::move(paths);
  EXPECT_TRUE(status_of(subject, rows, step.keys(0), mask_now).ok());
  EXPECT_TRUE(status_of(subject, rows, keys).ok()) << "they stay valid";
  // NOLINTBEGIN(bugprone-use-after-move)
  EXPECT_EQ(status_of(subject, rows, step.keys(0), mask).message(), "sequence 0: the mask of the tree was moved from");
  EXPECT_EQ(status_of(subject, rows, paths.keys(step.keys(0))).message(),
            "sequence 0: the paths of the tree were moved from");
  EXPECT_TRUE(mask.positions().empty() && paths.positions().empty());
  // NOLINTEND(bugprone-use-after-move)
}

// --- long paths -----------------------------------------------------------------------------------------------------------

/// The longest chain there is has the bits of a step of text, for every rule that looks back along the path. A walk along
/// the path for every key of a node would take 10^10 steps a head.
TEST(TreeStep, HasTheBitsOfTextAlongTheLongestChain) {
  const Subject<heed::Mqa> subject{{.num_heads = 1, .head_dim = 4, .scale = 0.5f}, 4, 4};
  const DraftTree chain = heed::value_or_throw(DraftTree::chain(DraftTree::max_nodes));
  const heed::AnyRule rules[] = {
      heed::Causal{}, heed::Separators{.initial = 3, .window = 5, .ids = {1, 2}},
      heed::SeparatorStream{.initial = 2, .separators = 700, .local = 5, .capacity = 900, .ids = {1, 2}}};
  for (const heed::AnyRule& rule : rules) {
    oracle::Random random(5);
    auto cache = make_cache<heed::F32>(subject, {}, rule);
    heed::check(begin(cache, random_rows(subject, 300, random)).commit());
    const Rows rows = random_rows(subject, chain.size(), random);
    auto step = begin(cache, rows);
    const Output want = attend(subject, rows, step.keys(0));
    EXPECT_TRUE(attend_paths(subject, rows, step.keys(0), chain) == want) << rule.name();
  }
}

/// Nodes of two chains in turn: no two of a path follow each other.
TEST(TreeStep, FindsThePathAmongNodesInTurn) {
  List parents;
  for (Index i = 0; i < DraftTree::max_nodes; ++i) parents.push_back(i < 2 ? -1 : i - 2);
  const DraftTree tree = heed::value_or_throw(DraftTree::create(parents));
  const Subject<heed::Mqa> subject{{.num_heads = 1, .head_dim = 4, .scale = 0.5f}, 4, 4};
  oracle::Random random(6);
  auto cache = make_cache<heed::F32>(subject, {}, heed::Separators{.initial = 3, .window = 5, .ids = {1, 2}});
  heed::check(begin(cache, random_rows(subject, 300, random)).commit());
  const Rows rows = random_rows(subject, tree.size(), random);
  auto fork = heed::value_or_throw(cache.fork());
  auto step = begin(cache, rows);
  const Output got = attend_paths(subject, rows, step.keys(0), tree);
  const List path = tree.path(tree.size() - 1);
  const Rows text = rows.picked(path);
  auto decoding = begin(fork, text);
  const Output want = attend(subject, text, decoding.keys(0));
  for (Index i = 0; i < text.size(); ++i) {
    ASSERT_TRUE(got.row(path[std::size_t(i)], tree.size()) == want.row(i, text.size())) << "node " << i;
  }
}

}  // namespace
}  // namespace heed_test::tree_step_test
