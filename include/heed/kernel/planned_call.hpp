/// \file
/// A call that was checked, cut into tasks and given its memory: all that is left is to run it.
#pragma once

#include <cstdint>
#include <span>

#include <heed/attend_options.hpp>
#include <heed/kernel/executor_ref.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/kernel/tasks.hpp>

namespace heed::inline HEED_ABI::detail {

/// Scratch of one call, from the caller's workspace.
struct CallScratch {
  SoftmaxState* partial_states = nullptr;  // [max_partials][max_rows]
  float* partial_outs = nullptr;           // [max_partials][max_rows][state_width]
  Scratch first;                           // of worker 0
  std::byte* others = nullptr;             // [workers - 1][worker_bytes]: of the other workers
  Index worker_bytes = 0;

  static CallScratch carve(Carver& carver, const Tasks& tasks) {
    const TaskShape& shape = tasks.shape();
    CallScratch call;
    call.partial_states = carver.take<SoftmaxState>(tasks.max_partials() * shape.max_rows);
    call.partial_outs = carver.take<float>(tasks.max_partials() * shape.max_rows * shape.state_width);
    const std::uint64_t begin = carver.bytes();
    call.first = Scratch::carve(carver, shape);
    call.worker_bytes = Index(carver.bytes() - begin);
    call.others = carver.take<std::byte>((tasks.workers() - 1) * call.worker_bytes);
    return call;
  }
  [[nodiscard]] Scratch worker(Index index, const TaskShape& shape) const {
    if (index == 0) return first;
    Carver carver(others + (index - 1) * worker_bytes);
    return Scratch::carve(carver, shape);
  }
};

/// What the loops do only for a policy with a preparation. A kernel of other policies has none of it.
struct PreparedSteps {
  void (*score)(void* block);                               ///< makes rows of a chunk, and the scores of the keys
  void (*accumulate)(void* block, Index dim, Index width);  ///< adds the made values' dims from `dim` on
};

/// What run() is given. Nothing is owned.
struct PlannedCall {
  const AttentionLayout& layout;
  const PreparationRef& preparation;
  const AttendOptions& options;
  std::span<const Job> jobs;
  const Tasks& tasks;
  const CallScratch& scratch;
  ExecutorRef executor;
  const PreparedSteps* prepared = nullptr;  ///< Kernel::prepared
  void* hooks = nullptr;                    ///< Kernel::hooks
};

}  // namespace heed::inline HEED_ABI::detail
