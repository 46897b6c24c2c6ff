/// \file
/// How long the latest steps were: a cache keeps memory for steps of that length.
#pragma once

#include <algorithm>
#include <utility>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// The longest step of the current period and of the one before. A period is 64 commits. So a length is remembered for
/// at least 64 commits.
class StepLengths {
 public:
  static constexpr Index period = 64;  ///< commits

  /// Notes a step of `tokens` tokens.
  void began(Index tokens) noexcept { present_ = std::max(present_, tokens); }
  /// The longest step of this period and of the one before; at least 1.
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

}  // namespace heed::inline HEED_ABI::detail
