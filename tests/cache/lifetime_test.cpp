/// \file
/// Caches and steps move, and either may end first.
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>

#include <heed/attend.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::lifetime_test {
namespace {

using heed::StatusCode;
using Cache = heed::KvCache<heed::SharedRow, heed::Bf16>;

Cache make(CountingMemory& memory) {
  return *Cache::create({.num_heads = 2, .head_dim = 6, .v_head_dim = 4, .scale = 1},
                        {.layers = 2, .memory = memory.resource()}, heed::SlidingWindow{.window = 9});
}

static_assert(!std::is_copy_constructible_v<Cache> && !std::is_copy_assignable_v<Cache>);
static_assert(!std::is_copy_constructible_v<Cache::Step>);
static_assert(std::is_nothrow_move_constructible_v<Cache> && std::is_nothrow_move_assignable_v<Cache>);
static_assert(std::is_nothrow_move_constructible_v<Cache::Step>);

TEST(CacheLifetime, StepFollowsItsCache) {
  CountingMemory memory;
  std::vector<Cache> caches;
  caches.push_back(make(memory));
  auto step = caches[0].begin(heed::NumTokens(2));
  for (int i = 0; i < 4; ++i) caches.push_back(make(memory));  // moves the first one
  ASSERT_TRUE(step->open());
  ASSERT_NO_FATAL_FAILURE(write_all(*step, caches[0], {1, 2}));
  EXPECT_EQ(step->keys(1).size(), 2);
  ASSERT_TRUE(step->commit().ok());
  EXPECT_EQ(caches[0].size(), 2);
  EXPECT_TRUE(caches[0].rule().same_as(heed::SlidingWindow{9}));
  EXPECT_EQ(caches[1].size(), 0);
}

TEST(CacheLifetime, CacheFollowsItsStep) {
  CountingMemory memory;
  Cache cache = make(memory);
  std::optional<Cache::Step> holder;
  {
    auto step = cache.begin(ids({1, 2}));
    holder.emplace(*std::move(step));
    EXPECT_FALSE(step->open());
  }  // the empty step's end changes nothing
  ASSERT_TRUE(holder->open());
  EXPECT_EQ(holder->tokens(), 2);
  EXPECT_EQ(cache.begin(heed::NumTokens(1)).status().code(), StatusCode::wrong_state);
  Cache::Step last(std::move(*holder));
  holder.reset();
  ASSERT_NO_FATAL_FAILURE(write_all(last, cache, {1, 2}));
  ASSERT_TRUE(last.commit().ok());
  expect_holds(cache, {1, 2});
}

TEST(CacheLifetime, AssigningAStepAbortsTheOldOne) {
  CountingMemory memory;
  Cache first = make(memory), second = make(memory);
  auto step = first.begin(heed::NumTokens(1));
  auto other = second.begin(heed::NumTokens(3));
  *step = *std::move(other);
  EXPECT_TRUE(first.begin(heed::NumTokens(1)).ok());
  EXPECT_EQ(step->tokens(), 3);
  EXPECT_EQ(second.begin(heed::NumTokens(1)).status().code(), StatusCode::wrong_state);
}

TEST(CacheLifetime, CacheEndsBeforeItsStep) {
  CountingMemory memory;
  std::optional<Cache> cache(make(memory));
  auto step = cache->begin(heed::NumTokens(1));
  cache.reset();
  EXPECT_FALSE(step->open());
  EXPECT_EQ(step->write(0, row(1, 0, 0, 0, 6)).code(), StatusCode::wrong_state);
  EXPECT_EQ(step->commit().code(), StatusCode::wrong_state);
  EXPECT_EQ(memory.held, 0);
}

TEST(CacheLifetime, AssigningACacheAbortsItsStep) {
  CountingMemory memory;
  Cache cache = make(memory), other = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(other, {7, 8, 9}));
  auto step = cache.begin(heed::NumTokens(1));
  auto others = other.begin(heed::NumTokens(2));
  cache = std::move(other);
  EXPECT_FALSE(step->open());
  ASSERT_TRUE(others->open());  // and came along
  ASSERT_NO_FATAL_FAILURE(write_all(*others, cache, {5, 6}));
  ASSERT_TRUE(others->commit().ok());
  EXPECT_EQ(cache.size(), 5);
  EXPECT_EQ(cache.keys(1).size(), 5);
}

TEST(CacheLifetime, EmptySteps) {
  CountingMemory memory;
  Cache cache = make(memory);
  auto step = cache.begin(heed::NumTokens(0));
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->keys(0).size(), 0);
  EXPECT_TRUE(step->write(0, std::span<const float>()).ok());
  EXPECT_TRUE(step->commit().ok());
  EXPECT_EQ(cache.size(), 0);
}

// --- views and moves ---------------------------------------------------------------------------------------------------

