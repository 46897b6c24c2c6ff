/// \file
/// Where a step of a recurrent mechanism reads one layer's state and writes the new ones.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// One layer's state around a step: what it is before the first new token, and where it goes after each token whose state
/// is kept. Owns nothing. Valid while the step is open, also when the state or the step moves.
class RecurrentLayer {
 public:
  RecurrentLayer() = default;

  [[nodiscard]] Index width() const noexcept { return width_; }
  /// [width], before the step.
  [[nodiscard]] const float* before() const noexcept { return data_ + head_ * stride_; }
  /// Where the [width] numbers after new token `token` go, or null if nobody will ask for them. Never null for the last
  /// token of the step; null for one that is not in the step.
  [[nodiscard]] float* after(Index token) const noexcept {
    if (token < first_ || token >= tokens_) return nullptr;
    return data_ + (head_ + 1 + token - first_) % slots_ * stride_;
  }

 private:
  friend class RecurrentState;
  float* data_ = nullptr;  // of slot 0
  Index width_ = 0, stride_ = 0, slots_ = 1;
  Index head_ = 0;   // slot of the state before the step
  Index first_ = 0;  // first new token whose state is kept
  Index tokens_ = 0;
};

}  // namespace heed::inline HEED_ABI
