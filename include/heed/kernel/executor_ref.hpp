/// \file
/// An executor, with its type erased.
#pragma once

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI::detail {

/// Type-erased Executor. Not owned.
struct ExecutorRef {
  void* executor = nullptr;
  Index workers = 0;
  void (*parallel_for_)(void*, Index, FunctionRef<void(Index, Index)>) = nullptr;

  template <Executor E>
  [[nodiscard]] static ExecutorRef to(E& executor) noexcept {
    return {&executor, executor.workers(), [](void* e, Index tasks, FunctionRef<void(Index, Index)> body) {
              static_cast<E*>(e)->parallel_for(tasks, body);
            }};
  }
  void parallel_for(Index tasks, FunctionRef<void(Index, Index)> body) const { parallel_for_(executor, tasks, body); }
};

}  // namespace heed::inline HEED_ABI::detail
