/// \file
/// attend() refuses keys that are not there yet, not there any more, or stored for another policy.
#include <utility>

#include <heed/attend.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/mla.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>
#include <heed/speculative/tree_paths.hpp>

#include "cache/instances.hpp"

namespace heed_test::readable_test {
namespace {

using heed::Status, heed::StatusCode;

constexpr heed::Gqa plain{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .v_head_dim = 4, .scale = 0.25f};
const heed::Rope& rope() {
  static const heed::Rope made =
      heed::value_or_throw(heed::Rope::create({.head_dim = 8, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  return made;
}
heed::RotatedKeys<heed::Gqa> rotating() { return {.policy = plain, .rope = &rope()}; }
using Cache = heed::KvCache<heed::Gqa, heed::F32>;
using RankCache = heed::KvCache<heed::RotatedKeys<heed::Gqa>, heed::F32>;

/// Attends with `queries` queries of ones. On failure the outputs must be untouched.
template <class P, class View>
Status attend(const P& policy, const View& keys, Index queries = 1) {
  const std::vector<float> q(std::size_t(queries * 32), 1.0f);
  std::vector<float> out(std::size_t(queries * 16), 77.0f);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  Status status = heed::attend<heed::Scalar>(policy, q, keys, out, workspace, executor);
  const bool touched = std::any_of(out.begin(), out.end(), [](float x) { return x != 77.0f; });
  EXPECT_EQ(touched, status.ok() && queries > 0);
  return status;
}

void expect_failure(const Status& status, StatusCode code, const std::string& message) {
  EXPECT_EQ(status.code(), code);
  EXPECT_EQ(status.message(), message);
}

template <class Step>
void write(Step& step, Index layer, float number = 0.5f) {
  const std::vector<float> keys(std::size_t(step.tokens() * 16), number),
      values(std::size_t(step.tokens() * 8), number);
  ASSERT_TRUE(step.write(layer, keys, values).ok());
}
template <class Cache>
void append(Cache& cache, Index tokens, float number = 0.5f) {
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(tokens)));
  for (Index layer = 0; layer < cache.layers(); ++layer) write(step, layer, number);
  heed::check(step.commit());
}

Cache two_layers(Index tokens = 0) {
  Cache cache = heed::value_or_throw(Cache::create(plain, {.layers = 2}));
  if (tokens > 0) append(cache, tokens);
  return cache;
}

TEST(ReadableKeys, AreWrittenInThisStep) {
  Cache cache = two_layers(3);
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(2)));
  const auto unwritten = [&](Index layer, int stream) {
    expect_failure(attend(plain, step.keys(layer), 2), StatusCode::wrong_state,
                   "sequence 0: keys: layer " + std::to_string(layer) + ", stream " + std::to_string(stream) +
                       " was not written in this step");
  };
  unwritten(0, 0);
  ASSERT_TRUE(step.write(0, 1, std::vector<float>(2 * 8)).ok());
  unwritten(0, 0);
  ASSERT_TRUE(step.write(0, 0, std::vector<float>(2 * 16)).ok());
  EXPECT_TRUE(attend(plain, step.keys(0), 2).ok());
  unwritten(1, 0);
  ASSERT_TRUE(step.write(1, 0, std::vector<float>(2 * 16)).ok());
  unwritten(1, 1);
}

/// What an aborted step wrote is not this step's.
TEST(ReadableKeys, AreNotThoseOfAnAbortedStep) {
  Cache cache = two_layers(3);
  {
    auto aborted = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
    write(aborted, 0);
    EXPECT_TRUE(attend(plain, aborted.keys(0)).ok());
  }
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  EXPECT_EQ(attend(plain, step.keys(0)).code(), StatusCode::wrong_state);
}

TEST(ReadableKeys, OfAnotherCacheAreWrittenThere) {
  Cache first = two_layers(3), second = two_layers(3);
  auto step = heed::value_or_throw(first.begin(heed::NumTokens(1)));
  auto other = heed::value_or_throw(second.begin(heed::NumTokens(1)));
  write(step, 0);
  EXPECT_TRUE(attend(plain, step.keys(0)).ok());
  EXPECT_EQ(attend(plain, other.keys(0)).code(), StatusCode::wrong_state);
}

TEST(ReadableKeys, ViewsMayBeTakenBeforeTheWrite) {
  Cache cache = two_layers(3);
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  const Cache::Keys before = step.keys(0);
  EXPECT_FALSE(attend(plain, before).ok());
  write(step, 0);
  EXPECT_TRUE(attend(plain, before).ok());
}

TEST(ReadableKeys, EmptyStepsNeedNoWrite) {
  Cache cache = two_layers(3);
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(0)));
  EXPECT_TRUE(attend(plain, step.keys(0), 0).ok());
}

