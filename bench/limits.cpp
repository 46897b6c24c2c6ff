#include "limits.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>

#include <benchmark/benchmark.h>

#include <heed/memory.hpp>

#include "dot_loop.hpp"
#include "read_loop.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

// Tasks are short and many, so that a thread that wakes up late costs little.
constexpr Index dram_bytes = Index{256} << 20;  // 8 times a large L3
constexpr Index dram_task_bytes = Index{4} << 20;
constexpr Index l2_bytes = Index{512} << 10;
constexpr Index l2_repeats = 16;
constexpr Index tasks_per_thread = 16;
constexpr Index chain_rounds = 10'000;

/// Memory that was written: untouched pages would all be the one zero page.
heed::Buffer touched(Index bytes) {
  auto buffer = heed::value_or_throw(heed::Buffer::allocate(heed::default_memory(), bytes, "bandwidth"));
  std::memset(buffer.data(), 1, std::size_t(bytes));
  return buffer;
}

void read_dram(const ReadLoop& loop, Index threads) {
  static const heed::Buffer buffer = touched(dram_bytes);
  pool(threads).parallel_for(dram_bytes / dram_task_bytes, [&](Index task, Index) {
    benchmark::DoNotOptimize(loop.read(buffer.data() + task * dram_task_bytes, dram_task_bytes));
  });
}

void read_l2(Index threads) {
  static std::map<Index, heed::Buffer> buffers;
  auto& buffer = buffers[threads];
  if (buffer.size() == 0) buffer = touched(threads * l2_bytes);
  pool(threads).parallel_for(threads * tasks_per_thread, [&](Index, Index worker) {
    for (Index i = 0; i < l2_repeats; ++i) {
      benchmark::DoNotOptimize(read_all<1, 0>(buffer.data() + worker * l2_bytes, l2_bytes));
    }
  });
}

template <class Op>
double chain_work(Index threads) {
  if constexpr (Op::operations == 0) {
    return 0;
  } else {
    return double(threads * tasks_per_thread * chain_rounds * Op::chains) * Op::operations;
  }
}

template <class Op>
void chain_pass(Index threads) {
  if constexpr (Op::operations > 0) {
    pool(threads).parallel_for(threads * tasks_per_thread, [](Index, Index) { run_chains<Op>(chain_rounds); });
  }
}

template <class Body>
double seconds(Body body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const ReadLoop& best_read_loop(Index threads) {
  static std::map<Index, const ReadLoop*> best;
  const ReadLoop*& chosen = best[threads];
  double least = 0;
  if (chosen != nullptr) return *chosen;
  for (const ReadLoop& loop : read_loops) {
    std::vector<double> times;
    for (int i = 0; i < 3; ++i) times.push_back(seconds([&] { read_dram(loop, threads); }));
    const double time = median(times);
    if (chosen == nullptr || time < least) chosen = &loop, least = time;
  }
  return *chosen;
}

}  // namespace

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::sort(x.begin(), x.end());
  const std::size_t half = x.size() / 2;
  return x.size() % 2 == 1 ? x[half] : (x[half - 1] + x[half]) / 2;
}

const char* name(Limit limit) {
  switch (limit) {
    case Limit::read_dram: return "read_dram";
    case Limit::read_l2: return "read_l2";
    case Limit::fma_f32: return "fma_f32";
    case Limit::dot_bf16: return "dot_bf16";
    case Limit::dot_int8: return "dot_int8";
  }
  return "";
}

const char* unit(Limit limit) { return limit == Limit::read_dram || limit == Limit::read_l2 ? "GBps" : "GFLOPs"; }

bool exists(Limit limit) { return work(limit, 1) > 0; }

double work(Limit limit, Index threads) {
  switch (limit) {
    case Limit::read_dram: return double(dram_bytes);
    case Limit::read_l2: return double(threads * tasks_per_thread * l2_repeats * l2_bytes);
    case Limit::fma_f32: return chain_work<FmaF32>(threads);
    case Limit::dot_bf16: return chain_work<DotBf16>(threads);
    case Limit::dot_int8: return chain_work<DotInt8>(threads);
  }
  return 0;
}

void pass(Limit limit, Index threads) {
  switch (limit) {
    case Limit::read_dram: return read_dram(best_read_loop(threads), threads);
    case Limit::read_l2: return read_l2(threads);
    case Limit::fma_f32: return chain_pass<FmaF32>(threads);
    case Limit::dot_bf16: return chain_pass<DotBf16>(threads);
    case Limit::dot_int8: return chain_pass<DotInt8>(threads);
  }
}

double sample(Limit limit, Index threads) {
  if (limit == Limit::read_dram) static_cast<void>(best_read_loop(threads));  // choosing is not part of the time
  return work(limit, threads) / seconds([&] { pass(limit, threads); }) * 1e-9;
}

double measure(Limit limit, Index threads, int samples) {
  std::vector<double> all;
  if (exists(limit)) pass(limit, threads);  // warm
  for (int i = 0; exists(limit) && i < samples; ++i) all.push_back(sample(limit, threads));
  return median(all);
}

const char* read_loop_name(Index threads) { return best_read_loop(threads).name; }

namespace {
/// What the last LimitsAround saw at its end: the start of the next repetition, a moment later.
struct Recent {
  Clock::time_point when;
  Index threads = 0;
  std::map<Limit, std::vector<double>> seen;
} recent;

constexpr auto fresh = std::chrono::milliseconds(20);
}  // namespace

LimitsAround::LimitsAround(Index threads, int samples, std::vector<Limit> limits)
    : threads_(threads), samples_(samples) {
  for (const Limit limit : limits) seen_[limit] = {};
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  if (recent.threads == threads && Clock::now() - recent.when <= fresh &&
      std::equal(seen_.begin(), seen_.end(), recent.seen.begin(), recent.seen.end(), same)) {
    seen_ = recent.seen;
  } else {
    close();
  }
}

void LimitsAround::close() {
  recent = {.when = {}, .threads = threads_, .seen = {}};
  for (const auto& [limit, samples] : seen_) recent.seen[limit] = {};
  for (int i = 0; i < samples_; ++i) {
    for (auto& [limit, samples] : recent.seen) {
      if (exists(limit)) samples.push_back(sample(limit, threads_));
    }
  }
  recent.when = Clock::now();
  for (auto& [limit, samples] : seen_) {
    samples.insert(samples.end(), recent.seen[limit].begin(), recent.seen[limit].end());
  }
}

}  // namespace bench
