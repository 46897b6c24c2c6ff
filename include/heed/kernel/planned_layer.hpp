/// \file
/// A plan behind its types: made once for a step, and run by each of its layers.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include <heed/kernel/call.hpp>
#include <heed/kernel/keys_fingerprint.hpp>
#include <heed/kernel/step_plan.hpp>

namespace heed::inline HEED_ABI::detail {

// --- making a plan -------------------------------------------------------------------------------------------------------

/// What is wrong with one sequence of a plan, without its number. Rows need not be written yet.
inline Status check_planned_one(const PolicyRef& policy, const SequenceRef& sequence) {
  if (sequence.keys == nullptr) return fail(StatusCode::invalid_argument, "keys is null");
  const SourceTable& source = *sequence.source;
  Status status = check_range("num_queries", sequence.num_queries, 0, most_tokens);
  if (status.ok() && source.current != nullptr) status = source.current(sequence.keys);
  if (!status.ok()) return status;
  status = check_source(policy, sequence);
  if (status.ok()) status = check_positions(sequence);
  if (status.ok()) status = check_query_positions(sequence, sequence.num_queries);
  if (status.ok()) status = check_mask(sequence, sequence.num_queries);
  return status.ok() ? check_streams(policy, sequence) : status;
}

inline SourceIdentity identity_of(const SequenceRef& sequence) {
  return sequence.source->identity == nullptr ? SourceIdentity{} : sequence.source->identity(sequence.keys);
}

/// What a plan keeps of a sequence that was checked.
inline PlannedKeys planned_keys(const SequenceRef& sequence) {
  PlannedKeys made{.identity = identity_of(sequence),
                   .slots = sequence.slots(),
                   .end = sequence.end(),
                   .queries = sequence.num_queries,
                   .mask = *sequence.mask,
                   .query_positions = sequence.query_positions};
  if (made.identity.keys == 0) made.positions = KeysFingerprint::of(sequence);
  made.asked_positions = masked_call(sequence, sequence.num_queries).asked_positions;
  return made;
}

/// Makes `plan` in `memory`. If a check fails, the plan is what it was; if there is no memory, it is empty.
inline Status make_plan(const PolicyRef& policy, const SequenceList& sequences, Index workers, Workspace& memory,
                        StepPlan* plan) {
  if (Status status = check_sizes(policy, workers); !status.ok()) return status;
  Index most_jobs = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRef sequence = sequences[i];
    if (Status status = in_sequence(check_planned_one(policy, sequence), Index(i)); !status.ok()) return status;
    most_jobs += detail::most_jobs(sequence);
  }
  *plan = {};
  for (;;) {  // again if the memory had to grow: its contents are then lost
    Carver carver(memory);
    Job* const first = carver.take<Job>(most_jobs);
    auto* const keys = carver.take<PlannedKeys>(Index(sequences.size()));
    if (carver.fits()) {
      Index count = 0;
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        SequenceRef sequence = sequences[i];
        const auto positions = sequence.query_positions;
        Index* const copy = carver.take<Index>(Index(positions.size()));
        if (copy != nullptr) {
          std::copy(positions.begin(), positions.end(), copy);
          sequence.query_positions = {copy, positions.size()};
        }
        std::construct_at(keys + i, planned_keys(sequence));
        count += make_jobs(policy, sequence, Index(i), first + count);
      }
      const std::span<Job> jobs(first, std::size_t(count));
      const Tasks tasks(policy.layout, policy.preparation, jobs, workers);
      const AnswerMemory answers = AnswerMemory::carve(carver, sizes_of(tasks, jobs).limited(plan_limits));
      if (carver.fits()) {
        Planner(policy.layout, tasks, answers).answer(jobs);
        *plan = {.policy = PlannedPolicy(policy), .jobs = jobs, .keys = {keys, sequences.size()}, .tasks = tasks};
        return {};
      }
    }
    if (!memory.reserve(carver.bytes()).ok()) {
      return fail(StatusCode::out_of_memory, "plan has memory of ", memory.size(), " bytes, this step needs ",
                  carver.bytes());
    }
  }
}

