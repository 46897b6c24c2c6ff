/// \file
/// A pool of threads that the caller owns.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>

#include <heed/concepts.hpp>
#include <heed/exec/environment.hpp>

namespace heed::inline HEED_ABI {

/// An Executor of `workers` threads, the calling one included. Idle threads spin for some microseconds and then sleep:
/// while decoding, the next layer follows at once.
///
/// Tasks are handed out one by one, so they may differ in length. Calls from several threads run one after the other. A
/// call from inside a body runs at once, in that body's worker. parallel_for does not allocate. A body must not throw
/// (that ends the program), and must not wait for another thread that uses the same pool. Every worker computes in the
/// caller's floating-point environment: rounding mode, DAZ and FTZ.
///
/// fork() copies a pool without its threads. In the child process the pool runs every task in the calling thread,
/// whatever the parent was doing, and can be destroyed. A child made inside a body must not return from that body.
class ThreadPool {
 public:
  static constexpr Index max_workers = 4096;  ///< limit of workers()

  /// Starts `workers` - 1 threads. invalid_argument unless 1 <= workers <= max_workers. out_of_memory if the system
  /// does not give all threads; those that were started have then ended.
  [[nodiscard]] static Result<std::unique_ptr<ThreadPool>> create(Index workers) {
    if (workers < 1 || workers > max_workers) {
      return fail(StatusCode::invalid_argument, "workers is ", workers, ", must be in 1 .. ", max_workers);
    }
    std::unique_ptr<ThreadPool> pool(new (std::nothrow) ThreadPool);
    if (pool != nullptr) pool->threads_.reset(new (std::nothrow) Thread[std::size_t(workers - 1)]);
    if (pool == nullptr || pool->threads_ == nullptr) {
      return fail(StatusCode::out_of_memory, "workers is ", workers, ": no memory for the pool");
    }
    while (pool->workers_ < workers) {
      Thread& thread = pool->threads_[std::size_t(pool->workers_ - 1)];
      thread.pool = pool.get();
      thread.worker = pool->workers_;
      // Not std::thread: its constructor reports failure by an exception only.
      if (const int error = pthread_create(&thread.handle, nullptr, run, &thread); error != 0) {
        return fail(StatusCode::out_of_memory, "workers is ", workers, ": the system refused thread ", pool->workers_,
                    " with error ", error);
      }
      ++pool->workers_;
    }
    return pool;
  }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  /// Ends the threads. No call may be running.
  ~ThreadPool() {
    if (::getpid() != process_) return;  // a fork: there is nobody to wake or to wait for
    stop_.store(true, std::memory_order_relaxed);
    wake();
    for (Index worker = 1; worker < workers_; ++worker) pthread_join(threads_[std::size_t(worker - 1)].handle, nullptr);
  }

  /// Number of threads, the calling one included.
  [[nodiscard]] Index workers() const noexcept { return workers_; }

  /// Calls body(task, worker) once for each task in [0, tasks), and returns when all are done.
  void parallel_for(Index tasks, FunctionRef<void(Index, Index)> body) noexcept {
    if (tasks <= 0) return;
    // A system call: 0.14 us of the 0.5 us that a call of two empty tasks takes, 2 us if the threads sleep (a virtual Linux
    // machine). A handler of pthread_atfork would need global state, and would miss children made by clone.
    const ::pid_t process = ::getpid();
    if (const Index worker = current_worker(process); worker >= 0) {
      for (Index task = 0; task < tasks; ++task) body(task, worker);
      return;
    }
    lock(process);
    caller_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    if (tasks == 1 || workers_ == 1 || process != process_) {
      for (Index task = 0; task < tasks; ++task) body(task, 0);
    } else {
      share(tasks, body);
    }
    caller_.store({}, std::memory_order_relaxed);
    unlock();
  }

 private:
  /// Bit of state_: threads may join the job. The bits below it count the threads that have joined.
  static constexpr std::uint32_t open = std::uint32_t{1} << 31;
  static constexpr std::size_t line = 64;
  static constexpr std::chrono::microseconds spin{30};

  struct Thread {
    ThreadPool* pool = nullptr;
    Index worker = 0;
    pthread_t handle{};
    std::atomic<std::thread::id> id{};
  };

