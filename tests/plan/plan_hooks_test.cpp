// Kernels with hooks, and masks that depend on the KV head, run by a plan: hooks are told what they are told without one,
// and outputs have the same bits, whatever the policy, the rule, the step and the workers.
#include <algorithm>
#include <bit>
#include <mutex>

#include <heed/hooks.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "plan/plans.hpp"

namespace heed_test::plan_hooks_test {
namespace {

constexpr Index layers = 2;
using Codec = heed::Bf16;

/// All that hooks are told, in an order that does not depend on the workers. Logits get a bias.
class Log {
 public:
  void logits(const heed::LogitChunk& chunk) {
    bias(chunk, 0.25f);
    add(0, chunk.row, chunk.keys, chunk.positions, chunk.logits);
  }
  void capped_logits(const heed::LogitChunk& chunk) {
    add(1, chunk.row, chunk.keys, chunk.positions, chunk.logits);
    bias(chunk, -0.125f);
  }
  void chunk(const heed::ChunkProbabilities& chunk) {
    add(2, chunk.row, chunk.keys, chunk.positions, chunk.weights, {chunk.max, chunk.sum});
  }
  void finish(const heed::FinishedRow& row) { add(3, row.row, {}, {}, {}, {row.max, row.sum, row.share}); }

  [[nodiscard]] const std::vector<std::vector<std::uint64_t>>& told() {
    std::sort(told_.begin(), told_.end());
    return told_;
  }

 private:
  static void bias(const heed::LogitChunk& chunk, float step) {
    for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
      chunk.logits[i] += step * float((chunk.positions[i] + chunk.row.head) % 7);
    }
  }
  void add(std::uint64_t kind, const heed::HookRow& row, std::span<const Index> keys, std::span<const Index> positions,
           std::span<const float> numbers, std::vector<float> more = {}) {
    std::vector<std::uint64_t> one{kind};
    for (const Index n : {row.sequence, row.query, row.position, row.head, row.kv_head}) one.push_back(std::uint64_t(n));
    for (const std::span<const Index> all : {keys, positions}) {
      for (const Index n : all) one.push_back(std::uint64_t(n));
    }
    more.insert(more.end(), numbers.begin(), numbers.end());
    for (const float x : more) one.push_back(std::bit_cast<std::uint32_t>(x));
    const std::lock_guard lock(mutex_);
    told_.push_back(std::move(one));
  }

