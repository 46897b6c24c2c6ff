/// \file
/// bytes() is what the memory resource gave, and a token costs what the formula says.
#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::bytes_test {
namespace {

/// Bytes per token: the formula's, and the measured ones after 5 tokens.
template <class Cache>
void expect_bytes_per_token(const typename Cache::Policy& policy, Index layers, Index expected) {
  CountingMemory memory;
  auto cache = Cache::create(policy, {.layers = layers, .capacity = 7, .page_tokens = 7, .memory = memory.resource()});
  ASSERT_TRUE(cache.ok()) << cache.status().message();
  EXPECT_EQ(cache->row_bytes_per_token(), expected);
  ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3, 4, 5}));
  const heed::CacheBytes bytes = cache->bytes();
  EXPECT_EQ(bytes.live, 5 * expected);
  EXPECT_EQ(bytes.live_per_layer() * layers, bytes.live);
  EXPECT_EQ(bytes.per_token_kept(), double(expected));
  EXPECT_EQ(bytes.per_token_seen(), double(expected));
  EXPECT_EQ(bytes.kept, 5);
  EXPECT_EQ(bytes.seen, 5);
  EXPECT_EQ(bytes.allocated, memory.held);
  EXPECT_EQ(bytes.peak, memory.peak);
  // A slab of one page: a cache line for the size, the slab and the page each, and a mark per stream of a layer.
  const Index marks = layers * cache->layout().num_streams * 8;
  EXPECT_EQ(bytes.allocated_rows, 3 * 64 + heed::round_up(7 * expected + heed::detail::read_slack + marks, 64));
  // Bookkeeping: an id per token of capacity, a word per stream of a layer, and a few words per query of a step.
  const Index words = 7 * 4 + layers * cache->layout().num_streams * 8;
  EXPECT_GE(bytes.allocated - bytes.allocated_rows, words);
  EXPECT_LE(bytes.allocated - bytes.allocated_rows, words + 1024);
  EXPECT_EQ(bytes.shared, 0);
}

TEST(CacheBytes, PerTokenIsTheFormula) {
  using heed::Bf16, heed::F16, heed::F32, heed::Gqa, heed::KvCache, heed::Mha, heed::Mqa, heed::SharedRow;
  const Gqa small{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 1};
  expect_bytes_per_token<KvCache<Gqa, Bf16>>(small, 3, 3 * 2 * 2 * 16 * 2);
  expect_bytes_per_token<KvCache<Gqa, F32, Bf16>>(small, 3, 3 * 2 * 16 * (4 + 2));
  expect_bytes_per_token<KvCache<Gqa, F16, F32>>(small, 3, 3 * 2 * 16 * (2 + 4));
  const Gqa uneven{.num_heads = 4, .num_kv_heads = 2, .head_dim = 192, .v_head_dim = 128, .scale = 1};
  expect_bytes_per_token<KvCache<Gqa, F16>>(uneven, 2, 2 * 2 * (192 + 128) * 2);
  for (const Index width : {64, 72, 80, 96, 112, 128, 256}) {
    expect_bytes_per_token<KvCache<Mha, Bf16>>({.num_heads = 3, .head_dim = width, .scale = 1}, 2, 2 * 3 * width * 4);
    expect_bytes_per_token<KvCache<Mqa, F32>>({.num_heads = 3, .head_dim = width, .scale = 1}, 2, 2 * width * 8);
  }
  // Llama-3-8B in 16 bits: 128 KiB. DeepSeek-V2-Lite's latent row: 27 layers x 576 numbers.
  const Gqa llama{.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .scale = 1};
  expect_bytes_per_token<KvCache<Gqa, F16>>(llama, 32, 128 * 1024);
  const SharedRow latent{.num_heads = 16, .head_dim = 576, .v_head_dim = 512, .scale = 1};
  expect_bytes_per_token<KvCache<SharedRow, Bf16>>(latent, 27, 27 * 576 * 2);
  expect_bytes_per_token<KvCache<SharedRow, Bf16, F32>>(latent, 27, 27 * 576 * 2);  // one stream: V is unused
}

