/// \file
/// A plan behind its types: what a step asked of its sources and masks, and what a layer must have in common with it.
#pragma once

#include <span>

#include <heed/kernel/planner.hpp>
#include <heed/kernel/policy_ref.hpp>
#include <heed/kernel/sequence_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// What a plan knows of one sequence.
struct PlannedKeys {
  SourceIdentity identity;
  Index slots = 0;
  Index end = 0;                ///< position of the last key, plus 1
  std::uint64_t positions = 0;  ///< fingerprint of all positions, if there is no identity
  Index queries = 0;
  MaskRef mask;  ///< that the caller gave, or none
  std::span<const Index> query_positions;
  bool asked_positions = false;  ///< MaskedCall::asked_positions
};

/// What a plan knows of the policy.
struct PlannedPolicy {
  AttentionLayout layout;
  int key_stream = 0;
  int value_stream = 0;
  bool rotates_keys = false;
  bool prepares = false;  ///< keys are made in the kernel
  bool makes_values = false;

  PlannedPolicy() = default;
  explicit PlannedPolicy(const PolicyRef& policy) noexcept
      : layout(policy.layout),
        key_stream(policy.key_stream),
        value_stream(policy.value_stream),
        rotates_keys(policy.rotates_keys),
        prepares(policy.preparation.object != nullptr),
        makes_values(policy.preparation.makes_values) {}

  /// true if the policy is the same in all that a plan depends on. The scale may differ.
  [[nodiscard]] bool fits(const PolicyRef& policy) const noexcept {
    const AttentionLayout &x = layout, &y = policy.layout;
    return x.num_heads == y.num_heads && x.num_kv_heads == y.num_kv_heads && x.key_width == y.key_width &&
           x.value_width == y.value_width && x.num_streams == y.num_streams && x.streams == y.streams &&
           x.key == y.key && x.value == y.value && key_stream == policy.key_stream &&
           value_stream == policy.value_stream && rotates_keys == policy.rotates_keys &&
           prepares == (policy.preparation.object != nullptr) && makes_values == policy.preparation.makes_values;
  }
};

/// Arrays in the memory of a Plan.
struct StepPlan {
  PlannedPolicy policy;
  std::span<Job> jobs;  ///< without q, out and lse
  std::span<const PlannedKeys> keys;
  Tasks tasks;
};

}  // namespace heed::inline HEED_ABI::detail
