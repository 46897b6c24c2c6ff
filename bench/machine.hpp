/// \file
/// The threads and the caches that benchmarks run on.
#pragma once

#include <string>
#include <vector>

#include <heed/exec/thread_pool.hpp>
#include <heed/types.hpp>

namespace bench {

using heed::Index;

/// Thread counts to measure: one, and all the machine has.
[[nodiscard]] std::vector<Index> thread_counts();

/// A pool that lives as long as the program. With one worker it runs everything in the calling thread.
[[nodiscard]] heed::ThreadPool& pool(Index threads);

/// Bytes of one data cache of that level; 0 if there is none.
[[nodiscard]] Index cache_bytes(int level);

/// Name of the CPU, or "unknown".
[[nodiscard]] std::string cpu_name();

}  // namespace bench
