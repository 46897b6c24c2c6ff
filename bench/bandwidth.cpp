#include "bandwidth.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <heed/memory.hpp>

#include "limits.hpp"
#include "read_loop.hpp"

namespace bench {
namespace {

/// A buffer that tasks read part by part, from end to end, some times over. Tasks are short and many, so that a thread that
/// wakes up late costs little.
struct Pass {
  Index bytes = 0;
  Index task_bytes = 0;
  Index repeats = 1;
};

constexpr Index own_bytes = Index{512} << 10;  // of one worker, in its L2
constexpr Index own_tasks = 16, own_repeats = 16;

Pass pass_of(Limit source, Index threads) {
  if (source == Limit::read_l3) {
    // Four times what the workers' L2 hold, so that no line stays in L2; at most half of one L3.
    constexpr Index task = Index{256} << 10;
    const Index bytes = std::min(4 * cache_bytes(2) * threads, cache_bytes(3) / 2);
    return {.bytes = bytes / task * task, .task_bytes = task, .repeats = 16};
  }
  return {.bytes = Index{256} << 20, .task_bytes = Index{4} << 20};  // 8 times a large L3
}

/// Memory that was written: untouched pages would all be the one zero page.
const std::byte* touched(Limit source, Index bytes) {
  static std::map<std::pair<Limit, Index>, heed::Buffer> buffers;
  heed::Buffer& buffer = buffers[{source, bytes}];
  if (buffer.size() == 0) {
    buffer = heed::value_or_throw(heed::Buffer::allocate(heed::default_memory(), bytes, "bandwidth"));
    std::memset(buffer.data(), 1, std::size_t(bytes));
  }
  return buffer.data();
}

void read_shared(const ReadLoop& loop, Limit source, Index threads) {
  const Pass pass = pass_of(source, threads);
  const std::byte* const from = touched(source, pass.bytes);
  const Index tasks = pass.bytes / pass.task_bytes;
  pool(threads).parallel_for(tasks * pass.repeats, [&](Index task, Index) {
    benchmark::DoNotOptimize(loop.read(from + task % tasks * pass.task_bytes, pass.task_bytes));
  });
}

void read_l2(Index threads) {
  const std::byte* const from = touched(Limit::read_l2, threads * own_bytes);
  pool(threads).parallel_for(threads * own_tasks, [&](Index, Index worker) {
    for (Index i = 0; i < own_repeats; ++i) {
      benchmark::DoNotOptimize(read_all<1, 0>(from + worker * own_bytes, own_bytes));
    }
  });
}

const ReadLoop& best_read_loop(Limit source, Index threads) {
  static std::map<std::pair<Limit, Index>, const ReadLoop*> best;
  const ReadLoop*& chosen = best[{source, threads}];
  if (chosen != nullptr) return *chosen;
  double least = 0;
  for (const ReadLoop& loop : read_loops) {
    std::vector<double> times;
    for (int i = 0; i < 3; ++i) {
      const auto start = std::chrono::steady_clock::now();
      read_shared(loop, source, threads);
      times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    const double time = median(times);
    if (chosen == nullptr || time < least) chosen = &loop, least = time;
  }
  return *chosen;
}

}  // namespace

Limit source_of(Index bytes, Index threads) {
  if (bytes <= cache_bytes(2) / 2 * threads) return Limit::read_l2;
  const bool fits = bytes <= cache_bytes(3) / 2 && bytes_of_pass(Limit::read_l3, threads) > 0;
  return fits ? Limit::read_l3 : Limit::read_dram;
}

double bytes_of_pass(Limit source, Index threads) {
  if (source == Limit::read_l2) return double(threads * own_tasks * own_repeats * own_bytes);
  const Pass pass = pass_of(source, threads);
  return double(pass.bytes * pass.repeats);
}

void read_pass(Limit source, Index threads) {
  if (source == Limit::read_l2) return read_l2(threads);
  read_shared(best_read_loop(source, threads), source, threads);
}

void choose_read_loop(Limit source, Index threads) {
  if (source != Limit::read_l2) static_cast<void>(best_read_loop(source, threads));
}

const char* read_loop_name(Index threads) { return best_read_loop(Limit::read_dram, threads).name; }

}  // namespace bench
