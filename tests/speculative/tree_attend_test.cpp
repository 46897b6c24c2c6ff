// Draft trees over a cache: every node has the bits of decoding its path, one call with the tree's mask is attention over
// what the node sees, rejected rows leave no trace, and an accepted path is a text like any other.
#include <algorithm>
#include <memory>
#include <string>

#include <heed/exec/thread_pool.hpp>

#include "oracle/attention.hpp"
#include "oracle/bound.hpp"
#include "speculative/trees.hpp"

namespace heed_test::tree_attend_test {
namespace {

using heed::DraftTree;
using List = std::vector<Index>;

struct Named {
  std::string name;
  DraftTree tree;
};

DraftTree make_tree(const List& parents) { return heed::value_or_throw(DraftTree::create(parents)); }

DraftTree random_tree(Index nodes, std::uint64_t seed) {
  oracle::Random random(seed);
  List parents{-1};
  for (Index i = 1; i < nodes; ++i) parents.push_back(std::max<Index>(0, i - 1 - random.below(4)));
  return make_tree(parents);
}

const std::vector<Named>& trees() {
  static const std::vector<Named> all{{"chain", make_tree({-1, 0, 1, 2, 3, 4})},
                                      {"star", make_tree({-1, 0, 0, 0, 0})},
                                      {"binary", make_tree({-1, 0, 0, 1, 1, 2, 2})},
                                      {"two roots", make_tree({-1, 0, -1, 2, 1, 2})},
                                      {"random", random_tree(16, 5)}};
  return all;
}

List prefixes() {
  List all{0, 5, 511};
  for (Index prefix = 250; prefix <= 260; ++prefix) all.push_back(prefix);
  return all;
}

List leaves(const DraftTree& tree) {
  List all;
  for (Index node = 0; node < tree.size(); ++node) {
    bool parent = false;
    for (Index child = node + 1; child < tree.size(); ++child) parent |= tree.parent(child) == node;
    if (!parent) all.push_back(node);
  }
  return all;
}

/// What every node gets when its path is decoded from a fork, token by token.
template <class P, class Cache>
std::vector<Output> decoded_paths(const Subject<P>& subject, const Cache& prefix, const DraftTree& tree,
                                  const Rows& nodes) {
  std::vector<Output> want(std::size_t(tree.size()));
  for (const Index leaf : leaves(tree)) {
    Cache fork = heed::value_or_throw(prefix.fork());
    for (const Index node : tree.path(leaf)) want[std::size_t(node)] = decode(subject, fork, nodes.part(node, 1));
  }
  return want;
}

/// The law, over all trees and prefixes.
template <class Codec, class P>
void expect_decoded_bits(const Subject<P>& subject, std::uint64_t seed) {
  oracle::Random random(seed);
  for (const Index size : prefixes()) {
    auto cache = make_cache<Codec>(subject, {.page_tokens = 64});
    if (size > 0) decode(subject, cache, random_rows(subject, size, random));
    for (const auto& [name, tree] : trees()) {
      const Rows nodes = random_rows(subject, tree.size(), random);
      const std::vector<Output> want = decoded_paths(subject, cache, tree, nodes);
      auto step = begin(cache, nodes);
      const auto view = step.keys(0);
      const Output got = attend_paths(subject, nodes, view, tree);
      for (Index node = 0; node < tree.size(); ++node) {
        ASSERT_TRUE(got.row(node, tree.size()) == want[std::size_t(node)])
            << name << ", prefix " << size << ", node " << node;
      }
    }
  }
}

TEST(TreePaths, HaveTheBitsOfDecodingThemGqa) { expect_decoded_bits<heed::F32>(gqa(), 1); }
TEST(TreePaths, HaveTheBitsOfDecodingThemGqaBf16) { expect_decoded_bits<heed::Bf16>(gqa(), 2); }
TEST(TreePaths, HaveTheBitsOfDecodingThemMla) { expect_decoded_bits<heed::F32>(mla(), 3); }
TEST(TreePaths, HaveTheBitsOfDecodingThemMlaThatRotates) { expect_decoded_bits<heed::Bf16>(mla(true), 4); }
TEST(TreePaths, HaveTheBitsOfDecodingThemRotatedGqa) { expect_decoded_bits<heed::F32>(rotated_gqa(), 5); }
TEST(TreePaths, HaveTheBitsOfDecodingThemMfaKr) { expect_decoded_bits<heed::F32>(mfa_kr(), 6); }

/// float64 attention over the prefix and the path.
template <class Codec>
oracle::Answer answer_of(const Subject<heed::Gqa>& subject, const Rows& all, const Rows& nodes, const DraftTree& tree) {
  const heed::Gqa& p = subject.policy;
  oracle::Problem problem{.heads = p.num_heads,
                          .kv_heads = p.num_kv_heads,
                          .key_dim = p.head_dim,
                          .value_dim = p.v_head_dim,
                          .scale = double(p.scale),
                          .q = oracle::doubles(nodes.q),
                          .k = oracle::doubles(all.streams[0]),
                          .v = oracle::doubles(all.streams[1])};
  if (std::is_same_v<Codec, heed::Bf16>) {
    for (double& x : problem.k) x = oracle::round_to_bf16(x);
    for (double& x : problem.v) x = oracle::round_to_bf16(x);
  }
  const Index prefix = all.size() - tree.size();
  problem.visible = [&tree, prefix](oracle::Int query, oracle::Int key) {
    if (key < prefix) return true;
    for (Index node = query - prefix; node >= 0; node = tree.parent(node)) {
      if (node == key - prefix) return true;
    }
    return false;
  };
  return oracle::attention(problem);
}

template <class Codec>
void expect_masked_answer(std::uint64_t seed) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(seed);
  for (const Index size : {0, 5, 255, 300}) {
    for (const auto& [name, tree] : trees()) {
      Rows all = random_rows(subject, size, random);
      auto cache = make_cache<Codec>(subject);
      if (size > 0) decode(subject, cache, all);
      const Rows nodes = random_rows(subject, tree.size(), random);
      all.append(nodes);
      auto step = begin(cache, nodes);
      const heed::SuffixMask mask = tree.mask(size);
      const Output got = attend(subject, nodes, step.keys(0), mask);
      const oracle::Answer want = answer_of<Codec>(subject, all, nodes, tree);
      EXPECT_LE(oracle::worst_output(got.out, want), 1) << name << ", prefix " << size;
      EXPECT_LE(oracle::worst_lse(got.lse, want), 1) << name << ", prefix " << size;
    }
  }
}
TEST(TreeMask, IsAttentionOverWhatANodeSees) { expect_masked_answer<heed::F32>(11); }
TEST(TreeMask, IsAttentionOverWhatANodeSeesBf16) { expect_masked_answer<heed::Bf16>(12); }

TEST(TreeMask, OfAChainHasTheBitsOfDecoding) {
  const auto expect = [](const auto& subject) {
    oracle::Random random(13);
    for (const Index size : {0, 3, 250, 511}) {
      auto cache = make_cache<heed::Bf16>(subject);
      if (size > 0) decode(subject, cache, random_rows(subject, size, random));
      const Rows nodes = random_rows(subject, 16, random);
      const DraftTree chain = heed::value_or_throw(DraftTree::chain(16));
      auto fork = heed::value_or_throw(cache.fork());
      const Output want = decode_one_by_one(subject, fork, nodes);
      auto step = begin(cache, nodes);
      const auto view = step.keys(0);
      const heed::SuffixMask mask = chain.mask(size);
      EXPECT_TRUE(attend(subject, nodes, view, mask) == want) << size;
      EXPECT_TRUE(attend(subject, nodes, view) == want) << size << ", the cache's own mask";
      EXPECT_TRUE(attend_paths(subject, nodes, view, chain) == want) << size << ", paths";
    }
  };
  expect(gqa());
  expect(mla());
  expect(mfa_kr());
}

/// A mask from an engine's packed bits is the tree's.
TEST(TreeMask, FromPackedBitsGivesTheSameBits) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(14);
  auto cache = make_cache<heed::F32>(subject);
  decode(subject, cache, random_rows(subject, 300, random));
  const DraftTree tree = random_tree(70, 3);
  std::vector<std::uint8_t> packed((70 * 70 + 7) / 8);
  for (Index bit = 0; bit < 70 * 70; ++bit) {
    packed[std::size_t(bit / 8)] |= std::uint8_t(tree.on_path(bit % 70, bit / 70) ? 1 << (bit % 8) : 0);
  }
  const auto bits = heed::value_or_throw(heed::suffix_bits(packed, 70));
  const Rows nodes = random_rows(subject, 70, random);
  auto step = begin(cache, nodes);
  const heed::SuffixMask mask(300, bits, 2), same = tree.mask(300);
  EXPECT_TRUE(attend(subject, nodes, step.keys(0), mask) == attend(subject, nodes, step.keys(0), same));
}

