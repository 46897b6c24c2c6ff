/// \file
/// Reading memory as fast as the machine can: candidates for the bandwidth limit. Which one wins differs between
/// machines and thread counts, so limits.cpp tries all of them.
#pragma once

#include <cstddef>

#include <heed/types.hpp>

namespace bench {

using heed::Index;

/// One cache line in whatever registers the target has.
using Line [[gnu::vector_size(64), gnu::may_alias]] = long long;
inline constexpr Index line_bytes = sizeof(Line);

/// Reads `bytes` at `from` (both multiples of 4 KiB) as `Streams` parallel streams, prefetching `Ahead` bytes ahead of
/// each into L1 (0: the hardware's prefetcher alone). The result only keeps the loads alive.
template <int Streams, Index Ahead>
long long read_all(const std::byte* from, Index bytes) {
  constexpr int lines = 8 / Streams;  // 8 accumulators in all: loads need no more, XOR takes a cycle
  const Index stream_bytes = bytes / Streams;
  Line sums[Streams][lines] = {};
  for (Index at = 0; at < stream_bytes; at += lines * line_bytes) {
    // Rounds stay in order: Clang mixes the loads of several, and L2 then gives only 60 %.
    asm volatile("" ::: "memory");
    for (int s = 0; s < Streams; ++s) {
      for (int i = 0; i < lines; ++i) {
        const std::byte* line = from + s * stream_bytes + at + i * line_bytes;
        if constexpr (Ahead > 0) __builtin_prefetch(line + Ahead);
        sums[s][i] ^= *reinterpret_cast<const Line*>(line);
      }
    }
  }
  Line sum = {};
  for (auto& stream : sums) {
    for (const Line& line : stream) sum ^= line;
  }
  long long all = 0;
  for (std::size_t i = 0; i < std::size_t(line_bytes) / sizeof all; ++i) all ^= sum[i];
  return all;
}

struct ReadLoop {
  const char* name;
  long long (*read)(const std::byte* from, Index bytes);
};

inline constexpr ReadLoop read_loops[] = {
    {"1 stream", read_all<1, 0>},
    {"1 stream, prefetch 2 KiB ahead", read_all<1, 2048>},
    {"1 stream, prefetch 8 KiB ahead", read_all<1, 8192>},
    {"4 streams", read_all<4, 0>},
    {"4 streams, prefetch 2 KiB ahead", read_all<4, 2048>},
    {"4 streams, prefetch 8 KiB ahead", read_all<4, 8192>},
};

}  // namespace bench