TEST(CacheBytes, PaddingIsCounted) {
  CountingMemory memory;
  auto cache = heed::KvCache<heed::Mqa, heed::Bf16>::create(
      {.num_heads = 1, .head_dim = 7, .v_head_dim = 9, .scale = 1}, {.layers = 2, .memory = memory.resource()});
  ASSERT_TRUE(cache.ok());
  ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3}));
  EXPECT_EQ(cache->row_bytes_per_token(), 2 * (14 + 18));
  EXPECT_EQ(cache->bytes().per_token_kept(), 2 * (16 + 32));
  EXPECT_EQ(cache->bytes().allocated, memory.held);
}

TEST(CacheBytes, EmptyCacheHasNoRowsAndNoRates) {
  CountingMemory memory;
  auto cache = heed::KvCache<heed::Mqa, heed::Bf16>::create({.num_heads = 1, .head_dim = 8, .scale = 1},
                                                            {.memory = memory.resource()});
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->capacity(), 0);
  EXPECT_EQ(cache->bytes().allocated_rows, 0);
  EXPECT_EQ(cache->bytes().live, 0);
  EXPECT_EQ(cache->bytes().per_token_kept(), 0);
  EXPECT_EQ(cache->bytes().per_token_seen(), 0);
}

TEST(CacheBytes, TruncateFreesLiveBytesOnly) {
  CountingMemory memory;
  auto cache = heed::KvCache<heed::Mqa, heed::Bf16>::create({.num_heads = 1, .head_dim = 8, .scale = 1},
                                                            {.memory = memory.resource()});
  ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3, 4}));
  const auto full = cache->bytes();
  ASSERT_TRUE(cache->truncate(1).ok());
  EXPECT_EQ(cache->bytes().live, full.live / 4);
  EXPECT_EQ(cache->bytes().allocated, full.allocated);
  EXPECT_EQ(cache->bytes().peak, full.peak);
}

/// clear() keeps the memory that capacity asked for, the table of pages included: the next text allocates nothing.
TEST(CacheBytes, AClearedCacheHasItsCapacity) {
  CountingMemory memory;
  auto cache = heed::KvCache<heed::Mqa, heed::Bf16>::create(
      {.num_heads = 1, .head_dim = 8, .scale = 1}, {.capacity = 100, .page_tokens = 3, .memory = memory.resource()});
  ASSERT_TRUE(cache.ok());
  const Index allocations = memory.allocations;
  for (int text = 0; text < 3; ++text) {
    for (Seed token = 0; token < 90; ++token) ASSERT_NO_FATAL_FAILURE(append(*cache, {token}));
    const Index allocated = cache->bytes().allocated;
    ASSERT_TRUE(cache->clear().ok());
    EXPECT_EQ(cache->bytes().allocated, allocated);
    EXPECT_GE(cache->capacity(), 100);
  }
  EXPECT_EQ(memory.allocations, allocations);
}

TEST(CacheBytes, EverythingIsGivenBack) {
  CountingMemory memory;
  {
    const auto make = [&](Index capacity) {
      return heed::KvCache<heed::Mqa, heed::Bf16>::create(
          {.num_heads = 1, .head_dim = 8, .scale = 1},
          {.capacity = capacity, .page_tokens = 3, .memory = memory.resource()});
    };
    auto cache = make(3);
    ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2, 3, 4}));
    auto other = make(9);
    *cache = *std::move(other);  // frees what it had at once
    EXPECT_EQ(cache->capacity(), 9);
    EXPECT_EQ(cache->bytes().allocated, memory.held);
  }
  EXPECT_EQ(memory.held, 0);
  EXPECT_EQ(memory.blocks, 0);
}

}  // namespace
}  // namespace heed_test::bytes_test
