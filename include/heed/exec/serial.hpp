/// \file
/// Runs every task in the calling thread.
#pragma once

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// An Executor with one worker, the calling thread.
class SerialExecutor {
 public:
  /// What Executor asks for.
  /// \{
  [[nodiscard]] Index workers() const noexcept { return 1; }
  void parallel_for(Index tasks, FunctionRef<void(Index, Index)> body) {
    for (Index task = 0; task < tasks; ++task) body(task, 0);
  }
  /// \}
};

}  // namespace heed::inline HEED_ABI