/// plan_bytes() of a policy that is valid.
inline Result<std::size_t> planned_bytes(const PolicyRef& policy, Index num_queries, Index num_keys, Index workers,
                                         Index num_stages) {
  if (Status status = check_counts(policy, num_queries, num_keys, workers, num_stages); !status.ok()) return status;
  const Unmasked mask;
  Carver carver(nullptr);
  (void)carver.take<Job>(num_stages);
  (void)carver.take<PlannedKeys>(1);
  (void)carver.take<Index>(num_queries);
  Job job = empty_job(num_queries, num_keys, mask);
  const Tasks tasks(policy.layout, policy.preparation, {&job, 1}, workers);
  AnswerMemory::carve(carver, sizes_of(tasks, job, num_stages).limited(plan_limits));
  return counted_bytes("plan_bytes()", carver.bytes());
}

// --- running it ----------------------------------------------------------------------------------------------------------

/// invalid_argument naming what differs if the policy is not one that the plan was made for.
inline Status check_planned_policy(const PlannedPolicy& planned, const PolicyRef& policy) {
  if (planned.fits(policy)) return check_widths(policy);
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, "policy: ", parts...); };
  const AttentionLayout &its = policy.layout, &wanted = planned.layout;
  const auto same = [&](const char* name, Index number, Index plans) -> Status {
    if (number == plans) return {};
    return bad(name, " is ", number, ", the plan was made for ", plans);
  };
  Status status = same("num_heads", its.num_heads, wanted.num_heads);
  if (status.ok()) status = same("num_kv_heads", its.num_kv_heads, wanted.num_kv_heads);
  if (status.ok()) status = same("key_width", its.key_width, wanted.key_width);
  if (status.ok()) status = same("value_width", its.value_width, wanted.value_width);
  if (status.ok()) status = same("key stream", policy.key_stream, planned.key_stream);
  if (status.ok()) status = same("value stream", policy.value_stream, planned.value_stream);
  if (status.ok()) status = same("num_streams", its.num_streams, wanted.num_streams);
  if (!status.ok()) return status;
  if (its.streams != wanted.streams) return bad("its streams are not those that the plan was made for");
  if (!(its.key == wanted.key && its.value == wanted.value)) {
    return bad("its views of keys and values are not those that the plan was made for");
  }
  return bad("it prepares keys and values otherwise than the one that the plan was made for");
}

/// Not ok unless the keys are those of the plan, in this or in another layer.
inline Status check_planned_keys(const PlannedKeys& planned, const SequenceRef& sequence) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  const SourceIdentity its = identity_of(sequence);
  if (its.keys != planned.identity.keys) return bad("keys are of another cache or layer group than the plan's");
  if (its.lists != planned.identity.lists) return bad("keys are of another tree than the plan's");
  if (its.change != planned.identity.change) {
    return fail(StatusCode::wrong_state, "keys are of another step than the plan's: make a plan in every step");
  }
  const Index slots = sequence.slots(), end = sequence.end();
  if (slots != planned.slots) return bad("keys has ", slots, " slots, the plan's has ", planned.slots);
  if (end != planned.end) {
    return bad("keys has its last key at position ", end - 1, ", the plan's at ", planned.end - 1);
  }
  if (its.keys == 0 && KeysFingerprint::of(sequence) != planned.positions) {
    return bad("keys has other positions than the plan's");
  }
  if (sequence.source->cache == nullptr || planned.asked_positions) return {};
  MaskedCall call;
  sequence.source->cache(sequence.keys, call);
  if (!call.asked_positions || sequence.stages() > 0) return {};
  // The mask was asked before the step was asked for positions().
  return sequence.mask_or_own().fits(masked_call(sequence, planned.queries));
}

/// What is wrong with one sequence of a layer, without its number.
inline Status check_layer_one(const Kernel& kernel, const PolicyRef& policy, const PlannedKeys& planned,
                              const SequenceRef& sequence) {
  if (Status status = check_keys(kernel, policy, sequence); !status.ok()) return status;
  if (Status status = check_planned_keys(planned, sequence); !status.ok()) return status;
  return check_buffers(policy, sequence, planned.queries);
}

