/// \file
/// attend_finish() behind its types: checks partial states, puts their nodes in order, merges them.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include <heed/kernel/call_check.hpp>
#include <heed/kernel/finish.hpp>
#include <heed/kernel/partial_states.hpp>

namespace heed::inline HEED_ABI {

/// One sequence of attend_finish_batch(). Nothing is owned.
///
/// num_queries is out.size() / (num_heads * output width). Every part has the states of these queries, in this order.
struct FinishSequence {
  std::span<const PartialView> parts;  ///< at least one, in any order; no chunk is in two of them
  std::span<float> out;                ///< [num_queries][num_heads][v_head_dim], or what the policy's output map gives
  std::span<float> lse = {};           ///< [num_queries][num_heads] natural log-sum-exp without sinks, or empty
};

namespace detail {

/// invalid_argument naming the part unless its states can be merged into `queries` queries.
[[nodiscard]] inline Status check_part(const AttentionLayout& layout, const AttendOptions& options, const char* math,
                                       const PartialView& part, Index queries) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  if (part.states() == nullptr) return bad("states is null");
  if (part.states()->empty()) return bad("states are empty: attend_partial() did not write them");
  const PartialHeader sizes = PartialAccess::header(*part.states());
  if (sizes.math != PartialHeader::fingerprint_of(math)) {
    return bad("states were made in math ", part.states()->math(), ", the kernel computes in ", math);
  }
  const Interval own = part.queries();
  if (own.begin < 0 || own.end < own.begin || own.end > sizes.queries) {
    return bad("queries ", own.begin, " .. ", own.end, " are not within its ", sizes.queries, " queries");
  }
  if (own.size() != queries) return bad("there are ", own.size(), " queries, out has ", queries);
  if (sizes.heads != layout.num_heads) {
    return bad("states have ", sizes.heads, " heads, the policy has ", layout.num_heads);
  }
  if (sizes.width != layout.value_width) {
    return bad("states have outputs of ", sizes.width, " numbers, the policy has ", layout.value_width);
  }
  if (sizes.scale != layout.scale) return bad("states have scale ", sizes.scale, ", the policy has ", layout.scale);
  if (sizes.soft_cap != options.soft_cap) {
    return bad("states have soft_cap ", sizes.soft_cap, ", options has ", options.soft_cap);
  }
  if (sizes.slopes != fingerprint_of_slopes(options.alibi_slopes))
    return bad("states have other alibi_slopes than options");
  return {};
}

/// Positions of the queries of a part; null if it has no node, so that they do not count.
[[nodiscard]] inline const Index* positions_of(const PartialView& part) {
  const PartialHeader sizes = PartialAccess::header(*part.states());
  if (sizes.nodes == 0) return nullptr;
  return PartialAccess::block(*part.states(), sizes).positions + part.queries().begin;
}

/// Places of the queries in their text, as a part says that has a node, or else the first part.
[[nodiscard]] inline const Index* places_of(const FinishSequence& sequence) {
  const auto part = std::find_if(sequence.parts.begin(), sequence.parts.end(),
                                 [](const PartialView& one) { return one.states()->num_nodes() > 0; });
  const PartialView& said = part == sequence.parts.end() ? sequence.parts.front() : *part;
  return PartialAccess::block(*said.states(), PartialAccess::header(*said.states())).places + said.queries().begin;
}

/// invalid_argument unless a query has one position in all parts. Parts that are end-aligned to other keys have others.
[[nodiscard]] inline Status check_same_positions(const FinishSequence& sequence, Index queries) {
  std::size_t first = 0;
  while (first < sequence.parts.size() && positions_of(sequence.parts[first]) == nullptr) ++first;
  for (std::size_t i = first + 1; i < sequence.parts.size(); ++i) {
    const Index *wanted = positions_of(sequence.parts[first]), *own = positions_of(sequence.parts[i]);
    for (Index query = 0; own != nullptr && query < queries; ++query) {
      if (own[query] == wanted[query]) continue;
      return fail(StatusCode::invalid_argument, "part ", i, ": query ", query, " is at position ", own[query],
                  ", in part ", first, " at ", wanted[query], ": give attend_partial() the query_positions");
    }
  }
  return {};
}

/// All checks of a sequence but that of chunks given twice. `index` is its number in the batch.
[[nodiscard]] inline Status check_finish(const PolicyRef& policy, const AttendOptions& options, const char* math,
                                         const FinishSequence& sequence, Index index) {
  const auto bad = [index](const auto&... parts) {
    return fail(StatusCode::invalid_argument, "sequence ", index, ": ", parts...);
  };
  const AttentionLayout& layout = policy.layout;
  const Index row = layout.num_heads * policy.output_width(), size = Index(sequence.out.size()), queries = size / row;
  if (size % row != 0) {
    return bad("out has ", size, " numbers, must be a multiple of num_heads * v_head_dim = ", row);
  }
  if (!sequence.lse.empty() && Index(sequence.lse.size()) != queries * layout.num_heads) {
    return bad("lse has ", sequence.lse.size(), " numbers, must have ", queries * layout.num_heads, " or none");
  }
  if (sequence.parts.empty()) return bad("parts is empty");
  for (std::size_t i = 0; i < sequence.parts.size(); ++i) {
    const Status status = check_part(layout, options, math, sequence.parts[i], queries);
    if (!status.ok()) return bad("part ", i, ": ", status.message());
  }
  if (Status status = check_same_positions(sequence, queries); !status.ok()) return bad(status.message());
  return {};
}

/// Writes the nodes of a sequence's parts to `nodes`, in the order of the tree. invalid_argument if a chunk is there
/// twice.
[[nodiscard]] inline Status order_nodes(const FinishSequence& sequence, Index index, std::span<NodeStates> nodes) {
  std::size_t at = 0;
  for (std::size_t p = 0; p < sequence.parts.size(); ++p) {
    const PartialView& part = sequence.parts[p];
    const PartialHeader sizes = PartialAccess::header(*part.states());
    const PartialBlock block = PartialAccess::block(*part.states(), sizes);
    for (Index n = 0; n < sizes.nodes; ++n) {
      const Index row = (n * sizes.queries + part.queries().begin) * sizes.heads;
      std::construct_at(&nodes[at++],
                        NodeStates{block.nodes[n], block.states + row, block.outs + row * sizes.width, Index(p)});
    }
  }
  std::sort(nodes.begin(), nodes.end(), [](const NodeStates& a, const NodeStates& b) {
    return a.chunks.begin != b.chunks.begin ? a.chunks.begin < b.chunks.begin : a.part < b.part;
  });
  for (std::size_t n = 1; n < nodes.size(); ++n) {
    const NodeStates &before = nodes[n - 1], &node = nodes[n];
    if (before.chunks.end <= node.chunks.begin) continue;
    const bool is_far = node.chunks.begin < far_away;
    return fail(StatusCode::invalid_argument, "sequence ", index, ": ", is_far ? "far" : "near", " chunk ",
                node.chunks.begin - (is_far ? 0 : far_away), " is given twice, by part ", before.part, " and part ",
                node.part);
  }
  return {};
}

/// The nodes of all parts.
[[nodiscard]] inline Index count_nodes(const FinishSequence& sequence) {
  Index nodes = 0;
  for (const PartialView& part : sequence.parts) nodes += part.states()->num_nodes();
  return nodes;
}

/// The workspace of a finish.
struct FinishMemory {
  FinishJob* jobs = nullptr;
  NodeStates* nodes = nullptr;
  float* mapped = nullptr;  // outputs before the output map; null without one
  float* states = nullptr;
  Index slots = 0;

