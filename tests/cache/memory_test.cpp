/// \file
/// The default memory resource, and where rows lie.
#include <thread>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::memory_test {
namespace {

[[nodiscard]] std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

TEST(CacheMemory, DefaultBlocksAreAligned) {
  for (const Index bytes : {1, 63, 4096, 1 << 20}) {
    auto buffer = heed::Buffer::allocate(heed::default_memory(), bytes, "test");
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(address(buffer->data()) % 64, 0u);
    std::memset(buffer->data(), 1, std::size_t(bytes));
  }
  for (const Index bytes : {2 << 20, (3 << 20) + 5}) {
    auto buffer = heed::Buffer::allocate(heed::default_memory(), bytes, "test");
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(address(buffer->data()) % (2 << 20), 0u) << "no huge page can start here";
    std::memset(buffer->data(), 1, std::size_t(bytes));
  }
}

TEST(CacheMemory, NoBytesNeedNoAllocation) {
  CountingMemory memory;
  auto buffer = heed::Buffer::allocate(memory.resource(), 0, "test");
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer->data(), nullptr);
  EXPECT_EQ(memory.allocations, 0);
}

TEST(CacheMemory, FailureSaysWhatAndHowMuch) {
  CountingMemory memory{.failing_from = 0};
  const auto buffer = heed::Buffer::allocate(memory.resource(), 12345, "rows");
  EXPECT_EQ(buffer.status().code(), heed::StatusCode::out_of_memory);
  EXPECT_EQ(buffer.status().message(), "rows: cannot allocate 12345 bytes");
}

TEST(CacheMemory, BuffersMove) {
  CountingMemory memory;
  auto first = heed::Buffer::allocate(memory.resource(), 100, "test");
  auto second = heed::Buffer::allocate(memory.resource(), 200, "test");
  *first = *std::move(second);
  EXPECT_EQ(first->size(), 200);
  EXPECT_EQ(memory.held, 200);
  heed::Buffer third(*std::move(first));
  EXPECT_EQ(memory.held, 200);
  third = heed::Buffer();
  EXPECT_EQ(memory.held, 0);
}

/// A page and the pool it came from.
struct OnePage {
  OnePage(CountingMemory& memory, const heed::detail::PageLayout& layout)
      : pool(memory.resource()), page(*pool.acquire(layout.bytes())) {
    layout.prepare(page);
  }
  OnePage(const OnePage&) = delete;
  OnePage& operator=(const OnePage&) = delete;
  ~OnePage() { pool.release(page); }
  heed::PagePool pool;
  heed::Page* page;
};

/// One head's rows are one run: it is never cut, and heads follow each other.
TEST(PageLayout, HeadsLieTogether) {
  CountingMemory memory;
  const heed::detail::StoredStream streams[] = {{.heads = 2, .row_bytes = 32}, {.heads = 1, .row_bytes = 100}};
  const auto layout = heed::detail::PageLayout::create(3, streams, 10);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->token_bytes(), 3 * (2 * 32 + 112));
  EXPECT_EQ(layout->encoded_token_bytes(), 3 * (2 * 32 + 100));
  EXPECT_EQ(layout->bytes(), 3 * 10 * (2 * 32 + 112) + 64 + 3 * 2 * 8) << "rows, slack, marks";
  OnePage one(memory, *layout);
  const std::byte* base = layout->row(one.page, 0, 0, 0, 0);
  EXPECT_EQ(address(base) % 64, 0u);
  EXPECT_EQ(layout->row(one.page, 0, 0, 0, 7) - base, 7 * 32);
  EXPECT_EQ(layout->row(one.page, 0, 0, 1, 0) - base, 10 * 32);
  EXPECT_EQ(layout->row(one.page, 0, 1, 0, 1) - base, 20 * 32 + 112);
  EXPECT_EQ(layout->row(one.page, 2, 0, 0, 0) - base, 2 * 10 * (2 * 32 + 112));
  const heed::RowRun run = layout->row_run(one.page, 1, 0, 1, 4, 6);
  EXPECT_EQ(run.data, layout->row(one.page, 1, 0, 1, 4));
  EXPECT_EQ(run.rows, 6);
  EXPECT_EQ(run.stride_bytes, 32);
  EXPECT_EQ(run.readable_bytes, 32 + 64);
  // The only head of a stream serves them all.
  EXPECT_EQ(layout->row_run(one.page, 1, 1, 5, 4, 6).data, layout->row(one.page, 1, 1, 0, 4));
}