/// A cache where bytes can be overwritten once it is gone: what still points into it reads nonsense, sanitizer or not.
class Home {
 public:
  explicit Home(Cache&& cache) : cache_(std::construct_at(reinterpret_cast<Cache*>(bytes_), std::move(cache))) {}
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;
  ~Home() { leave(); }
  [[nodiscard]] Cache& operator*() const { return *cache_; }
  void leave() {
    if (cache_ == nullptr) return;
    std::destroy_at(std::exchange(cache_, nullptr));
    std::memset(bytes_, 0xa5, sizeof bytes_);
  }

 private:
  alignas(Cache) std::byte bytes_[sizeof(Cache)];
  Cache* cache_;
};

/// Each way to keep tokens once: a run, a window, a list beside it, a history.
const std::vector<heed::AnyRule>& some_rules() {
  static const std::vector<heed::AnyRule> all{
      heed::Causal{}, heed::SlidingWindow{5}, heed::Separators{.initial = 1, .window = 4, .ids = {1}},
      heed::SeparatorStream{.initial = 1, .separators = 2, .local = 3, .capacity = 8, .ids = {1}}};
  return all;
}
Cache make(const heed::AnyRule& rule, heed::PagePool* pool) {
  return heed::value_or_throw(Cache::create({.num_heads = 2, .head_dim = 6, .v_head_dim = 4, .scale = 1},
                                            {.layers = 2, .page_tokens = 3, .pool = pool}, rule));
}
/// Tokens of finite rows.
void append_finite(Cache& cache, const Seeds& tokens) {
  auto step = heed::value_or_throw(cache.begin(ids(tokens)));
  for (Index layer = 0; layer < 2; ++layer) {
    std::vector<float> rows;
    for (const Seed token : tokens) {
      for (Index i = 0; i < 6; ++i) rows.push_back(float(token) * 0.3f + float(i - layer));
    }
    heed::check(step.write(layer, rows));
  }
  heed::check(step.commit());
}
/// Output bits of `queries` queries over a view's keys.
std::vector<float> attended(const Cache& cache, const Cache::Keys& view, Index queries,
                            const std::vector<Index>& positions = {}) {
  std::vector<float> q(std::size_t(queries * 2 * 6)), out(std::size_t(queries * 2 * 4));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = float(i % 7) * 0.1f - 0.3f;
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  heed::check(
      heed::attend<heed::Scalar>(cache.policy(), q, view, heed::MaskRef(), out, workspace, serial, {}, {}, positions));
  return out;
}

TEST(CacheLifetime, ViewsFollowTheirCache) {
  heed::PagePool shared;
  for (heed::PagePool* pool : {static_cast<heed::PagePool*>(nullptr), &shared}) {
    for (const heed::AnyRule& rule : some_rules()) {
      if (rule.has_history()) continue;  // only steps can be attended to
      SCOPED_TRACE(rule.name());
      Home first(make(rule, pool));
      ASSERT_NO_FATAL_FAILURE(append_finite(*first, {2, 1, 3, 4, 1, 5, 6, 7, 1, 2, 3}));
      const Cache::Keys view = (*first).keys(1);
      const std::vector<float> expected = attended(*first, view, 1, {11});
      ASSERT_NE(expected, std::vector<float>(8));

      Home second(std::move(*first));
      first.leave();
      EXPECT_EQ(attended(*second, view, 1, {11}), expected);

      Home third(make(heed::SlidingWindow{2}, pool));
      ASSERT_NO_FATAL_FAILURE(append_finite(*third, {9, 8, 7}));
      *third = std::move(*second);
      second.leave();
      EXPECT_EQ(attended(*third, view, 1, {11}), expected);
      EXPECT_EQ(view.size(), (*third).size(1));
      EXPECT_EQ(view.layout().num_heads, 2);
      EXPECT_EQ(view.position(view.size() - 1), 10);
    }
  }
}

TEST(CacheLifetime, ViewsOfAStepFollowItsCache) {
  for (const heed::AnyRule& rule : some_rules()) {
    SCOPED_TRACE(rule.name());
    Home first(make(rule, nullptr));
    ASSERT_NO_FATAL_FAILURE(append_finite(*first, {2, 1, 3, 4, 1, 5}));
    auto step = heed::value_or_throw((*first).begin(ids({6, 1, 7})));
    const std::vector<float> rows(3 * 6, 0.5f);
    for (Index layer = 0; layer < 2; ++layer) ASSERT_TRUE(step.write(layer, rows).ok());
    const Cache::Keys view = step.keys(0);
    const std::vector<float> expected = attended(*first, view, 3);

    Home second(std::move(*first));
    first.leave();
    EXPECT_EQ(attended(*second, view, 3), expected);
    Home third(make(rule, nullptr));
    *third = std::move(*second);
    second.leave();
    Cache::Step moved = std::move(step);
    EXPECT_EQ(attended(*third, view, 3), expected);
    ASSERT_TRUE(moved.commit().ok());
    EXPECT_EQ((*third).seen(), 9);
  }
}

