/// \file
/// How fast memory and caches are read.
#pragma once

#include "limit.hpp"
#include "machine.hpp"

namespace bench {

/// The memory that `bytes` come from which `threads` threads read in turn: the smallest cache of which they fill at most half.
[[nodiscard]] Limit source_of(Index bytes, Index threads);

/// Bytes of one pass over a source; 0 if the machine has no such cache.
[[nodiscard]] double bytes_of_pass(Limit source, Index threads);
/// One pass, by the loop that was chosen.
void read_pass(Limit source, Index threads);
/// Tries all loops, at the first call for a source and a number of threads. Takes some tens of milliseconds.
void choose_read_loop(Limit source, Index threads);
/// The loop that reads DRAM fastest.
[[nodiscard]] const char* read_loop_name(Index threads);

}  // namespace bench