TEST(ReadableKeys, CommittedOnesAloneAreRefusedDuringAStep) {
  Cache cache = two_layers(3);
  const Cache::Keys taken_before = cache.keys(1);
  EXPECT_TRUE(attend(plain, taken_before).ok());
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(2)));
  write(step, 1);
  const std::string message = "sequence 0: keys of layer 1 lack the tokens of the open step: attend to step.keys(1)";
  expect_failure(attend(plain, cache.keys(1)), StatusCode::wrong_state, message);
  expect_failure(attend(plain, taken_before), StatusCode::wrong_state, message);
  step.abort();
  EXPECT_TRUE(attend(plain, cache.keys(1)).ok());
}

TEST(ReadableKeys, OfAClosedStep) {
  Cache cache = two_layers(3);
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  write(step, 0);
  write(step, 1);
  const Cache::Keys view = step.keys(0);
  ASSERT_TRUE(step.commit().ok());
  expect_failure(attend(plain, view), StatusCode::wrong_state,
                 "sequence 0: keys of layer 0 are those of a step that is closed");
  expect_failure(attend(plain, step.keys(0)), StatusCode::wrong_state, "sequence 0: keys: the step is closed");
  EXPECT_TRUE(attend(plain, cache.keys(0)).ok());
}

TEST(ReadableKeys, OfAnEarlierState) {
  const auto stale = [](const auto& change) {
    Cache cache = two_layers(9);
    const Cache::Keys view = cache.keys(0);
    change(cache);
    expect_failure(attend(plain, view), StatusCode::wrong_state,
                   "sequence 0: keys of layer 0 were taken before the cache changed");
    EXPECT_TRUE(attend(plain, cache.keys(0)).ok());
  };
  stale([](Cache& cache) { append(cache, 1); });
  stale([](Cache& cache) {
    ASSERT_TRUE(cache.begin(heed::NumTokens(100)).ok());
  });  // aborted, but it may have moved bookkeeping
  stale([](Cache& cache) { ASSERT_TRUE(cache.truncate(2).ok()); });
  stale([](Cache& cache) { ASSERT_TRUE(cache.clear().ok()); });
  stale([](Cache& cache) { ASSERT_TRUE(cache.reserve(5000).ok()); });
  stale([](Cache& cache) { ASSERT_TRUE(cache.compact(std::vector<Index>{1, 5}).ok()); });
}

TEST(ReadableKeys, SurviveAMoveOfTheCache) {
  Cache cache = two_layers(3);
  const Cache::Keys committed = cache.keys(0);
  Cache moved(std::move(cache));
  EXPECT_TRUE(attend(plain, committed).ok());
  auto step = heed::value_or_throw(moved.begin(heed::NumTokens(1)));
  const Cache::Keys view = step.keys(0);
  Cache again = two_layers();
  again = std::move(moved);
  EXPECT_FALSE(attend(plain, view).ok());
  write(step, 0);
  EXPECT_TRUE(attend(plain, view).ok());
}

TEST(ReadableKeys, OfNoLayer) {
  Cache cache = two_layers(3);
  expect_failure(attend(plain, cache.keys(9)), StatusCode::out_of_range,
                 "sequence 0: keys: layer is 9, the cache has 2");
  expect_failure(attend(plain, cache.keys(-1)), StatusCode::out_of_range,
                 "sequence 0: keys: layer is -1, the cache has 2");
  expect_failure(attend(plain, Cache::Keys()), StatusCode::wrong_state, "sequence 0: keys are of no cache");
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  expect_failure(attend(plain, step.keys(2)), StatusCode::out_of_range,
                 "sequence 0: keys: layer is 2, the cache has 2");
}

/// Un-rotated keys with a policy that takes them for rotated ones, and the other way round.
TEST(ReadableKeys, AreStoredForAPolicyLikeThis) {
  const std::string unrotated =
      "sequence 0: keys of layer 0 are of a cache whose policy rotates keys when they are read, but this policy does "
      "not";
  const std::string rotated =
      "sequence 0: keys of layer 0 are of a cache whose policy reads keys as they are stored, but this policy rotates "
      "them";
  for (const heed::Positions positions : {heed::Positions::rank, heed::Positions::absolute}) {
    RankCache cache = heed::value_or_throw(RankCache::create(rotating(), {.positions = positions}));
    append(cache, 3);
    EXPECT_EQ(attend(rotating(), cache.keys(0)).ok(), positions == heed::Positions::absolute);
    expect_failure(attend(plain, cache.keys(0)), StatusCode::invalid_argument, unrotated);
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
    write(step, 0);
    EXPECT_TRUE(attend(rotating(), step.keys(0)).ok());
    expect_failure(attend(plain, step.keys(0)), StatusCode::invalid_argument, unrotated);
  }
  Cache cache = two_layers(3);
  expect_failure(attend(rotating(), cache.keys(0)), StatusCode::invalid_argument, rotated);
}

