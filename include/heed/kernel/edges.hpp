/// \file
/// The edges of a call: argument checks, and a policy's linear maps before and after the kernel.
#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <type_traits>

#include <heed/kernel/mask_check.hpp>
#include <heed/kernel/plan.hpp>
#include <heed/kernel/run.hpp>
#include <heed/math.hpp>
#include <heed/policy/layout.hpp>

namespace heed::inline HEED_ABI::detail {

/// The query map and the output map of policy `P`. An Identity costs nothing.
template <AttentionPolicy P>
class Edges {
  using QueryMap = std::remove_cvref_t<decltype(std::declval<const P&>().query_map())>;
  using OutputMap = std::remove_cvref_t<decltype(std::declval<const P&>().output_map())>;
  static constexpr bool maps_queries = !std::is_same_v<QueryMap, Identity>;
  static constexpr bool maps_outputs = !std::is_same_v<OutputMap, Identity>;

 public:
  Edges(const P& policy, const AttentionLayout& layout)
      : layout_(layout), query_map_(policy.query_map()), output_map_(policy.output_map()) {}

  /// Numbers per query head that the caller gives in q, and that it gets in out.
  [[nodiscard]] Index query_width() const {
    if constexpr (maps_queries) return query_map_.in_width();
    return layout_.key_width;
  }
  [[nodiscard]] Index output_width() const {
    if constexpr (maps_outputs) return output_map_.out_width();
    return layout_.value_width;
  }

  /// invalid_argument if a width that the policy states twice differs: the kernel would read beyond rows and queries.
  [[nodiscard]] Status check_widths() const {
    const auto same = [](const char* name, Index width, const char* other, Index wanted) -> Status {
      if (width == wanted) return {};
      return fail(StatusCode::invalid_argument, "policy: ", name, " is ", width, ", must be ", other, " ", wanted);
    };
    Status status;
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(std::declval<const P&>().preparation())>, Identity>) {
      status = same("layout().key_width", layout_.key_width, "the width of its key view,", layout_.key.width);
      if (status.ok()) {
        status = same("layout().value_width", layout_.value_width, "the width of its value view,", layout_.value.width);
      }
    }
    if constexpr (maps_queries) {
      if (status.ok()) {
        status = same("query_map().out_width()", query_map_.out_width(), "layout().key_width", layout_.key_width);
      }
    }
    if constexpr (maps_outputs) {
      if (status.ok()) {
        status = same("output_map().in_width()", output_map_.in_width(), "layout().value_width", layout_.value_width);
      }
    }
    return status;
  }

  template <class Sequence>
  [[nodiscard]] Index num_queries(const Sequence& sequence) const {
    return Index(sequence.q.size()) / (layout_.num_heads * query_width());
  }

  /// The most jobs that make_jobs() makes of a sequence: one per stage, or one if there are no stages.
  template <class Sequence>
  [[nodiscard]] static Index most_jobs(const Sequence& sequence) {
    if constexpr (StagedSource<std::remove_cvref_t<decltype(*sequence.keys)>>) {
      return std::max<Index>(sequence.keys->stages(), 1);
    }
    return 1;
  }

  /// Makes the jobs of sequence number `index` at `jobs` and returns how many. Mapped queries and outputs before their
  /// map get memory from `carver`.
  template <class Sequence>
  Index make_jobs(const Sequence& sequence, Index index, Job* jobs, Carver& carver) const {
    const auto& keys = *sequence.keys;
    Job all = empty_job(num_queries(sequence), slots_of(keys), mask_of(sequence), carver);
    all.source = SourceRef::to(keys);
    all.end = end_of(keys);
    if constexpr (!maps_queries) all.q = sequence.q.data();
    if constexpr (!maps_outputs) all.out = sequence.out.data();
    all.lse = sequence.lse.empty() ? nullptr : sequence.lse.data();
    all.query_positions = sequence.query_positions;
    all.sequence = index;
    if constexpr (StagedSource<std::remove_cvref_t<decltype(keys)>>) {
      Index made = 0;
      for (Index stage = 0; stage < keys.stages(); ++stage) {
        const Interval queries = keys.stage_queries(stage);
        if (queries.size() == 0) continue;
        Job job = all;
        job.source = SourceRef::to_stage(keys, stage);
        job.num_keys = keys.stage_size(stage);
        job.end = job.num_keys == 0 ? 0 : keys.stage_position(stage, job.num_keys - 1) + 1;
        job.num_queries = queries.size();
        if constexpr (requires { keys.stage_mask(stage); }) {
          if (const MaskRef mask = keys.stage_mask(stage)) {
            job.mask = mask;
            job.near_keys = mask.near_keys();
            job.far_keys = mask.far_keys();
          }
        }
        const Index row = queries.begin * layout_.num_heads;
        if (job.q != nullptr) job.q += row * layout_.key_width;  // null while `carver` only counts
        if (job.out != nullptr) job.out += row * layout_.value_width;
        if (job.lse != nullptr) job.lse += row;
        job.first_stage = made == 0;
        std::construct_at(jobs + made++, job);
      }
      if (made > 0) return made;
    }
    std::construct_at(jobs, all);
    return 1;
  }

