// A plan made once per step gives every layer the bits of attend() on that layer, whatever the policy, the rule, the
// batch, the stages and the workers.
#include <heed/cache/rule_mask.hpp>
#include <heed/cache/strided.hpp>

#include "laws/masks.hpp"
#include "lists/rules.hpp"
#include "plan/plans.hpp"
#include "speculative/trees.hpp"

namespace heed_test::plan_bits_test {
namespace {

constexpr Index layers = 3;

heed::ThreadPool& pool_of(Index workers) {
  static std::vector<std::unique_ptr<heed::ThreadPool>> pools;
  for (const auto& pool : pools) {
    if (pool->workers() == workers) return *pool;
  }
  pools.push_back(heed::value_or_throw(heed::ThreadPool::create(workers)));
  return *pools.back();
}

/// Layers with rows of their own.
template <class P>
std::vector<Rows> rows_of_layers(const Subject<P>& subject, Index tokens, oracle::Random& random) {
  std::vector<Rows> all;
  for (Index layer = 0; layer < layers; ++layer) {
    all.push_back(random_rows(subject, tokens, random));
    all.back().ids = all.front().ids;
  }
  return all;
}

/// Steps of different lengths. The plan is made before a row is written, and reads every layer.
template <class Codec, class P>
void expect_bits(const Subject<P>& subject, const heed::CacheOptions& options, const heed::AnyRule& rule, Index workers,
                 const std::vector<Index>& steps, const heed::AttendOptions& attend_options = {}) {
  SCOPED_TRACE(std::string(rule.name()) + ", workers " + std::to_string(workers));
  oracle::Random random(7);
  heed::CacheOptions with_layers = options;
  with_layers.layers = layers;
  auto cache = make_cache<Codec>(subject, with_layers, rule);
  heed::Plan plan;
  heed::Workspace workspace;
  heed::ThreadPool& executor = pool_of(workers);
  for (const Index tokens : steps) {
    const std::vector<Rows> rows = rows_of_layers(subject, tokens, random);
    auto step = heed::value_or_throw(cache.begin(rows[0].ids));
    heed::check(plan.make(subject.policy, step.keys(1), tokens, workers));
    for (Index layer = 0; layer < layers; ++layer) {
      const Rows& own = rows[std::size_t(layer)];
      for (std::size_t s = 0; s < own.streams.size(); ++s) heed::check(step.write(layer, int(s), own.streams[s]));
      const auto keys = step.keys(layer);
      Output want = empty_output(subject, tokens);
      heed::check(heed::attend<Backend>(subject.policy, own.q, keys, {}, want.out, workspace, executor, attend_options,
                                        want.lse));
      ASSERT_TRUE(attend_planned(subject, plan, own, keys, executor, attend_options) == want)
          << "layer " << layer << ", " << tokens << " tokens after " << cache.seen();
    }
    heed::check(step.commit());
  }
}

const std::vector<Index> some_steps{1, 1, 250, 7, 1, 300, 1, 60, 1, 3, 0, 1};

TEST(PlanBits, OfEveryRule) {
  for (const heed_examples::RuleSizes& sizes : {heed_examples::RuleSizes{3, 40}, {5, 300}}) {
    for (const heed::AnyRule& rule : heed_examples::every_rule(sizes, {.anchors = {5}, .separators = {1, 2}})) {
      expect_bits<heed::Bf16>(gqa(), {.page_tokens = 16}, rule, sizes.window == 40 ? 1 : 3, some_steps);
    }
  }
}

TEST(PlanBits, OfEveryPolicy) {
  const auto all_of = [](const auto& subject) {
    expect_bits<heed::F32>(subject, {}, heed::Causal{}, 2, some_steps);
    expect_bits<heed::Bf16>(subject, {.page_tokens = 64}, heed::SinkWindow{3, 200}, 1, some_steps);
  };
  for_each_subject(all_of);
}

/// In-cache ranks: queries of a step see different lists.
TEST(PlanBits, OfStages) {
  const heed::CacheOptions ranks{.positions = heed::Positions::rank, .page_tokens = 8};
  for (const Index workers : {1, 3}) {
    expect_bits<heed::Bf16>(rotated_gqa(), ranks, heed::SinkWindow{4, 60}, workers, {1, 30, 1, 70, 1, 40, 20, 1});
    expect_bits<heed::F32>(mfa_kr(), ranks, heed::SlidingWindow{50}, workers, {1, 30, 1, 70, 1, 40, 20, 1});
  }
}

/// Pages so short that a plan does not remember their runs.
TEST(PlanBits, OfRowsThatNoPlanRemembers) {
  expect_bits<heed::Bf16>(gqa(), {.page_tokens = 1}, heed::Causal{}, 2, {300, 1, 9, 1});
  expect_bits<heed::F32>(mla(), {.page_tokens = 3}, heed::SlidingWindow{100}, 2, {300, 1, 9, 1});
}

TEST(PlanBits, WithOptions) {
  const std::vector<float> slopes{0.1f, 0.2f, -0.05f, 0.0f}, sinks{0.5f, -1.0f, 2.0f, 0.0f};
  const heed::AttendOptions options{.soft_cap = 5, .alibi_slopes = slopes, .sink_logits = sinks};
  expect_bits<heed::Bf16>(gqa(), {.page_tokens = 16}, heed::SinkWindow{5, 100}, 2, some_steps, options);
}

/// Holes of removed tokens, and keys that are read without a step.
TEST(PlanBits, OfCommittedKeysWithHoles) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(8);
  heed::SerialExecutor serial;
  for (const heed::AnyRule& rule : {heed::AnyRule(heed::Causal{}), heed::AnyRule(heed::SlidingWindow{700})}) {
    auto cache = make_cache<heed::F32>(subject, {.layers = layers, .page_tokens = 32}, rule);
    decode(subject, cache, random_rows(subject, 600, random));
    for (const auto& [begin, end] : {std::pair<Index, Index>{250, 262}, {300, 301}, {511, 530}}) {
      heed::check(cache.remove(begin, end));
    }
    const Rows query = random_rows(subject, 1, random);
    const heed::Plan plan = plan_of(subject.policy, cache.keys(0), 1);
    for (Index layer = 0; layer < layers; ++layer) {
      const auto keys = cache.keys(layer);
      EXPECT_TRUE(attend_planned(subject, plan, query, keys, serial) == attend(subject, query, keys)) << rule.name();
    }
  }
}

/// Sequences of different lengths and rules, some without keys or queries.
TEST(PlanBits, OfABatch) {
  const Subject<heed::Gqa> subject = gqa();
  using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
  oracle::Random random(9);
  std::vector<Cache> caches;
  std::vector<Index> tokens;
  for (const heed::AnyRule& rule : heed_examples::every_rule({4, 60}, {.anchors = {5}, .separators = {1, 2}})) {
    for (const Index size : {0, 3, 700}) {
      caches.push_back(make_cache<heed::Bf16>(subject, {.layers = layers, .page_tokens = 32}, rule));
      if (size > 0) decode(subject, caches.back(), random_rows(subject, size, random));
      tokens.push_back(size == 3 ? 5 : 1);
    }
  }
  for (const Index workers : {1, 2, 5}) {
    std::vector<Cache::Step> steps;
    std::vector<Rows> rows;
    for (std::size_t i = 0; i < caches.size(); ++i) {
      rows.push_back(random_rows(subject, tokens[i], random));
      steps.push_back(begin(caches[i], rows[i]));
    }
    const auto views = [&](Index layer) {
      std::vector<Cache::Keys> all;
      for (const Cache::Step& step : steps) all.push_back(step.keys(layer));
      return all;
    };
    heed::Plan plan;
    {
      const std::vector<Cache::Keys> first = views(0);
      std::vector<heed::PlannedSequence<Cache::Keys>> planned;
      for (std::size_t i = 0; i < first.size(); ++i) planned.push_back({.keys = &first[i], .num_queries = tokens[i]});
      heed::check(plan.make(subject.policy, std::span<const heed::PlannedSequence<Cache::Keys>>(planned), workers));
    }
    for (Index layer = 0; layer < layers; ++layer) {
      const std::vector<Cache::Keys> keys = views(layer);
      std::vector<Output> got;
      for (const Index queries : tokens) got.push_back(empty_output(subject, queries));
      std::vector<heed::LayerIo<Cache::Keys>> io;
      for (std::size_t i = 0; i < keys.size(); ++i) io.push_back({&keys[i], rows[i].q, got[i].out, got[i].lse});
      heed::Workspace workspace;
      heed::check(heed::attend<Backend>(plan, subject.policy, std::span<const heed::LayerIo<Cache::Keys>>(io),
                                        workspace, pool_of(workers)));
      for (std::size_t i = 0; i < keys.size(); ++i) {
        EXPECT_TRUE(got[i] == attend(subject, rows[i], keys[i])) << "sequence " << i << ", layer " << layer;
      }
    }
    for (Cache::Step& step : steps) heed::check(step.commit());
  }
}

heed::DraftTree tree_of(const std::vector<Index>& parents) {
  return heed::value_or_throw(heed::DraftTree::create(parents));
}

/// By a tree's mask and by its paths.
template <class P>
void expect_tree_bits(const Subject<P>& subject, const heed::CacheOptions& options, const heed::AnyRule& rule,
                      bool with_mask) {
  oracle::Random random(10);
  heed::SerialExecutor serial;
  const heed::DraftTree tree = tree_of({-1, 0, 0, 1, 1, 2, 2});
  heed::CacheOptions with_layers = options;
  with_layers.layers = layers;
  auto cache = make_cache<heed::Bf16>(subject, with_layers, rule);
  for (const Index size : {5, 247, 90}) {
    decode(subject, cache, random_rows(subject, size, random));
    const Rows nodes = random_rows(subject, tree.size(), random);
    auto step = begin(cache, nodes);
    const heed::TreePaths paths = paths_of(step.keys(0), tree);
    const heed::Plan by_paths = plan_of(subject.policy, paths.keys(step.keys(0)), tree.size());
    for (Index layer = 0; layer < layers; ++layer) {
      const auto keys = paths.keys(step.keys(layer));
      EXPECT_TRUE(attend_planned(subject, by_paths, nodes, keys, serial) == attend(subject, nodes, keys)) << size;
    }
    if (with_mask) {
      const heed::TreeMask mask = mask_of(step.keys(0), tree);
      const heed::Plan by_mask = plan_of(subject.policy, step.keys(0), tree.size(), 1, mask);
      for (Index layer = 0; layer < layers; ++layer) {
        const auto keys = step.keys(layer);
        EXPECT_TRUE(attend_planned(subject, by_mask, nodes, keys, serial) == attend(subject, nodes, keys, mask))
            << size;
      }
    }
    step.abort();
  }
}
TEST(PlanBits, OfTrees) {
  expect_tree_bits(gqa(), {.page_tokens = 16}, heed::Causal{}, true);
  expect_tree_bits(gqa(), {.page_tokens = 16}, heed::SinkWindow{4, 100}, true);
  expect_tree_bits(mla(true), {}, heed::SlidingWindow{64}, true);
  expect_tree_bits(rotated_gqa(), {.positions = heed::Positions::rank}, heed::SinkWindow{4, 100}, false);
}

/// Memory of the caller: layers are arrays of one shape.
TEST(PlanBits, OfStridedLayers) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(11);
  heed::SerialExecutor serial;
  const Index keys = 600;
  std::vector<std::vector<float>> memory;
  using Source = heed::StridedSource<heed::F32>;
  std::vector<Source> sources;
  for (Index layer = 0; layer < layers; ++layer) {
    memory.push_back(random.gaussians(keys * 2 * 64));
    const auto* const data = reinterpret_cast<const std::byte*>(memory.back().data());
    const heed::StridedStream k{data, 2 * 64 * 4, 64 * 4, 24 * 4}, v{data + 24 * 4, 2 * 64 * 4, 64 * 4, 40 * 4};
    sources.emplace_back(keys, k, v);
  }
  for (const Index queries : {1, 5, 40}) {
    const Rows rows = random_rows(subject, queries, random);
    const heed::Plan plan = plan_of(subject.policy, sources[0], queries, 1, heed::SlidingWindow{333});
    for (const Source& source : sources) {
      EXPECT_TRUE(attend_planned(subject, plan, rows, source, serial) ==
                  attend(subject, rows, source, heed::SlidingWindow{333}));
    }
  }
}

