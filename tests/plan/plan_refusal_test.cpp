// A plan that does not fit a layer is refused, by name, and nothing is written.
#include <heed/cache/strided.hpp>
#include <heed/retention/window.hpp>

#include "plan/plans.hpp"
#include "speculative/trees.hpp"

namespace heed_test::plan_refusal_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
using View = Cache::Keys;

struct Fixture {
  Subject<heed::Gqa> subject = gqa();
  oracle::Random random{1};
  Cache cache = make_cache<heed::Bf16>(subject, {.layers = 2});
  Rows rows;

  explicit Fixture(Index tokens = 2) {
    decode(subject, cache, random_rows(subject, 300, random));
    rows = random_rows(subject, tokens, random);
  }
};

TEST(PlanRefusal, OfAPlanThatWasNotMade) {
  Fixture f;
  auto step = begin(f.cache, f.rows);
  heed::Plan plan;
  EXPECT_EQ(plan.num_sequences(), 0);
  expect_refusal(try_planned(f.subject, plan, f.rows, step.keys(0)), StatusCode::wrong_state, {"plan was not made"});
  plan = plan_of(f.subject.policy, step.keys(0), 2);
  EXPECT_EQ(plan.num_sequences(), 1);
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, step.keys(0)).ok());
  const heed::Plan other = std::move(plan);
  expect_refusal(try_planned(f.subject, plan, f.rows, step.keys(0)), StatusCode::wrong_state, {"plan was not made"});
  EXPECT_TRUE(try_planned(f.subject, other, f.rows, step.keys(0)).ok());
}

TEST(PlanRefusal, OfAnotherStep) {
  Fixture f;
  auto step = begin(f.cache, f.rows);
  const heed::Plan plan = plan_of(f.subject.policy, step.keys(0), 2);
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, step.keys(1)).ok());
  const View old = step.keys(1);
  heed::check(step.commit());
  expect_refusal(try_planned(f.subject, plan, f.rows, old), StatusCode::wrong_state,
                 {"sequence 0", "step that is closed"});
  expect_refusal(try_planned(f.subject, plan, f.rows, f.cache.keys(1)), StatusCode::wrong_state,
                 {"sequence 0", "another step than the plan's"});
  // As many tokens again, so that nothing but the step differs.
  heed::check(f.cache.truncate(300));
  auto next = begin(f.cache, f.rows);
  expect_refusal(try_planned(f.subject, plan, f.rows, next.keys(0)), StatusCode::wrong_state, {"another step"});
  next.abort();
  expect_refusal(try_planned(f.subject, plan, f.rows, f.cache.keys(0)), StatusCode::wrong_state, {"another step"});
  const heed::Plan committed = plan_of(f.subject.policy, f.cache.keys(0), 2);
  EXPECT_TRUE(try_planned(f.subject, committed, f.rows, f.cache.keys(1)).ok());
  heed::check(f.cache.truncate(299));
  expect_refusal(try_planned(f.subject, committed, f.rows, f.cache.keys(1)), StatusCode::wrong_state, {"another step"});
}

TEST(PlanRefusal, OfRowsThatAreNotWritten) {
  Fixture f;
  auto step = heed::value_or_throw(f.cache.begin(f.rows.ids));
  const heed::Plan plan = plan_of(f.subject.policy, step.keys(0), 2);
  heed::check(step.write(1, 0, f.rows.streams[0]));
  expect_refusal(try_planned(f.subject, plan, f.rows, step.keys(1)), StatusCode::wrong_state,
                 {"layer 1, stream 1 was not written"});
}

TEST(PlanRefusal, OfAnotherCacheOrLayerGroup) {
  Fixture f;
  const std::vector<heed::LayerRule> groups{{heed::Causal{}, {0, 2}}, {heed::SlidingWindow{1000}, {1}}};
  auto cache = heed::value_or_throw(Cache::create(f.subject.policy, {.layers = 3}, groups));
  decode(f.subject, cache, random_rows(f.subject, 300, f.random));
  auto step = begin(cache, f.rows);
  auto other = begin(f.cache, f.rows);
  const heed::Plan plan = plan_of(f.subject.policy, step.keys(0), 2);
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, step.keys(2)).ok());
  const char* const word = "keys are of another cache or layer group";
  expect_refusal(try_planned(f.subject, plan, f.rows, step.keys(1)), StatusCode::invalid_argument, {word});
  expect_refusal(try_planned(f.subject, plan, f.rows, other.keys(0)), StatusCode::invalid_argument, {word});
  const auto moved = std::move(f.cache);
  expect_refusal(try_planned(f.subject, plan, f.rows, f.cache.keys(0)), StatusCode::wrong_state,
                 {"keys are of no cache"});
}

