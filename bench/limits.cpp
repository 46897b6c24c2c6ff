#include "limits.hpp"

#include <algorithm>
#include <chrono>

#include "bandwidth.hpp"
#include "dot_loop.hpp"

namespace bench {
namespace {

// Tasks are short and many, so that a thread that wakes up late costs little.
constexpr Index tasks_per_thread = 16;
constexpr Index chain_rounds = 10'000;

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

}  // namespace

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::sort(x.begin(), x.end());
  const std::size_t half = x.size() / 2;
  return x.size() % 2 == 1 ? x[half] : (x[half - 1] + x[half]) / 2;
}

bool exists(Limit limit) { return work(limit, 1) > 0; }

double work(Limit limit, Index threads) {
  switch (limit) {
    case Limit::read_dram:
    case Limit::read_l3:
    case Limit::read_l2: return bytes_of_pass(limit, threads);
    case Limit::fma_f32: return chain_work<FmaF32>(threads);
    case Limit::dot_bf16: return chain_work<DotBf16>(threads);
    case Limit::dot_int8: return chain_work<DotInt8>(threads);
  }
  return 0;
}

void pass(Limit limit, Index threads) {
  switch (limit) {
    case Limit::read_dram:
    case Limit::read_l3:
    case Limit::read_l2: return read_pass(limit, threads);
    case Limit::fma_f32: return chain_pass<FmaF32>(threads);
    case Limit::dot_bf16: return chain_pass<DotBf16>(threads);
    case Limit::dot_int8: return chain_pass<DotInt8>(threads);
  }
}

double sample(Limit limit, Index threads) {
  if (is_bandwidth(limit)) choose_read_loop(limit, threads);  // choosing is not part of the time
  const auto start = std::chrono::steady_clock::now();
  pass(limit, threads);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return work(limit, threads) / elapsed.count() * 1e-9;
}

double measure(Limit limit, Index threads, int samples) {
  std::vector<double> all;
  if (exists(limit)) pass(limit, threads);  // warm
  for (int i = 0; exists(limit) && i < samples; ++i) all.push_back(sample(limit, threads));
  return median(all);
}

}  // namespace bench
