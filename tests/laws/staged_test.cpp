// Staged sources: what a stage's queries get is what they get alone on the stage's list.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::staged_test {
namespace {

class StagedSources : public Laws {};
HEED_FOR_ALL_KERNELS(StagedSources);

/// Stages of random sizes, each with a random list of earlier tokens before its queries' own.
std::vector<Staged::Stage> random_stages(oracle::Random& random, const Problem& p, Index largest) {
  std::vector<Staged::Stage> stages;
  for (Index first = 0; first < p.queries;) {
    Staged::Stage stage;
    stage.queries = {first, std::min(p.queries, first + 1 + random.below(largest))};
    const Index own = p.keys - p.queries + first, density = 1 + random.below(6);
    for (Index token = 0; token < own; ++token) {
      if (random.below(density) == 0) stage.keys.push_back(token);
    }
    for (Index i = 0; i < stage.queries.size(); ++i) stage.keys.push_back(own + i);
    first = stage.queries.end;
    stages.push_back(stage);
  }
  return stages;
}

/// Positions within the list of a stage.
class Renumbered final : public Picked {
 public:
  using Picked::Picked;
  [[nodiscard]] Index position(Index key) const override { return key; }
};

/// One call per query, on the keys of its stage's list up to its own.
Output one_by_one(const Subject& subject, const Problem& p, const Source& rows,
                  const std::vector<Staged::Stage>& stages) {
  Output all;
  for (const Staged::Stage& stage : stages) {
    for (Index query = stage.queries.begin; query < stage.queries.end; ++query) {
      Problem one = p;
      one.queries = 1;
      one.q = {p.q.begin() + query * p.q_row(), p.q.begin() + (query + 1) * p.q_row()};
      std::vector<Index> keys = stage.keys;
      keys.resize(keys.size() - std::size_t(stage.queries.end - 1 - query));
      const Output got = run(subject, one, Renumbered(rows, keys));
      all.out.insert(all.out.end(), got.out.begin(), got.out.end());
      all.lse.insert(all.lse.end(), got.lse.begin(), got.lse.end());
    }
  }
  return all;
}

Output staged(const Subject& subject, const Problem& p, const Source& keys, Index threads, heed::Workspace& workspace) {
  Output got{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
             std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
  const Call call{&keys, {}, p.q, got.out, got.lse};
  const heed::Status status = subject.attend(p.shape, {&call, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message();
  return got;
}

TEST_P(StagedSources, StagesAreCallsOfTheirOwn) {
  oracle::Random random(1);
  for (const Mechanism mechanism : mechanisms()) {
    for (const Index largest : {1, 5, 40}) {
      Problem p = gaussian({.mechanism = mechanism, .heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12},
                           1 + random.below(40), 620, 2);
      p.soft_cap = 3;
      p.slopes = {0.01f, 0, 0.02f, 0.001f};
      p.sinks = {1, 0, -2, 3};
      const auto cache = filled(subject(), p);
      const auto rows = cache->keys();
      const std::vector<Staged::Stage> stages = random_stages(random, p, largest);
      const Output want = one_by_one(subject(), p, *rows, stages);
      for (const Index threads : {1, 2, 3}) {
        heed::Workspace workspace;
        EXPECT_TRUE(want == staged(subject(), p, Staged(*rows, stages), threads, workspace)) << p << threads;
      }
    }
  }
}

/// Also with a stage per query, in memory of the caller.
TEST_P(StagedSources, WorkspaceBytesSuffice) {
  oracle::Random random(3);
  for (const Index threads : {1, 2, 7}) {
    const Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, 50, 900, 4);
    const auto cache = filled(subject(), p);
    const auto rows = cache->keys();
    const Staged keys(*rows, random_stages(random, p, 1));
    std::vector<std::byte> memory(*subject().storage.workspace_bytes(subject().kernel, p.shape, p.queries, p.keys, threads, p.queries));
    heed::Workspace workspace{std::span<std::byte>(memory)};
    EXPECT_EQ(staged(subject(), p, keys, threads, workspace).lse.size(), 200u);
  }
}

/// Staged and ordinary sequences share a batch.
TEST_P(StagedSources, InABatch) {
  oracle::Random random(5);
  const Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, 20, 500, 6);
  const auto cache = filled(subject(), p);
  const auto rows = cache->keys();
  const Staged keys(*rows, random_stages(random, p, 6));
  heed::Workspace workspace;
  const Output plain = run(subject(), p, *rows), want = staged(subject(), p, keys, 1, workspace);
  Output a = plain, b = want, c = plain, d = want;
  for (Output* o : {&a, &b, &c, &d}) std::fill(o->out.begin(), o->out.end(), nan);
  const Call calls[] = {{rows.get(), p.mask.ref(), p.q, a.out, a.lse},
                        {&keys, {}, p.q, b.out, b.lse},
                        {rows.get(), p.mask.ref(), p.q, c.out, c.lse},
                        {&keys, {}, p.q, d.out, d.lse}};
  ASSERT_TRUE(subject().attend(p.shape, calls, workspace, workers(3), {}).ok());
  EXPECT_TRUE(a == plain && b == want && c == plain && d == want);
}

TEST_P(StagedSources, Errors) {
  Problem p = gaussian({.heads = 1, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, 3, 10, 7);
  const auto cache = filled(subject(), p);
  const auto rows = cache->keys();
  const Staged keys(*rows, {{{0, 2}, {1, 4, 7, 8}}, {{2, 3}, {3, 9}}});
  const auto refused = [&](const Source& source, heed::MaskRef mask, Index queries,
                           std::span<const Index> positions = {}) {
    std::vector<float> q(std::size_t(queries * 8)), out(q.size(), nan);
    heed::Workspace workspace;
    const Call call{&source, mask, q, out, {}, positions};
    const heed::Status status = subject().attend(p.shape, {&call, 1}, workspace, workers(1), {});
    EXPECT_TRUE(status.ok() || status.code() == heed::StatusCode::invalid_argument);
    EXPECT_TRUE(status.ok() || std::all_of(out.begin(), out.end(), [](float x) { return std::isnan(x); }));
    return status.message();
  };
  const heed::Causal mask;
  const Index positions[] = {7, 8, 9};
  EXPECT_EQ(refused(keys, {}, 3), "");
  EXPECT_EQ(refused(*rows, {}, 3), "sequence 0: no mask is given and keys have none: give Causal{}, or Unmasked{} to see later keys, too");
  EXPECT_EQ(refused(keys, mask, 3), "sequence 0: mask is given, but keys have 2 stages, which say it");
  EXPECT_EQ(refused(keys, {}, 3, positions),
            "sequence 0: query_positions are given, but keys have 2 stages, which say them");
  EXPECT_EQ(refused(keys, {}, 4), "sequence 0: q has 4 queries, the stages of keys have 3");
}

}  // namespace
}  // namespace heed_test::staged_test