/// Nodes off a path may hold anything.
TEST(RejectedRows, NeverReachAPath) {
  const auto expect = [](const auto& subject) {
    oracle::Random random(21);
    for (const Index size : {0, 5, 254}) {
      for (const Named& one : trees()) {
        const DraftTree& tree = one.tree;
        auto cache = make_cache<heed::F32>(subject);
        if (size > 0) decode(subject, cache, random_rows(subject, size, random));
        const Rows nodes = random_rows(subject, tree.size(), random);
        for (const Index leaf : leaves(tree)) {
          Rows poisoned = nodes;
          for (Index node = 0; node < tree.size(); ++node) {
            if (!tree.on_path(node, leaf)) poisoned.poison(node);
          }
          const auto outputs = [&](const Rows& rows, bool masked) {
            auto step = begin(cache, rows);
            const auto view = step.keys(0);
            const heed::SuffixMask mask = tree.mask(size);
            return masked ? attend(subject, rows, view, mask) : attend_paths(subject, rows, view, tree);
          };
          for (const bool masked : {false, true}) {
            const Output want = outputs(nodes, masked), got = outputs(poisoned, masked);
            for (const Index node : tree.path(leaf)) {
              ASSERT_TRUE(got.row(node, tree.size()) == want.row(node, tree.size()))
                  << one.name << ", prefix " << size << ", node " << node;
            }
          }
        }
      }
    }
  };
  expect(gqa());
  expect(mla());
  expect(mfa_kr());
}