TEST(PlanRefusal, OfAFork) {
  Fixture f;
  auto fork = heed::value_or_throw(f.cache.fork());
  const heed::Plan plan = plan_of(f.subject.policy, f.cache.keys(0), 2);
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, f.cache.keys(1)).ok());
  expect_refusal(try_planned(f.subject, plan, f.rows, fork.keys(1)), StatusCode::invalid_argument,
                 {"keys are of another cache or layer group"});
}

/// A cache that ended leaves its memory to the next one, which has changed as often and keeps as many tokens.
TEST(PlanRefusal, OfACacheThatEnded) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(4);
  const Rows rows = random_rows(subject, 50, random);
  bool met = false;
  for (int i = 0; i < 100 && !met; ++i) {
    heed::Plan plan;
    const void* ended = nullptr;
    {
      Cache cache = make_cache<heed::Bf16>(subject, {.layers = 2}, heed::SlidingWindow{8});
      auto step = begin(cache, rows);
      plan = plan_of(subject.policy, step.keys(0), 50);
      ended = step.keys(0).tokens();
    }
    Cache cache = make_cache<heed::Bf16>(subject, {.layers = 2}, heed::SlidingWindow{40});
    auto step = begin(cache, rows);
    met = step.keys(0).tokens() == ended;
    expect_refusal(try_planned(subject, plan, rows, step.keys(0)), StatusCode::invalid_argument,
                   {"sequence 0: keys are of another cache or layer group"});
  }
  if (!met) GTEST_SKIP() << "this allocator gave no memory twice";
}

/// The same of what makes lists of keys from a tree: here always in one block of memory.
TEST(PlanRefusal, OfATreeThatEnded) {
  Fixture f(3);
  alignas(64) static std::byte block[1 << 14];
  const heed::MemoryResource memory{
      .context = nullptr,
      .allocate = [](void*, std::size_t bytes, std::size_t) -> void* { return bytes <= sizeof block ? block : nullptr; },
      .deallocate = [](void*, void*, std::size_t, std::size_t) {}};
  auto step = begin(f.cache, f.rows);
  const heed::DraftTree chain = heed::value_or_throw(heed::DraftTree::chain(3));
  const std::vector<Index> parents{-1, 0, 0};
  const heed::DraftTree star = heed::value_or_throw(heed::DraftTree::create(parents));
  heed::Plan plan;
  {
    const heed::TreePaths paths = heed::value_or_throw(heed::TreePaths::create(step.keys(0), chain, memory));
    plan = plan_of(f.subject.policy, paths.keys(step.keys(0)), 3);
    EXPECT_TRUE(try_planned(f.subject, plan, f.rows, paths.keys(step.keys(1))).ok());
  }
  const heed::TreePaths paths = heed::value_or_throw(heed::TreePaths::create(step.keys(0), star, memory));
  expect_refusal(try_planned(f.subject, plan, f.rows, paths.keys(step.keys(1))), StatusCode::invalid_argument,
                 {"another tree"});
}

TEST(PlanRefusal, OfAnotherTree) {
  Fixture f(3);
  auto step = begin(f.cache, f.rows);
  const heed::DraftTree chain = heed::value_or_throw(heed::DraftTree::chain(3));
  const std::vector<Index> parents{-1, 0, 0};
  const heed::DraftTree star = heed::value_or_throw(heed::DraftTree::create(parents));
  const heed::TreePaths of_chain = paths_of(step.keys(0), chain), of_star = paths_of(step.keys(0), star);
  const heed::Plan plan = plan_of(f.subject.policy, of_chain.keys(step.keys(0)), 3);
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, of_chain.keys(step.keys(1))).ok());
  expect_refusal(try_planned(f.subject, plan, f.rows, of_star.keys(step.keys(1))), StatusCode::invalid_argument,
                 {"another tree"});
  expect_refusal(try_planned(f.subject, plan, f.rows, step.keys(1)), StatusCode::invalid_argument, {"another tree"});
}

/// The nodes of a tree have other positions than a text: asked before the plan was made or after it.
TEST(PlanRefusal, OfATreeWhosePositionsAreTheTexts) {
  Fixture f(3);
  const std::vector<Index> parents{-1, 0, 0};
  const heed::DraftTree star = heed::value_or_throw(heed::DraftTree::create(parents));
  auto step = begin(f.cache, f.rows);
  const heed::TreeMask mask = mask_of(step.keys(0), star);
  const heed::Plan plan = plan_of(f.subject.policy, step.keys(0), 3, 1, mask);
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, step.keys(1)).ok());
  static_cast<void>(step.positions(0));
  expect_refusal(try_planned(f.subject, plan, f.rows, step.keys(1)), StatusCode::wrong_state, {"positions()"});
}

