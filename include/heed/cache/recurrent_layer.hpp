/// \file
/// Where a step of a recurrent mechanism reads one layer's state and writes the new ones.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
class RecurrentRing;
}  // namespace detail

/// One layer's state in a step: the state before the first new token, and where the states after new tokens go. Owns
/// nothing. Valid while the step is open, also if the state or the step moves.
class RecurrentLayer {
 public:
  RecurrentLayer() = default;

  /// Numbers of a state.
  [[nodiscard]] Index width() const noexcept { return width_; }
  /// The state before the step, [width()].
  [[nodiscard]] const float* before() const noexcept { return data_ + head_ * stride_; }
  /// Where to write the state after new token `token`, [width()]. Null if that state is not kept, or if the token is
  /// not in the step. Never null for the last token of the step.
  [[nodiscard]] float* after(Index token) const noexcept {
    if (token < first_ || token >= tokens_) return nullptr;
    return data_ + (head_ + 1 + token - first_) % slots_ * stride_;
  }

 private:
  friend class detail::RecurrentRing;
  float* data_ = nullptr;  // of slot 0
  Index width_ = 0, stride_ = 0, slots_ = 1;
  Index head_ = 0;   // slot of the state before the step
  Index first_ = 0;  // first new token whose state is kept
  Index tokens_ = 0;
};

}  // namespace heed::inline HEED_ABI
