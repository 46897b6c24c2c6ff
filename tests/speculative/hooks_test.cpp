// Hooks over everything that a cache can be: rules that forget, ranks, stages, removed tokens, keys that are made when they
// are read, and trees of drafts. Hooks that do what ALiBi does have its bits, so they are told the right positions; the
// probabilities that they are given sum to 1.
#include <set>

#include <heed/hooks.hpp>

#include "lists/rules.hpp"
#include "speculative/trees.hpp"

namespace heed_test::hooks_test {
namespace {

using heed::Positions;

/// ALiBi as a hook, and for each row the sum of its probabilities and the keys that had one.
struct AlibiAndSums {
  AlibiAndSums(std::vector<float> the_slopes, Index queries)
      : slopes(std::move(the_slopes)), rows(std::size_t(queries) * slopes.size()) {}

  void capped_logits(const heed::LogitChunk& chunk) const {
    for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
      const auto distance = float(std::abs(chunk.positions[i] - chunk.row.position));
      chunk.logits[i] = heed::Scalar::fma(-slopes[std::size_t(chunk.row.head)], distance, chunk.logits[i]);
    }
  }
  void chunk(const heed::ChunkProbabilities& chunk) {
    Row& row = row_of(chunk.row);
    double sum = 0;
    for (std::size_t i = 0; i < chunk.keys.size(); ++i) {
      sum += double(chunk.weights[i]);
      if (chunk.weights[i] == 0) continue;
      EXPECT_TRUE(row.keys.insert(chunk.keys[i]).second) << "a key comes twice";
    }
    EXPECT_NEAR(sum, double(chunk.sum), 1e-4 * sum);
    row.chunks.emplace_back(chunk.max, sum);
  }
  void finish(const heed::FinishedRow& finished) {
    Row& row = row_of(finished.row);
    EXPECT_EQ(row.finished++, 0);
    for (const auto& [max, sum] : row.chunks) row.sum += sum * double(finished.factor(max));
  }

  struct Row {
    std::vector<std::pair<float, double>> chunks;
    std::set<Index> keys;
    double sum = 0;
    int finished = 0;
  };
  Row& row_of(const heed::HookRow& row) { return rows[std::size_t(row.query) * slopes.size() + std::size_t(row.head)]; }