/// More visibility than a call or a plan remembers: the rest is asked when it is read.
TEST(PlanBits, BeyondWhatIsRemembered) {
  const Subject<heed::Gqa> subject{{.num_heads = 4, .num_kv_heads = 2, .head_dim = 4, .scale = 0.5f}, 16, 16};
  oracle::Random random(12);
  heed::SerialExecutor serial;
  using Source = heed::StridedSource<heed::F32>;
  const Index keys = 9000;
  const std::vector<float> k = random.gaussians(keys * 8), v = random.gaussians(keys * 8);
  const auto stream = [](const std::vector<float>& from) {
    return heed::StridedStream{reinterpret_cast<const std::byte*>(from.data()), 32, 16, 16};
  };
  const Source source(keys, stream(k), stream(v));
  const Ignorant<heed::SlidingWindow> ignorant{{700}};
  const Index queries = 60;  // 60 x 36 pairs are more than call_limits.bits
  static_assert(60 * 36 > heed::detail::call_limits.bits);
  const Rows rows = random_rows(subject, queries, random);
  const Output want = attend(subject, rows, source, heed::SlidingWindow{700});
  EXPECT_TRUE(attend(subject, rows, source, ignorant) == want);
  const heed::Plan plan = plan_of(subject.policy, source, queries, 1, ignorant);
  EXPECT_TRUE(attend_planned(subject, plan, rows, source, serial) == want);
}

/// A cache that moves takes its layers, and the plan of its step, along.
TEST(PlanBits, OfACacheThatMoved) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(13);
  heed::SerialExecutor serial;
  auto cache = make_cache<heed::Bf16>(subject, {.layers = layers});
  decode(subject, cache, random_rows(subject, 300, random));
  const Rows rows = random_rows(subject, 2, random);
  auto step = begin(cache, rows);
  const Output want = attend(subject, rows, step.keys(2));
  heed::Plan plan = plan_of(subject.policy, step.keys(0), 2);
  auto moved = std::move(cache);
  EXPECT_TRUE(attend_planned(subject, plan, rows, step.keys(2), serial) == want);
  const heed::Plan moved_plan = std::move(plan);
  EXPECT_TRUE(attend_planned(subject, moved_plan, rows, step.keys(2), serial) == want);
}

}  // namespace
}  // namespace heed_test::plan_bits_test