/// What was accepted is a text without gaps: the cache goes on as if it alone had come.
template <class Codec, class P>
void expect_text_after_commit(const Subject<P>& subject, std::uint64_t seed) {
  oracle::Random random(seed);
  for (const Index size : {0, 5, 250, 255, 511}) {
    for (const auto& [name, tree] : trees()) {
      auto prefix = make_cache<Codec>(subject, {.layers = 2, .page_tokens = 16});
      if (size > 0) decode(subject, prefix, random_rows(subject, size, random));
      const Rows nodes = random_rows(subject, tree.size(), random), more = random_rows(subject, 9, random);
      for (Index node = 0; node < tree.size(); ++node) {
        const List path = tree.path(node);
        auto straight = heed::value_or_throw(prefix.fork()), cache = heed::value_or_throw(prefix.fork());
        decode_one_by_one(subject, straight, nodes.picked(path));
        Rows rows = nodes;  // the others are rejected
        for (Index other = 0; other < tree.size(); ++other) {
          if (!tree.on_path(other, node)) rows.poison(other);
        }
        auto step = begin(cache, rows);
        ASSERT_TRUE(step.commit(path).ok());
        ASSERT_EQ(cache.seen(), size + Index(path.size()));
        ASSERT_EQ(cache.size(1), cache.seen());
        ASSERT_TRUE(decode_one_by_one(subject, cache, more) == decode_one_by_one(subject, straight, more))
            << name << ", prefix " << size << ", node " << node;
      }
    }
  }
}
TEST(AcceptedPath, GoesOnAsATextGqa) { expect_text_after_commit<heed::Bf16>(gqa(), 31); }
TEST(AcceptedPath, GoesOnAsATextMla) { expect_text_after_commit<heed::F32>(mla(), 32); }
TEST(AcceptedPath, GoesOnAsATextRotatedGqa) { expect_text_after_commit<heed::F32>(rotated_gqa(), 33); }
TEST(AcceptedPath, GoesOnAsATextMfaKr) { expect_text_after_commit<heed::F16>(mfa_kr(), 34); }