  /// `queries` and `nodes` of all sequences together. `most_nodes_of_one` bounds the nodes of each.
  static FinishMemory carve(Carver& carver, const PolicyRef& policy, Index sequences, Count queries, Index nodes,
                            Index most_nodes_of_one, Index workers) {
    const AttentionLayout& layout = policy.layout;
    FinishMemory memory;
    memory.slots = std::min(most_nodes_of_one, most_waiting) + 1;
    memory.jobs = carver.take<FinishJob>(sequences);
    memory.nodes = carver.take<NodeStates>(nodes);
    if (policy.output_map) {
      memory.mapped = carver.take<float>((queries * layout.num_heads * layout.value_width).value());
    }
    memory.states = carver.take<float>((Count(workers) * memory.slots * PlannedFinish::state_width(layout)).value());
    return memory;
  }
};

/// attend_finish_batch() of a policy that is valid.
inline Status finish_call(const Kernel& kernel, const PolicyRef& policy, std::span<const FinishSequence> sequences,
                          Workspace& workspace, ExecutorRef executor, const AttendOptions& options) {
  const AttentionLayout& layout = policy.layout;
  if (Status status = check_options(layout, options); !status.ok()) return status;
  if (Status status = check_sizes(policy, executor.workers); !status.ok()) return status;
  Index queries = 0, nodes = 0, most_nodes_of_one = 0;
  const Index out_row = layout.num_heads * policy.output_width();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (Status status = check_finish(policy, options, kernel.math, sequences[i], Index(i)); !status.ok()) return status;
    queries += Index(sequences[i].out.size()) / out_row;
    nodes += count_nodes(sequences[i]);
    most_nodes_of_one = std::max(most_nodes_of_one, count_nodes(sequences[i]));
  }
  const auto carve = [&](std::byte* base, std::uint64_t* bytes) {
    Carver carver(base);
    const FinishMemory memory = FinishMemory::carve(carver, policy, Index(sequences.size()), queries, nodes,
                                                    most_nodes_of_one, executor.workers);
    *bytes = carver.bytes();
    return memory;
  };
  std::uint64_t bytes = 0;
  carve(nullptr, &bytes);
  if (Status status = workspace.reserve(bytes); !status.ok()) return status;
  const FinishMemory memory = carve(workspace.data(), &bytes);
  Index tasks = 0;
  float* mapped = memory.mapped;
  NodeStates* first = memory.nodes;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const FinishSequence& sequence = sequences[i];
    const std::span<NodeStates> own(first, std::size_t(count_nodes(sequence)));
    if (Status status = order_nodes(sequence, Index(i), own); !status.ok()) return status;
    first += own.size();
    Job job;
    job.num_queries = Index(sequence.out.size()) / out_row;
    job.out = policy.output_map ? mapped : sequence.out.data();
    job.lse = sequence.lse.empty() ? nullptr : sequence.lse.data();
    const Index rows = job.num_queries * layout.num_heads;
    if (policy.output_map) mapped += rows * layout.value_width;
    std::construct_at(memory.jobs + i, FinishJob{job, own, places_of(sequence), tasks});
    tasks += (rows + finish_rows - 1) / finish_rows;
  }
  const std::span<const FinishJob> jobs(memory.jobs, sequences.size());
  kernel.finish({layout, options, jobs, tasks, memory.slots, memory.states, executor, kernel.hooks});
  if (!policy.output_map) return {};
  executor.parallel_for(Index(jobs.size()) * layout.num_heads, [&](Index task, Index) {
    const Index head = task % layout.num_heads, in = layout.value_width, out = policy.output_width();
    const std::size_t i = std::size_t(task / layout.num_heads);
    policy.output_map.apply(head, jobs[i].job.num_queries, jobs[i].job.out + head * in, layout.num_heads * in,
                            sequences[i].out.data() + head * out, layout.num_heads * out, kernel.linear);
  });
  return {};
}

/// finish_workspace_bytes() of a policy that is valid.
[[nodiscard]] inline Result<std::size_t> finish_bytes(const PolicyRef& policy, Index num_queries, Index num_nodes,
                                                      Index workers, Index num_sequences) {
  Status status = check_sizes(policy, workers);
  if (status.ok()) status = check_range("num_queries", num_queries, 0, most_tokens);
  if (status.ok()) status = check_range("num_nodes", num_nodes, 0, most_tokens);
  if (status.ok()) status = check_range("num_sequences", num_sequences, 1, most_tokens);
  if (status.ok()) status = check_query_numbers(num_queries, policy.layout.num_heads, policy.layout.value_width);
  if (!status.ok()) return status;
  Carver carver(nullptr);
  FinishMemory::carve(carver, policy, num_sequences, num_queries, num_nodes, num_nodes, workers);
  return counted_bytes("finish_workspace_bytes()", carver.bytes());
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI
