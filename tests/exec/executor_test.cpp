/// \file
/// Laws of every executor: each task once, workers in range, no two calls with one worker at the same time.
#include <gtest/gtest.h>

#include <atomic>
#include <cfenv>
#include <memory>
#include <thread>
#include <vector>

#include <heed/exec/openmp.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>

#include "exec/flush_subnormals.hpp"
#include "sanitizers.hpp"

namespace heed_test::executor_test {
namespace {

using heed::Index;

static_assert(heed::Executor<heed::SerialExecutor>);
static_assert(heed::Executor<heed::ThreadPool>);

[[nodiscard]] std::unique_ptr<heed::SerialExecutor> make(Index, const heed::SerialExecutor*) {
  return std::make_unique<heed::SerialExecutor>();
}
[[nodiscard]] std::unique_ptr<heed::ThreadPool> make(Index workers, const heed::ThreadPool*) {
  auto pool = heed::ThreadPool::create(workers);
  EXPECT_TRUE(pool.ok()) << pool.status().message();
  EXPECT_EQ((*pool)->workers(), workers);
  return *std::move(pool);
}

// libgomp is not instrumented: ThreadSanitizer would report its barriers as races.
#if defined(_OPENMP) && !HEED_TEST_TSAN
static_assert(heed::Executor<heed::OpenMpExecutor>);
[[nodiscard]] std::unique_ptr<heed::OpenMpExecutor> make(Index workers, const heed::OpenMpExecutor*) {
  return std::make_unique<heed::OpenMpExecutor>(workers);
}
using Executors = testing::Types<heed::SerialExecutor, heed::ThreadPool, heed::OpenMpExecutor>;
#else
using Executors = testing::Types<heed::SerialExecutor, heed::ThreadPool>;
#endif

template <class E>
class ExecutorLaws : public testing::Test {
 protected:
  std::unique_ptr<E> executor(Index workers) { return make(workers, static_cast<const E*>(nullptr)); }
};
TYPED_TEST_SUITE(ExecutorLaws, Executors);

/// Plain ints on purpose: ThreadSanitizer then checks that a task's writes are seen after the call, and that calls of
/// one worker are ordered.
TYPED_TEST(ExecutorLaws, EveryTaskRunsOnce) {
  for (const Index workers : {1, 2, 3, 7}) {
    const auto executor = this->executor(workers);
    for (const Index tasks : {0, 1, 2, 3, 7, 8, 100, 1000}) {
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<int> runs(std::size_t(tasks), 0);
        std::vector<Index> by_worker(std::size_t(executor->workers()), 0);
        std::atomic<bool> in_range{true};
        executor->parallel_for(tasks, [&](Index task, Index worker) {
          if (task < 0 || task >= tasks || worker < 0 || worker >= executor->workers()) {
            in_range = false;
            return;
          }
          ++runs[std::size_t(task)];
          ++by_worker[std::size_t(worker)];
        });
        ASSERT_TRUE(in_range);
        ASSERT_EQ(runs, std::vector<int>(std::size_t(tasks), 1));
        Index all = 0;
        for (const Index count : by_worker) all += count;
        ASSERT_EQ(all, tasks);
      }
    }
  }
}

TYPED_TEST(ExecutorLaws, OneWorkerIsNeverInTwoBodies) {
  for (const Index workers : {2, 7}) {
    const auto executor = this->executor(workers);
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(executor->workers()));
    std::atomic<bool> alone{true};
    for (int repeat = 0; repeat < 20; ++repeat) {
      executor->parallel_for(30, [&](Index, Index worker) {
        std::atomic<int>& mine = inside[std::size_t(worker)];
        if (mine.fetch_add(1) != 0) alone = false;
        for (int spin = 0; spin < 300; ++spin) {
          if (mine.load(std::memory_order_relaxed) != 1) alone = false;
        }
        mine.fetch_sub(1);
      });
    }
    EXPECT_TRUE(alone);
  }
}

/// Hundreds of short calls in a row, as when decoding: no lost wake-up, no task of an earlier call.
TYPED_TEST(ExecutorLaws, ManyShortCalls) {
  const auto executor = this->executor(3);
  std::vector<Index> total(3, 0);
  Index expected = 0;
  for (Index call = 0; call < 400; ++call) {
    const Index tasks = call % 5;
    expected += tasks * call;
    executor->parallel_for(tasks, [&](Index, Index worker) { total[std::size_t(worker)] += call; });
  }
  EXPECT_EQ(total[0] + total[1] + total[2], expected);
}

