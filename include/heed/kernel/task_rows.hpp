/// \file
/// The rows of a task: which query and head each of them is.
#pragma once

#include <heed/kernel/tasks.hpp>
#include <heed/kernel/visibility.hpp>

namespace heed::inline HEED_ABI::detail {

/// Rows 0 .. count() - 1 of a task. Queries are numbered in the job, heads in the layout.
class TaskRows {
 public:
  explicit TaskRows(const TaskShape& shape) noexcept : group_(shape.group) {}

  /// Begins with a task of `job`. Both must outlive the last call.
  void start(const Job& job, const Task& task) {
    job_ = &job;
    task_ = &task;
    count_ = task.rows.size();
    first_query_ = quotient(task.rows.begin, group_);
    first_head_ = task.rows.begin - first_query_ * group_;
    first_position_ = job.query_position(0);
  }

  [[nodiscard]] const Job& job() const noexcept { return *job_; }
  [[nodiscard]] const Task& task() const noexcept { return *task_; }
  [[nodiscard]] Index count() const noexcept { return count_; }
  [[nodiscard]] RowRange range() const noexcept { return {task_->rows, group_}; }

  /// Query and head of a row.
  /// \{
  [[nodiscard]] Index query_of(Index row) const noexcept { return first_query_ + quotient(first_head_ + row, group_); }
  [[nodiscard]] Index head_of(Index row) const noexcept {
    const Index at = first_head_ + row;
    return task_->kv_head * group_ + (at < group_ ? at : at % group_);
  }
  /// \}

  /// Where a row's query stands in its text (AttentionMask::text_position).
  [[nodiscard]] Index text_position(Index row) const {
    const Index query = query_of(row);
    return job_->mask.text_position(query_position(query));
  }

  /// The chunks of the task, far ones first, and their number.
  /// \{
  [[nodiscard]] Chunk chunk(Index n) const noexcept {
    const Index in_far_list = task_->far_chunks.size();
    return n < in_far_list ? job_->far_chunk(task_->far_chunks.begin + n)
                           : job_->near_chunk(task_->near_chunks.begin + n - in_far_list);
  }
  [[nodiscard]] Index num_chunks() const noexcept { return task_->far_chunks.size() + task_->near_chunks.size(); }
  /// \}

 private:
  [[nodiscard]] Index query_position(Index query) const {
    return job_->query_positions.empty() ? first_position_ + query : job_->query_positions[std::size_t(query)];
  }

  const Index group_;  // query heads per KV head
  const Job* job_ = nullptr;
  const Task* task_ = nullptr;
  Index count_ = 0;
  Index first_query_ = 0;     // of row 0
  Index first_head_ = 0;      // of row 0, in its KV head
  Index first_position_ = 0;  // position of query 0 if there are no query_positions
};

}  // namespace heed::inline HEED_ABI::detail