/// Sequences of 1 to 16 nodes in one call.
template <class P>
void expect_batch_is_one_by_one(const Subject<P>& subject, std::uint64_t seed) {
  using Cache = heed::KvCache<P, heed::F32>;
  using Paths = heed::PathKeys<typename Cache::Keys>;
  oracle::Random random(seed);
  std::vector<std::unique_ptr<Cache>> caches;
  std::vector<typename Cache::Step> steps;
  std::vector<typename Cache::Keys> views;
  std::vector<DraftTree> forest;
  std::vector<Rows> rows;
  std::vector<Output> want, want_masked, got, got_masked;
  for (Index i = 0; i < 16; ++i) {
    const Index nodes = 1 + (i * 7) % 16, size = random.below(600);
    forest.push_back(random_tree(nodes, std::uint64_t(i)));
    caches.push_back(std::make_unique<Cache>(make_cache<heed::F32>(subject)));
    if (size > 0) decode(subject, *caches.back(), random_rows(subject, size, random));
    rows.push_back(random_rows(subject, nodes, random));
    steps.push_back(begin(*caches.back(), rows.back()));
  }
  std::vector<heed::SuffixMask> masks;
  std::vector<heed::TreePaths> tree_paths;
  std::vector<Paths> paths;
  for (std::size_t i = 0; i < 16; ++i) views.push_back(steps[i].keys(0));
  for (std::size_t i = 0; i < 16; ++i) {
    masks.push_back(forest[i].mask(views[i].size() - forest[i].size()));
    tree_paths.push_back(paths_of(views[i], forest[i]));
    paths.push_back(tree_paths.back().keys(views[i]));
    want.push_back(attend(subject, rows[i], paths[i]));
    want_masked.push_back(attend(subject, rows[i], views[i], masks[i]));
  }
  for (const Index workers : {1, 3}) {
    const auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
    heed::Workspace workspace;
    got.clear(), got_masked.clear();
    for (const Rows& one : rows) {
      got.push_back(empty_output(subject, one.size()));
      got_masked.push_back(empty_output(subject, one.size()));
    }
    std::vector<heed::Sequence<Paths>> staged;
    std::vector<heed::Sequence<typename Cache::Keys>> masked;
    for (std::size_t i = 0; i < 16; ++i) {
      staged.push_back({&paths[i], {}, rows[i].q, got[i].out, got[i].lse});
      masked.push_back({&views[i], masks[i], rows[i].q, got_masked[i].out, got_masked[i].lse});
    }
    const std::span<const heed::Sequence<Paths>> batch(staged);
    const std::span<const heed::Sequence<typename Cache::Keys>> masked_batch(masked);
    ASSERT_TRUE(heed::attend_batch<Backend>(subject.policy, batch, workspace, *pool).ok());
    ASSERT_TRUE(heed::attend_batch<Backend>(subject.policy, masked_batch, workspace, *pool).ok());
    for (std::size_t i = 0; i < 16; ++i) {
      EXPECT_TRUE(got[i] == want[i]) << "sequence " << i << ", " << workers << " workers";
      EXPECT_TRUE(got_masked[i] == want_masked[i]) << "sequence " << i << ", masked, " << workers << " workers";
    }
  }
}
TEST(RaggedBatch, OfTreesIsOneByOneGqa) { expect_batch_is_one_by_one(gqa(), 41); }
TEST(RaggedBatch, OfTreesIsOneByOneMla) { expect_batch_is_one_by_one(mla(), 42); }

}  // namespace
}  // namespace heed_test::tree_attend_test
