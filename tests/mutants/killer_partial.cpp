// Kills mutants of partial states: cuts of the keys, the order of parts, sinks, shared prefixes, and what is refused.
#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/hooks.hpp>
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

/// Ends of rows, as a sink is told of them.
struct Ends {
  std::vector<heed::FinishedRow> rows = {};
  void chunk(const heed::ChunkProbabilities&) const {}
  void finish(const heed::FinishedRow& row) { rows.push_back(row); }
};
/// Two neighbours stand for one place of the text.
struct Paired : heed::Causal {
  [[nodiscard]] Index text_position(Index position) const { return position / 2; }
};

/// A sink is told of every row once, by the finish, and of the same numbers as by attend().
void sinks(const Numbers& n) {
  Ends whole, parts;
  heed::Workspace workspace;
  Workers executor{1};
  std::vector<float> out(n.q.size());
  heed::check(heed::attend(heed::kernel<heed::Scalar, heed::F32, heed::F32>(whole), policy, n.q, n.source(), Paired{},
                           out, workspace, executor, n.options()));
  const heed::Kernel kernel = heed::kernel<heed::Scalar, heed::F32, heed::F32>(parts);
  PartialStates early, late;
  for (const auto& [range, states] : {std::pair{KeyRange::before(5), &early}, {KeyRange::from(5), &late}}) {
    heed::check(heed::attend_partial(kernel, policy, n.q, n.source(), Paired{}, range, *states, workspace, executor,
                                     n.options()));
  }
  expect(parts.rows.empty(), "sinks", "a part ends no row");
  const PartialView both[] = {early, late};
  parts.rows.clear();
  heed::check(heed::attend_finish(kernel, policy, both, out, workspace, executor, n.options()));
  expect(whole.rows.size() == queries && parts.rows.size() == queries, "sinks", "the finish ends every row");
  bool numbers = true, places = true;
  for (std::size_t i = 0; i < std::min(whole.rows.size(), parts.rows.size()); ++i) {
    const heed::FinishedRow &a = whole.rows[i], &b = parts.rows[i];
    numbers = numbers && a.max == b.max && a.sum == b.sum && a.share == b.share && a.share < 1;
    places = places && a.row.query == b.row.query && a.row.position == b.row.position &&
             b.row.position == (keys - queries + b.row.query) / 2;
  }
  expect(numbers, "sinks", "numbers of a row");
  expect(places, "sinks", "its place in the text");

  heed::Kernel other = kernel;  // as a kernel of another math
  other.math = "other";
  expect(!heed::attend_finish(other, policy, both, out, workspace, executor, n.options()).ok(), "refused",
         "another math");
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

int main() {
  const Numbers n;
  sinks(n);
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
