// A plan covers every (sequence, KV head, row, chunk) exactly once, in scratch that the smallest question bounds.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>
#include <vector>

#include <heed/kernel/plan.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/full.hpp>

#include "oracle/random.hpp"

namespace {

using heed::Index;
using heed::detail::Job;
using heed::detail::Plan;
using heed::detail::Task;

const heed::Unmasked no_mask;

struct Case {
  heed::AttentionLayout layout;
  std::vector<Job> jobs;
  Index workers = 1;

  [[nodiscard]] Plan plan() const { return {layout, {}, jobs, workers}; }
};

Job job_of(Index queries, Index keys) {
  return {.source = {}, .num_keys = keys, .mask = no_mask, .num_queries = queries};
}

Case random_case(oracle::Random& random, Index most_keys) {
  Case c;
  const Index kv = 1 + random.below(8), group = 1 + random.below(8);
  c.layout = heed::Gqa{.num_heads = kv * group, .num_kv_heads = kv, .head_dim = 8, .scale = 1}.layout();
  for (Index n = random.below(4) == 0 ? random.below(20) : 1 + random.below(3); n > 0; --n) {
    c.jobs.push_back(job_of(random.below(5) == 0 ? random.below(300) : random.below(5), random.below(most_keys)));
  }
  c.workers = random.below(3) == 0 ? 1 : 1 + random.below(64);
  return c;
}

TEST(Plan, CoversEverythingOnce) {
  oracle::Random random(1);
  for (int i = 0; i < 300; ++i) {
    const Case c = random_case(random, 30000);
    const Plan plan = c.plan();
    std::map<std::tuple<Index, Index, Index>, Index> next;  // (sequence, head, row): the chunk that must come next
    std::set<Index> parts;
    for (Index t = 0; t < plan.num_tasks(); ++t) {
      const Task task = plan.task(t);
      const Job& job = c.jobs.at(std::size_t(task.sequence));
      ASSERT_TRUE(task.kv_head >= 0 && task.kv_head < c.layout.num_kv_heads);
      ASSERT_TRUE(task.rows.size() > 0 && task.rows.size() <= plan.shape().max_rows);
      ASSERT_LE(task.rows.size(), heed::detail::max_block_rows);
      ASSERT_LE(task.chunks.end, Plan::chunks(job));
      for (Index row = task.rows.begin; row < task.rows.end; ++row) {
        Index& expected = next[{task.sequence, task.kv_head, row}];
        ASSERT_EQ(task.chunks.begin, expected);
        expected = task.chunks.end;
      }
      if (plan.parts(job) == 1) {
        ASSERT_EQ(task.part, -1);
      } else {  // a node of the tree, with a partial state of its own
        const Index span = task.chunks.end == Plan::chunks(job) && task.chunks.begin > 0
                               ? plan.task(t - 1).chunks.size()
                               : task.chunks.size();
        ASSERT_TRUE(std::has_single_bit(std::uint64_t(span)) && task.chunks.begin % span == 0);
        ASSERT_TRUE(task.part >= 0 && task.part < plan.max_partials()) << task.part;
        ASSERT_TRUE(parts.insert(task.part).second);
      }
    }
    std::size_t rows = 0;
    for (std::size_t s = 0; s < c.jobs.size(); ++s) {
      for (Index head = 0; head < c.layout.num_kv_heads; ++head) {
        for (Index row = 0; row < plan.rows(c.jobs[s]); ++row, ++rows) {
          const auto found = next.find({Index(s), head, row});
          ASSERT_TRUE(found != next.end()) << "nobody writes this row";
          ASSERT_EQ(found->second, Plan::chunks(c.jobs[s]));
        }
      }
    }
    ASSERT_EQ(next.size(), rows);
  }
}

/// Blocks are the unions of their tasks, and point at their first partial state.
TEST(Plan, BlocksAreTheirTasks) {
  oracle::Random random(2);
  for (int i = 0; i < 200; ++i) {
    const Case c = random_case(random, 30000);
    const Plan plan = c.plan();
    Index t = 0;
    bool cut = false;
    for (Index b = 0; b < plan.num_blocks(); ++b) {
      const Task block = plan.block(b);
      const Index parts = plan.parts(c.jobs[std::size_t(block.sequence)]);
      for (Index part = 0; part < parts; ++part, ++t) {
        const Task task = plan.task(t);
        ASSERT_EQ(task.sequence, block.sequence);
        ASSERT_EQ(task.kv_head, block.kv_head);
        ASSERT_EQ(task.rows, block.rows);
        ASSERT_EQ(task.part, parts == 1 ? -1 : block.part + part);
      }
      cut |= parts > 1;
    }
    ASSERT_EQ(t, plan.num_tasks());
    ASSERT_TRUE(!cut || plan.cut());
  }
}

/// Few tasks and many workers: long contexts are cut, and evenly enough.
TEST(Plan, ManyKeysKeepAllWorkersBusy) {
  const heed::AttentionLayout mqa = heed::Mqa{.num_heads = 8, .head_dim = 8, .scale = 1}.layout();
  for (const Index workers : {2, 3, 8, 16}) {
    const std::vector<Job> jobs = {job_of(1, 131072)};
    const Plan plan(mqa, {}, jobs, workers);
    EXPECT_GE(plan.num_tasks(), workers * heed::detail::tasks_per_worker) << workers;
  }
  EXPECT_EQ(Plan(mqa, {}, std::vector<Job>{job_of(1, 131072)}, 1).num_tasks(), 1);
}

TEST(Plan, NothingToDo) {
  const heed::AttentionLayout layout = heed::Mha{.num_heads = 3, .head_dim = 8, .scale = 1}.layout();
  EXPECT_EQ(Plan(layout, {}, {}, 4).num_tasks(), 0);
  EXPECT_EQ(Plan(layout, {}, std::vector<Job>{job_of(0, 1000)}, 4).num_tasks(), 0);
  EXPECT_EQ(Plan(layout, {}, std::vector<Job>{job_of(2, 0)}, 4).num_tasks(), 3) << "rows without keys are written too";
}

/// What suffices for many queries and keys suffices for fewer.
TEST(Plan, ScratchGrowsWithTheQuestion) {
  oracle::Random random(3);
  const auto bytes = [](const heed::AttentionLayout& layout, Index queries, Index keys, Index workers) {
    heed::detail::Carver carver(nullptr);
    const std::vector<Job> jobs = {job_of(queries, keys)};
    heed::detail::Scratch::carve(carver, Plan(layout, {}, jobs, workers).shape());
    return carver.bytes();
  };
  for (int i = 0; i < 200; ++i) {
    const Case c = random_case(random, 10000);
    const Index queries = random.below(200), keys = random.below(10000);
    ASSERT_LE(bytes(c.layout, random.below(queries + 1), random.below(keys + 1), c.workers),
              bytes(c.layout, queries, keys, c.workers));
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