  std::mutex mutex_;
  std::vector<std::vector<std::uint64_t>> told_;
};

/// Key n is seen by KV head g if n % (g + 2) != 1, and the last 16 keys by both. A cache's rule says which keys there are.
struct PerHead {
  bool ignorant = false;
  [[nodiscard]] bool visible(Index query, Index key, Index kv_head) const {
    return key <= query && (key > query - 16 || key % (kv_head + 2) != 1);
  }
  [[nodiscard]] heed::Coverage coverage(heed::Interval queries, heed::Interval keys, Index) const {
    if (ignorant) return heed::Coverage::partial;
    if (keys.begin >= queries.end) return heed::Coverage::none;
    const bool all = keys.begin > queries.end - 17 && keys.end - 1 <= queries.begin;
    return all ? heed::Coverage::full : heed::Coverage::partial;
  }
  [[nodiscard]] heed::Status fits(const heed::MaskedCall&) const { return {}; }
};
static_assert(heed::GroupedMask<PerHead>);

std::vector<heed::AnyRule> rules() {
  return {heed::Causal{}, heed::SlidingWindow{70}, heed::SinkWindow{5, 300},
          heed::Separators{.initial = 3, .window = 40, .ids = {2, 3}}, heed::Anchors{.ids = {5}}};
}
heed::AnyRule with_history() {
  return heed::SeparatorStream{.initial = 4, .separators = 8, .local = 32, .capacity = 100, .ids = {1}};
}
const std::vector<Index> some_steps{1, 250, 7, 1, 300, 1, 40, 0, 1};

/// A plan of every step, made before a row is written, runs each layer with hooks and without.
template <class P>
void expect_bits(const Subject<P>& subject, const heed::CacheOptions& options, const heed::AnyRule& rule, Index workers,
                 heed::MaskRef mask = {}) {
  SCOPED_TRACE(std::string(rule.name()) + ", workers " + std::to_string(workers));
  oracle::Random random(7);
  heed::CacheOptions with_layers = options;
  with_layers.layers = layers;
  auto cache = make_cache<Codec>(subject, with_layers, rule);
  heed::Plan plan;
  heed::Workspace workspace;
  const auto executor = heed::value_or_throw(heed::ThreadPool::create(workers));
  const std::vector<float> slopes(std::size_t(subject.policy.layout().num_heads), 0.01f);
  const std::vector<float> sinks(slopes.size(), 0.5f);
  const heed::AttendOptions attend_options{.soft_cap = 9, .alibi_slopes = slopes, .sink_logits = sinks};
  for (const Index tokens : some_steps) {
    const Rows rows = random_rows(subject, tokens, random);
    auto step = heed::value_or_throw(cache.begin(rows.ids));
    heed::check(plan.make(subject.policy, step.keys(0), tokens, workers, mask));
    for (Index layer = 0; layer < layers; ++layer) {
      for (std::size_t s = 0; s < rows.streams.size(); ++s) {
        std::vector<float> own = rows.streams[s];
        for (float& x : own) x *= float(layer + 1);
        heed::check(step.write(layer, int(s), own));
      }
      const auto keys = step.keys(layer);
      const auto alone = [&](const heed::Kernel& kernel) {
        Output made = empty_output(subject, tokens);
        heed::check(heed::attend(kernel, subject.policy, rows.q, keys, mask, made.out, workspace, *executor,
                                 attend_options, made.lse));
        return made;
      };
      const auto planned = [&](const heed::Kernel& kernel) {
        Output made = empty_output(subject, tokens);
        heed::check(heed::attend(kernel, plan, subject.policy, rows.q, keys, made.out, workspace, *executor,
                                 attend_options, made.lse));
        return made;
      };
      const auto& plain = heed::kernel<Backend, Codec, Codec>();
      ASSERT_TRUE(planned(plain) == alone(plain)) << "layer " << layer << ", " << tokens << " tokens";
      Log want, got;
      const Output hooked = alone(heed::kernel<Backend, Codec, Codec>(want));
      ASSERT_TRUE(planned(heed::kernel<Backend, Codec, Codec>(got)) == hooked) << layer << ", " << tokens << " tokens";
      ASSERT_TRUE(got.told() == want.told()) << "layer " << layer << ", " << tokens << " tokens";
      ASSERT_EQ(tokens == 0, got.told().empty());
    }
    heed::check(step.commit());
  }
}

TEST(PlanHooks, OfEveryRule) {
  for (const heed::AnyRule& rule : rules()) {
    for (const Index workers : {1, 3}) expect_bits(gqa(), {.page_tokens = 16}, rule, workers);
  }
  expect_bits(gqa(), {}, with_history(), 2);
}

TEST(PlanHooks, OfEveryPolicy) {
  const auto all_of = [](const auto& subject) {
    expect_bits(subject, {}, heed::Causal{}, 1);
    expect_bits(subject, {.page_tokens = 64}, heed::SinkWindow{3, 200}, 3);
  };
  all_of(mha());
  all_of(mqa());
  all_of(mfa_kr());
  all_of(rotated_gqa());
  all_of(mla());
  all_of(mla(true));
  expect_bits(rotated_gqa(), {.positions = heed::Positions::rank, .page_tokens = 8}, heed::SinkWindow{4, 60}, 3);
}

TEST(PlanGroupedMasks, OfEveryRule) {
  for (const heed::AnyRule& rule : rules()) {
    for (const Index workers : {1, 3}) expect_bits(gqa(), {.page_tokens = 16}, rule, workers, PerHead{});
    expect_bits(gqa(), {}, rule, 2, PerHead{.ignorant = true});
  }
}

TEST(PlanGroupedMasks, OfEveryPolicy) {
  for (const bool ignorant : {false, true}) {
    const PerHead mask{ignorant};
    expect_bits(mha(), {.page_tokens = 8}, heed::SinkWindow{3, 200}, 3, mask);
    expect_bits(mqa(), {}, heed::Causal{}, 1, mask);
    expect_bits(mfa_kr(), {}, heed::SlidingWindow{90}, 2, mask);
    expect_bits(rotated_gqa(), {}, heed::Causal{}, 3, mask);
    expect_bits(mla(), {}, heed::Causal{}, 2, mask);
  }
}

/// The heads do see different keys: a mask of head 0 for all gives other bits.
TEST(PlanGroupedMasks, AreAskedForEachHead) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(8);
  heed::SerialExecutor serial;
  auto cache = make_cache<Codec>(subject, {.layers = layers});
  decode(subject, cache, random_rows(subject, 700, random));
  const Rows rows = random_rows(subject, 3, random);
  auto step = begin(cache, rows);
  struct First : PerHead {
    [[nodiscard]] bool visible(Index query, Index key, Index) const { return PerHead::visible(query, key, 0); }
  };
  const auto keys = step.keys(1);
  const auto planned = [&](heed::MaskRef mask) {
    return attend_planned(subject, plan_of(subject.policy, step.keys(0), 3, 1, mask), rows, keys, serial);
  };
  const Output got = planned(PerHead{}), first = planned(First{});
  ASSERT_EQ(got.lse.size(), 3u * 4u);
  for (std::size_t row = 0; row < got.lse.size(); ++row) {
    EXPECT_EQ(got.lse[row] == first.lse[row], row % 4 < 2) << row;
  }
}

