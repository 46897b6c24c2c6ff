/// \file
/// attend_partial() behind its types: a node of the merge tree is a job of its own.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include <heed/kernel/call.hpp>
#include <heed/kernel/partial_states.hpp>

namespace heed::inline HEED_ABI::detail {

/// Where a sequence of a partial call goes.
struct PartialTarget {
  const KeyRange* range = nullptr;
  PartialStates* states = nullptr;
};

/// The sequences of a partial call, in an array of the caller. They have no outputs.
struct PartialList {
  SequenceList sequences;
  PartialTarget (*target_)(const void* first, std::size_t number) = nullptr;

  template <class Sequence, KeyValueSource S>
  [[nodiscard]] static PartialList to(std::span<const Sequence> sequences) noexcept {
    return {{sequences.data(), sequences.size(),
             [](const void* all, std::size_t number) {
               const Sequence& one = static_cast<const Sequence*>(all)[number];
               return SequenceRef{&source_table<S>, one.keys, &one.mask, one.q, {}, {}, one.query_positions};
             }},
            [](const void* all, std::size_t number) {
              const Sequence& one = static_cast<const Sequence*>(all)[number];
              return PartialTarget{&one.range, one.states};
            }};
  }
  [[nodiscard]] std::size_t size() const noexcept { return sequences.size(); }
  [[nodiscard]] PartialTarget target(std::size_t number) const { return target_(sequences.first, number); }
};

/// Numbers of the chunks that a sequence has, in any of its stages.
struct HeldChunks {
  Interval far_chunks = {};
  Interval near_chunks = {};

  [[nodiscard]] static HeldChunks of(const SequenceRef& sequence, const KeyRange& range) {
    const auto hull = [](Interval& all, Interval more) {
      if (more.size() == 0) return;
      all = all.size() == 0 ? more : Interval{std::min(all.begin, more.begin), std::max(all.end, more.end)};
    };
    HeldChunks held;
    const auto add = [&](Index keys, const MaskRef& mask) {
      Job job{.source = {}, .num_keys = keys, .mask = {}, .near_keys = mask.near_keys(), .far_keys = mask.far_keys()};
      number_chunks(job, range);
      hull(held.far_chunks, job.far_chunks());
      hull(held.near_chunks, job.near_chunks());
    };
    const MaskRef mask = sequence.mask_or_own();
    const Index stages = sequence.stages();
    if (stages == 0) add(sequence.slots(), mask);
    for (Index number = 0; number < stages; ++number) {
      const StageRef stage = sequence.stage(number);
      if (stage.queries.size() > 0) add(stage.size, stage.mask ? stage.mask : mask);
    }
    return held;
  }
  /// Gives the chunks of a job the numbers that `range` wants.
  static void number_chunks(Job& job, const KeyRange& range) noexcept {
    job.first_far = range.first_far;
    job.near_keys.first_slot += range.first_near * chunk_keys;
  }
  /// Calls body(is_far, chunks) for the nodes of `range` that hold any of these chunks, in the order of the tree.
  template <class Body>
  void for_each_node_of(const KeyRange& range, const Body& body) const {
    for_each_node(range.far_chunks, far_chunks, [&](Interval node) { body(true, node); });
    for_each_node(range.near_chunks, near_chunks, [&](Interval node) { body(false, node); });
  }
};

/// invalid_argument if a number of the range is wrong.
[[nodiscard]] inline Status check_key_range(const KeyRange& range) {
  const auto check = [](const char* name, Interval chunks) -> Status {
    if (0 <= chunks.begin && chunks.begin <= chunks.end && chunks.end <= KeyRange::all) return {};
    return fail(StatusCode::invalid_argument, "range.", name, " is ", chunks.begin, " .. ", chunks.end,
                ", must ascend within 0 .. ", KeyRange::all);
  };
  Status status = check("far_chunks", range.far_chunks);
  if (status.ok()) status = check("near_chunks", range.near_chunks);
  if (status.ok()) status = check_range("range.first_far", range.first_far, 0, KeyRange::all);
  if (status.ok()) status = check_range("range.first_near", range.first_near, 0, KeyRange::all);
  return status;
}

/// A call of attend_partial_batch() with a policy that is valid.
class PartialCall {
 public:
  PartialCall(const Kernel& kernel, const PolicyRef& policy, const PartialList& list, const AttendOptions& options)
      : kernel_(kernel), policy_(without_output_map(policy)), list_(list), options_(options) {}

