// The tasks of a call cover every (sequence, KV head, row, chunk) exactly once, in scratch that the smallest question bounds.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>
#include <vector>

#include <heed/kernel/tasks.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/full.hpp>

#include "oracle/random.hpp"

namespace heed_test::tasks_test {
namespace {

using heed::Index;
using heed::detail::Job;
using heed::detail::Task;
using heed::detail::Tasks;

const heed::Unmasked no_mask;

struct Case {
  heed::AttentionLayout layout;
  std::vector<Job> jobs;
  Index workers = 1;

  [[nodiscard]] Tasks tasks() { return {layout, {}, jobs, workers}; }
};

Job job_of(Index queries, Index keys) {
  return {.source = {}, .num_keys = keys, .mask = no_mask, .num_queries = queries};
}

/// A node of the merge tree that begins within some chunks; all chunks if there are none.
heed::Interval node_of(oracle::Random& random, heed::Interval chunks) {
  if (chunks.size() == 0) return chunks;
  const Index size = Index{1} << random.below(7), begin = chunks.begin + random.below(chunks.size());
  return {begin / size * size, begin / size * size + size};
}

Case random_case(oracle::Random& random, Index most_keys) {
  Case c;
  const Index kv = 1 + random.below(8), group = 1 + random.below(8);
  c.layout = heed::Gqa{.num_heads = kv * group, .num_kv_heads = kv, .head_dim = 8, .scale = 1}.layout();
  for (Index n = random.below(4) == 0 ? random.below(20) : 1 + random.below(3); n > 0; --n) {
    c.jobs.push_back(job_of(random.below(5) == 0 ? random.below(300) : random.below(5), random.below(most_keys)));
    if (random.below(2) == 0) continue;  // else read in two lists
    Job& job = c.jobs.back();
    job.far_keys = random.below(job.num_keys + 1);
    job.near_keys.first_key = random.below(job.num_keys + 1);
    job.near_keys.first_slot = random.below(2) == 0 ? random.below(1000) : random.below(5'000'000);
    if (random.below(2) == 0) continue;  // else a node of each list
    job.first_far = random.below(3) * random.below(50);
    job.far_part = node_of(random, job.far_chunks());
    job.near_part = node_of(random, job.near_chunks());
  }
  c.workers = random.below(3) == 0 ? 1 : 1 + random.below(64);
  return c;
}

TEST(Tasks, CoversEverythingOnce) {
  oracle::Random random(1);
  for (int i = 0; i < 300; ++i) {
    Case c = random_case(random, 30000);
    const Tasks tasks = c.tasks();
    struct Next {
      Index far = -1, near = -1;
    };
    std::map<std::tuple<Index, Index, Index>, Next> next;  // (job, head, row): the chunks that must come next
    std::set<Index> parts;
    Index part = 0;
    for (Index t = 0; t < tasks.num_tasks(); ++t) {
      const Task task = tasks.task(t);
      const Job& job = c.jobs.at(std::size_t(task.job));
      ASSERT_TRUE(task.kv_head >= 0 && task.kv_head < c.layout.num_kv_heads);
      ASSERT_TRUE(task.rows.size() > 0 && task.rows.size() <= tasks.shape().max_rows);
      ASSERT_LE(task.rows.size(), heed::detail::max_block_rows);
      ASSERT_TRUE(task.far_chunks.size() >= 0 && task.near_chunks.size() >= 0);
      for (Index row = task.rows.begin; row < task.rows.end; ++row) {
        Next& expected = next[{task.job, task.kv_head, row}];
        if (expected.near < 0) expected = {job.far_chunks().begin, job.near_chunks().begin};
        if (task.far_chunks.size() > 0) {
          ASSERT_EQ(task.far_chunks.begin, expected.far);
          ASSERT_EQ(expected.near, job.near_chunks().begin) << "far chunks come first";
          expected.far = task.far_chunks.end;
        }
        if (task.near_chunks.size() > 0) {
          ASSERT_EQ(task.near_chunks.begin, expected.near);
          ASSERT_EQ(expected.far, job.far_chunks().end);
          expected.near = task.near_chunks.end;
        }
      }
      if (job.parts == 1) {
        ASSERT_EQ(task.part, -1);
      } else {  // a node of the tree, with a partial state of its own
        const bool far = task.far_chunks.size() > 0;
        ASSERT_NE(far, task.near_chunks.size() > 0);
        const heed::Interval chunks = far ? task.far_chunks : task.near_chunks;
        const Index first = (far ? 0 : heed::detail::far_away) + chunks.begin;
        ASSERT_TRUE(std::has_single_bit(std::uint64_t(tasks.span())));
        ASSERT_EQ(first / tasks.span(), tasks.part_node(job, part));
        ASSERT_EQ((first + chunks.size() - 1) / tasks.span(), tasks.part_node(job, part));
        ASSERT_TRUE(task.part >= 0 && task.part < tasks.max_partials()) << task.part;
        ASSERT_TRUE(parts.insert(task.part).second);
        part = (part + 1) % job.parts;
      }
    }
    std::size_t rows = 0;
    for (std::size_t s = 0; s < c.jobs.size(); ++s) {
      for (Index head = 0; head < c.layout.num_kv_heads; ++head) {
        for (Index row = 0; row < tasks.rows(c.jobs[s]); ++row, ++rows) {
          const auto found = next.find({Index(s), head, row});
          ASSERT_TRUE(found != next.end()) << "nobody writes this row";
          ASSERT_EQ(found->second.far, c.jobs[s].far_chunks().end);
          ASSERT_EQ(found->second.near, c.jobs[s].near_chunks().end);
        }
      }
    }
    ASSERT_EQ(next.size(), rows);
  }
}

/// Blocks are the unions of their tasks, and point at their first partial state.
TEST(Tasks, BlocksAreTheirTasks) {
  oracle::Random random(2);
  for (int i = 0; i < 200; ++i) {
    Case c = random_case(random, 30000);
    const Tasks tasks = c.tasks();
    Index t = 0;
    bool cut = false;
    for (Index b = 0; b < tasks.num_blocks(); ++b) {
      const Task block = tasks.block(b);
      const Index parts = c.jobs[std::size_t(block.job)].parts;
      for (Index part = 0; part < parts; ++part, ++t) {
        const Task task = tasks.task(t);
        ASSERT_EQ(task.job, block.job);
        ASSERT_EQ(task.kv_head, block.kv_head);
        ASSERT_EQ(task.rows, block.rows);
        ASSERT_EQ(task.part, parts == 1 ? -1 : block.part + part);
      }
      cut |= parts > 1;
    }
    ASSERT_EQ(t, tasks.num_tasks());
    ASSERT_TRUE(!cut || tasks.cut());
  }
}

/// Few tasks and many workers: long contexts are cut, and evenly enough.
TEST(Tasks, ManyKeysKeepAllWorkersBusy) {
  const heed::AttentionLayout mqa = heed::Mqa{.num_heads = 8, .head_dim = 8, .scale = 1}.layout();
  for (const Index workers : {2, 3, 8, 16}) {
    std::vector<Job> jobs = {job_of(1, 131072)};
    const Tasks tasks(mqa, {}, jobs, workers);
    EXPECT_GE(tasks.num_tasks(), workers * heed::detail::tasks_per_worker) << workers;
  }
  Job job = job_of(1, 131072);
  EXPECT_EQ(Tasks(mqa, {}, {&job, 1}, 1).num_tasks(), 1);
}

TEST(Tasks, NothingToDo) {
  const heed::AttentionLayout layout = heed::Mha{.num_heads = 3, .head_dim = 8, .scale = 1}.layout();
  EXPECT_EQ(Tasks(layout, {}, {}, 4).num_tasks(), 0);
  Job no_queries = job_of(0, 1000), no_keys = job_of(2, 0);
  EXPECT_EQ(Tasks(layout, {}, {&no_queries, 1}, 4).num_tasks(), 0);
  EXPECT_EQ(Tasks(layout, {}, {&no_keys, 1}, 4).num_tasks(), 3) << "rows without keys are written too";
}

/// What suffices for many queries and keys suffices for fewer, read in any lists.
TEST(Tasks, ScratchGrowsWithTheQuestion) {
  oracle::Random random(3);
  const auto bytes = [](const heed::AttentionLayout& layout, Job job, Index workers) {
    heed::detail::Carver carver(nullptr);
    heed::detail::Scratch::carve(carver, Tasks(layout, {}, {&job, 1}, workers).shape());
    return carver.bytes();
  };
  for (int i = 0; i < 200; ++i) {
    const Case c = random_case(random, 10000);
    const Index queries = random.below(200), keys = random.below(10000);
    Job smaller = job_of(random.below(queries + 1), random.below(keys + 1));
    smaller.far_keys = random.below(smaller.num_keys + 1);
    smaller.near_keys = {random.below(smaller.num_keys + 1), random.below(1000)};
    ASSERT_LE(bytes(c.layout, smaller, c.workers), bytes(c.layout, job_of(queries, keys), c.workers));
  }
}

/// Near chunks begin where the first slot says, not at 0, and hold every key once, in its own slot.
TEST(Job, ChunksOfNearAndFarKeys) {
  for (const Index first_slot : {0, 1, 255, 256, 4'000'000, 4'000'255}) {
    for (const Index keys : {0, 1, 255, 256, 257, 1000}) {
      Job job = job_of(1, 300 + keys);
      job.near_keys = {300, first_slot};
      job.far_keys = keys;
      Index next = 300;
      for (Index c = job.near_chunks().begin; c < job.near_chunks().end; ++c) {
        const heed::detail::Chunk chunk = job.near_chunk(c);
        ASSERT_TRUE(0 <= chunk.slots.begin && chunk.slots.begin < chunk.slots.end && chunk.slots.end <= 256);
        ASSERT_EQ(chunk.tree(), heed::detail::far_away + c);
        for (Index slot = chunk.slots.begin; slot < chunk.slots.end; ++slot, ++next) {
          ASSERT_EQ(chunk.first + slot, next);
          ASSERT_EQ(c * 256 + slot, first_slot + next - 300);
        }
      }
      ASSERT_EQ(next, 300 + keys);
      ASSERT_EQ(job.near_chunks().begin, first_slot / 256);
      next = 0;
      for (Index c = 0; c < job.far_chunks().end; ++c) {
        const heed::detail::Chunk chunk = job.far_chunk(c);
        ASSERT_EQ(chunk.tree(), c);
        ASSERT_EQ(chunk.first + chunk.slots.begin, next);
        ASSERT_TRUE(chunk.slots.size() > 0 && chunk.slots.end <= 256);
        next = chunk.first + chunk.slots.end;
      }
      ASSERT_EQ(next, keys);
    }
  }
}

/// Many jobs, some without rows: every task is found in its own.
TEST(Tasks, TasksOfManyJobs) {
  const heed::AttentionLayout layout = heed::Mha{.num_heads = 2, .head_dim = 8, .scale = 1}.layout();
  std::vector<Job> jobs;
  std::vector<Index> owner;
  for (Index i = 0; i < 1000; ++i) {
    jobs.push_back(job_of(i % 3 == 1 ? 0 : 1 + i % 2, 10));
    if (i % 3 != 1) owner.insert(owner.end(), 2, i);
  }
  const Tasks tasks(layout, {}, jobs, 1);
  ASSERT_EQ(tasks.num_tasks(), Index(owner.size()));
  for (Index t = 0; t < tasks.num_tasks(); ++t) {
    ASSERT_EQ(tasks.task(t).job, owner[std::size_t(t)]);
    ASSERT_EQ(tasks.task(t).kv_head, t % 2);
  }
}

TEST(Carver, CountsWhatItPlaces) {
  alignas(64) std::byte memory[1024];
  heed::detail::Carver count(nullptr), place(memory);
  for (const Index n : {3, 0, 17, 1}) {
    EXPECT_EQ(count.take<double>(n), nullptr);
    double* at = place.take<double>(n);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(at) % 64, 0u);
    EXPECT_TRUE(reinterpret_cast<std::byte*>(at + n) <= memory + place.bytes());
  }
  EXPECT_EQ(count.bytes(), place.bytes());
  EXPECT_EQ(count.bytes(), 64u + 192 + 64);
}

}  // namespace
}  // namespace heed_test::tasks_test