  /// A job of this size without a source: enough for a Plan.
  [[nodiscard]] Job empty_job(Index queries, Index keys, MaskRef mask, Carver& carver) const {
    Job job{.source = {},
            .num_keys = keys,
            .mask = mask,
            .near_keys = mask.near_keys(),
            .far_keys = mask.far_keys(),
            .num_queries = queries};
    if constexpr (maps_queries) job.q = carver.take<float>(queries * layout_.num_heads * layout_.key_width);
    if constexpr (maps_outputs) job.out = carver.take<float>(queries * layout_.num_heads * layout_.value_width);
    return job;
  }

  /// Applies the query map: reads q of the sequences, writes q of the jobs.
  template <SimdBackend Backend, class Sequence>
  void map_queries(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor) const {
    if constexpr (maps_queries) {
      for_each_head(sequences, jobs, executor, [&](const Sequence& sequence, const Job& job, Index head) {
        const Index in = query_width(), out = layout_.key_width;
        query_map_.apply(head, num_queries(sequence), sequence.q.data() + head * in, layout_.num_heads * in,
                         const_cast<float*>(job.q) + head * out, layout_.num_heads * out, &Backend::linear);
      });
    }
  }

  /// Applies the output map: reads out of the jobs, writes out of the sequences.
  template <SimdBackend Backend, class Sequence>
  void map_outputs(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor) const {
    if constexpr (maps_outputs) {
      for_each_head(sequences, jobs, executor, [&](const Sequence& sequence, const Job& job, Index head) {
        const Index in = layout_.value_width, out = output_width();
        output_map_.apply(head, num_queries(sequence), job.out + head * in, layout_.num_heads * in,
                          sequence.out.data() + head * out, layout_.num_heads * out, &Backend::linear);
      });
    }
  }

 private:
  // Calls body(sequence, job, head) once per sequence and head. The first stage's job begins the buffers of all stages.
  template <class Sequence, class Body>
  void for_each_head(std::span<const Sequence> sequences, std::span<const Job> jobs, ExecutorRef executor,
                     const Body& body) const {
    executor.parallel_for(Index(jobs.size()) * layout_.num_heads, [&](Index task, Index) {
      const Job& job = jobs[std::size_t(task / layout_.num_heads)];
      if (job.first_stage) body(sequences[std::size_t(job.sequence)], job, task % layout_.num_heads);
    });
  }

  AttentionLayout layout_;
  QueryMap query_map_;
  OutputMap output_map_;
};

/// invalid_argument if a size of the layout, the maps or the executor is beyond its limit. Every call multiplies them.
template <AttentionPolicy P>
Status check_sizes(const AttentionLayout& layout, const Edges<P>& edges, Index workers) {
  Status status = validate_layout(layout, P::key_stream, P::value_stream);
  if (status.ok()) status = check_range("query_map().in_width()", edges.query_width(), 1, most_width);
  if (status.ok()) status = check_range("output_map().out_width()", edges.output_width(), 1, most_width);
  if (status.ok()) status = check_range("workers", workers, 1, most_workers);
  if (status.ok()) status = edges.check_widths();
  return status;
}

/// invalid_argument if a number is not finite. -inf is allowed if `may_be_absent`: it then stands for "no sink".
inline Status check_numbers(const char* name, std::span<const float> numbers, bool may_be_absent) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const bool absent = may_be_absent && numbers[i] == -detail::infinity;
    if (absent || detail::is_finite(numbers[i])) continue;
    return fail(StatusCode::invalid_argument, name, "[", i, "] is ", numbers[i], ", must be finite",
                may_be_absent ? ", or -inf for no sink" : "");
  }
  return {};
}

/// invalid_argument for a wrong option, unsupported if float arithmetic is not exact (exact_floats()).
inline Status check_options(const AttentionLayout& layout, const AttendOptions& options) {
#if defined(__clang__) && !defined(HEED_ALLOW_FAST_MATH)  // GCC's macros told config.hpp
  if (!exact_floats()) {
    return fail(
        StatusCode::unsupported,
        "compiled with a part of fast-math (-funsafe-math-optimizations, -fassociative-math, -freciprocal-math or "
        "-fno-signed-zeros): results would be wrong; drop the flag or define HEED_ALLOW_FAST_MATH");
  }
#endif
  if (!(options.soft_cap >= 0) || detail::is_infinite(options.soft_cap)) {
    return fail(StatusCode::invalid_argument, "soft_cap is ", options.soft_cap, ", must be finite and at least 0");
  }
  if (!options.alibi_slopes.empty() && Index(options.alibi_slopes.size()) != layout.num_heads) {
    return fail(StatusCode::invalid_argument, "alibi_slopes has ", options.alibi_slopes.size(),
                " numbers, must have num_heads = ", layout.num_heads, " or none");
  }
  if (!options.sink_logits.empty() && Index(options.sink_logits.size()) != layout.num_heads) {
    return fail(StatusCode::invalid_argument, "sink_logits has ", options.sink_logits.size(),
                " numbers, must have num_heads = ", layout.num_heads, " or none");
  }
  Status status = check_numbers("alibi_slopes", options.alibi_slopes, false);
  return status.ok() ? check_numbers("sink_logits", options.sink_logits, true) : status;
}

