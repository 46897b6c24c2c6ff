// Kills mutants of executors: the caller's floating-point environment in every worker, and pools in a fork.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include <heed/exec/openmp.hpp>
#include <heed/exec/thread_pool.hpp>

#include "exec/flush_subnormals.hpp"
#include "mutants/expect.hpp"

namespace {

using heed::Index, heed::ThreadPool;
using killer::expect;

void environments() {
  const auto pool = heed::value_or_throw(ThreadPool::create(2));
  std::atomic<int> arrived{0}, flushing{0};
  const heed_test::FlushSubnormals flush;
  pool->parallel_for(2, [&](Index, Index) {
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();
    flushing += heed_test::flushes_subnormals();
  });
  expect(flushing.load() == (heed_test::FlushSubnormals::possible ? 2 : 0), "pool", "the caller's environment");
}

#if defined(KILLER_OPENMP)
void openmp() {
  std::atomic<int> flushing{0}, arrived{0};
  const auto look = [&] {
    flushing = arrived = 0;
#pragma omp parallel num_threads(3)
    flushing += heed_test::flushes_subnormals();
  };
  look();
  heed::OpenMpExecutor executor(3);
  {
    const heed_test::FlushSubnormals flush;
    executor.parallel_for(3, [&](Index, Index) {
      ++arrived;
      while (arrived.load() < 3) std::this_thread::yield();
      flushing += heed_test::flushes_subnormals();
    });
  }
  expect(flushing.load() == (heed_test::FlushSubnormals::possible ? 3 : 0), "openmp", "the caller's environment");
  look();
  expect(flushing.load() == 0, "openmp", "the runtime's environment");
}
#endif

template <class Body>
bool works_in_a_child(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(5);
    body();
    _exit(0);
  }
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0;
}

void forks() {
  auto pool = heed::value_or_throw(ThreadPool::create(5));
  const auto run = [&] {
    int runs = 0;
    const auto self = std::this_thread::get_id();
    pool->parallel_for(9, [&](Index, Index) { runs += std::this_thread::get_id() == self; });
    if (runs != 9) _exit(1);
  };
  expect(works_in_a_child([&] { pool.reset(); }), "pool", "ends in a fork");
  std::atomic<bool> inside{false}, done{false};
  std::thread other([&] {
    pool->parallel_for(2, [&](Index, Index) {
      inside = true;
      while (!done.load()) std::this_thread::yield();
    });
  });
  while (!inside.load()) std::this_thread::yield();
  expect(works_in_a_child(run), "pool", "runs in a fork");
  done = true;
  other.join();
}

}  // namespace

int main() {
#if defined(KILLER_OPENMP)
  openmp();
#else
  environments();
  forks();
#endif
  return killer::failures == 0 ? 0 : 1;
}
