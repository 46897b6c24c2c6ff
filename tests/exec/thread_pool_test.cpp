/// \file
/// What only a pool of threads can get wrong.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <heed/exec/thread_pool.hpp>

#include "sanitizers.hpp"

namespace heed_test::thread_pool_test {
namespace {

using heed::Index, heed::StatusCode, heed::ThreadPool;

TEST(ThreadPool, RefusesBadSizes) {
  for (const Index workers : {0, -1, 4097}) {
    const auto pool = ThreadPool::create(workers);
    EXPECT_EQ(pool.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(pool.status().message(), "workers is " + std::to_string(workers) + ", must be in 1 .. 4096");
  }
}

TEST(ThreadPool, StartsAndStopsAtOnce) {
  for (int repeat = 0; repeat < 50; ++repeat) ASSERT_TRUE(ThreadPool::create(4).ok());
}

/// All workers take part when there is enough to do, and each keeps its number.
TEST(ThreadPool, WorkersAreThreads) {
  auto pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  std::vector<std::thread::id> ids(3);
  std::atomic<int> arrived{0};
  for (int repeat = 0; repeat < 5; ++repeat) {
    arrived = 0;
    (*pool)->parallel_for(3, [&](Index, Index worker) {
      std::thread::id& id = ids[std::size_t(worker)];
      if (id == std::thread::id()) id = std::this_thread::get_id();
      EXPECT_EQ(id, std::this_thread::get_id());
      ++arrived;
      while (arrived.load() < 3) std::this_thread::yield();  // each task needs a worker of its own
    });
  }
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_NE(ids[1], ids[0]);
  EXPECT_NE(ids[2], ids[0]);
  EXPECT_NE(ids[2], ids[1]);
}

/// The pool is idle for longer than it spins, so every thread sleeps, or is just falling asleep.
TEST(ThreadPool, WakesUpFromSleep) {
  auto pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  for (int microseconds = 0; microseconds < 120; ++microseconds) {
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
    std::atomic<int> arrived{0};
    (*pool)->parallel_for(2, [&](Index, Index) {
      ++arrived;
      while (arrived.load() < 2) std::this_thread::yield();
    });
    ASSERT_EQ(arrived.load(), 2);
  }
}

/// The caller is done long before another worker, so it sleeps and must be woken.
TEST(ThreadPool, CallerSleepsUntilTheLastTask) {
  auto pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::atomic<int> arrived{0};
    std::atomic<Index> slept{0};
    (*pool)->parallel_for(2, [&](Index, Index worker) {
      ++arrived;
      while (arrived.load() < 2) std::this_thread::yield();
      if (worker == 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      slept += worker;
    });
    // Either worker 0 took part, or workers 1 and 2 did while it had nothing left to do.
    ASSERT_TRUE(slept >= 1 && slept <= 3) << slept.load();
  }
}

/// Several threads share a pool: their calls run one after the other, so plain counters per worker suffice.
TEST(ThreadPool, CallsFromSeveralThreadsTakeTurns) {
  auto pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  std::vector<Index> by_worker(3, 0);
  const auto caller = [&] {
    for (int call = 0; call < 200; ++call) {
      const Index tasks = call % 3 + 1;
      std::atomic<Index> mine{0};
      (*pool)->parallel_for(tasks, [&](Index, Index worker) {
        ++by_worker[std::size_t(worker)];
        ++mine;
      });
      EXPECT_EQ(mine.load(), tasks);
    }
  };
  std::thread first(caller), second(caller);
  caller();
  first.join();
  second.join();
  EXPECT_EQ(by_worker[0] + by_worker[1] + by_worker[2], 3 * (67 * 1 + 67 * 2 + 66 * 3));
}

/// A call inside a body runs in that body's worker, whichever thread it is.
TEST(ThreadPool, InnerCallsKeepTheWorker) {
  auto pool = ThreadPool::create(3);
  ASSERT_TRUE(pool.ok());
  std::vector<Index> runs(3, 0);
  std::atomic<int> arrived{0};
  (*pool)->parallel_for(3, [&](Index, Index outer) {
    ++arrived;
    while (arrived.load() < 3) std::this_thread::yield();
    (*pool)->parallel_for(4, [&](Index, Index inner) {
      EXPECT_EQ(inner, outer);
      ++runs[std::size_t(inner)];
    });
  });
  EXPECT_EQ(runs, (std::vector<Index>{4, 4, 4}));
}

/// A body may use another pool.
TEST(ThreadPool, PoolsAreIndependent) {
  auto outer = ThreadPool::create(2), inner = ThreadPool::create(2);
  ASSERT_TRUE(outer.ok() && inner.ok());
  std::atomic<int> runs{0};
  (*outer)->parallel_for(4, [&](Index, Index) { (*inner)->parallel_for(5, [&](Index, Index) { ++runs; }); });
  EXPECT_EQ(runs.load(), 20);
}

// ThreadSanitizer ends children of processes with threads.
#if !HEED_TEST_TSAN
/// Runs `body` in a fork() and returns its answer; -1 if the child crashed or hung.
template <class Body>
int in_a_child(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(body());
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

/// Every task once, in the only thread there is.
int runs_in_this_thread(ThreadPool& pool) {
  std::vector<int> runs(100, 0);
  bool here = true;
  const auto self = std::this_thread::get_id();
  pool.parallel_for(100, [&](Index task, Index worker) {
    ++runs[std::size_t(task)];
    here &= worker == 0 && std::this_thread::get_id() == self;
    pool.parallel_for(1, [&](Index, Index inner) { here &= inner == worker; });
  });
  return runs == std::vector<int>(100, 1) && here && pool.workers() == 5 ? 0 : 1;
}

TEST(ThreadPool, WorksInAForkWithoutItsThreads) {
  auto pool = heed::value_or_throw(ThreadPool::create(5));
  for (int repeat = 0; repeat < 5; ++repeat) {
    EXPECT_EQ(in_a_child([&] { return runs_in_this_thread(*pool); }), 0);
    EXPECT_EQ(in_a_child([&] {
                pool.reset();
                return 0;
              }),
              0);
    EXPECT_EQ(in_a_child([&] {
                const int answer = runs_in_this_thread(*pool);
                pool = heed::value_or_throw(ThreadPool::create(5));  // the child's own has threads again
                std::atomic<int> arrived{0};
                pool->parallel_for(3, [&](Index, Index) {
                  ++arrived;
                  while (arrived.load() < 3) std::this_thread::yield();
                });
                return answer;
              }),
              0);
  }
  std::atomic<int> runs{0};
  pool->parallel_for(50, [&](Index, Index) { ++runs; });
  EXPECT_EQ(runs.load(), 50) << "the parent has all its threads";
}

/// The parent forks in the middle of another thread's call: the child has neither that thread nor its lock.
TEST(ThreadPool, WorksInAForkDuringACall) {
  auto pool = heed::value_or_throw(ThreadPool::create(5));
  std::atomic<bool> inside{false}, done{false};
  std::thread other([&] {
    pool->parallel_for(3, [&](Index, Index) {
      inside = true;
      while (!done.load()) std::this_thread::yield();
    });
  });
  while (!inside.load()) std::this_thread::yield();
  EXPECT_EQ(in_a_child([&] { return runs_in_this_thread(*pool); }), 0);
  EXPECT_EQ(in_a_child([&] {
              pool.reset();
              return 0;
            }),
            0);
  done = true;
  other.join();
}
#endif

// Sanitizers need more address space than any machine has memory.
#if !HEED_TEST_ASAN && !HEED_TEST_TSAN
/// In a process of its own, whose address space is too small for the stacks.
void create_without_room() {
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = rlim_t{1} << 30;
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::exit(2);
  const auto pool = ThreadPool::create(4096);
  std::fprintf(stderr, "%s\n", pool.status().message().c_str());
  if (pool.status().code() != StatusCode::out_of_memory) std::exit(1);
  std::exit(ThreadPool::create(2).ok() ? 0 : 3);  // the threads that did start are gone
}

TEST(ThreadPoolDeathTest, ThreadLimitIsReported) {
  EXPECT_EXIT(create_without_room(), testing::ExitedWithCode(0), "workers is 4096: the system refused thread ");
}
#endif

}  // namespace
}  // namespace heed_test::thread_pool_test