TEST(PlanRefusal, OfAnotherPolicy) {
  Fixture f;
  auto step = begin(f.cache, f.rows);
  const heed::Plan plan = plan_of(f.subject.policy, step.keys(0), 2);
  const auto refused = [&](const auto& policy, std::vector<std::string> words) {
    const Subject<std::remove_cvref_t<decltype(policy)>> other{policy, f.subject.q_width, f.subject.out_width};
    expect_refusal(try_planned(other, plan, f.rows, step.keys(0)), StatusCode::invalid_argument, words);
  };
  heed::Gqa policy = f.subject.policy;
  policy.num_heads = 8;
  refused(policy, {"policy: num_heads is 8, the plan was made for 4"});
  policy = f.subject.policy;
  policy.head_dim = 25;
  refused(policy, {"policy: key_width is 25", "24"});
  policy = f.subject.policy;
  policy.v_head_dim = 41;
  refused(policy, {"policy: value_width is 41", "40"});
  policy = f.subject.policy;
  policy.num_kv_heads = 4;
  refused(policy, {"policy: num_kv_heads is 4", "2"});
  refused(rotated_gqa().policy, {"policy: it prepares keys"});
  Subject<heed::Gqa> scaled = f.subject;  // may differ from layer to layer
  scaled.policy.scale = 0.7f;
  heed::SerialExecutor serial;
  EXPECT_TRUE(attend_planned(scaled, plan, f.rows, step.keys(0), serial) == attend(scaled, f.rows, step.keys(0)));
}

TEST(PlanRefusal, OfMoreWorkersOrOtherSizes) {
  Fixture f;
  auto step = begin(f.cache, f.rows);
  const View keys = step.keys(0);
  const heed::Plan plan = plan_of(f.subject.policy, keys, 2, 2);
  EXPECT_EQ(plan.workers(), 2);
  heed::Workspace workspace;
  auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  heed::SerialExecutor serial;
  Output out = empty_output(f.subject, 2);
  const heed::LayerIo<View> good{&keys, f.rows.q, out.out, out.lse};
  const auto attend_to = [&](const heed::LayerIo<View>& io) {
    return heed::attend<Backend>(plan, f.subject.policy, std::span(&io, 1), workspace, serial);
  };
  expect_refusal(heed::attend<Backend>(plan, f.subject.policy, std::span(&good, 1), workspace, *pool),
                 StatusCode::invalid_argument, {"executor has 3 workers", "made for 2"});
  const std::vector<heed::LayerIo<View>> two{good, good};
  expect_refusal(
      heed::attend<Backend>(plan, f.subject.policy, std::span<const heed::LayerIo<View>>(two), workspace, serial),
      StatusCode::invalid_argument, {"layer has 2 sequences, the plan has 1"});
  expect_refusal(attend_to({nullptr, f.rows.q, out.out, {}}), StatusCode::invalid_argument, {"keys is null"});
  const std::span<const float> q = f.rows.q;
  expect_refusal(attend_to({&keys, q.first(q.size() / 2), out.out, {}}), StatusCode::invalid_argument,
                 {"sequence 0: q has 96 numbers", "192", "plan's 2 queries"});
  expect_refusal(attend_to({&keys, q, std::span(out.out).first(7), {}}), StatusCode::invalid_argument,
                 {"out has 7 numbers", "320"});
  expect_refusal(attend_to({&keys, q, out.out, std::span(out.lse).first(3)}), StatusCode::invalid_argument,
                 {"lse has 3 numbers"});
  const auto& other = heed::kernel<Backend, heed::F32, heed::F32>();
  expect_refusal(heed::attend(other, plan, f.subject.policy, std::span(&good, 1), workspace, serial),
                 StatusCode::invalid_argument, {"bf16", "f32"});
  EXPECT_TRUE(out == empty_output(f.subject, 2)) << "nothing is written";
  EXPECT_TRUE(attend_to(good).ok());
}

/// Memory of the caller has no identity: what differs is seen all the same.
TEST(PlanRefusal, OfOtherMemory) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(2);
  const std::vector<float> numbers = random.gaussians(700 * 2 * 64);
  const auto* const data = reinterpret_cast<const std::byte*>(numbers.data());
  using Source = heed::StridedSource<heed::F32>;
  const auto source = [&](Index keys, Index token_stride, Index first = 0) {
    const heed::StridedStream k{data, token_stride, 64 * 4, 24 * 4}, v{data + 24 * 4, token_stride, 64 * 4, 40 * 4};
    return Source(keys, k, v, first);
  };
  const Rows rows = random_rows(subject, 1, random);
  const heed::Plan plan = plan_of(subject.policy, source(300, 512), 1, 1, heed::Causal{});
  EXPECT_TRUE(try_planned(subject, plan, rows, source(300, 512)).ok());
  expect_refusal(try_planned(subject, plan, rows, source(299, 512)), StatusCode::invalid_argument,
                 {"keys has 299 slots, the plan's has 300"});
  expect_refusal(try_planned(subject, plan, rows, source(300, 512, 5)), StatusCode::invalid_argument,
                 {"position 304", "299"});
  expect_refusal(try_planned(subject, plan, rows, source(300, 1024)), StatusCode::invalid_argument, {"distances"});
}

