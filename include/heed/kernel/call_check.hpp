/// \file
/// Checks of a call's arguments: sizes, options, sequences. The loops behind them check nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <heed/attend_options.hpp>
#include <heed/floats.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/kernel/mask_check.hpp>
#include <heed/kernel/policy_ref.hpp>
#include <heed/layout.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// invalid_argument if a width that the policy states twice differs: the kernel would read beyond rows and queries.
inline Status check_widths(const PolicyRef& policy) {
  const auto same = [](const char* name, Index width, const char* other, Index wanted) -> Status {
    if (width == wanted) return {};
    return fail(StatusCode::invalid_argument, "policy: ", name, " is ", width, ", must be ", other, " ", wanted);
  };
  const AttentionLayout& layout = policy.layout;
  Status status;
  if (!policy.has_preparation) {
    status = same("layout().key_width", layout.key_width, "the width of its key view,", layout.key.width);
    if (status.ok()) {
      status = same("layout().value_width", layout.value_width, "the width of its value view,", layout.value.width);
    }
  }
  if (status.ok() && policy.query_map) {
    status = same("query_map().out_width()", policy.query_map.out_width, "layout().key_width", layout.key_width);
  }
  if (status.ok() && policy.output_map) {
    status = same("output_map().in_width()", policy.output_map.in_width, "layout().value_width", layout.value_width);
  }
  return status;
}

/// invalid_argument if a size of the layout, the maps or the executor is beyond its limit. Every call multiplies them.
inline Status check_sizes(const PolicyRef& policy, Index workers) {
  Status status = validate_layout(policy.layout, policy.key_stream, policy.value_stream);
  if (status.ok()) status = check_range("query_map().in_width()", policy.query_width(), 1, most_width);
  if (status.ok()) status = check_range("output_map().out_width()", policy.output_width(), 1, most_width);
  if (status.ok()) status = check_range("workers", workers, 1, most_workers);
  if (status.ok()) status = check_widths(policy);
  return status;
}

/// invalid_argument if queries of `heads` heads, each of `width` numbers, are more numbers than can be counted.
inline Status check_query_numbers(Index num_queries, Index heads, Index width) {
  if ((Count(num_queries) * heads * width).value() <= most_numbers) return {};
  return fail(StatusCode::invalid_argument, "num_queries is ", num_queries, ", with ", heads, " heads of ", width,
              " it must make at most ", most_numbers, " numbers");
}

/// `bytes` that a carver counted, for memory of any alignment. out_of_memory if the address space is smaller.
inline Result<std::size_t> counted_bytes(const char* what, std::uint64_t bytes) {
  bytes += Workspace::alignment;
  if (bytes > std::uint64_t(std::numeric_limits<std::ptrdiff_t>::max())) {
    return fail(StatusCode::out_of_memory, what, ": ", bytes, " bytes are more than there are addresses");
  }
  return std::size_t(bytes);
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
inline Status check_positions(const SequenceRef& sequence) {
  const auto bad = [](const char* what, Index position) {
    return fail(StatusCode::invalid_argument, what, position, ", must be in ", -most_tokens, " .. ", most_tokens);
  };
  const auto too_far = [](Index position) { return position < -most_tokens || position > most_tokens; };
  for (const Index position : sequence.query_positions) {
    if (too_far(position)) return bad("query_positions has ", position);
  }
  const Index keys = sequence.size();
  if (Status status = check_range("keys.size()", keys, 0, most_tokens); !status.ok()) return status;
  for (const Index key : {Index{0}, keys - 1}) {  // positions ascend, so the ends decide
    if (keys == 0) break;
    if (const Index position = sequence.position(key); too_far(position)) return bad("a key has position ", position);
  }
  const Index slots = sequence.slots();
  if (Status status = check_range("keys.slots()", slots, keys, most_tokens); !status.ok()) return status;
  for (const Index slot : {Index{0}, slots - 1}) {
    if (slots == 0) break;
    const Index position = sequence.slot_position(slot);
    if (too_far(position)) return bad("a slot has position ", position);
  }
  return {};
}

/// How a policy's values are stored. Where keys and values are made of one row, it is stored as keys are.
inline const CodecRef& value_codec_of(const PolicyRef& policy, const SourceTable& source) noexcept {
  return policy.key_stream == policy.value_stream ? source.key_codec : source.value_codec;
}

/// invalid_argument unless the kernel reads rows as the sequence's keys store them.
inline Status check_codecs(const Kernel& kernel, const PolicyRef& policy, const SourceTable& source) {
  const CodecRef &key = source.key_codec, &value = value_codec_of(policy, source);
  const auto same = [](const char* a, const char* b) { return a == b || std::string_view(a) == b; };
  if (same(kernel.key_codec, key.name) && same(kernel.value_codec, value.name)) return {};
  return fail(StatusCode::invalid_argument, "keys are stored as ", key.name, " and values as ", value.name,
              ", but kernel ", kernel.backend, " reads ", kernel.key_codec, " and ", kernel.value_codec);
}

/// invalid_argument if the codec cannot read `view`, or if the keys do not say where factors lie that it keeps apart from
/// rows.
inline Status check_view(const char* name, const CodecRef& codec, const AttentionLayout& layout, const View& view,
                         const SequenceRef& sequence) {
  if (view.offset % codec.view_step != 0) {
    return fail(StatusCode::invalid_argument, "layout: ", name, ".offset is ", view.offset, ", must be a multiple of ",
                codec.view_step, " for rows in ", codec.name);
  }
  if (sequence.size() > 0 && codec.factor_bytes(layout.streams[std::size_t(view.stream)].width) > 0 &&
      sequence.source->ref(sequence.keys).row_run(view.stream, 0, 0, 1).factors == nullptr) {
    return fail(StatusCode::invalid_argument, "keys: row_run() of the ", name, " stream has no factors, which ",
                codec.name, " keeps apart from its rows");
  }
  return {};
}

/// check_view() of keys and values.
inline Status check_views(const PolicyRef& policy, const SequenceRef& sequence) {
  const AttentionLayout& layout = policy.layout;
  const SourceTable& source = *sequence.source;
  if (Status status = check_view("key", source.key_codec, layout, layout.key, sequence); !status.ok()) return status;
  return check_view("value", value_codec_of(policy, source), layout, layout.value, sequence);
}

/// invalid_argument unless q, out and lse have the sizes of `queries` queries. `queries` -1: as many as q has.
/// `has_outputs`: false if the call has no out and lse.
inline Status check_buffers(const PolicyRef& policy, const SequenceRef& sequence, Index queries,
                            bool has_outputs = true) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
  const AttentionLayout& layout = policy.layout;
  const Index q_row = layout.num_heads * policy.query_width(), out_row = layout.num_heads * policy.output_width();
  const auto q_size = Index(sequence.q.size()), out_size = Index(sequence.out.size());
  if (queries < 0 && q_size % q_row != 0) {
    return bad("q has ", q_size, " numbers, must be a multiple of num_heads * head_dim = ", q_row);
  }
  if (queries >= 0 && q_size != queries * q_row) {
    return bad("q has ", q_size, " numbers, must have ", queries * q_row, " for the plan's ", queries, " queries");
  }
  if (queries < 0) queries = q_size / q_row;
  if (has_outputs && out_size != queries * out_row) {
    return bad("out has ", out_size, " numbers, must have ", queries * out_row, " for ", queries, " queries");
  }
  if (!sequence.lse.empty() && Index(sequence.lse.size()) != queries * layout.num_heads) {
    return bad("lse has ", sequence.lse.size(), " numbers, must have ", queries * layout.num_heads, " or none");
  }
  return {};
}

