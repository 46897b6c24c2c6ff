/// \file
/// The figures of a benchmark: what it does a second, and how near to the limits.
#pragma once

#include <benchmark/benchmark.h>

#include "limits_around.hpp"
#include "roof.hpp"

namespace bench {

/// Sets the counters of a call that took `seconds`:
///
///     GBps, GFLOPs                 bytes and operations a second
///     limit_GBps, limit_GFLOPs     the limits of both; of mixed operations the mean, weighted by their times
///     frac_bandwidth, frac_peak    time at the limit of reading, and at that of the instructions, over time taken
///     frac_roof                    the larger of the two: the limit that binds
///
/// The label names the limits: Work::limit_names().
void report(benchmark::State& state, const Work& work, double seconds, const LimitsAround& limits);

}  // namespace bench