/// A view that starts late in a row can still be read in whole vectors, in the very last row too.
TEST(PageLayout, LastRowHasSlack) {
  CountingMemory memory;
  for (const Index bytes : {2, 6, 16, 30, 64, 66, 144}) {
    const heed::detail::StoredStream streams[] = {{.heads = 3, .row_bytes = bytes}};
    const auto layout = heed::detail::PageLayout::create(2, streams, 5);
    ASSERT_TRUE(layout.ok());
    OnePage one(memory, *layout);
    const heed::RowRun run = layout->row_run(one.page, 1, 0, 2, 4, 1);
    EXPECT_GE(run.readable_bytes, heed::round_up(bytes, 64));
    EXPECT_GE(run.readable_bytes - (bytes - 1), 64);
    EXPECT_LE(run.data + run.readable_bytes, layout->row(one.page, 0, 0, 0, 0) + layout->bytes());
  }
}

/// Nothing a reader of rows may touch keeps the 0xA5 that fresh memory is full of here: rows are ones, the rest zeros.
TEST(PageLayout, WhatIsReadableIsDefined) {
  std::mt19937_64 random(5);
  for (int repeat = 0; repeat < 300; ++repeat) {
    CountingMemory memory;
    const Index width = pick_width(random), heads = pick(random, 1, 3), layers = pick(random, 1, 3);
    const heed::detail::StoredStream streams[] = {{.heads = heads, .row_bytes = 2 * width},
                                                  {.heads = 1, .row_bytes = 2 * width}};
    const Index tokens = pick(random, 1, 6);
    const auto layout = heed::detail::PageLayout::create(layers, streams, tokens);
    ASSERT_TRUE(layout.ok());
    OnePage one(memory, *layout);
    const std::vector<float> ones(std::size_t(tokens * heads * width), 1.0f);
    const auto expect_defined = [&](Index layer, int stream, Index size) {
      for (Index head = 0; head < streams[stream].heads; ++head) {
        const heed::RowRun run = layout->row_run(one.page, layer, stream, head, 0, size);
        for (Index i = 0; i < size; ++i) {
          const std::byte* bytes = run.data + i * run.stride_bytes;
          ASSERT_EQ(std::find(bytes, bytes + run.readable_bytes, std::byte{0xA5}), bytes + run.readable_bytes);
        }
      }
    };
    // In an order that leaves neighbours unwritten for a while.
    const Index size = pick(random, 0, tokens);
    const Index layer = pick(random, 0, layers - 1);
    const int stream = int(random() % 2);
    const Index chunk = pick(random, 0, size);
    layout->encode<heed::Bf16>(one.page, layer, stream, 0, chunk, width, ones.data());
    ASSERT_NO_FATAL_FAILURE(expect_defined(layer, stream, chunk));
    layout->encode<heed::Bf16>(one.page, layer, stream, chunk, size - chunk, width, ones.data());
    ASSERT_NO_FATAL_FAILURE(expect_defined(layer, stream, size));
  }
}

/// Layers and streams of a fresh page are written at once: whoever is first makes its marks.
TEST(PageLayout, ManyThreadsWriteAFreshPage) {
  const heed::detail::StoredStream streams[] = {{.heads = 2, .row_bytes = 32}, {.heads = 1, .row_bytes = 32}};
  const auto layout = heed::value_or_throw(heed::detail::PageLayout::create(2, streams, 40));
  for (int repeat = 0; repeat < 50; ++repeat) {
    CountingMemory memory;
    heed::PagePool pool(memory.resource());
    heed::Page* const page = heed::value_or_throw(pool.acquire(layout.bytes()));
    std::vector<std::thread> threads;
    for (Index layer = 0; layer < 2; ++layer) {
      for (int stream = 0; stream < 2; ++stream) {
        threads.emplace_back([&, layer, stream] {
          const std::vector<float> ones(40 * 2 * 16, 1.0f);
          for (Index slot = 0; slot < 40; slot += 8) {
            layout.encode<heed::Bf16>(page, layer, stream, slot, 8, 16, ones.data());
          }
        });
      }
    }
    for (std::thread& thread : threads) thread.join();
    const auto* const begin = reinterpret_cast<const unsigned char*>(page->rows());
    EXPECT_EQ(std::count(begin, begin + layout.bytes(), CountingMemory::filling), 0);
    float number = 0;
    heed::Bf16::decode(layout.row_run(page, 1, 0, 1, 39, 1).data, 1, &number);
    EXPECT_EQ(number, 1);
    pool.release(page);
  }
}

}  // namespace
}  // namespace heed_test::memory_test
