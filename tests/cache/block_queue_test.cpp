/// \file
/// A queue in blocks against std::deque: any order of calls, and memory that fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include <heed/cache/block_queue.hpp>

#include "cache/counting_memory.hpp"

namespace heed_test::block_queue_test {
namespace {

using heed::Index;
using Queue = heed::detail::BlockQueue<std::int32_t>;

void expect_same(const Queue& queue, const std::deque<std::int32_t>& model) {
  ASSERT_EQ(queue.size(), Index(model.size()));
  std::vector<std::int32_t> all;
  queue.for_each_run([&](std::span<const std::int32_t> run) { all.insert(all.end(), run.begin(), run.end()); });
  ASSERT_TRUE(std::equal(all.begin(), all.end(), model.begin(), model.end()));
  const heed::BlockSpan<std::int32_t> view = queue.elements();
  ASSERT_EQ(view.size(), queue.size());
  for (std::size_t i = 0; i < model.size(); i += 1 + model.size() / 50) {
    ASSERT_EQ(queue[Index(i)], model[i]) << i;
    ASSERT_EQ(&view[Index(i)], &queue[Index(i)]) << i;
  }
  if (!model.empty()) {
    ASSERT_EQ(queue.back(), model.back());
  }
}

TEST(BlockQueue, IsADeque) {
  std::mt19937 random(1);
  for (int walk = 0; walk < 60; ++walk) {
    CountingMemory memory;
    {
      Queue queue;
      std::deque<std::int32_t> model;
      for (int i = 0; i < 200; ++i) {
        const Index most = walk % 3 == 0 ? 30 : 9000;
        const Index count = Index(random() % std::uint32_t(most));
        memory.failing_from = random() % 8 == 0 ? memory.allocations + Index(random() % 2) : -1;
        switch (random() % 8) {
          case 0:
          case 1:
            if (!queue.reserve_back(memory.resource(), count).ok()) break;
            for (Index n = 0; n < count; ++n) queue.push_back(std::int32_t(n)), model.push_back(std::int32_t(n));
            break;
          case 2:
            if (!queue.reserve_front(memory.resource(), count).ok()) break;
            for (Index n = 0; n < count; ++n) queue.push_front(std::int32_t(-n)), model.push_front(std::int32_t(-n));
            break;
          case 3: {
            const Index gone = std::min(2 * count, queue.size());
            queue.pop_front(gone);
            model.erase(model.begin(), model.begin() + gone);
            break;
          }
          case 4: {
            const Index gone = std::min(count / 2, queue.size());
            queue.pop_back(gone);
            model.erase(model.end() - gone, model.end());
            break;
          }
          case 5: {
            const Index begin = Index(random() % std::uint32_t(queue.size() + 1));
            const Index gone = std::min(count, queue.size() - begin);
            queue.erase(begin, gone);
            model.erase(model.begin() + begin, model.begin() + begin + gone);
            break;
          }
          case 6: {  // grows, and thinks better of it
            const Index held = memory.held;
            if (queue.try_back(memory.resource(), count).ok()) {
              for (Index n = 0; n < count; ++n) queue.push_back(std::int32_t(n));
              queue.pop_back(count);
            }
            queue.revert();
            ASSERT_EQ(memory.held, held);
            break;
          }
          default:
            queue.shrink(memory.resource(), count);
            if (count % 2 == 0) {
              Queue copy;
              if (copy.copy_from(memory.resource(), queue).ok()) queue = std::move(copy);
            }
        }
        ASSERT_NO_FATAL_FAILURE(expect_same(queue, model)) << "walk " << walk << ", call " << i;
        ASSERT_EQ(queue.allocated(), memory.held);
      }
    }
    ASSERT_EQ(memory.held, 0);
  }
}

/// A window's queue slides through blocks it has, and a long queue grows by a block.
TEST(BlockQueue, SlidesAndGrowsByBlocks) {
  CountingMemory memory;
  Queue queue;
  for (int i = 0; i < 1000000; ++i) {
    const Index before = memory.held;
    ASSERT_TRUE(queue.reserve_back(memory.resource(), 1).ok());
    queue.push_back(i);
    ASSERT_LE(memory.held - before, 32 * 1024);
    ASSERT_LE(memory.peak - memory.held, 32 * 1024);
  }
  queue.pop_front(1000000 - 9000);
  EXPECT_EQ(queue[0], 1000000 - 9000);
  queue.shrink(memory.resource(), 9000);
  EXPECT_LE(memory.held, 6 * 16384 + 8192);
  const Index allocations = memory.allocations;
  for (int i = 0; i < 100000; ++i) {
    ASSERT_TRUE(queue.reserve_back(memory.resource(), 1).ok());
    queue.push_back(i);
    queue.pop_front(1);
  }
  EXPECT_EQ(memory.allocations, allocations);
}

/// In an array and in blocks: the first element for which a condition no longer holds.
TEST(BlockSpan, FindsWhereAConditionEnds) {
  for (const Index size : {0, 1, 2, 2047, 2048, 2049, 4096, 10000}) {
    CountingMemory memory;
    Queue queue;
    ASSERT_TRUE(queue.reserve_back(memory.resource(), size + 100).ok());
    for (Index i = 0; i < size + 100; ++i) queue.push_back(std::int32_t(i - 100));
    queue.pop_front(100);
    for (Index end = 0; end <= size; end += 1 + size / 300) {
      const auto before = [&](std::int32_t i) { return i < end; };
      ASSERT_EQ(queue.elements().partition_point(before), end);
      ASSERT_EQ(queue.elements().first(end / 2).partition_point(before), end / 2);
    }
    ASSERT_EQ(queue.elements().partition_point([](std::int32_t) { return true; }), size);
  }
  const std::vector<std::int32_t> array{1, 3, 5};
  EXPECT_EQ(heed::BlockSpan<std::int32_t>(array).partition_point([](std::int32_t i) { return i < 4; }), 2);
  EXPECT_EQ(heed::BlockSpan<std::int32_t>().size(), 0);
}

/// Room at one end does not cost the room at the other.
TEST(SlidingArray, HasRoomAtBothEnds) {
  for (Index size = 0; size < 12; ++size) {
    for (Index front = 0; front < 12; ++front) {
      for (Index back = 0; back < 12; ++back) {
        CountingMemory memory;
        heed::detail::SlidingArray<Index> array;
        ASSERT_TRUE(array.reserve_back(memory.resource(), size).ok());
        for (Index i = 0; i < size; ++i) array.push_back(i);
        ASSERT_TRUE(array.try_both(memory.resource(), front, back).ok());
        const Index* const place = array.data();
        for (Index i = 0; i < front; ++i) array.push_front(-1 - i);
        for (Index i = 0; i < back; ++i) array.push_back(size + i);
        ASSERT_EQ(array.data(), place - front);
        ASSERT_LE((front + size + back) * 8, array.allocated());
        for (Index i = 0; i < array.size(); ++i) ASSERT_EQ(array[i], i - front);
        array.settle();
        ASSERT_EQ(array.allocated(), memory.held);
      }
    }
  }
}

/// A copy is one allocation, of what is there and a few elements more.
TEST(SlidingArray, CopiesInOneAllocation) {
  CountingMemory memory;
  heed::detail::SlidingArray<Index> array, copy;
  ASSERT_TRUE(array.reserve_back(memory.resource(), 1000).ok());
  for (Index i = 0; i < 1000; ++i) array.push_back(i);
  const Index before = memory.allocations;
  ASSERT_TRUE(copy.copy_from(memory.resource(), array).ok());
  EXPECT_EQ(memory.allocations, before + 1);
  EXPECT_LE(copy.allocated(), 1016 * 8);
  EXPECT_TRUE(std::ranges::equal(copy.span(), array.span()));
}

}  // namespace
}  // namespace heed_test::block_queue_test
