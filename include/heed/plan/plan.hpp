/// \file
/// A plan: what a step asks of its keys and masks, asked once for all layers.
#pragma once

#include <span>
#include <utility>

#include <heed/kernel/planned_layer.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI {

/// One sequence of a plan. Nothing is owned, except that a small mask is copied (MaskRef).
///
/// `keys` are those of any layer that the plan is for; their rows need not be written yet. Positions and mask are as in
/// Sequence. A mask that is not copied must outlive the plan and not change.
template <KeyValueSource S>
struct PlannedSequence {
  const S* keys = nullptr;                      ///< must not be null; used only while the plan is made
  Index num_queries = 0;                        ///< at least 0
  MaskRef mask = {};                            ///< no mask: the source's own
  std::span<const Index> query_positions = {};  ///< [num_queries], copied; or empty: end-aligned
};

/// What one layer of a planned step reads and writes of one sequence. Nothing is owned; shapes are those of Sequence.
template <KeyValueSource S>
struct LayerIo {
  const S* keys = nullptr;    ///< of this layer; must not be null
  std::span<const float> q;   ///< [num_queries][num_heads][head_dim], or what the policy's query map takes
  std::span<float> out;       ///< [num_queries][num_heads][v_head_dim], or what the policy's output map gives
  std::span<float> lse = {};  ///< [num_queries][num_heads], or empty
};

/// How a step is computed: which query sees which key, where rows lie relative to the beginning of a layer, and how the
/// work is cut into tasks. Call make() once per step. attend(plan, ...) then runs each layer without asking again.
///
///     plan.make(policy, step.keys(0), num_queries, executor.workers());   // keys of any layer, or a PlannedSequence each
///     for every layer: write its rows, then                              // keys of this layer, or a LayerIo each
///       attend<Backend>(plan, policy, q, step.keys(layer), out, workspace, executor);
///
/// A plan serves the layers of one layer group of a cache: they hold the same tokens. A cache with several groups needs
/// one plan for each. Like the keys of a layer, it is valid until a cache of its sequences changes or ends. attend()
/// refuses it in another step. Results have the bits of attend_batch() without a plan.
///
/// The memory is the plan's own and grows when a step needs more, or it is the caller's. It is used again by the next
/// make(): with plan_bytes() reserved, no step allocates. Movable. Threads may run one plan at the same time, each with
/// its own workspace.
class Plan {
 public:
  /// No plan yet. Owns its memory.
  Plan() = default;
  /// No plan yet. Uses `memory`, which must outlive it; a step that needs more is refused with out_of_memory.
  explicit Plan(std::span<std::byte> memory) noexcept : memory_(memory) {}
  /// `other` is left without a plan.
  Plan(Plan&& other) noexcept : memory_(std::move(other.memory_)), made_(std::exchange(other.made_, {})) {}
  Plan& operator=(Plan&& other) noexcept {
    memory_ = std::move(other.memory_);
    made_ = std::exchange(other.made_, {});
    other.made_ = {};
    return *this;
  }

  /// Plans a step of these sequences for an executor of at most `workers` workers. Layers may differ in scale, maps and
  /// weights, not in the shape of the policy.
  ///
  /// Errors are those of attend_batch() for keys, masks and positions; the plan is then what it was. out_of_memory: the plan
  /// is empty.
  template <AttentionPolicy P, KeyValueSource S>
  Status make(const P& policy, std::span<const PlannedSequence<S>> sequences, Index workers) {
    if (Status status = policy.validate(); !status.ok()) return status;
    const detail::PolicyParts<P> parts(policy);
    return detail::make_plan(parts.ref(), detail::SequenceList::of_plan<PlannedSequence<S>, S>(sequences), workers,
                             memory_, &made_);
  }
  /// The same for one sequence: see PlannedSequence.
  template <AttentionPolicy P, KeyValueSource S>
  Status make(const P& policy, const S& keys, Index num_queries, Index workers, MaskRef mask = {},
              std::span<const Index> query_positions = {}) {
    const PlannedSequence<S> sequence{&keys, num_queries, mask, query_positions};
    return make(policy, std::span<const PlannedSequence<S>>(&sequence, 1), workers);
  }

  /// Memory for steps that plan_bytes() tells of. Empties the plan.
  Status reserve(std::size_t bytes) {
    made_ = {};
    return memory_.reserve(bytes);
  }
  /// Number of sequences; 0 if there is no plan.
  [[nodiscard]] Index num_sequences() const noexcept { return Index(made_.keys.size()); }
  /// The most workers that may run it.
  [[nodiscard]] Index workers() const noexcept { return made_.tasks.workers(); }
  /// Bytes of memory held.
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size(); }
  /// For attend().
  [[nodiscard]] const detail::StepPlan& step() const noexcept { return made_; }

 private:
  Workspace memory_;
  detail::StepPlan made_;
};

/// Bytes that suffice for every plan of this policy with one sequence of at most `num_queries` queries and `num_keys` keys.
/// Arguments and errors as those of workspace_bytes().
template <AttentionPolicy P>
[[nodiscard]] Result<std::size_t> plan_bytes(const P& policy, Index num_queries, Index num_keys, Index workers,
                                             Index num_stages = 1) {
  if (Status status = policy.validate(); !status.ok()) return status;
  const detail::PolicyParts<P> parts(policy);
  return detail::planned_bytes(parts.ref(), num_queries, num_keys, workers, num_stages);
}

}  // namespace heed::inline HEED_ABI
