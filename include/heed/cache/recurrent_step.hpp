/// \file
/// A step of a recurrent state: new tokens that are not yet committed.
#pragma once

#include <algorithm>
#include <cstring>

#include <heed/cache/recurrent_layer.hpp>
#include <heed/cache/step_guard.hpp>

namespace heed::inline HEED_ABI {

/// The new tokens of a RecurrentState between begin() and commit() or abort().
template <class State>
class RecurrentStep : public detail::StepGuard<State> {
 public:
  using detail::StepGuard<State>::open;
  using detail::StepGuard<State>::tokens;

  /// Sizes of a state; 0 if the step is closed.
  /// \{
  [[nodiscard]] Index layers() const noexcept { return open() ? this->owner()->layers() : 0; }
  [[nodiscard]] Index width() const noexcept { return open() ? this->owner()->width() : 0; }
  /// \}

  /// Where layer `layer` reads its state and writes the new states. The layer then counts as written. out_of_range for
  /// a layer that does not exist, wrong_state if the step is closed.
  [[nodiscard]] Result<RecurrentLayer> layer(Index layer) {
    if (!open()) return closed("layer()");
    if (layer < 0 || layer >= layers()) {
      return fail(StatusCode::out_of_range, "layer(): layer is ", layer, ", the state has ", layers());
    }
    State& state = *this->owner();
    state.written_.data()[layer] = std::byte{1};
    return state.ring_.layer(layer, tokens());
  }

  /// Makes the state after the new tokens the committed one. wrong_state, and the step stays open, if a layer was not
  /// written.
  Status commit() { return commit(tokens()); }

  /// The same with the first `accepted` new tokens only. out_of_range, and the step stays open, unless their state was
  /// kept: accepted is 0, or at least tokens() - undo_tokens.
  Status commit(Index accepted) {
    if (!open()) return closed("commit()");
    State& state = *this->owner();
    const Index dropped = state.ring_.dropped(tokens());  // whose states were not kept
    if (accepted < 0 || accepted > tokens() || (accepted > 0 && accepted <= dropped)) {
      return fail(StatusCode::out_of_range, "commit(): accepted is ", accepted, ", must be 0 or ",
                  std::min(dropped + 1, tokens()), " .. ", tokens(), " with undo_tokens ",
                  state.ring_.options().undo_tokens);
    }
    for (Index layer = 0; accepted > 0 && layer < layers(); ++layer) {
      if (state.written_.data()[layer] == std::byte{0}) {
        return fail(StatusCode::wrong_state, "commit(): layer ", layer, " was not written in this step");
      }
    }
    if (accepted > 0) state.ring_.commit(tokens(), accepted);
    close();
    return {};
  }

 private:
  friend State;
  using detail::StepGuard<State>::close;
  using detail::StepGuard<State>::closed;

  RecurrentStep(State& state, Index count) noexcept : detail::StepGuard<State>(state, count) {
    std::memset(state.written_.data(), 0, std::size_t(state.written_.size()));
  }
};

}  // namespace heed::inline HEED_ABI