/// Some models have layers without a rotation among others. They say so.
TEST(ReadableKeys, OfALayerWithoutRotation) {
  const heed::RotatedKeys<heed::Gqa> none{.policy = plain, .rope = nullptr, .without_rotation = true};
  EXPECT_FALSE((heed::RotatedKeys<heed::Gqa>{.policy = plain}.validate().ok()));
  RankCache ranks = heed::value_or_throw(RankCache::create(rotating(), {.positions = heed::Positions::rank}));
  Cache cache = heed::value_or_throw(Cache::create(plain, {}));
  std::vector<float> keys(5 * 16), values(5 * 8), q(32);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = float(i % 7) - 3;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = float(i % 5) - 2;
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = float(i % 3) - 1;
  const auto read = [&](auto& from, const auto& policy) {
    auto step = heed::value_or_throw(from.begin(heed::NumTokens(5)));
    heed::check(step.write(0, keys, values));
    std::vector<float> out(16);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    heed::check(heed::attend<heed::Scalar>(policy, std::span(q).first(32), step.keys(0), heed::Causal{}, out, workspace,
                                           executor));
    return out;
  };
  const std::vector<float> want = read(cache, plain);
  RankCache absolute = heed::value_or_throw(RankCache::create(rotating(), {}));
  EXPECT_EQ(read(absolute, none), want);
  EXPECT_NE(read(absolute, rotating()), want);
  {
    auto step = heed::value_or_throw(ranks.begin(heed::NumTokens(3)));
    write(step, 0);
    EXPECT_TRUE(attend(none, step.keys(0), 3).ok());
  }
  append(cache, 3);
  EXPECT_EQ(attend(none, cache.keys(0)).code(), StatusCode::invalid_argument);
}

TEST(ReadableKeys, OfMlaAreRotatedOrNot) {
  const heed::Mla rotated{
      .num_heads = 1, .kv_lora_rank = 24, .qk_rope_head_dim = 8, .qk_nope_head_dim = 8, .v_head_dim = 8, .scale = 1};
  heed::Mla unrotated = rotated;
  unrotated.rope = &rope();
  for (const bool stored_unrotated : {false, true}) {
    auto cache =
        heed::value_or_throw(heed::KvCache<heed::Mla, heed::F32>::create(stored_unrotated ? unrotated : rotated, {}));
    const std::vector<float> q(32, 1.0f);
    std::vector<float> out(24);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    const auto ok = [&](const heed::Mla& mla) {
      return heed::attend<heed::Scalar>(mla, q, cache.keys(0), out, workspace, executor).ok();
    };
    EXPECT_EQ(ok(rotated), !stored_unrotated);
    EXPECT_EQ(ok(unrotated), stored_unrotated);
  }
}

/// What a committed query sees is gone, or was never a matter of the committed keys alone.
TEST(ReadableKeys, CommittedOnesMayLackWhatAQuerySees) {
  const std::string before = ": attend before commit(), to step.keys(0)";
  RankCache ranks = heed::value_or_throw(RankCache::create(rotating(), {.positions = heed::Positions::rank}));
  append(ranks, 3);
  expect_failure(attend(rotating(), ranks.keys(0)), StatusCode::wrong_state,
                 "sequence 0: committed keys of layer 0 do not say what a query sees, because their positions are "
                 "in-cache ranks" +
                     before);
  const heed::SeparatorStream stream{.initial = 1, .separators = 1, .local = 1, .capacity = 9, .ids = {7}};
  Cache history = heed::value_or_throw(Cache::create(plain, {}, stream));
  {
    auto step = heed::value_or_throw(history.begin(std::vector<std::int32_t>{1, 2, 3}));
    write(step, 0);
    heed::check(step.commit());
  }
  expect_failure(
      attend(plain, history.keys(0)), StatusCode::wrong_state,
      "sequence 0: committed keys of layer 0 do not say what a query sees, because their rule has a history" + before);
  {
    auto empty = heed::value_or_throw(ranks.begin(heed::NumTokens(0)));
    EXPECT_TRUE(attend(rotating(), empty.keys(0), 0).ok());
    EXPECT_EQ(attend(rotating(), empty.keys(0)).code(), StatusCode::wrong_state);
  }
  Cache window = heed::value_or_throw(Cache::create(plain, {}, heed::SlidingWindow{4}));
  append(window, 3);
  EXPECT_TRUE(attend(plain, window.keys(0), 3).ok());  // nothing is forgotten
  append(window, 7);
  expect_failure(
      attend(plain, window.keys(0), 2), StatusCode::wrong_state,
      "sequence 0: a query is at position 8, but the cache forgot what queries before 10 see of layer 0" + before);
  Cache slack = heed::value_or_throw(Cache::create(plain, {.undo_tokens = 2}, heed::SlidingWindow{4}));
  append(slack, 10);
  EXPECT_TRUE(attend(plain, slack.keys(0), 2).ok());
  EXPECT_FALSE(attend(plain, slack.keys(0), 3).ok());
  auto step = heed::value_or_throw(slack.begin(heed::NumTokens(2)));
  write(step, 0);
  EXPECT_TRUE(attend(plain, step.keys(0), 4).ok());
  expect_failure(
      attend(plain, step.keys(0), 5), StatusCode::wrong_state,
      "sequence 0: a query is at position 7, but the cache forgot what queries before 8 see of layer 0" + before);
}

