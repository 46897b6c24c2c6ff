/// \file
/// What the machine can do, measured in the same process and close in time to what is compared with it: on a shared
/// machine the limits drift by tens of percent within minutes.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "machine.hpp"

namespace bench {

enum class Limit { read_dram, read_l2, fma_f32, dot_bf16, dot_int8 };
inline constexpr Limit all_limits[] = {Limit::read_dram, Limit::read_l2, Limit::fma_f32, Limit::dot_bf16,
                                       Limit::dot_int8};

/// "read_dram" and so on.
[[nodiscard]] const char* name(Limit limit);
/// "GBps" or "GFLOPs": 1e9 bytes or operations (a multiply-add is two) a second.
[[nodiscard]] const char* unit(Limit limit);
/// Whether this build has the instructions.
[[nodiscard]] bool exists(Limit limit);
/// Bytes or operations of one pass, which takes a few milliseconds.
[[nodiscard]] double work(Limit limit, Index threads);
/// One pass.
void pass(Limit limit, Index threads);
/// 1e9 bytes or operations a second, of one pass.
[[nodiscard]] double sample(Limit limit, Index threads);
/// Median of `samples` passes.
[[nodiscard]] double measure(Limit limit, Index threads, int samples = 5);
/// The loop that reads DRAM fastest with so many threads; tried out at the first question.
[[nodiscard]] const char* read_loop_name(Index threads);

[[nodiscard]] double median(std::vector<double> x);

/// Some limits around a piece of timed work: `samples` passes of each at construction and by close().
class LimitsAround {
 public:
  LimitsAround(Index threads, int samples, std::vector<Limit> limits = {Limit::read_dram, Limit::fma_f32});
  void close();
  /// Median, one of the limits asked for; 0 if this build lacks the instructions.
  [[nodiscard]] double of(Limit limit) const { return median(seen_.at(limit)); }

 private:
  Index threads_;
  int samples_;
  std::map<Limit, std::vector<double>> seen_;
};

}  // namespace bench
