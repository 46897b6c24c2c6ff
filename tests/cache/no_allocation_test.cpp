/// \file
/// A step that fits allocates nothing, neither from the memory resource nor with operator new.
#include <heed/cache/recurrent_state.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "counting_new.hpp"

namespace heed_test::no_allocation_test {
namespace {

template <class Cache>
void expect_no_allocation(const typename Cache::Policy& policy) {
  CountingMemory memory;
  auto cache = Cache::create(policy, {.layers = 3, .capacity = 40, .memory = memory.resource()});
  ASSERT_TRUE(cache.ok());
  std::vector<std::vector<float>> numbers;
  for (int stream = 0; stream < cache->layout().num_streams; ++stream) {
    numbers.push_back(rows({1, 2}, 0, stream, cache->layout().streams[std::size_t(stream)]));
  }
  const std::int32_t two_tokens[] = {3, 4};
  const Index allocations = memory.allocations;
  const long before = news.load();
  bool ok = true;
  Index keys = 0;
  for (int i = 0; i < 20; ++i) {
    auto step = i % 2 == 0 ? cache->begin(two_tokens) : cache->begin(heed::NumTokens(2));
    for (Index layer = 0; layer < 3; ++layer) {
      for (int stream = 0; stream < cache->layout().num_streams; ++stream) {
        ok = ok && step->write(layer, stream, numbers[std::size_t(stream)]).ok();
      }
      keys += step->keys(layer).row_run(0, 0, 0, 100).rows;
    }
    ok = ok && step->commit().ok();
    if (i % 5 == 4) ok = ok && cache->truncate(cache->size() - 1).ok();
  }
  const long after = news.load();
  EXPECT_TRUE(ok);
  EXPECT_GT(keys, 0);
  EXPECT_EQ(after, before);
  EXPECT_EQ(memory.allocations, allocations);
}

/// Once a bounded rule holds all that it ever keeps, nothing is allocated any more, however long the sequence.
void expect_bounded(const heed::AnyRule& rule) {
  using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 1};
  CountingMemory memory;
  auto cache = Cache::create(policy, {.layers = 2, .page_tokens = 8, .memory = memory.resource()}, rule);
  ASSERT_TRUE(cache.ok());
  const std::vector<float> numbers(2 * 16, 0.5f);
  bool ok = true;
  const auto decode = [&](Index tokens) {
    for (Index t = 0; t < tokens; ++t) {
      const std::int32_t id = t % 7 == 3 ? 1 : 0;
      auto step = cache->begin(std::span(&id, 1));
      for (Index layer = 0; layer < 2; ++layer) ok = ok && step->write(layer, numbers, numbers).ok();
      ok = ok && step->keys(0).size() > 0 && step->commit().ok();
    }
  };
  decode(500);
  const Index allocations = memory.allocations;
  const long before = news.load();
  decode(3000);
  const long after = news.load();
  EXPECT_TRUE(ok);
  EXPECT_EQ(after, before) << rule.name();
  EXPECT_EQ(memory.allocations, allocations) << rule.name();
}

TEST(CacheStep, AllocatesNothingWhenTheRuleIsFull) {
  expect_bounded(heed::SlidingWindow{100});
  expect_bounded(heed::SinkWindow{4, 100});
  heed::SeparatorStream stream{.initial = 4, .separators = 8, .local = 32, .capacity = 100, .ids = {1}};
  expect_bounded(stream);
  stream.form = heed::StreamForm::sep_cache;
  expect_bounded(stream);
}

TEST(CacheStep, AllocatesNothing) {
  ASSERT_TRUE(counts_news());
  expect_no_allocation<heed::KvCache<heed::Gqa, heed::Bf16, heed::F32>>(
      {.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .v_head_dim = 9, .scale = 1});
  expect_no_allocation<heed::KvCache<heed::SharedRow, heed::F16>>(
      {.num_heads = 4, .head_dim = 20, .v_head_dim = 16, .scale = 1});
}

TEST(RecurrentStep, AllocatesNothing) {
  CountingMemory memory;
  auto state = heed::RecurrentState::create({.layers = 3, .width = 21, .undo_tokens = 2, .memory = memory.resource()});
  ASSERT_TRUE(state.ok());
  const std::int32_t three_tokens[] = {3, 4, 5};
  const Index allocations = memory.allocations;
  const long before = news.load();
  bool ok = true;
  for (int i = 0; i < 200; ++i) {
    auto step = i % 2 == 0 ? state->begin(three_tokens) : state->begin(heed::NumTokens(i % 5));
    for (Index layer = 0; layer < 3; ++layer) {
      const auto place = step->layer(layer);
      for (Index t = 0; t < step->tokens(); ++t) {
        if (float* const after = place->after(t)) std::fill_n(after, 21, place->before()[0] + 1);
      }
    }
    ok = ok && step->commit(i % 2 == 0 ? 2 : step->tokens()).ok();
    if (i % 7 == 6) ok = ok && state->truncate(state->rollback_floor()).ok();
    if (i % 50 == 49) ok = ok && state->clear().ok();
  }
  const long after = news.load();
  EXPECT_TRUE(ok);
  EXPECT_EQ(after, before);
  EXPECT_EQ(memory.allocations, allocations);
}

}  // namespace
}  // namespace heed_test::no_allocation_test