/// What was moved from is empty, and says so.
TEST(CacheLifetime, AMovedFromCacheHasNothing) {
  heed::PagePool shared;
  for (heed::PagePool* pool : {static_cast<heed::PagePool*>(nullptr), &shared}) {
    for (const bool assign : {false, true}) {
      Cache cache = make(heed::Separators{.initial = 1, .window = 4, .ids = {1}}, pool);
      ASSERT_NO_FATAL_FAILURE(append_finite(cache, {2, 1, 3, 4, 1, 5}));
      Cache taken = make(heed::Causal{}, pool);
      if (assign) {
        taken = std::move(cache);
      } else {
        const Cache made(std::move(cache));
      }
      // NOLINTBEGIN(bugprone-use-after-move)
      EXPECT_EQ(cache.layers(), 0);
      EXPECT_EQ(cache.seen(), 0);
      EXPECT_EQ(cache.size(), 0);
      EXPECT_EQ(cache.kept(1), 0);
      EXPECT_EQ(cache.evicted(), 0);
      EXPECT_EQ(cache.capacity(), 0);
      EXPECT_EQ(cache.rollback_floor(), 0);
      EXPECT_EQ(cache.retention().calls, 0);
      EXPECT_EQ(cache.row_bytes_per_token(), 0);
      EXPECT_EQ(cache.bytes().allocated, 0);
      EXPECT_EQ(cache.bytes().live_per_layer(), 0);
      EXPECT_EQ(cache.keys(0).size(), 0);
      std::vector<float> q(12), out(8);
      heed::Workspace workspace;
      heed::SerialExecutor serial;
      const Cache::Keys none = cache.keys(0);
      EXPECT_FALSE(heed::attend<heed::Scalar>(taken.policy(), q, none, out, workspace, serial).ok());
      EXPECT_TRUE(cache.rule().same_as(heed::Causal{}));
      cache.trim();
      const auto gone = [](const heed::Status& status) {
        EXPECT_EQ(status.code(), StatusCode::wrong_state);
        EXPECT_NE(status.message().find("(): the cache was moved from"), std::string::npos) << status.message();
      };
      gone(cache.reserve(3));
      gone(cache.begin(heed::NumTokens(1)).status());
      gone(cache.begin(ids({1})).status());
      gone(cache.truncate(0));
      gone(cache.clear());
      gone(cache.compact({}).status());
      gone(cache.fork().status());
      std::vector<std::byte> bytes(cache.snapshot_bytes());
      gone(cache.snapshot(bytes));
      cache = make(heed::Causal{}, pool);
      ASSERT_NO_FATAL_FAILURE(append_finite(cache, {2, 1}));
      EXPECT_EQ(cache.size(), 2);
      // NOLINTEND(bugprone-use-after-move)
    }
  }
}

/// Streams of layers are independent memory, so an executor may write them all.
TEST(CacheStep, IsWrittenByManyThreads) {
  auto cache = heed::KvCache<Uneven, heed::F32, heed::Bf16>::create({}, {.layers = 8});
  auto pool = heed::ThreadPool::create(3);
  ASSERT_TRUE(cache.ok() && pool.ok());
  const Seeds tokens{4, 5, 6};
  for (int repeat = 0; repeat < 10; ++repeat) {
    auto step = cache->begin(ids(tokens));
    std::atomic<int> failures{0};
    (*pool)->parallel_for(8 * 3, [&](Index task, Index) {
      const Index layer = task / 3;
      const int stream = int(task % 3);
      const auto numbers = rows(tokens, layer, stream, cache->layout().streams[std::size_t(stream)]);
      failures += !step->write(layer, stream, numbers).ok();
    });
    ASSERT_EQ(failures.load(), 0);
    ASSERT_TRUE(step->commit().ok());
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, tokens));
    ASSERT_TRUE(cache->clear().ok());
  }
}

TEST(CacheLifetime, TokensWithoutIds) {
  CountingMemory memory;
  Cache cache = make(memory);
  ASSERT_NO_FATAL_FAILURE(append(cache, {5}));
  auto step = cache.begin(heed::NumTokens(2));
  ASSERT_NO_FATAL_FAILURE(write_all(*step, cache, {6, 7}));
  ASSERT_TRUE(step->commit().ok());
  EXPECT_EQ(cache.token_id(0), 5);
  EXPECT_EQ(cache.token_id(1), heed::no_token_id);
  EXPECT_EQ(cache.token_id(2), heed::no_token_id);
}

}  // namespace
}  // namespace heed_test::lifetime_test