/// A batch in which only some masks depend on the KV head.
TEST(PlanGroupedMasks, InABatch) {
  using Cache = heed::KvCache<heed::Gqa, Codec>;
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(9);
  std::vector<Cache> caches;
  std::vector<Rows> rows;
  std::vector<Cache::Step> steps;
  const heed::MaskRef masks[] = {heed::MaskRef(PerHead{}), heed::MaskRef(), heed::MaskRef(PerHead{.ignorant = true}),
                                 heed::MaskRef(heed::Causal{})};
  for (const Index size : {300, 800, 5, 260}) {
    caches.push_back(make_cache<Codec>(subject, {.layers = layers, .page_tokens = 32}));
    decode(subject, caches.back(), random_rows(subject, size, random));
    rows.push_back(random_rows(subject, 1 + size % 3, random));
  }
  for (std::size_t i = 0; i < caches.size(); ++i) steps.push_back(begin(caches[i], rows[i]));
  const auto executor = heed::value_or_throw(heed::ThreadPool::create(3));
  const auto views = [&](Index layer) {
    std::vector<Cache::Keys> all;
    for (const Cache::Step& step : steps) all.push_back(step.keys(layer));
    return all;
  };
  heed::Plan plan;
  const std::vector<Cache::Keys> first = views(0);
  std::vector<heed::PlannedSequence<Cache::Keys>> planned;
  for (std::size_t i = 0; i < first.size(); ++i) {
    planned.push_back({.keys = &first[i], .num_queries = rows[i].size(), .mask = masks[i]});
  }
  heed::check(plan.make(subject.policy, std::span<const heed::PlannedSequence<Cache::Keys>>(planned), 3));
  for (Index layer = 0; layer < layers; ++layer) {
    const std::vector<Cache::Keys> keys = views(layer);
    std::vector<Output> got, want;
    std::vector<heed::LayerIo<Cache::Keys>> io;
    std::vector<heed::Sequence<Cache::Keys>> sequences;
    for (const Rows& own : rows) got.push_back(empty_output(subject, own.size()));
    want = got;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      io.push_back({&keys[i], rows[i].q, got[i].out, got[i].lse});
      sequences.push_back(
          {.keys = &keys[i], .mask = masks[i], .q = rows[i].q, .out = want[i].out, .lse = want[i].lse});
    }
    heed::Workspace workspace;
    Log of_plan, of_batch;
    heed::check(heed::attend(heed::kernel<Backend, Codec, Codec>(of_plan), plan, subject.policy,
                             std::span<const heed::LayerIo<Cache::Keys>>(io), workspace, *executor));
    heed::check(heed::attend_batch(heed::kernel<Backend, Codec, Codec>(of_batch), subject.policy,
                                   std::span<const heed::Sequence<Cache::Keys>>(sequences), workspace, *executor));
    for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_TRUE(got[i] == want[i]) << "sequence " << i;
    EXPECT_TRUE(of_plan.told() == of_batch.told()) << layer;
  }
}

}  // namespace
}  // namespace heed_test::plan_hooks_test
