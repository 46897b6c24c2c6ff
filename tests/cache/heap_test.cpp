/// \file
/// What must not fail does not fail without any memory: a status, and calls that give memory back.
#include <heed/cache/sliding_array.hpp>
#include <heed/heap.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "heap.hpp"

namespace heed_test::heap_test {
namespace {

TEST(Heap, AStatusNeedsNoMemory) {
  ASSERT_TRUE(counts_news());
  const auto made = [] {
    return heed::fail(heed::StatusCode::out_of_range, "a sentence that needs memory: ", 1234567);
  };
  const heed::Status before = made();
  heed::Status failed, copied, assigned;
  {
    const HeapFails fails(0);
    failed = made();
    copied = heed::Status(before);
    assigned = before;
  }
  for (const heed::Status& status : {failed, copied, assigned}) {
    EXPECT_EQ(status.code(), heed::StatusCode::out_of_range);
    EXPECT_EQ(status.message(), "no memory");
  }
  EXPECT_EQ(before.message(), "a sentence that needs memory: 1234567");
  failed = before;
  EXPECT_EQ(failed.message(), before.message());
  const heed::Status& itself = failed;
  failed = itself;
  EXPECT_EQ(failed.message(), before.message());
}

TEST(Heap, WithHeapSaysWhoHadNoMemory) {
  const auto call = [] {
    return heed::detail::with_heap("call()", [] {
      ::operator delete(::operator new(1));
      return heed::Result<int>(7);
    });
  };
  EXPECT_EQ(*call(), 7);
  HeapFails fails(0, 1);
  const auto result = call();
  fails.stop();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), heed::StatusCode::out_of_memory);
  EXPECT_NE(result.status().message().find("call()"), std::string::npos);
}

/// Gives back what it can: a smaller block that it cannot get is no fault.
TEST(Heap, ShrinkingNeedsNoMemory) {
  CountingMemory memory;
  heed::detail::SlidingArray<Index> array;
  ASSERT_TRUE(array.reserve_back(memory.resource(), 1000).ok());
  for (Index i = 0; i < 5; ++i) array.push_back(i);
  const Index before = array.allocated();
  memory.failing_from = memory.allocations;
  {
    const HeapFails fails(0);
    array.shrink(memory.resource(), 5);
  }
  EXPECT_EQ(array.allocated(), before);
  array.shrink(memory.resource(), 5);
  EXPECT_LT(array.allocated(), before);
  for (Index i = 0; i < 5; ++i) EXPECT_EQ(array[i], i);
}

/// After a long step commits give memory back, which asks for smaller blocks: without memory they only keep the large ones.
TEST(Heap, CommitsNeedNoMemory) {
  using Cache = heed::KvCache<heed::Mqa, heed::F32>;
  for (const heed::AnyRule& rule : {heed::AnyRule(heed::SlidingWindow{16}), heed::AnyRule(heed::SinkWindow{4, 12})}) {
    SCOPED_TRACE(rule.name());
    CountingMemory memory;
    auto cache = heed::value_or_throw(Cache::create({.num_heads = 1, .head_dim = 2, .scale = 1},
                                                    {.page_tokens = 4, .memory = memory.resource()}, rule));
    append(cache, Seeds(4000, 1));
    Index failed = 0;
    const std::vector<float> row(2, 1);
    for (Index i = 0; i < 300; ++i) {
      auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
      heed::check(step.write(0, row, row));
      memory.failing_from = memory.allocations;
      memory.failures = Index{1} << 40;
      heed::Status status;
      {
        const HeapFails fails(0);
        status = step.commit();
      }
      failed += memory.allocations - memory.failing_from;
      memory.failing_from = -1;
      ASSERT_TRUE(status.ok());
    }
    EXPECT_GT(failed, 0);  // else nothing was tested
    EXPECT_EQ(cache.seen(), 4300);
    EXPECT_EQ(cache.position(cache.kept() - 1), 4299);
  }
}

/// Calls `made()` with the heap failing at allocation k = 0, 1, ..., until it works.
template <class Made>
void expect_a_status(CountingMemory& memory, const Made& made) {
  ASSERT_TRUE(counts_news());
  const Index blocks = memory.blocks;
  bool reached = true;
  for (long k = 0; reached; ++k) {
    SCOPED_TRACE(k);
    ASSERT_LT(k, 1000);
    HeapFails fails(k, k % 2 == 0 ? 1 : HeapFails::all);
    auto cache = made();
    fails.stop();
    reached = fails.reached();
    ASSERT_EQ(cache.ok(), !reached);
    if (!reached) continue;
    ASSERT_EQ(cache.status().code(), heed::StatusCode::out_of_memory);
    ASSERT_EQ(memory.blocks, blocks);  // of caches that were not made
  }
}

TEST(Heap, CachesAreMadeOrSayThatThereIsNoMemory) {
  using Cache = heed::KvCache<heed::Mqa, heed::F32>;
  const heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};
  CountingMemory memory;
  const heed::CacheOptions options{.layers = 5, .page_tokens = 4, .memory = memory.resource()};
  const heed::AnyRule window = heed::SlidingWindow{16};
  const heed::LayerRule rules[] = {{heed::Causal{}, {0, 2, 4}}, {window, {1, 3}}};
  expect_a_status(memory, [&] { return Cache::create(policy, options, window); });
  expect_a_status(memory, [&] { return Cache::create(policy, options, rules); });
  auto cache = heed::value_or_throw(Cache::create(policy, options, rules));
  append(cache, Seeds(50, 1));
  expect_a_status(memory, [&] { return cache.fork(); });
  std::vector<std::byte> snapshot(cache.snapshot_bytes());
  heed::check(cache.snapshot(snapshot));
  expect_a_status(memory, [&] { return Cache::restore(policy, options, rules, snapshot); });
}

}  // namespace
}  // namespace heed_test::heap_test