  ThreadPool() = default;

  /// The worker whose body this thread is running, or -1. Thread ids are compared: a thread_local would outlive the
  /// pool.
  [[nodiscard]] Index current_worker(::pid_t process) const noexcept {
    const std::thread::id self = std::this_thread::get_id();
    const bool called = lock_.load(std::memory_order_relaxed) == process;
    if (called && caller_.load(std::memory_order_relaxed) == self) return 0;
    for (Index worker = 1; worker < workers_; ++worker) {
      if (threads_[std::size_t(worker - 1)].id.load(std::memory_order_relaxed) == self) return worker;
    }
    return -1;
  }

  /// Calls take turns. The lock stores the process that took it: in a fork, a lock of the parent does not count.
  void lock(::pid_t process) noexcept {
    ::pid_t holder = 0;
    while (!lock_.compare_exchange_weak(holder, process, std::memory_order_acquire, std::memory_order_relaxed)) {
      if (holder != process) continue;
      lock_.wait(holder, std::memory_order_relaxed);
      holder = 0;
    }
  }
  void unlock() noexcept {
    lock_.store(0, std::memory_order_release);
    lock_.notify_one();
  }

  /// Runs the tasks with all threads that wake up in time. A thread that comes late finds the job closed, so the call
  /// never waits for a thread that still sleeps.
  void share(Index tasks, FunctionRef<void(Index, Index)>& body) {
    body_ = &body;
    tasks_ = tasks;
    environment_ = FloatingPointEnvironment::current();
    next_.store(0, std::memory_order_relaxed);
    state_.store(open, std::memory_order_release);
    wake();
    work(0);
    std::uint32_t state = state_.fetch_and(~open, std::memory_order_acq_rel) & ~open;
    while (state != 0) {
      wait_while(state_, state);
      state = state_.load(std::memory_order_acquire);
    }
  }

  void work(Index worker) {
    for (Index task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) (*body_)(task, worker);
  }

  void wake() noexcept {
    epoch_.fetch_add(1);
    epoch_.notify_all();
  }

  [[nodiscard]] bool join() noexcept {
    std::uint32_t state = state_.load(std::memory_order_relaxed);
    while ((state & open) != 0) {
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }

  static void* run(void* argument) noexcept {
    auto& [pool, worker, handle, id] = *static_cast<Thread*>(argument);
    id.store(std::this_thread::get_id(), std::memory_order_relaxed);
    std::uint32_t seen = 0;
    for (;;) {
      pool->wait_while(pool->epoch_, seen);
      // Read before joining: so a job that opens later is noticed as new.
      seen = pool->epoch_.load(std::memory_order_acquire);
      if (pool->stop_.load(std::memory_order_relaxed)) return nullptr;
      if (!pool->join()) continue;
      pool->environment_.apply();
      pool->work(worker);
      if (pool->state_.fetch_sub(1, std::memory_order_acq_rel) == 1) pool->state_.notify_one();
    }
  }

  /// Returns when `value` may differ from `old`.
  static void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept {
    if (value.load(std::memory_order_acquire) != old) return;
    const auto deadline = std::chrono::steady_clock::now() + spin;
    do {
      for (int i = 0; i < 32; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    value.wait(old, std::memory_order_acquire);
  }

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
  }

  const ::pid_t process_ = ::getpid();
  std::atomic<::pid_t> lock_{0};
  std::atomic<std::thread::id> caller_{};
  std::unique_ptr<Thread[]> threads_;
  Index workers_ = 1;
  std::atomic<bool> stop_{false};
  // Written before a job opens, read by the threads that joined it.
  FunctionRef<void(Index, Index)>* body_ = nullptr;
  Index tasks_ = 0;
  FloatingPointEnvironment environment_;
  // One cache line each: the word that sleepers wait on, the one that joiners change, and the one that hands out tasks.
  alignas(line) std::atomic<std::uint32_t> epoch_{0};
  alignas(line) std::atomic<std::uint32_t> state_{0};
  alignas(line) std::atomic<Index> next_{0};
};

}  // namespace heed::inline HEED_ABI