  Status run(Workspace& workspace, ExecutorRef executor) const {
    if (Status status = check(executor.workers); !status.ok()) return status;
    Index most_jobs = 0;
    for (std::size_t i = 0; i < list_.size(); ++i) {
      const PartialHeader sizes = sizes_of(i, held_by(i));
      if (!fits_in_block(sizes)) {
        return fail(StatusCode::invalid_argument, "sequence ", i, ": ", sizes.nodes, " nodes of ", sizes.queries,
                    " queries, ", sizes.heads, " heads and ", sizes.width, " numbers are more than 2^56 numbers");
      }
      const Status status = list_.target(i).states->reserve(PartialBlock::bytes(sizes));
      if (!status.ok()) return in_sequence(status, Index(i));
      most_jobs += detail::most_jobs(list_.sequences[i]) * std::max<Index>(sizes.nodes, 1);
    }
    const EdgeMaps maps(policy_);
    for (bool sized = false;;) {  // again if the workspace had to grow, and once more when it is known to suffice
      Carver carver(workspace);
      Job* const first = carver.take<Job>(most_jobs);
      if (carver.fits()) {
        Index count = 0;
        for (std::size_t i = 0; i < list_.size(); ++i) {
          if (sized) write_nodes(i);  // nothing can fail any more
          count += make_jobs(i, first + count, sized);
        }
        const std::span<Job> jobs(first, std::size_t(count));
        const Tasks tasks(policy_.layout, policy_.preparation, jobs, executor.workers, kernel_.math_sizes);
        maps.connect(list_.sequences, jobs, carver);
        const CallScratch scratch = CallScratch::carve(carver, tasks);
        if (sized) {
          maps.map_queries(list_.sequences, jobs, executor, kernel_.linear);
          kernel_.run({policy_.layout, policy_.preparation, options_, jobs, tasks, scratch, executor,
                       kernel_.prepared, kernel_.hooks});
          return {};
        }
        sized = carver.fits();
        if (sized) continue;
      }
      if (Status status = workspace.reserve(carver.bytes()); !status.ok()) return status;
    }
  }

 private:
  // States hold outputs before the map.
  [[nodiscard]] static PolicyRef without_output_map(PolicyRef policy) {
    policy.output_map = {};
    return policy;
  }

  [[nodiscard]] Status check(Index workers) const {
    if (Status status = check_options(policy_.layout, options_); !status.ok()) return status;
    if (Status status = check_sizes(policy_, workers); !status.ok()) return status;
    for (std::size_t i = 0; i < list_.size(); ++i) {
      if (Status status = check_sequence(kernel_, policy_, list_.sequences[i], Index(i), false); !status.ok()) {
        return status;
      }
      if (Status status = in_sequence(check_target(i), Index(i)); !status.ok()) return status;
    }
    std::size_t entered = 0;
    while (entered < list_.size() && PartialAccess::enter(*list_.target(entered).states)) ++entered;
    for (std::size_t i = 0; i < entered; ++i) PartialAccess::leave(*list_.target(i).states);
    if (entered == list_.size()) return {};
    return fail(StatusCode::invalid_argument, "sequence ", entered, ": states are those of an earlier sequence");
  }
  [[nodiscard]] Status check_target(std::size_t number) const {
    const PartialTarget target = list_.target(number);
    if (target.states == nullptr) return fail(StatusCode::invalid_argument, "states is null");
    if (Status status = check_key_range(*target.range); !status.ok()) return status;
    const HeldChunks held = held_by(number);
    const Index end = std::max(held.far_chunks.end, held.near_chunks.end);
    if (end <= KeyRange::all) return {};
    return fail(StatusCode::invalid_argument, "keys lie in chunks up to ", end - 1, ", must be below ", KeyRange::all);
  }

  [[nodiscard]] HeldChunks held_by(std::size_t number) const {
    return HeldChunks::of(list_.sequences[number], *list_.target(number).range);
  }
  // `held`: held_by(number).
  [[nodiscard]] PartialHeader sizes_of(std::size_t number, const HeldChunks& held) const {
    const SequenceRef sequence = list_.sequences[number];
    PartialHeader sizes{.mark = PartialHeader::own_mark,
                        .queries = queries_of(sequence, policy_),
                        .heads = policy_.layout.num_heads,
                        .width = policy_.layout.value_width,
                        .nodes = 0,
                        .scale = policy_.layout.scale,
                        .soft_cap = options_.soft_cap,
                        .slopes = fingerprint_of_slopes(options_.alibi_slopes)};
    sizes.set_math(kernel_.math);
    held.for_each_node_of(*list_.target(number).range, [&](bool, Interval) { ++sizes.nodes; });
    return sizes;
  }