/// Every inner task of every outer task once; the inner worker is one that exists.
TYPED_TEST(ExecutorLaws, CallsFromInsideABody) {
  const auto executor = this->executor(3);
  std::vector<std::atomic<int>> runs(6 * 5);
  std::atomic<bool> in_range{true};
  executor->parallel_for(6, [&](Index outer, Index) {
    executor->parallel_for(5, [&](Index inner, Index worker) {
      if (worker < 0 || worker >= executor->workers()) in_range = false;
      ++runs[std::size_t(outer * 5 + inner)];
    });
  });
  EXPECT_TRUE(in_range);
  for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
}

/// What rounds and flushes how is the caller's choice, in every worker and for each call anew.
TYPED_TEST(ExecutorLaws, WorkersTakeTheCallersEnvironment) {
  const auto executor = this->executor(3);
  const Index workers = executor->workers();
  struct Seen {
    int rounding = -1;
    bool flushes = false;
  };
  std::vector<Seen> seen;
  const auto look = [&] {
    seen.assign(std::size_t(workers), {});
    std::atomic<Index> arrived{0};
    executor->parallel_for(workers, [&](Index task, Index) {
      ++arrived;
      while (arrived.load() < workers) std::this_thread::yield();  // each task needs a worker of its own
      seen[std::size_t(task)] = {std::fegetround(), flushes_subnormals()};
    });
  };
  {
    const FlushSubnormals flush;
    std::fesetround(FE_UPWARD);
    look();
    std::fesetround(FE_TONEAREST);
    for (const Seen& worker : seen) {
      EXPECT_EQ(worker.rounding, FE_UPWARD);
      EXPECT_EQ(worker.flushes, FlushSubnormals::possible);
    }
  }
  look();
  for (const Seen& worker : seen) {
    EXPECT_EQ(worker.rounding, FE_TONEAREST);
    EXPECT_FALSE(worker.flushes);
  }
}

/// After a call the caller's environment is what it was, however many tasks there were.
TYPED_TEST(ExecutorLaws, TheCallerKeepsItsEnvironment) {
  const auto executor = this->executor(3);
  for (const Index tasks : {1, 2, 100}) {
    executor->parallel_for(tasks, [](Index, Index) {});
    std::fesetround(FE_UPWARD);
    bool flushed = false;
    {
      const FlushSubnormals flush;
      executor->parallel_for(tasks, [](Index, Index) {});
      flushed = flushes_subnormals();
    }
    const int rounding = std::fegetround();
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(rounding, FE_UPWARD);
    EXPECT_EQ(flushed, FlushSubnormals::possible);
    EXPECT_FALSE(flushes_subnormals());
  }
}

#if defined(_OPENMP) && !HEED_TEST_TSAN
/// The threads are the runtime's: the host's own parallel regions find them as they were, after nested calls as well.
TEST(OpenMp, ThreadsGetTheirEnvironmentBack) {
  constexpr int threads = 3;
  std::vector<int> rounding(threads), flushes(threads);
  const auto look = [&] {
#pragma omp parallel num_threads(threads)
    {
      rounding[std::size_t(omp_get_thread_num())] = std::fegetround();
      flushes[std::size_t(omp_get_thread_num())] = flushes_subnormals();
    }
  };
  look();  // the runtime makes its threads now
  ASSERT_EQ(rounding, std::vector<int>(threads, FE_TONEAREST));
  heed::OpenMpExecutor executor(threads);
  std::atomic<Index> wrong{0};
  {
    const FlushSubnormals flush;
    std::fesetround(FE_UPWARD);
    executor.parallel_for(30, [&](Index, Index) {
      wrong += std::fegetround() != FE_UPWARD;
      executor.parallel_for(3, [&](Index, Index) { wrong += std::fegetround() != FE_UPWARD; });
    });
    std::fesetround(FE_TONEAREST);
  }
  EXPECT_EQ(wrong.load(), 0);
  look();
  EXPECT_EQ(rounding, std::vector<int>(threads, FE_TONEAREST));
  EXPECT_EQ(flushes, std::vector<int>(threads, 0));
}
#endif

}  // namespace
}  // namespace heed_test::executor_test
