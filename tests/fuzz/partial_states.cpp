// Cuts of the keys by any numbers, and bytes of states that were changed on their way: a named refusal, or an answer. Parts
// that cover all keys once give the bits of attend().
#include <cmath>
#include <cstring>
#include <deque>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/partial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/simd/scalar.hpp>

#include "fuzz/bytes.hpp"

namespace {

using heed::Index;
using heed::KeyRange;
using heed::PartialStates;
using heed::PartialView;
using heed_fuzz::Bytes;
using Source = heed::StridedSource<heed::F32>;

constexpr Index width = 4, heads = 2, most_keys = 1500, most_queries = 3;
constexpr heed::Mqa policy{.num_heads = heads, .head_dim = width, .scale = 0.5f};
constexpr float sinks[] = {0.5f, -2};

std::vector<float> numbers(Index count, float kind) {
  std::vector<float> made;
  for (Index i = 0; i < count; ++i) made.push_back(std::sin(float(i) * 1.7f + kind));
  return made;
}
Source source(Index keys) {
  static const std::vector<float> k = numbers(most_keys * width, 1), v = numbers(most_keys * width, 2);
  const auto rows = [](const std::vector<float>& all) {
    return heed::StridedStream{reinterpret_cast<const std::byte*>(all.data()), 4 * width, 0, 4 * width};
  };
  return Source(keys, rows(k), rows(v));
}

heed::Status finish(std::span<const PartialView> parts, std::vector<float>& out) {
  std::fill(out.begin(), out.end(), 7.0f);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const heed::Status status =
      heed::attend_finish<heed::Scalar>(policy, parts, out, workspace, serial, {.sink_logits = sinks});
  for (const float x : out) FUZZ_CHECK(status.ok() || x == 7.0f, status.message());
  FUZZ_CHECK(status.ok() || !status.message().empty());
  return status;
}

/// Any number of changes, of which some give sizes and nodes that overflow what is computed of them.
void edit(std::vector<std::byte>& bytes, Bytes& in) {
  for (Index edits = in.pick(0, 3); edits > 0 && bytes.size() >= 8; --edits) {
    const Index number = in.one_in(2) ? in.extreme() : in.pick(0, 70);
    const Index at = in.one_in(2) ? 8 * in.pick(0, 20) : in.pick(0, Index(bytes.size()) - 8);
    if (at + 8 <= Index(bytes.size())) std::memcpy(bytes.data() + at, &number, 8);
  }
  if (in.one_in(8)) bytes.resize(std::size_t(in.pick(0, Index(bytes.size()) + 65)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  const Index keys = in.pick(0, most_keys), queries = in.pick(0, most_queries), chunks = (keys + 255) / 256;
  const std::vector<float> q = numbers(queries * heads * width, 3);
  const Source rows = source(keys);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const auto part = [&](const KeyRange& range, PartialStates& states) {
    const heed::Status status = heed::attend_partial<heed::Scalar>(policy, q, rows, heed::Causal{}, range, states,
                                                                   workspace, serial, {.sink_logits = sinks});
    FUZZ_CHECK(status.ok() != states.empty(), status.message());
    if (!status.ok()) return status;
    const auto bytes = heed::partial_states_bytes(policy, queries, keys, range);
    FUZZ_CHECK(bytes.ok() && *bytes >= states.bytes().size());
    return status;
  };
  std::vector<float> want(q.size()), out(q.size());
  FUZZ_CHECK(
      heed::attend<heed::Scalar>(policy, q, rows, heed::Causal{}, want, workspace, serial, {.sink_logits = sinks})
          .ok());

  std::deque<PartialStates> all;
  std::vector<PartialView> parts;
  Index begin = 0;
  for (Index cuts = in.pick(0, 4); cuts >= 0; --cuts) {
    const Index end = cuts == 0 ? KeyRange::all : std::min(begin + in.pick(0, chunks + 1), KeyRange::all);
    FUZZ_CHECK(part({.far_chunks = {}, .near_chunks = {begin, end}}, all.emplace_back()).ok());
    parts.insert(in.one_in(2) ? parts.begin() : parts.end(), all.back());
    begin = end;
  }
  FUZZ_CHECK(finish(parts, out).ok());
  FUZZ_CHECK(out.empty() || std::memcmp(out.data(), want.data(), out.size() * sizeof(float)) == 0);

  PartialStates any;
  const auto number = [&] { return in.one_in(3) ? in.extreme() : in.pick(0, 9); };
  const KeyRange range{{number(), number()}, {number(), number()}, number(), number()};
  if (part(range, any).ok()) {
    parts.emplace_back(any);
    static_cast<void>(finish(parts, out));
    parts.pop_back();
  }
  for (PartialStates& states : all) {
    std::vector<std::byte> bytes(states.bytes().begin(), states.bytes().end());
    edit(bytes, in);
    const heed::Status status = states.assign(bytes);
    FUZZ_CHECK(status.ok() || !status.message().empty());
    FUZZ_CHECK(!status.ok() || states.bytes().size() == bytes.size());
  }
  static_cast<void>(finish(parts, out));
  for (PartialView& view : parts) {
    if (in.one_in(4)) view = view.states()->queries(number(), number());
  }
  static_cast<void>(finish(parts, out));
  return 0;
}