  std::vector<float> slopes;
  std::vector<Row> rows;
};

/// Attention with ALiBi, with a hook in its place, and without. A row names no key from `slots` on.
template <class P, class Keys>
void expect_alibi(const Subject<P>& subject, const Rows& rows, const Keys& keys, heed::MaskRef mask, Index slots) {
  std::vector<float> slopes;
  for (Index h = 0; h < subject.policy.layout().num_heads; ++h) slopes.push_back(0.05f * float(h + 1));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  Output want = empty_output(subject, rows.size()), got = want, straight = want;
  const auto run = [&](Output& to, const heed::AttendOptions& options) {
    const heed::Status status =
        heed::attend<Backend>(subject.policy, rows.q, keys, mask, to.out, workspace, serial, options, to.lse);
    ASSERT_TRUE(status.ok()) << status.message();
  };
  run(want, {.soft_cap = 4, .alibi_slopes = slopes, .sink_logits = {}});
  run(straight, {.soft_cap = 4, .alibi_slopes = {}, .sink_logits = {}});
  AlibiAndSums hooks(slopes, rows.size());
  const heed::Status status =
      heed::attend<Backend>(subject.policy, rows.q, keys, mask, got.out, workspace, serial,
                            {.soft_cap = 4, .alibi_slopes = {}, .sink_logits = {}}, hooks, got.lse);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(got == want);
  EXPECT_FALSE(got == straight) << "the bias does nothing";
  for (const AlibiAndSums::Row& row : hooks.rows) {
    EXPECT_EQ(row.finished, 1);
    EXPECT_NEAR(row.sum, 1, 1e-5);
    EXPECT_GE(*row.keys.begin(), 0);
    EXPECT_LT(*row.keys.rbegin(), slots);
  }
}

/// Every rule with a window within a chunk, and with one across its end.
std::vector<heed::AnyRule> rules() {
  const heed_examples::RuleMarks marks{.anchors = {1, 2}, .separators = {1, 2, 3}};
  std::vector<heed::AnyRule> all = heed_examples::every_rule({4, 37}, marks);
  for (heed::AnyRule& rule : heed_examples::every_rule({4, 290}, marks)) all.push_back(std::move(rule));
  return all;
}

template <class Codec, class P>
void expect_every_rule(const Subject<P>& subject, Positions positions) {
  for (const heed::AnyRule& rule : rules()) {
    const heed::CacheOptions options{.positions = positions, .page_tokens = 32};
    auto made = heed::KvCache<P, Codec>::create(subject.policy, options, rule);
    if (!made.ok()) continue;  // ranks that the rule does not have
    SCOPED_TRACE(rule.name());
    auto& cache = *made;
    oracle::Random random(1);
    Index length = 0;
    for (const Index tokens : {500, 1, 7, 60}) {
      length += tokens;
      const Rows rows = random_rows(subject, tokens, random);
      auto step = begin(cache, rows);
      expect_alibi(subject, rows, step.keys(0), {}, length);
      heed::check(step.commit());
    }
  }
}

TEST(Hooks, OverEveryRuleGqa) { expect_every_rule<heed::F32>(gqa(), Positions::absolute); }
TEST(Hooks, OverEveryRuleGqaBf16) { expect_every_rule<heed::Bf16>(gqa(), Positions::absolute); }
TEST(Hooks, OverEveryRuleMha) { expect_every_rule<heed::F32>(mha(), Positions::absolute); }
TEST(Hooks, OverEveryRuleMqa) { expect_every_rule<heed::F32>(mqa(), Positions::absolute); }
TEST(Hooks, OverEveryRuleMfa) { expect_every_rule<heed::F32>(mfa(), Positions::absolute); }
TEST(Hooks, OverEveryRuleMfaKr) { expect_every_rule<heed::F32>(mfa_kr(), Positions::absolute); }
TEST(Hooks, OverEveryRuleMfaKrRanks) { expect_every_rule<heed::F32>(mfa_kr(), Positions::rank); }
TEST(Hooks, OverEveryRuleRotatedGqa) { expect_every_rule<heed::Bf16>(rotated_gqa(), Positions::absolute); }
TEST(Hooks, OverEveryRuleRotatedGqaRanks) { expect_every_rule<heed::Bf16>(rotated_gqa(), Positions::rank); }
TEST(Hooks, OverEveryRuleMla) { expect_every_rule<heed::F32>(mla(), Positions::absolute); }
TEST(Hooks, OverEveryRuleMlaThatRotatesRanks) { expect_every_rule<heed::F32>(mla(true), Positions::rank); }

/// The expanded form reads the cache of the absorbed one.
TEST(Hooks, OverExpandedMla) {
  const Subject<heed::Mla> absorbed = mla();
  const Subject<heed::MlaExpanded> expanded{{absorbed.policy}, absorbed.q_width, absorbed.out_width};
  auto cache = make_cache<heed::F32>(absorbed);
  oracle::Random random(2);
  for (const Index tokens : {300, 5}) {
    const Rows rows = random_rows(absorbed, tokens, random);
    auto step = begin(cache, rows);
    expect_alibi(expanded, rows, step.keys(0), {}, 305);
    heed::check(step.commit());
  }
}

/// Removed tokens leave holes: their slots have no probability.
TEST(Hooks, OverRemovedTokens) {
  const auto subject = gqa();
  auto cache = make_cache<heed::F32>(subject, {.page_tokens = 16});
  oracle::Random random(3);
  decode(subject, cache, random_rows(subject, 400, random));
  heed::check(cache.remove(100, 103));
  heed::check(cache.remove(250, 260));
  const Rows rows = random_rows(subject, 4, random);
  auto step = begin(cache, rows);
  const auto keys = step.keys(0);
  expect_alibi(subject, rows, keys, {}, keys.slots());
  struct Holes {
    explicit Holes(const heed::KvCache<heed::Gqa, heed::F32>::Keys& of) : keys(of) {}
    const heed::KvCache<heed::Gqa, heed::F32>::Keys& keys;
    Index seen = 0;
    void chunk(const heed::ChunkProbabilities& chunk) {
      for (std::size_t i = 0; i < chunk.keys.size(); ++i) {
        const heed::Interval hole = keys.next_hole(chunk.keys[i]);
        const bool removed = hole.begin <= chunk.keys[i] && chunk.keys[i] < hole.end && chunk.keys[i] < keys.slots();
        EXPECT_EQ(chunk.weights[i] == 0, removed) << chunk.keys[i];
        EXPECT_EQ(chunk.positions[i], keys.slot_position(chunk.keys[i]));
        seen += !removed;
      }
    }
    void finish(const heed::FinishedRow& row) { EXPECT_EQ(row.row.position, 400 + row.row.query); }
  } holes{keys};
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::vector<float> out(rows.q.size() / 24 * 40);
  heed::check(heed::attend<Backend>(subject.policy, rows.q, keys, out, workspace, serial, {}, holes));
  EXPECT_EQ(holes.seen, 4 * (388 + 389 + 390 + 391));
}

/// Nodes stand where they stand in their text, not where they stand in the step.
template <class P>
void expect_trees(const Subject<P>& subject) {
  const heed::DraftTree tree =
      heed::value_or_throw(heed::DraftTree::create(std::vector<Index>{-1, 0, 0, 1, 1, 2, -1, 6}));
  for (const heed::AnyRule& rule : {heed::AnyRule(heed::Causal{}), heed::AnyRule(heed::SinkWindow{4, 37})}) {
    for (const Index prefix : {0, 5, 250, 300}) {
      auto cache = make_cache<heed::F32>(subject, {.page_tokens = 32}, rule);
      oracle::Random random(4);
      if (prefix > 0) decode(subject, cache, random_rows(subject, prefix, random));
      const Rows nodes = random_rows(subject, tree.size(), random);
      auto step = begin(cache, nodes);
      const auto keys = step.keys(0);
      const heed::TreeMask mask = mask_of(keys, tree);
      expect_alibi(subject, nodes, keys, mask, prefix + 8);
      const heed::TreePaths paths = paths_of(keys, tree);
      expect_alibi(subject, nodes, paths.keys(keys), {}, prefix + 8);
    }
  }
}
TEST(Hooks, OverTreesGqa) { expect_trees(gqa()); }
TEST(Hooks, OverTreesRotatedGqa) { expect_trees(rotated_gqa()); }
TEST(Hooks, OverTreesMfaKr) { expect_trees(mfa_kr()); }
TEST(Hooks, OverTreesMla) { expect_trees(mla(true)); }

}  // namespace
}  // namespace heed_test::hooks_test