/// Without query_positions the last query is that of the last key, whatever was removed behind it.
TEST(ReadableKeys, EndWithTheLastKey) {
  for (const heed::AnyRule& rule : {heed::AnyRule(heed::Causal{}), heed::AnyRule(heed::SlidingWindow{4})}) {
    Cache cache = heed::value_or_throw(Cache::create(plain, {.undo_tokens = 5}, rule));
    for (Index token = 0; token < 10; ++token) append(cache, 1, float(token));
    heed::check(cache.remove(8, 10));
    const std::vector<float> q(32), slopes{1, 1, 1, 1};
    std::vector<float> aligned(16), lse(4), placed(16), placed_lse(4);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    const heed::AttendOptions options{.alibi_slopes = slopes};
    const Index last = 7;
    heed::check(heed::attend<heed::Scalar>(plain, q, cache.keys(0), heed::MaskRef(), placed, workspace, executor,
                                           options, placed_lse, std::span(&last, 1)));
    heed::check(heed::attend<heed::Scalar>(plain, q, cache.keys(0), aligned, workspace, executor, options, lse));
    EXPECT_EQ(aligned, placed) << rule.name();
    EXPECT_EQ(lse, placed_lse) << rule.name();
  }
}

/// Queries of one step that see different lists are stages of one view.
TEST(ReadableKeys, InStages) {
  RankCache cache =
      heed::value_or_throw(RankCache::create(rotating(), {.positions = heed::Positions::rank}, heed::SinkWindow{1, 3}));
  append(cache, 6);
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(4)));
  ASSERT_GT(step.keys(0).stages(), 1);
  EXPECT_EQ(attend(rotating(), step.keys(0), 4).code(), StatusCode::wrong_state);
  write(step, 0);
  EXPECT_TRUE(attend(rotating(), step.keys(0), 4).ok());
  EXPECT_EQ(attend(plain, step.keys(0), 4).code(), StatusCode::invalid_argument);
}

TEST(ReadableKeys, OfTreePaths) {
  Cache cache = two_layers(5);
  const std::vector<Index> parents{-1, 0, 0};
  const auto tree = heed::value_or_throw(heed::DraftTree::create(parents));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(3)));
  const Cache::Keys view = step.keys(0);
  const heed::TreePaths tree_paths = heed::value_or_throw(heed::TreePaths::create(view, tree));
  const auto paths = tree_paths.keys(view);
  EXPECT_EQ(attend(plain, paths, 3).code(), StatusCode::wrong_state);
  write(step, 0);
  EXPECT_TRUE(attend(plain, paths, 3).ok());
  EXPECT_EQ(attend(rotating(), paths, 3).code(), StatusCode::invalid_argument);
}

TEST(ReadableKeys, OfEverySequenceOfABatch) {
  Cache first = two_layers(3), second = two_layers(3);
  auto step = heed::value_or_throw(second.begin(heed::NumTokens(1)));
  const Cache::Keys views[] = {first.keys(0), step.keys(0)};
  const std::vector<float> q(32, 1.0f);
  std::vector<float> out(2 * 16, 77.0f);
  const auto half = [&](std::size_t i) { return std::span(out).subspan(i * 16, 16); };
  const heed::Sequence<Cache::Keys> batch[] = {{.keys = &views[0], .q = q, .out = half(0)},
                                               {.keys = &views[1], .q = q, .out = half(1)}};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const auto call = [&] {
    return heed::attend_batch<heed::Scalar>(plain, std::span<const heed::Sequence<Cache::Keys>>(batch), workspace,
                                            executor);
  };
  expect_failure(call(), StatusCode::wrong_state, "sequence 1: keys: layer 0, stream 0 was not written in this step");
  EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float x) { return x == 77.0f; }));
  write(step, 0);
  EXPECT_TRUE(call().ok());
}

}  // namespace
}  // namespace heed_test::readable_test
