/// \file
/// Steps of caches whose layers are computed twice: by attend() alone, and by one plan of the step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <heed/attend.hpp>
#include <heed/exec/thread_pool.hpp>

#include "speculative/subjects.hpp"

namespace heed_test {

/// What one layer of a step gives.
template <class P, class Keys, class Executor>
[[nodiscard]] Output attend_planned(const Subject<P>& subject, const heed::Plan& plan, const Rows& rows,
                                    const Keys& keys, Executor& executor, const heed::AttendOptions& options = {}) {
  static heed::Workspace workspace;
  Output made = empty_output(subject, rows.size());
  const heed::Status status =
      heed::attend<Backend>(plan, subject.policy, rows.q, keys, made.out, workspace, executor, options, made.lse);
  EXPECT_TRUE(status.ok()) << status.message();
  return made;
}

/// The Status of a layer of a plan with one sequence, whose outputs must stay as they are if it fails.
template <class P, class Keys>
[[nodiscard]] heed::Status try_planned(const Subject<P>& subject, const heed::Plan& plan, const Rows& rows,
                                       const Keys& keys) {
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const Output before = empty_output(subject, rows.size());
  Output made = before;
  heed::Status status =
      heed::attend<Backend>(plan, subject.policy, rows.q, keys, made.out, workspace, executor, {}, made.lse);
  EXPECT_TRUE(status.ok() || made == before) << status.message();
  return status;
}

template <class P, class Keys>
[[nodiscard]] heed::Plan plan_of(const P& policy, const Keys& keys, Index queries, Index workers = 1,
                                 heed::MaskRef mask = {}) {
  heed::Plan plan;
  heed::check(plan.make(policy, keys, queries, workers, mask));
  return plan;
}

/// Has this code, and each of `words` in its message.
inline void expect_refusal(const heed::Status& status, heed::StatusCode code, const std::vector<std::string>& words) {
  EXPECT_EQ(status.code(), code) << status.message();
  for (const std::string& word : words) {
    EXPECT_NE(status.message().find(word), std::string::npos) << '"' << status.message() << "\" lacks " << word;
  }
}

}  // namespace heed_test