  // A job for each stage and node, without q. Returns how many. `sized`: also writes the positions of the queries.
  Index make_jobs(std::size_t number, Job* jobs, bool sized) const {
    const SequenceRef sequence = list_.sequences[number];
    const PartialTarget target = list_.target(number);
    const HeldChunks held = held_by(number);
    const PartialHeader sizes = sizes_of(number, held);
    const Index stages = detail::make_jobs(policy_, sequence, Index(number), jobs);
    const PartialBlock block = PartialAccess::block(*target.states, sizes);
    Index query = sizes.queries;
    for (Index s = stages - 1; s >= 0; --s) {  // the last first: jobs of a stage lie behind the stages before it
      Job stage = jobs[s];
      HeldChunks::number_chunks(stage, *target.range);
      query -= stage.num_queries;
      for (Index i = 0; sized && i < stage.num_queries; ++i) {
        block.positions[query + i] = stage.query_position(i);
        block.places[query + i] = stage.mask.text_position(stage.query_position(i));
      }
      Index n = 0;
      held.for_each_node_of(*target.range, [&](bool is_far, Interval node) {
        Job job = stage;
        job.far_part = is_far ? node : Interval{};
        job.near_part = is_far ? Interval{} : node;
        job.leads = s == 0 && n == 0;
        const Index row = (n * sizes.queries + query) * sizes.heads;
        job.states = block.states + row;
        job.out = block.outs + row * sizes.width;
        std::construct_at(jobs + s * sizes.nodes + n++, job);
      });
    }
    return stages * sizes.nodes;
  }
  void write_nodes(std::size_t number) const {
    const PartialTarget target = list_.target(number);
    const HeldChunks held = held_by(number);
    Interval* node = PartialAccess::begin(*target.states, sizes_of(number, held)).nodes;
    held.for_each_node_of(*target.range, [&](bool is_far, Interval n) {
      const Index first = is_far ? 0 : far_away;
      *node++ = {first + n.begin, first + n.end};
    });
  }

  const Kernel& kernel_;
  const PolicyRef policy_;
  const PartialList& list_;
  const AttendOptions& options_;
};

/// Most nodes of a range over at most `keys` keys. Near keys may begin within a chunk: one chunk more.
[[nodiscard]] inline Index most_nodes_of(const KeyRange& range, Index keys) {
  const Index chunks = (keys + chunk_keys - 1) / chunk_keys;
  return most_nodes_of(range.far_chunks, chunks) + most_nodes_of(range.near_chunks, chunks == 0 ? 0 : chunks + 1);
}

/// partial_workspace_bytes() of a policy that is valid.
[[nodiscard]] inline Result<std::size_t> partial_call_bytes(PolicyRef policy, Index num_queries, Index num_keys,
                                                            const KeyRange& range, Index workers, Index num_stages,
                                                            const MathSizes& math) {
  Status status = check_key_range(range);
  if (status.ok()) status = check_range("num_keys", num_keys, 0, most_tokens);
  if (status.ok()) status = check_range("num_stages", num_stages, 1, most_tokens / (2 * most_nodes));
  if (!status.ok()) return status;
  policy.output_map = {};
  const Index nodes = std::max<Index>(most_nodes_of(range, num_keys), 1);
  return call_bytes(policy, num_queries, num_keys, workers, num_stages * nodes, math);
}

/// partial_states_bytes() of a policy that is valid.
[[nodiscard]] inline Result<std::size_t> partial_block_bytes(const PolicyRef& policy, Index num_queries, Index num_keys,
                                                             const KeyRange& range) {
  Status status = check_sizes(policy, 1);
  if (status.ok()) status = check_key_range(range);
  if (status.ok()) status = check_range("num_queries", num_queries, 0, most_tokens);
  if (status.ok()) status = check_range("num_keys", num_keys, 0, most_tokens);
  if (!status.ok()) return status;
  const PartialHeader sizes{.queries = num_queries,
                            .heads = policy.layout.num_heads,
                            .width = policy.layout.value_width,
                            .nodes = most_nodes_of(range, num_keys)};
  if (!fits_in_block(sizes)) {
    return fail(StatusCode::invalid_argument, "num_queries is ", num_queries, ", with ", sizes.nodes, " nodes, ",
                sizes.heads, " heads and ", sizes.width, " numbers there must be at most 2^56 numbers");
  }
  return counted_bytes("partial_states_bytes()", PartialBlock::bytes(sizes));
}

}  // namespace heed::inline HEED_ABI::detail
