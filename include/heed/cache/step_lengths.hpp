/// \file
/// How long steps are lately: what a cache keeps memory for.
#pragma once

#include <algorithm>
#include <utility>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// The longest step of the present period and of the one before. A period is 64 commits: a length that comes again
/// within it is not forgotten.
class StepLengths {
 public:
  static constexpr Index period = 64;

  void began(Index tokens) noexcept { present_ = std::max(present_, tokens); }
  [[nodiscard]] Index longest() const noexcept { return std::max(before_, present_); }
  /// Counts a commit; true if a period ends with it.
  [[nodiscard]] bool committed() noexcept {
    if (++commits_ < period) return false;
    commits_ = 0;
    before_ = std::exchange(present_, 1);
    return true;
  }

 private:
  Index commits_ = 0;
  Index before_ = 1;
  Index present_ = 1;
};

}  // namespace heed::inline HEED_ABI