/// Sets what a job of the plan has of its layer. invalid_argument if its mask has other lists than the plan's, or if its rows
/// do not lie where the plan remembers them.
inline Status enter_layer(const AttentionLayout& layout, const Tasks& tasks, const SequenceRef& sequence,
                          const PlannedKeys& planned, Job* job) {
  if (job->stage >= 0) {
    const StageRef stage = sequence.stage(job->stage);
    job->source = stage.source;
    job->mask = stage.mask ? stage.mask : sequence.mask_or_own();
  } else {
    job->source = sequence.source->ref(sequence.keys);
    if (!planned.mask) job->mask = sequence.mask_or_own();
  }
  if (!job->source.has_base()) job->answers.chunks = nullptr;
  if (planned.identity.keys != 0) return {};
  if (!planned.mask) {  // who knows whether the mask of another layer says the same: it is asked again
    if (!(job->mask.near_keys() == job->near_keys) || job->mask.far_keys() != job->far_keys) {
      return fail(StatusCode::invalid_argument, "the mask of keys has other lists than the plan's");
    }
    job->answers.visibility = nullptr;
  }
  if (job->answers.chunks == nullptr || Planner(layout, tasks, {}).same_runs(*job)) return {};
  return fail(StatusCode::invalid_argument, "keys has rows at other distances from each other than the plan's");
}

/// One layer of a planned step, of a policy that is valid.
inline Status call_planned(const Kernel& kernel, const PolicyRef& policy, const StepPlan& plan,
                           const SequenceList& layer, Workspace& workspace, ExecutorRef executor,
                           const AttendOptions& options) {
  const AttentionLayout& layout = policy.layout;
  if (plan.jobs.data() == nullptr && plan.policy.layout.num_heads == 0) {
    return fail(StatusCode::wrong_state, "the plan was not made");
  }
  if (Status status = check_options(layout, options); !status.ok()) return status;
  if (Status status = check_planned_policy(plan.policy, policy); !status.ok()) return status;
  if (executor.workers > plan.tasks.workers()) {
    return fail(StatusCode::invalid_argument, "the executor has ", executor.workers, " workers, the plan was made for ",
                plan.tasks.workers());
  }
  if (layer.size() != plan.keys.size()) {
    return fail(StatusCode::invalid_argument, "the layer has ", layer.size(), " sequences, the plan has ",
                plan.keys.size());
  }
  const auto sequence_of = [&](std::size_t number) {
    SequenceRef sequence = layer[number];
    sequence.mask = &plan.keys[number].mask;
    sequence.query_positions = plan.keys[number].query_positions;
    return sequence;
  };
  for (std::size_t i = 0; i < layer.size(); ++i) {
    const Status status = in_sequence(check_layer_one(kernel, policy, plan.keys[i], sequence_of(i)), Index(i));
    if (!status.ok()) return status;
  }
  const EdgeMaps maps(policy);
  const Tasks tasks = plan.tasks.with(kernel.math_sizes);
  for (;;) {  // again if the workspace had to grow
    Carver carver(workspace);
    Job* const first = carver.take<Job>(Index(plan.jobs.size()));
    if (carver.fits()) {
      const std::span<Job> jobs(first, plan.jobs.size());
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        Job& job = *std::construct_at(first + i, plan.jobs[i]);
        const auto number = std::size_t(job.sequence);
        const Status status = enter_layer(layout, tasks, sequence_of(number), plan.keys[number], &job);
        if (!status.ok()) return in_sequence(status, job.sequence);
      }
      maps.connect(layer, jobs, carver);
      const CallScratch scratch = CallScratch::carve(carver, tasks);
      if (carver.fits()) {
        maps.map_queries(layer, jobs, executor, kernel.linear);
        kernel.run({layout, policy.preparation, options, jobs, tasks, scratch, executor, kernel.prepared,
                    kernel.hooks});
        maps.map_outputs(layer, jobs, executor, kernel.linear);
        return {};
      }
    }
    if (Status status = workspace.reserve(carver.bytes()); !status.ok()) return status;
  }
}

}  // namespace heed::inline HEED_ABI::detail
