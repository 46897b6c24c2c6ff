/// \file
/// Limits measured close in time to what is compared with them: on a shared machine they drift by tens of percent within
/// minutes.
#pragma once

#include <map>
#include <vector>

#include "limits.hpp"

namespace bench {

/// Some limits around a piece of timed work: `samples` passes of each at construction and by close().
class LimitsAround {
 public:
  LimitsAround(Index threads, int samples, const std::vector<Limit>& limits);
  void close();
  /// Median, one of the limits asked for; 0 if it does not exist.
  [[nodiscard]] double of(Limit limit) const { return median(seen_.at(limit)); }

 private:
  Index threads_;
  int samples_;
  std::map<Limit, std::vector<double>> seen_;
};

}  // namespace bench
