/// \file
/// What the machine can do, measured in this process.
#pragma once

#include <vector>

#include "limit.hpp"
#include "machine.hpp"

namespace bench {

/// Whether this build has the instruction, and the machine the cache.
[[nodiscard]] bool exists(Limit limit);
/// Bytes or operations of one pass, which takes a few milliseconds.
[[nodiscard]] double work(Limit limit, Index threads);
/// One pass.
void pass(Limit limit, Index threads);
/// 1e9 bytes or operations a second, of one pass.
[[nodiscard]] double sample(Limit limit, Index threads);
/// Median of `samples` passes; 0 if the limit does not exist.
[[nodiscard]] double measure(Limit limit, Index threads, int samples = 5);

[[nodiscard]] double median(std::vector<double> x);

}  // namespace bench