/// invalid_argument unless there is a position per query, or none.
inline Status check_query_positions(const SequenceRef& sequence, Index queries) {
  if (sequence.query_positions.empty() || Index(sequence.query_positions.size()) == queries) return {};
  return fail(StatusCode::invalid_argument, "query_positions has ", sequence.query_positions.size(),
              " numbers, must have ", queries, " or none");
}

/// invalid_argument unless a cache's streams are the policy's.
inline Status check_streams(const PolicyRef& policy, const SequenceRef& sequence) {
  if (sequence.source->layout == nullptr) return {};
  const auto bad = [](const auto&... parts) {
    return fail(StatusCode::invalid_argument, "keys come from a cache of another shape: ", parts...);
  };
  const AttentionLayout& layout = policy.layout;
  AttentionLayout cached;
  sequence.source->layout(sequence.keys, cached);
  if (cached.num_streams != layout.num_streams) {
    return bad("it has ", cached.num_streams, " streams, the policy ", layout.num_streams);
  }
  for (int s = 0; s < layout.num_streams; ++s) {
    const StreamShape its = cached.streams[std::size_t(s)], wanted = layout.streams[std::size_t(s)];
    if (its == wanted) continue;
    return bad("stream ", s, " has ", its.num_heads, " heads of ", its.width, ", the policy's ", wanted.num_heads,
               " of ", wanted.width);
  }
  return {};
}

/// invalid_argument if the source finds its own numbers wrong.
inline Status check_source(const PolicyRef& policy, const SequenceRef& sequence) {
  if (sequence.source->validate == nullptr) return {};
  const Status status = sequence.source->validate(sequence.keys, policy.layout);
  return status.ok() ? status : fail(StatusCode::invalid_argument, "keys: ", status.message());
}

/// Not ok unless the kernel can read the keys of a sequence.
inline Status check_keys(const Kernel& kernel, const PolicyRef& policy, const SequenceRef& sequence) {
  if (sequence.keys == nullptr) return fail(StatusCode::invalid_argument, "keys is null");
  const SourceTable& source = *sequence.source;
  Status status = check_codecs(kernel, policy, source);
  if (status.ok() && source.readable != nullptr) status = source.readable(sequence.keys, policy.rotates_keys);
  if (status.ok()) status = check_source(policy, sequence);
  return status.ok() ? check_views(policy, sequence) : status;
}

/// What is wrong with one sequence, without its number. `has_outputs`: false if the call has no out and lse.
inline Status check_one(const Kernel& kernel, const PolicyRef& policy, const SequenceRef& sequence, bool has_outputs) {
  Status status = check_keys(kernel, policy, sequence);
  if (status.ok()) status = check_positions(sequence);
  if (status.ok()) status = check_buffers(policy, sequence, -1, has_outputs);
  if (!status.ok()) return status;
  const Index queries = Index(sequence.q.size()) / (policy.layout.num_heads * policy.query_width());
  status = check_query_positions(sequence, queries);
  if (status.ok()) status = check_mask(sequence, queries);
  return status.ok() ? check_streams(policy, sequence) : status;
}

/// What is wrong with sequence number `index` of a call: its number goes before the message.
inline Status in_sequence(Status status, Index index) {
  return status.ok() ? status : fail(status.code(), "sequence ", index, ": ", status.message());
}

/// All checks of sequence number `index`, so that the kernel can run without any. Messages begin with "sequence index:
/// ".
inline Status check_sequence(const Kernel& kernel, const PolicyRef& policy, const SequenceRef& sequence, Index index,
                             bool has_outputs = true) {
  return in_sequence(check_one(kernel, policy, sequence, has_outputs), index);
}

}  // namespace heed::inline HEED_ABI::detail