/// Keys with gaps between their positions.
struct Gaps {
  using KeyCodec = heed::F32;
  using ValueCodec = heed::F32;
  const float* numbers = nullptr;
  std::vector<Index> positions;

  [[nodiscard]] Index size() const { return Index(positions.size()); }
  [[nodiscard]] Index position(Index key) const { return positions[std::size_t(key)]; }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const {
    return {.data = reinterpret_cast<const std::byte*>(numbers + (first * 2 + head) * 64 + stream * 24),
            .rows = max,
            .stride_bytes = 512,
            .readable_bytes = stream == 0 ? 96 : 160};
  }
};
TEST(PlanRefusal, OfOtherPositions) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(3);
  const std::vector<float> numbers = random.gaussians(10 * 2 * 64);
  const Gaps keys{numbers.data(), {0, 1, 4, 5, 9}}, others{numbers.data(), {0, 2, 4, 5, 9}};
  const Rows rows = random_rows(subject, 1, random);
  const heed::Plan plan = plan_of(subject.policy, keys, 1, 1, heed::SlidingWindow{8});
  EXPECT_TRUE(try_planned(subject, plan, rows, keys).ok());
  expect_refusal(try_planned(subject, plan, rows, others), StatusCode::invalid_argument, {"other positions"});
}

// --- make() --------------------------------------------------------------------------------------------------------------

/// What cannot be planned is refused as attend() refuses it, and leaves the plan as it was.
TEST(PlanRefusal, OfWhatCannotBePlanned) {
  Fixture f;
  auto step = begin(f.cache, f.rows);
  const View keys = step.keys(0), committed = f.cache.keys(0);
  heed::Plan plan = plan_of(f.subject.policy, keys, 2);
  const auto refused = [&](const heed::PlannedSequence<View>& sequence, Index workers, StatusCode code,
                           std::vector<std::string> words) {
    expect_refusal(plan.make(f.subject.policy, std::span(&sequence, 1), workers), code, words);
    EXPECT_TRUE(try_planned(f.subject, plan, f.rows, keys).ok());
  };
  const Index positions[] = {1, 2, 3};
  refused({.keys = nullptr, .num_queries = 2}, 1, StatusCode::invalid_argument, {"sequence 0: keys is null"});
  refused({.keys = &keys, .num_queries = -1}, 1, StatusCode::invalid_argument, {"num_queries is -1"});
  refused({.keys = &keys, .num_queries = 2, .query_positions = positions}, 1, StatusCode::invalid_argument,
          {"query_positions has 3 numbers, must have 2"});
  refused({.keys = &keys, .num_queries = 2}, 0, StatusCode::invalid_argument, {"workers is 0"});
  refused({.keys = &committed, .num_queries = 1}, 1, StatusCode::wrong_state, {"lack the tokens of the open step"});
  heed::Gqa bad = f.subject.policy;
  bad.num_kv_heads = 3;
  expect_refusal(plan.make(bad, keys, 2, 1), StatusCode::invalid_argument, {"num_kv_heads is 3"});
  bad = f.subject.policy;
  bad.head_dim = 20;
  expect_refusal(plan.make(bad, keys, 2, 1), StatusCode::invalid_argument, {"cache of another shape", "stream 0"});
  EXPECT_TRUE(try_planned(f.subject, plan, f.rows, keys).ok());
}

/// Query positions are copied; the mask is asked by them.
TEST(PlanRefusal, NotOfPositionsThatEnded) {
  Fixture f;
  auto step = begin(f.cache, f.rows);
  const View keys = step.keys(0);
  heed::SerialExecutor serial;
  heed::Plan plan;
  std::vector<Index> positions{300, 100};
  heed::check(plan.make(f.subject.policy, keys, 2, 1, heed::Causal{}, positions));
  Output want = empty_output(f.subject, 2);
  heed::Workspace workspace;
  heed::check(heed::attend<Backend>(f.subject.policy, f.rows.q, keys, heed::Causal{}, want.out, workspace, serial, {},
                                    want.lse, positions));
  positions.assign(2, 7);
  EXPECT_TRUE(attend_planned(f.subject, plan, f.rows, keys, serial) == want);
}

}  // namespace
}  // namespace heed_test::plan_refusal_test