/// invalid_argument if a position or the number of keys exceeds most_tokens. Masks and distances add and subtract them.
template <class Sequence>
Status check_positions(const Sequence& sequence) {
  const auto bad = [](const char* what, Index position) {
    return fail(StatusCode::invalid_argument, what, position, ", must be in ", -most_tokens, " .. ", most_tokens);
  };
  const auto too_far = [](Index position) { return position < -most_tokens || position > most_tokens; };
  for (const Index position : sequence.query_positions) {
    if (too_far(position)) return bad("query_positions has ", position);
  }
  const auto& source = *sequence.keys;
  const Index keys = source.size();
  if (Status status = check_range("keys.size()", keys, 0, most_tokens); !status.ok()) return status;
  for (const Index key : {Index{0}, keys - 1}) {  // positions ascend, so the ends decide
    if (keys == 0) break;
    if (const Index position = source.position(key); too_far(position)) return bad("a key has position ", position);
  }
  if constexpr (SlottedSource<std::remove_cvref_t<decltype(source)>>) {
    const Index slots = source.slots();
    if (Status status = check_range("keys.slots()", slots, keys, most_tokens); !status.ok()) return status;
    for (const Index slot : {Index{0}, slots - 1}) {
      if (slots == 0) break;
      const Index position = source.slot_position(slot);
      if (too_far(position)) return bad("a slot has position ", position);
    }
  }
  return {};
}

/// All checks of sequence number `index`, so that the kernel can run without any. Messages begin with "sequence index:
/// ".
template <AttentionPolicy P, class Sequence>
Status check_sequence(const AttentionLayout& layout, const Edges<P>& edges, bool policy_rotates,
                      const Sequence& sequence, Index index) {
  const auto bad = [index](const auto&... parts) {
    return fail(StatusCode::invalid_argument, "sequence ", index, ": ", parts...);
  };
  if (sequence.keys == nullptr) return bad("keys is null");
  if constexpr (GuardedSource<std::remove_cvref_t<decltype(*sequence.keys)>>) {
    if (Status status = sequence.keys->readable(policy_rotates); !status.ok()) {
      return fail(status.code(), "sequence ", index, ": ", status.message());
    }
  }
  if constexpr (requires { sequence.keys->validate(layout); }) {
    if (Status status = sequence.keys->validate(layout); !status.ok()) return bad("keys: ", status.message());
  }
  if (Status status = check_positions(sequence); !status.ok()) return bad(status.message());
  const Index q_row = layout.num_heads * edges.query_width(), out_row = layout.num_heads * edges.output_width();
  const auto q_size = Index(sequence.q.size()), out_size = Index(sequence.out.size());
  if (q_size % q_row != 0) {
    return bad("q has ", q_size, " numbers, must be a multiple of num_heads * head_dim = ", q_row);
  }
  const Index queries = q_size / q_row;
  if (out_size != queries * out_row) {
    return bad("out has ", out_size, " numbers, must have ", queries * out_row, " for ", queries, " queries");
  }
  if (!sequence.lse.empty() && Index(sequence.lse.size()) != queries * layout.num_heads) {
    return bad("lse has ", sequence.lse.size(), " numbers, must have ", queries * layout.num_heads, " or none");
  }
  if (!sequence.query_positions.empty() && Index(sequence.query_positions.size()) != queries) {
    return bad("query_positions has ", sequence.query_positions.size(), " numbers, must have ", queries, " or none");
  }
  if (Status status = check_mask(sequence, queries); !status.ok()) {
    return fail(status.code(), "sequence ", index, ": ", status.message());
  }
  if constexpr (requires { sequence.keys->layout(); }) {
    const AttentionLayout& cached = sequence.keys->layout();
    if (cached.num_streams != layout.num_streams) {
      return bad("keys come from a cache of another shape: it has ", cached.num_streams, " streams, the policy ",
                 layout.num_streams);
    }
    for (int s = 0; s < layout.num_streams; ++s) {
      const StreamShape its = cached.streams[std::size_t(s)], wanted = layout.streams[std::size_t(s)];
      if (its == wanted) continue;
      return bad("keys come from a cache of another shape: stream ", s, " has ", its.num_heads, " heads of ", its.width,
                 ", the policy's ", wanted.num_heads, " of ", wanted.width);
    }
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
