/// \file
/// An executor on OpenMP's threads. Empty unless the translation unit is compiled with OpenMP (-fopenmp).
#pragma once

#include <heed/concepts.hpp>

#if defined(_OPENMP)

#include <omp.h>

#include <algorithm>

#include <heed/exec/environment.hpp>

namespace heed::inline HEED_ABI {

/// An Executor on at most `workers` threads of the OpenMP runtime, which owns them. Tasks are handed out one by one. A
/// call from inside a body, or from another parallel region, runs in that thread as worker 0, unless nested parallelism
/// was switched on. A body must not throw. Every worker computes in the caller's floating-point environment.
class OpenMpExecutor {
 public:
  /// `workers` is clamped to 1 .. 4096.
  explicit OpenMpExecutor(Index workers) noexcept : workers_(int(std::clamp<Index>(workers, 1, 4096))) {}

  /// Most threads of a call.
  [[nodiscard]] Index workers() const noexcept { return workers_; }

  /// Calls body(task, worker) once for each task in [0, tasks), and returns when all are done.
  void parallel_for(Index tasks, FunctionRef<void(Index, Index)> body) noexcept {
    const int threads = int(std::min<Index>(workers_, tasks));
    if (threads <= 1) {
      for (Index task = 0; task < tasks; ++task) body(task, 0);
      return;
    }
    const FloatingPointEnvironment callers = FloatingPointEnvironment::current();
#pragma omp parallel num_threads(threads)
    {
      const FloatingPointEnvironment before = FloatingPointEnvironment::current();
      callers.apply();
#pragma omp for schedule(dynamic, 1)
      for (Index task = 0; task < tasks; ++task) body(task, omp_get_thread_num());
      before.apply();  // the threads are the runtime's
    }
  }

 private:
  int workers_;
};

}  // namespace heed::inline HEED_ABI

#endif  // _OPENMP
