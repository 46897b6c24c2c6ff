#include "machine.hpp"

#include <fstream>
#include <map>
#include <string>
#include <thread>

#include <benchmark/benchmark.h>

namespace bench {

std::vector<Index> thread_counts() {
  const auto all = Index(std::thread::hardware_concurrency());
  return all > 1 ? std::vector<Index>{1, all} : std::vector<Index>{1};
}

heed::ThreadPool& pool(Index threads) {
  static std::map<Index, std::unique_ptr<heed::ThreadPool>> pools;
  auto& made = pools[threads];
  if (made == nullptr) made = heed::value_or_throw(heed::ThreadPool::create(threads));
  return *made;
}

Index cache_bytes(int level) {
  for (const auto& cache : benchmark::CPUInfo::Get().caches) {
    if (cache.level == level && cache.type != "Instruction") return cache.size;
  }
  return 0;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace bench
