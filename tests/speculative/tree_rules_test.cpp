// Draft trees over caches that forget: under every rule, position mode and option a node gets what decoding its path token
// by token gives, in its bits through TreePaths, within rounding through TreeMask; what cannot be is refused by name.
#include <algorithm>
#include <random>
#include <string>

#include <heed/exec/thread_pool.hpp>

#include "oracle/attention.hpp"
#include "oracle/bound.hpp"
#include "retention/rule_model.hpp"
#include "speculative/trees.hpp"

namespace heed_test::tree_rules_test {
namespace {

using heed::DraftTree;
using heed::StatusCode;
using List = std::vector<Index>;

/// Changes of the logits, for any number of heads.
struct Change {
  const char* name;
  bool alibi, caps, sinks;
};
constexpr Change changes[] = {{"none", false, false, false},
                              {"ALiBi", true, false, false},
                              {"soft-cap", false, true, false},
                              {"all", true, true, true}};
constexpr std::array<float, 5> slopes{0.5f, 0.25f, 0.125f, 0.0625f, 0.75f};
constexpr std::array<float, 5> sink_logits{0.5f, -1.0f, 2.0f, 0.0f, 1.0f};

heed::AttendOptions options_of(const Change& change, Index heads) {
  heed::AttendOptions options;
  if (change.alibi) options.alibi_slopes = std::span(slopes).first(std::size_t(heads));
  if (change.sinks) options.sink_logits = std::span(sink_logits).first(std::size_t(heads));
  if (change.caps) options.soft_cap = 2;
  return options;
}

template <class P, class Keys>
heed::Status read(const Subject<P>& subject, const Rows& rows, const Keys& keys, heed::MaskRef mask,
                  const Change& change, Output& made) {
  made = empty_output(subject, rows.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  return heed::attend<Backend>(subject.policy, rows.q, keys, mask, made.out, workspace, executor,
                               options_of(change, subject.policy.layout().num_heads), made.lse);
}

template <class P, class Keys>
heed::Status read_paths(const Subject<P>& subject, const Rows& rows, const Keys& keys, const DraftTree& tree,
                        const Change& change, Output& made) {
  const heed::TreePaths paths = paths_of(keys, tree);
  return read(subject, rows, paths.keys(keys), {}, change, made);
}

/// Now and then with a second root; chains among them that are longer than windows.
DraftTree random_tree(Index nodes, oracle::Random& random) {
  List parents{-1};
  const Index shape = random.below(3);  // chain, narrow, wide
  for (Index i = 1; i < nodes; ++i) {
    const Index back = shape == 0 ? 1 : 1 + random.below(shape == 1 ? 2 : 6);
    parents.push_back(random.below(12) == 0 ? -1 : std::max<Index>(0, i - back));
  }
  return heed::value_or_throw(DraftTree::create(parents));
}

struct Drawn {
  RuleCase rule;
  heed::CacheOptions options;
  Rows prefix, nodes;
  DraftTree tree;
};
template <class P>
Drawn draw(const Subject<P>& subject, const std::string& kind, std::uint64_t seed, Index more = 0) {
  std::mt19937_64 engine(seed);
  oracle::Random random(seed);
  RuleCase rule = random_case(kind, engine);
  // Short ones, longer ones, and ones whose window crosses chunks of 256.
  const Index from = random.below(4), size = 1 + random.below(30);
  const Index tokens = more + (from == 0 ? random.below(8) : from == 1 ? 240 + random.below(30) : random.below(90));
  DraftTree tree = random_tree(size, random);
  return {std::move(rule),
          {.undo_tokens = 5 * random.below(2), .page_tokens = 1 + random.below(20)},
          random_rows(subject, tokens, random),
          random_rows(subject, size, random),
          std::move(tree)};
}

template <class Codec, class P>
heed::KvCache<P, Codec> prefix_cache(const Subject<P>& subject, const Drawn& drawn) {
  auto cache = make_cache<Codec>(subject, drawn.options, drawn.rule.rule);
  for (Index t = 0; t < drawn.prefix.size(); t += 7) {
    heed::check(begin(cache, drawn.prefix.part(t, std::min<Index>(7, drawn.prefix.size() - t))).commit());
  }
  return cache;
}

// --- a plain model in float64 -------------------------------------------------------------------------------------------

/// The text of a node: what was before the step, and its path.
Rows text_of(const Drawn& drawn, Index node) {
  Rows text = drawn.prefix;
  text.append(drawn.nodes.picked(drawn.tree.path(node)));
  return text;
}
/// The tokens that the rule shows a node when its path is the text.
Tokens seen_by(const Drawn& drawn, Index node) {
  const Rows text = text_of(drawn, node);
  RuleModel model(drawn.rule);
  model.append(Tokens(text.ids.begin(), text.ids.end()));
  return model.seen_by(text.size() - 1);
}
/// Attention of a node over tokens of its text.
oracle::Answer answer_of(const Subject<heed::Gqa>& subject, const Drawn& drawn, Index node, const Tokens& seen,
                         const Change& change) {
  const heed::Gqa& p = subject.policy;
  const Rows text = text_of(drawn, node);
  const Rows keys = text.picked(List(seen.begin(), seen.end()));
  oracle::Problem problem{.heads = p.num_heads,
                          .kv_heads = p.num_kv_heads,
                          .key_dim = p.head_dim,
                          .value_dim = p.v_head_dim,
                          .scale = double(p.scale),
                          .q = oracle::doubles(drawn.nodes.part(node, 1).q),
                          .k = oracle::doubles(keys.streams[0]),
                          .v = oracle::doubles(keys.streams[1]),
                          .visible = [](oracle::Int, oracle::Int) { return true; },
                          .query_positions = {text.size() - 1},
                          .key_positions = {seen.begin(), seen.end()}};
  const heed::AttendOptions options = options_of(change, p.num_heads);
  problem.soft_cap = double(options.soft_cap);
  problem.slopes.assign(options.alibi_slopes.begin(), options.alibi_slopes.end());
  problem.sinks.assign(options.sink_logits.begin(), options.sink_logits.end());
  return oracle::attention(problem);
}

static_assert(heed::AttentionMask<heed::TreeMask> && !heed::SplitMask<heed::TreeMask>);
static_assert(heed::SplitMask<heed::detail::NodeMask>);

class TreeRules : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Kinds, TreeRules, testing::ValuesIn(rule_kinds),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(TreeRules, ShowANodeWhatItsPathSees) {
  const Subject<heed::Gqa> subject = gqa();
  Index forgotten = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const Drawn drawn = draw(subject, GetParam(), seed);
    auto cache = prefix_cache<heed::F32>(subject, drawn);
    forgotten += cache.evicted();
    auto step = begin(cache, drawn.nodes);
    const auto view = step.keys(0);
    const heed::Result<heed::TreeMask> mask = heed::TreeMask::create(view, drawn.tree);
    std::vector<Tokens> seen;
    for (Index node = 0; node < drawn.tree.size(); ++node) seen.push_back(seen_by(drawn, node));
    for (const Change& change : changes) {
      Output paths, masked;
      const heed::Status by_paths = read_paths(subject, drawn.nodes, view, drawn.tree, change, paths);
      ASSERT_TRUE(by_paths.ok()) << by_paths.message();
      if (drawn.rule.rule.has_history()) {
        EXPECT_EQ(mask.status().code(), StatusCode::unsupported);
        masked = paths;
      } else {
        ASSERT_TRUE(mask.ok()) << mask.status().message();
        const heed::Status status = read(subject, drawn.nodes, view, *mask, change, masked);
        ASSERT_TRUE(status.ok()) << status.message();
      }
      if (std::string(GetParam()) == "full") {
        const heed::SuffixMask suffix = drawn.tree.mask(drawn.prefix.size());
        Output plain;
        const heed::Status status = read(subject, drawn.nodes, view, suffix, change, plain);
        ASSERT_TRUE(status.ok()) << status.message();
        ASSERT_TRUE(plain == masked) << "seed " << seed << ", " << change.name;
      }
      for (Index node = 0; node < drawn.tree.size(); ++node) {
        const oracle::Answer want = answer_of(subject, drawn, node, seen[std::size_t(node)], change);
        for (const Output* got : {&paths, &masked}) {
          const Output row = got->row(node, drawn.tree.size());
          ASSERT_LE(oracle::worst_output(row.out, want), 1)
              << (got == &paths ? "paths" : "mask") << ", seed " << seed << ", node " << node << ", " << change.name;
          ASSERT_LE(oracle::worst_lse(row.lse, want), 1)
              << (got == &paths ? "paths" : "mask") << ", seed " << seed << ", node " << node << ", " << change.name;
        }
      }
    }
  }
  EXPECT_EQ(forgotten > 0, std::string(GetParam()) != "full");
}

// --- the library's own decode steps -------------------------------------------------------------------------------------

/// Paths have the bits of decoding, whatever a step's queries see; masks come near, where there is one.
template <class Codec, class P>
void expect_decoded(const Subject<P>& subject, const std::string& kind, heed::Positions positions, bool compacts,
                    Index more = 0) {
  for (std::uint64_t seed = 100; seed < (more > 0 ? 104u : 118u); ++seed) {
    Drawn drawn = draw(subject, kind, seed, more);
    drawn.options.positions = positions;
    const bool ranks = positions == heed::Positions::rank;
    if (ranks && !drawn.rule.rule.has_ranks()) return;
    auto cache = prefix_cache<Codec>(subject, drawn);
    if (compacts) {
      List kept;
      oracle::Random random(seed);
      for (Index key = 0; key < cache.kept(); ++key) {
        if (random.below(4) > 0) kept.push_back(cache.position(key));
      }
      if (!cache.compact(kept).ok()) return;
    }
    const Change& change = changes[seed % std::size(changes)];
    auto forks = heed::value_or_throw(cache.fork());
    auto step = begin(cache, drawn.nodes);
    const auto view = step.keys(0);
    const heed::TreePaths tree_paths = paths_of(view, drawn.tree);
    ASSERT_EQ(Index(tree_paths.positions().size()), drawn.tree.size());
    Output paths, masked, one;
    const heed::Status status = read(subject, drawn.nodes, tree_paths.keys(view), {}, change, paths);
    ASSERT_TRUE(status.ok()) << status.message();
    for (Index node = 0; node < drawn.tree.size(); ++node) {
      auto fork = heed::value_or_throw(forks.fork());
      Index position = -1;
      for (const Index on_path : drawn.tree.path(node)) {
        const Rows row = drawn.nodes.part(on_path, 1);
        auto decoding = begin(fork, row);
        position = decoding.positions(0)[0];
        const auto keys = decoding.keys(0);
        heed::check(read(subject, row, keys, {}, change, one));
        heed::check(decoding.commit());
      }
      ASSERT_TRUE(paths.row(node, drawn.tree.size()) == one)
          << "seed " << seed << ", node " << node << ", " << change.name;
      ASSERT_EQ(tree_paths.positions()[std::size_t(node)], position);
    }
    const heed::Result<heed::TreeMask> tree_mask = heed::TreeMask::create(view, drawn.tree);
    if (ranks || drawn.rule.rule.has_history()) {
      EXPECT_EQ(tree_mask.status().code(), StatusCode::unsupported);
      continue;
    }
    ASSERT_TRUE(tree_mask.ok()) << tree_mask.status().message();
    ASSERT_TRUE(std::ranges::equal(tree_mask->positions(), tree_paths.positions()));
    const heed::Status by_mask = read(subject, drawn.nodes, view, *tree_mask, change, masked);
    ASSERT_TRUE(by_mask.ok()) << by_mask.message();
    for (std::size_t i = 0; i < masked.out.size(); ++i) {
      ASSERT_TRUE(std::abs(masked.out[i] - paths.out[i]) <= 2e-5f) << "seed " << seed << ", output " << i;
    }
  }
}

TEST_P(TreeRules, HaveTheBitsOfDecoding) {
  constexpr auto absolute = heed::Positions::absolute;
  expect_decoded<heed::Bf16>(gqa(), GetParam(), absolute, false);
  expect_decoded<heed::F32>(mla(true), GetParam(), absolute, false);
  expect_decoded<heed::F16>(rotated_gqa(), GetParam(), absolute, false);
  expect_decoded<heed::F32>(mfa_kr(), GetParam(), absolute, false);
}
TEST_P(TreeRules, HaveTheBitsOfDecodingByRanks) {
  constexpr auto rank = heed::Positions::rank;
  expect_decoded<heed::F32>(mla(true), GetParam(), rank, false);
  expect_decoded<heed::Bf16>(rotated_gqa(), GetParam(), rank, false);
  expect_decoded<heed::F32>(mfa_kr(), GetParam(), rank, false);
}
TEST_P(TreeRules, HaveTheBitsOfDecodingAfterCompaction) {
  expect_decoded<heed::F32>(gqa(), GetParam(), heed::Positions::absolute, true);
  expect_decoded<heed::F32>(mfa_kr(), GetParam(), heed::Positions::absolute, true);
  expect_decoded<heed::F32>(mfa_kr(), GetParam(), heed::Positions::rank, true);
}

/// Landmarks and recent keys in more than one chunk.
TEST_P(TreeRules, HaveTheBitsOfDecodingOverManyChunks) {
  expect_decoded<heed::Bf16>(gqa(), GetParam(), heed::Positions::absolute, false, 1300);
  expect_decoded<heed::F32>(mla(true), GetParam(), heed::Positions::rank, false, 1300);
}

/// The same bits for any number of workers, in a workspace of the size that workspace_bytes() gives.
TEST_P(TreeRules, NeedNoMoreThanTheWorkspaceAndNoOrder) {
  const Subject<heed::Gqa> subject = gqa();
  for (std::uint64_t seed = 400; seed < 406; ++seed) {
    const Drawn drawn = draw(subject, GetParam(), seed, seed % 2 == 0 ? 700 : 0);
    auto cache = prefix_cache<heed::F32>(subject, drawn);
    auto step = begin(cache, drawn.nodes);
    const auto view = step.keys(0);
    const heed::TreePaths tree_paths = paths_of(view, drawn.tree);
    const auto paths = tree_paths.keys(view);
    const heed::Result<heed::TreeMask> mask = heed::TreeMask::create(view, drawn.tree);
    const bool masks = mask.ok();
    ASSERT_EQ(masks, !drawn.rule.rule.has_history());
    Output want_paths, want_masked;
    heed::check(read(subject, drawn.nodes, paths, {}, changes[3], want_paths));
    if (masks) heed::check(read(subject, drawn.nodes, view, *mask, changes[3], want_masked));
    for (const Index workers : {1, 2, 5}) {
      const auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
      const auto expect = [&](const auto& keys, heed::MaskRef by, Index stages, const Output& want) {
        std::vector<std::byte> memory(heed::value_or_throw(
            heed::workspace_bytes(subject.policy, drawn.tree.size(), view.size(), workers, stages)));
        heed::Workspace workspace(memory);
        Output got = empty_output(subject, drawn.tree.size());
        const heed::Status status = heed::attend<Backend>(subject.policy, drawn.nodes.q, keys, by, got.out, workspace,
                                                          *pool, options_of(changes[3], 4), got.lse);
        ASSERT_TRUE(status.ok()) << status.message();
        ASSERT_TRUE(got == want) << "seed " << seed << ", " << workers << " workers";
      };
      expect(paths, {}, drawn.tree.size(), want_paths);
      if (masks) expect(view, *mask, 1, want_masked);
    }
  }
}

/// Keys and values made a chunk at a time.
TEST_P(TreeRules, HaveTheAnswerOfAbsorbedMlaWhenItIsExpanded) {
  const Subject<heed::Mla> subject = mla(true);
  for (std::uint64_t seed = 500; seed < 508; ++seed) {
    const Drawn drawn = draw(subject, GetParam(), seed);
    auto cache = prefix_cache<heed::F32>(subject, drawn);
    auto step = begin(cache, drawn.nodes);
    const auto view = step.keys(0);
    Output want, got;
    heed::check(read_paths(subject, drawn.nodes, view, drawn.tree, changes[1], want));
    const auto expect = [&](const auto& keys, heed::MaskRef by) {
      got = empty_output(subject, drawn.tree.size());
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      const heed::Status status =
          heed::attend_mla<Backend>(subject.policy, heed::MlaForm::expanded, drawn.nodes.q, keys, by, got.out,
                                    workspace, executor, options_of(changes[1], 3), got.lse);
      ASSERT_TRUE(status.ok()) << status.message();
      for (std::size_t i = 0; i < got.out.size(); ++i) {
        ASSERT_TRUE(std::abs(got.out[i] - want.out[i]) <= 2e-5f) << "seed " << seed << ", output " << i;
      }
    };
    const heed::TreePaths paths = paths_of(view, drawn.tree);
    expect(paths.keys(view), {});
    if (drawn.rule.rule.has_history()) continue;
    const heed::TreeMask mask = mask_of(view, drawn.tree);
    expect(view, mask);
  }
}

/// A step may begin with tokens of the text itself.
TEST_P(TreeRules, FollowTextInTheSameStep) {
  const Subject<heed::Gqa> subject = gqa();
  for (std::uint64_t seed = 200; seed < 215; ++seed) {
    const Drawn drawn = draw(subject, GetParam(), seed);
    auto whole = prefix_cache<heed::F32>(subject, drawn);
    auto cache = heed::value_or_throw(whole.fork());
    oracle::Random random(seed);
    Rows rows = random_rows(subject, 9, random);
    heed::check(begin(whole, rows).commit());
    rows.append(drawn.nodes);
    auto straight = begin(whole, drawn.nodes);
    auto step = begin(cache, rows);
    Output want, got;
    heed::check(read_paths(subject, drawn.nodes, straight.keys(0), drawn.tree, changes[0], want));
    heed::check(read_paths(subject, drawn.nodes, step.keys(0), drawn.tree, changes[0], got));
    ASSERT_TRUE(got == want) << "seed " << seed;
  }
}

// --- what stays ---------------------------------------------------------------------------------------------------------

template <class Cache>
std::vector<std::byte> snapshot_of(const Cache& cache) {
  std::vector<std::byte> bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  return bytes;
}

/// After the commit of a path the cache is the one that saw the path alone: the same snapshot, text and way back.
TEST_P(TreeRules, LeaveThePathAlone) {
  const Subject<heed::Gqa> subject = gqa();
  for (std::uint64_t seed = 300; seed < 320; ++seed) {
    const Drawn drawn = draw(subject, GetParam(), seed);
    auto prefix = prefix_cache<heed::F32>(subject, drawn);
    oracle::Random random(seed);
    const Rows more = random_rows(subject, 12, random);
    for (Index node = 0; node < drawn.tree.size(); ++node) {
      const List path = drawn.tree.path(node);
      auto straight = heed::value_or_throw(prefix.fork()), cache = heed::value_or_throw(prefix.fork());
      heed::check(begin(straight, drawn.nodes.picked(path)).commit());
      Rows rows = drawn.nodes;
      for (Index other = 0; other < drawn.tree.size(); ++other) {
        if (!drawn.tree.on_path(other, node)) rows.poison(other);
      }
      ASSERT_TRUE(begin(cache, rows).commit(path).ok());
      ASSERT_TRUE(snapshot_of(cache) == snapshot_of(straight)) << "seed " << seed << ", node " << node;
      ASSERT_EQ(cache.rollback_floor(), straight.rollback_floor());
      const Index back = std::max(cache.seen() - 3, cache.rollback_floor());
      ASSERT_EQ(cache.truncate(back).ok(), straight.truncate(back).ok());
      ASSERT_TRUE(decode_one_by_one(subject, cache, more) == decode_one_by_one(subject, straight, more))
          << "seed " << seed << ", node " << node;
    }
  }
}

// --- what is refused ----------------------------------------------------------------------------------------------------

class TreeErrors : public testing::Test {
 protected:
  using Cache = heed::KvCache<heed::Gqa, heed::F32>;
  const Subject<heed::Gqa> subject = gqa();
  const DraftTree tree = heed::value_or_throw(DraftTree::create(List{-1, 0, 0, 1, 1, 2, 2}));
  oracle::Random random{1};

