// Kills mutants of partial states: cuts of the keys, the order of parts, sinks, shared prefixes, and what is refused.
#include <cstring>
#include <deque>

#include <heed/cache/strided.hpp>
#include <heed/partial.hpp>
#include <heed/policy/grouped.hpp>

#include "mutants/expect.hpp"
#include "oracle/random.hpp"

namespace {

using heed::Index;
using heed::KeyRange;
using heed::PartialStates;
using heed::PartialView;
using killer::expect;

constexpr Index dim = 4, keys = 3900, queries = 3;
using Source = heed::StridedSource<heed::F32>;
const heed::Mha policy{.num_heads = 1, .head_dim = dim, .scale = 0.5f};

struct Workers {
  Index count = 1;
  Index workers() const { return count; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) {
    for (Index task = 0; task < tasks; ++task) body(task, task % count);
  }
};

struct Numbers {
  oracle::Random random{1};
  std::vector<float> k = random.gaussians(keys * dim), v = random.gaussians(keys * dim),
                     q = random.gaussians(queries * dim);
  float sink = 3;

  Source source(Index first = 0, Index last = keys) const {
    const auto rows = [&](const std::vector<float>& all) {
      return heed::StridedStream{reinterpret_cast<const std::byte*>(all.data() + first * dim), 4 * dim, 0, 4 * dim};
    };
    return Source(last - first, rows(k), rows(v), first);
  }
  heed::AttendOptions options() const { return {.sink_logits = {&sink, 1}}; }

  heed::Status attend(const Source& of, const KeyRange& range, PartialStates& states, Index workers = 1) const {
    heed::Workspace workspace;
    Workers executor{workers};
    return heed::attend_partial<heed::Scalar>(policy, q, of, heed::Causal{}, range, states, workspace, executor,
                                              options());
  }
  std::vector<float> finish(std::span<const PartialView> parts, heed::Status* status) const {
    std::vector<float> out(q.size(), 9.0f);
    heed::Workspace workspace;
    Workers executor{1};
    *status = heed::attend_finish<heed::Scalar>(policy, parts, out, workspace, executor, options());
    return out;
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

int main() {
  const Numbers n;
  std::vector<float> whole(n.q.size());
  {
    heed::Workspace workspace;
    Workers executor{1};
    const bool ok =
        heed::attend<heed::Scalar>(policy, n.q, n.source(), heed::Causal{}, whole, workspace, executor, n.options())
            .ok();
    expect(ok, "attend", "status");
  }
  heed::Status status;
  const auto cut = [&](std::initializer_list<Index> at, bool backwards, Index workers) {
    std::deque<PartialStates> states;
    std::vector<PartialView> parts;
    Index begin = 0;
    for (const Index end : at) {
      const KeyRange range{.far_chunks = {}, .near_chunks = {begin, end}};
      expect(n.attend(n.source(), range, states.emplace_back(), workers).ok(), "partial", "status");
      parts.insert(backwards ? parts.begin() : parts.end(), states.back());
      begin = end;
    }
    return n.finish(parts, &status);
  };
  expect(same(whole, cut({KeyRange::all}, false, 1)), "partial", "one part");
  expect(same(whole, cut({4, 8, KeyRange::all}, false, 1)), "partial", "cut at nodes");
  expect(same(whole, cut({1, 6, 11, KeyRange::all}, false, 1)), "partial", "cut anywhere");
  expect(same(whole, cut({3, 13, KeyRange::all}, false, 3)), "partial", "workers");
  expect(same(whole, cut({1, 6, 11, KeyRange::all}, true, 1)) && status.ok(), "partial", "order of parts");

  PartialStates prefix, own;
  KeyRange range = KeyRange::from(5);
  range.first_near = 5;
  expect(n.attend(n.source(), KeyRange::before(5), prefix).ok(), "partial", "status");
  expect(n.attend(n.source(5 * heed::chunk_keys), range, own).ok(), "partial", "status");
  const PartialView shared[] = {prefix, own};
  expect(same(whole, n.finish(shared, &status)), "cascade", "keys of their own");

  // One query of the prefix's.
  PartialStates last;
  Numbers one = n;
  one.q = {n.q.end() - dim, n.q.end()};
  expect(one.attend(n.source(), KeyRange::from(5), last).ok(), "partial", "status");
  const PartialView some[] = {prefix.queries(queries - 1, 1), last};
  expect(same({whole.end() - dim, whole.end()}, one.finish(some, &status)), "cascade", "a query of many");

  PartialStates twice;
  expect(n.attend(n.source(), {.far_chunks = {}, .near_chunks = {4, 9}}, twice).ok(), "partial", "status");
  const PartialView both[] = {twice, prefix};
  static_cast<void>(n.finish(both, &status));
  expect(!status.ok(), "refused", "a chunk given twice");
  const PartialView more[] = {own};
  static_cast<void>(one.finish(more, &status));
  expect(!status.ok(), "refused", "other queries");
  PartialStates unplaced;
  expect(n.attend(n.source(0, 5 * heed::chunk_keys), KeyRange::before(5), unplaced).ok(), "partial", "status");
  const PartialView apart[] = {own, unplaced};
  static_cast<void>(n.finish(apart, &status));
  expect(!status.ok(), "refused", "other positions");
  const PartialView all[] = {prefix, own};
  std::vector<float> out(n.q.size());
  heed::Workspace workspace;
  Workers executor{1};
  expect(!heed::attend_finish<heed::Scalar>(policy, all, out, workspace, executor, {.soft_cap = 2}).ok(), "refused",
         "another soft_cap");
  expect(!heed::PartialStates().assign(prefix.bytes().first(prefix.bytes().size() - 4)).ok(), "refused",
         "bytes cut off");
  return killer::failures == 0 ? 0 : 1;
}