  Cache cache_of(heed::AnyRule rule, Index tokens = 100) {
    Cache cache = make_cache<heed::F32>(subject, {}, std::move(rule));
    heed::check(begin(cache, random_rows(subject, tokens, random)).commit());
    return cache;
  }
  template <class Keys>
  void expect_refused(const Keys& keys, heed::MaskRef mask, Index queries, StatusCode code, const std::string& message,
                      std::span<const Index> query_positions = {}) {
    const Rows rows = random_rows(subject, queries, random);
    Output made = empty_output(subject, queries);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    const heed::Status status = heed::attend<Backend>(subject.policy, rows.q, keys, mask, made.out, workspace, executor,
                                                      {}, made.lse, query_positions);
    EXPECT_EQ(status.code(), code);
    EXPECT_EQ(status.message(), "sequence 0: " + message);
    EXPECT_TRUE(std::all_of(made.out.begin(), made.out.end(), [](float x) { return std::isnan(x); })) << "untouched";
  }
  template <class Keys>
  static void expect_not_made(const Keys& keys, const DraftTree& of, StatusCode code, const std::string& message) {
    for (const heed::Status& status :
         {heed::TreeMask::create(keys, of).status(), heed::TreePaths::create(keys, of).status()}) {
      EXPECT_EQ(status.code(), code);
      EXPECT_EQ(status.message(), message);
    }
  }
};

TEST_F(TreeErrors, NameTheRuleThatASuffixMaskDoesNotKnow) {
  auto cache = cache_of(heed::SlidingWindow{16});
  auto step = begin(cache, random_rows(subject, 7, random));
  const heed::SuffixMask mask = tree.mask(100);
  expect_refused(step.keys(0), mask, 7, StatusCode::invalid_argument,
                 "the mask shows a step all keys before it, but keys are of a cache with rule window: take "
                 "TreeMask or TreePaths");
}

TEST_F(TreeErrors, NameAStepThatIsTooShort) {
  for (const Index tokens : {3, 100}) {
    auto cache = cache_of(heed::Causal{}, tokens);
    auto step = begin(cache, random_rows(subject, 2, random));
    expect_not_made(
        step.keys(0), tree, StatusCode::invalid_argument,
        tokens == 3 ? "tree has 7 nodes, keys has 5" : "tree has 7 nodes, the open step of keys has 2 tokens");
  }
  auto cache = cache_of(heed::Causal{});
  expect_not_made(cache.keys(0), tree, StatusCode::invalid_argument,
                  "tree has 7 nodes, the open step of keys has 0 tokens");
}

TEST_F(TreeErrors, NameATreeWithoutNodes) {
  const DraftTree none = heed::value_or_throw(DraftTree::create({}));
  auto cache = cache_of(heed::SlidingWindow{16});
  const std::string message = "tree has 0 nodes, must have 1 at least: node 0 is the last token that is known";
  expect_not_made(cache.keys(0), none, StatusCode::invalid_argument, message);
  auto step = begin(cache, random_rows(subject, 7, random));
  expect_not_made(step.keys(0), none, StatusCode::invalid_argument, message);
}

TEST_F(TreeErrors, NameKeysOfNoStep) {
  auto cache = cache_of(heed::Causal{});
  auto step = begin(cache, random_rows(subject, 7, random));
  const auto view = step.keys(0);
  const heed::TreeMask mask = mask_of(view, tree);
  const heed::TreePaths paths = paths_of(view, tree);
  expect_not_made(step.keys(1), tree, StatusCode::out_of_range, "keys: layer is 1, the cache has 1");
  expect_not_made(cache.keys(0), tree, StatusCode::wrong_state,
                  "keys of layer 0 lack the tokens of the open step: attend to step.keys(0)");
  heed::check(step.commit());
  expect_not_made(step.keys(0), tree, StatusCode::wrong_state, "keys: the step is closed");
  const std::string closed = "keys of layer 0 are those of a step that is closed";
  expect_not_made(view, tree, StatusCode::wrong_state, closed);
  expect_refused(paths.keys(view), {}, 7, StatusCode::wrong_state, closed);
  expect_refused(view, mask, 7, StatusCode::wrong_state, closed);
}

TEST_F(TreeErrors, NameKeysThatTheMaskIsNotOf) {
  auto cache = cache_of(heed::Causal{}), other = cache_of(heed::Causal{});
  auto step = begin(cache, random_rows(subject, 7, random)), other_step = begin(other, random_rows(subject, 7, random));
  const heed::TreeMask of_other = mask_of(other_step.keys(0), tree);
  expect_refused(step.keys(0), of_other, 7, StatusCode::invalid_argument,
                 "keys are of another cache or layer group than the tree's mask");
  const heed::TreePaths paths_of_other = paths_of(other_step.keys(0), tree);
  expect_refused(paths_of_other.keys(step.keys(0)), {}, 7, StatusCode::invalid_argument,
                 "keys are of another cache or layer group than the tree's set of paths");
  const heed::SuffixMask early = tree.mask(99);
  expect_refused(step.keys(0), early, 7, StatusCode::invalid_argument,
                 "the mask is of a step of 7 tokens after 99 keys, but keys end at position 107");
  const heed::TreeMask mask = mask_of(step.keys(0), tree);
  expect_refused(step.keys(0), mask, 8, StatusCode::invalid_argument, "q has 8 queries, the tree 7 nodes");
  const heed::SuffixMask suffix = tree.mask(100);
  expect_refused(step.keys(0), suffix, 8, StatusCode::invalid_argument, "q has 8 queries, the mask's step 7 tokens");
  const std::vector<std::uint64_t> bits(70, 1);
  const heed::SuffixMask narrow(37, bits, 1);
  expect_refused(step.keys(0), narrow, 7, StatusCode::invalid_argument,
                 "the mask has 70 words in rows of 1, must have (n + 63) / 64 in each of n rows");
}

/// Other tokens are other landmarks: the mask of a step says nothing of the next one's tokens, even where the sizes agree.
TEST_F(TreeErrors, NameAMaskOfAnotherStep) {
  for (const heed::AnyRule& rule : {heed::AnyRule(heed::Causal{}), heed::AnyRule(heed::SlidingWindow{16}),
                                    heed::AnyRule(heed::Separators{.window = 16, .ids = {1, 2}})}) {
    auto cache = make_cache<heed::F32>(subject, {.undo_tokens = 7}, rule);
    heed::check(begin(cache, random_rows(subject, 100, random)).commit());
    for (const bool aborts : {true, false}) {
      auto old = begin(cache, random_rows(subject, 7, random));
      const heed::TreeMask mask = mask_of(old.keys(0), tree);
      const heed::TreePaths paths = paths_of(old.keys(0), tree);
      if (aborts) {
        old.abort();
      } else {
        heed::check(old.commit());
        heed::check(cache.truncate(100));
      }
      auto step = begin(cache, random_rows(subject, 7, random));
      expect_refused(step.keys(0), mask, 7, StatusCode::wrong_state, "keys are of another step than the tree's mask");
      expect_refused(paths.keys(step.keys(0)), {}, 7, StatusCode::wrong_state,
                     "keys are of another step than the tree's set of paths");
    }
  }
}

/// Depths are what a mask knows, and not how it tells its queries apart.
TEST_F(TreeErrors, RefuseQueryPositions) {
  auto cache = cache_of(heed::Causal{});
  auto step = begin(cache, random_rows(subject, 7, random));
  const List depths = tree.positions(100);
  const heed::TreeMask mask = mask_of(step.keys(0), tree);
  expect_refused(step.keys(0), mask, 7, StatusCode::invalid_argument,
                 "query_positions are given, but the mask is a tree's, which says them", depths);
  const heed::SuffixMask suffix = tree.mask(100);
  expect_refused(step.keys(0), suffix, 7, StatusCode::invalid_argument,
                 "query_positions are given, but the mask is of a step, whose queries are its tokens in order", depths);
  const heed::TreePaths paths = paths_of(step.keys(0), tree);
  expect_refused(paths.keys(step.keys(0)), {}, 7, StatusCode::invalid_argument,
                 "query_positions are given, but keys have 7 stages, which say them", depths);
}

TEST_F(TreeErrors, NameAHistoryAndRanksThatAreNoMask) {
  const heed::SeparatorStream stream{.initial = 2, .separators = 3, .local = 4, .capacity = 14, .ids = {1, 2}};
  auto cache = cache_of(stream);
  auto step = begin(cache, random_rows(subject, 7, random));
  const heed::Status status = heed::TreeMask::create(step.keys(0), tree).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(status.message(), "a tree is no mask over a cache with a rule with a history: take TreePaths");
}

/// Other sources: of rows alone a tree is right; what a source's own mask says of nodes nobody knows.
struct OtherSource {
  using KeyCodec = heed::F32;
  using ValueCodec = heed::F32;
  [[nodiscard]] Index size() const { return view.size(); }
  [[nodiscard]] Index position(Index key) const { return view.position(key); }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const {
    return view.row_run(stream, head, first, max);
  }
  heed::KvCache<heed::Gqa, heed::F32>::Keys view;
};
struct OtherMaskedSource : OtherSource {
  [[nodiscard]] const heed::Causal& mask() const { return own; }
  heed::Causal own = {};
};

TEST_F(TreeErrors, NameASourceWithAMaskOfItsOwn) {
  auto cache = cache_of(heed::Causal{});
  const Rows rows = random_rows(subject, 7, random);
  auto step = begin(cache, rows);
  const auto view = step.keys(0);
  const OtherSource other{view};
  const OtherMaskedSource masked{{view}};
  Output want, got;
  heed::check(read_paths(subject, rows, view, tree, changes[3], want));
  heed::check(read_paths(subject, rows, other, tree, changes[3], got));
  EXPECT_TRUE(got == want);
  const heed::TreeMask of_view = mask_of(view, tree), of_other = mask_of(other, tree);
  heed::check(read(subject, rows, view, of_view, changes[3], want));
  heed::check(read(subject, rows, other, of_other, changes[3], got));
  EXPECT_TRUE(got == want);
  expect_not_made(masked, tree, StatusCode::unsupported, "keys say what a query sees, but not of a tree's nodes");
}

/// Layers with windows and layers without: a mask is of one group.
TEST_F(TreeErrors, NameAMaskOfAnotherLayerGroup) {
  const heed::LayerRule rules[] = {{heed::SlidingWindow{16}, {0, 2}}, {heed::Causal{}, {1}}};
  auto cache = heed::value_or_throw(Cache::create(subject.policy, {.layers = 3}, rules));
  heed::check(begin(cache, random_rows(subject, 100, random)).commit());
  auto step = begin(cache, random_rows(subject, 7, random));
  const heed::TreeMask window = mask_of(step.keys(0), tree), full = mask_of(step.keys(1), tree);
  expect_refused(step.keys(1), window, 7, StatusCode::invalid_argument,
                 "keys are of another cache or layer group than the tree's mask");
  expect_refused(step.keys(2), full, 7, StatusCode::invalid_argument,
                 "keys are of another cache or layer group than the tree's mask");
  Output made;
  const Rows rows = random_rows(subject, 7, random);
  EXPECT_TRUE(read(subject, rows, step.keys(2), window, changes[0], made).ok());
  EXPECT_TRUE(read(subject, rows, step.keys(1), full, changes[0], made).ok());
}

}  // namespace
}  // namespace heed_test::tree_rules_test
