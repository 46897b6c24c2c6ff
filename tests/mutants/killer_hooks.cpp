// Kills mutants of hooks and of masks that depend on the KV head: scalar loops, two KV heads, by plain sums in double.
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/codec/f32.hpp>
#include <heed/hooks.hpp>
#include <heed/policy/grouped.hpp>

#include "mutants/expect.hpp"
#include "oracle/random.hpp"

namespace {

using heed::Index;

/// Pretends to have several workers.
struct Workers {
  Index count = 1;
  Index workers() const { return count; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) {
    for (Index task = 0; task < tasks; ++task) body(task, (task + 1) % count);
  }
};

/// Every third key for KV head 0, the others for KV head 1; none of the first 20, and half of their chunks are full.
struct Thirds {
  bool visible(Index query, Index key, Index kv_head) const {
    return key <= query && key >= 20 && (key / 256 == 1 || (key % 3 == 0) == (kv_head == 0));
  }
  heed::Coverage coverage(heed::Interval, heed::Interval keys, Index kv_head) const {
    if (keys.begin / 256 == 1) return kv_head == 0 ? heed::Coverage::full : heed::Coverage::none;
    return heed::Coverage::partial;
  }
  Index text_position(Index position) const { return position / 2; }
};
bool sees(Index query, Index key, Index kv_head) {
  return Thirds{}.visible(query, key, kv_head) && (key / 256 != 1 || kv_head == 0);
}

/// A window of 40 keys in the near list, and tokens 3, 17 and 60 in the far list.
struct TwoLists {
  static constexpr Index far[3] = {3, 17, 60};
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool visible(Index query, Index key) const {
    return key <= query && (key > query - 40 || key == 3 || key == 17 || key == 60);
  }
  heed::NearKeys near_keys() const { return {}; }
  Index far_keys() const { return 3; }
  Index far_key(Index i) const { return far[i]; }
  heed::Coverage near_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool near_visible(Index query, Index key) const { return key <= query && key > query - 40; }
  heed::Coverage far_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool far_visible(Index query, Index i) const { return far[i] <= query - 40; }
};

constexpr Index heads = 4, kv_heads = 2, dim = 8, keys = 600, queries = 3;
constexpr heed::Gqa policy{
    .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = dim, .v_head_dim = dim, .scale = 0.4f};

struct Rows {
  Rows() {
    oracle::Random random(1);
    q = random.gaussians(queries * heads * dim);
    k = random.gaussians(keys * kv_heads * dim);
    v = random.gaussians(keys * kv_heads * dim);
  }
  heed::StridedSource<heed::F32> source() const { return {keys, stream(k), stream(v)}; }
  static heed::StridedStream stream(const std::vector<float>& all) {
    return {reinterpret_cast<const std::byte*>(all.data()), kv_heads * dim * 4, dim * 4, dim * 4};
  }
  std::vector<float> q, k, v;
};

/// Queries 0, and 1 and 2, as two stages with the same keys.
struct Staged : heed::StridedSource<heed::F32> {
  explicit Staged(const Rows& rows) : StridedSource(rows.source()) {}
  Index stages() const { return 2; }
  heed::Interval stage_queries(Index n) const { return n == 0 ? heed::Interval{0, 1} : heed::Interval{1, queries}; }
  Index stage_size(Index n) const { return n == 0 ? keys - 2 : keys; }
  heed::RowRun stage_row_run(Index, int stream, Index head, Index first, Index max) const {
    return row_run(stream, head, first, max);
  }
  Index stage_position(Index, Index key) const { return position(key); }
};

/// All hooks. Logits are capped at 2 before, and fall with the distance after the cap.
struct Hooks {
  std::map<std::pair<Index, Index>, double> weight = {}, max = {};  // of (row, key)
  std::map<Index, double> sums = {};
  Index capped = 0, wrong = 0;
  Index place = 1;  ///< positions per place of the text

  static Index row(const heed::HookRow& row) { return row.query * heads + row.head; }
  template <class Chunk>
  void check(const Chunk& chunk) {
    called |= std::uint64_t{1} << chunk.row.worker;
    wrong += chunk.row.position != (keys - queries + chunk.row.query) / place;
    wrong += chunk.row.kv_head != chunk.row.head / 2;
    for (std::size_t i = 0; i < chunk.keys.size(); ++i) wrong += chunk.positions[i] != chunk.keys[i] / place;
  }
  void logits(const heed::LogitChunk& chunk) {
    check(chunk);
    wrong += chunk.logits.front() == -INFINITY || chunk.logits.back() == -INFINITY;
    for (float& logit : chunk.logits) logit = logit == -INFINITY ? 5.0f : 2 * std::tanh(logit / 2);
  }
  void capped_logits(const heed::LogitChunk& chunk) {
    check(chunk);
    for (std::size_t i = 0; i < chunk.keys.size(); ++i) {
      if (chunk.logits[i] == -INFINITY) {
        chunk.logits[i] = 7;
      } else {
        chunk.logits[i] -= 0.01f * float(std::abs(chunk.positions[i] - chunk.row.position));
        ++capped;
      }
    }
  }
  void chunk(const heed::ChunkProbabilities& chunk) {
    check(chunk);
    for (std::size_t i = 0; i < chunk.keys.size(); ++i) {
      if (chunk.weights[i] == 0) continue;
      weight[{row(chunk.row), chunk.keys[i]}] = double(chunk.weights[i]);
      max[{row(chunk.row), chunk.keys[i]}] = double(chunk.max);
    }
  }
  void finish(const heed::FinishedRow& finished) {
    const Index r = row(finished.row);
    for (Index key = 0; key < keys; ++key) {
      if (weight.count({r, key}) == 0) continue;
      weight[{r, key}] *= double(finished.factor(float(max[{r, key}])));
      sums[r] += weight[{r, key}];
    }
  }
  std::uint64_t called = 0;  ///< bit n: by worker n
};

template <class Source, class Sees>
void check(const char* name, const Rows& rows, const Source& source, heed::MaskRef mask, const Sees& seen,
           Index workers, bool sinks, Index place) {
  const std::vector<float> sink_logits = sinks ? std::vector<float>{1, 2, 3, 4} : std::vector<float>{};
  std::vector<float> out(std::size_t(queries * heads * dim));
  Hooks hooks;
  hooks.place = place;
  heed::Workspace workspace;
  Workers executor{workers};
  const heed::Status status =
      heed::attend<heed::Scalar>(policy, rows.q, source, mask, out, workspace, executor,
                                 {.soft_cap = 0, .alibi_slopes = {}, .sink_logits = sink_logits}, hooks);
  killer::expect(status.ok(), name, "status");
  killer::expect(hooks.wrong == 0, name, "what hooks are told");
  killer::expect(hooks.called >> workers == 0 && (workers == 1 || hooks.called != 1), name, "workers");
  bool same_keys = true, same_weights = true, same_out = true;
  Index visible = 0;
  for (Index r = 0; r < queries * heads; ++r) {
    const Index query = keys - queries + r / heads, g = r % heads / 2;
    std::vector<double> p(keys, 0.0);
    double sum = sinks ? std::exp(double(sink_logits[std::size_t(r % heads)])) : 0, total = 0;
    for (Index key = 0; key < keys; ++key) {
      if (!seen(query, key, g)) continue;
      ++visible;
      double dot = 0;
      for (Index d = 0; d < dim; ++d) {
        dot += double(rows.q[std::size_t(r * dim + d)]) * double(rows.k[std::size_t((key * kv_heads + g) * dim + d)]);
      }
      const double logit = 2 * std::tanh(0.4 * dot / 2) - 0.01 * double(std::abs(key / place - query / place));
      sum += p[std::size_t(key)] = std::exp(logit);
    }
    std::vector<double> o(dim, 0.0);
    for (Index key = 0; key < keys; ++key) {
      p[std::size_t(key)] /= sum;
      total += p[std::size_t(key)];
      const auto at = hooks.weight.find({r, key});
      same_keys &= (at != hooks.weight.end()) == seen(query, key, g);
      same_weights &=
          at == hooks.weight.end() || std::abs(at->second - p[std::size_t(key)]) < 1e-5 * p[std::size_t(key)];
      for (Index d = 0; d < dim; ++d) {
        o[std::size_t(d)] += p[std::size_t(key)] * double(rows.v[std::size_t((key * kv_heads + g) * dim + d)]);
      }
    }
    for (Index d = 0; d < dim; ++d)
      same_out &= std::abs(double(out[std::size_t(r * dim + d)]) - o[std::size_t(d)]) < 1e-5;
    same_weights &= std::abs(hooks.sums[r] - total) < 1e-5;
  }
  killer::expect(same_keys, name, "keys");
  killer::expect(same_weights, name, "probabilities");
  killer::expect(same_out, name, "output");
  killer::expect(hooks.capped == visible, name, "every visible logit once");
}

}  // namespace

int main() {
  const Rows rows;
  const auto causal = [](Index query, Index key, Index) { return key <= query; };
  const TwoLists lists;
  const auto listed = [&](Index query, Index key, Index) { return lists.visible(query, key); };
  for (const Index workers : {1, 3}) {
    check("hooks", rows, rows.source(), heed::Causal{}, causal, workers, false, 1);
    check("hooks: sinks", rows, rows.source(), heed::Causal{}, causal, workers, true, 1);
    check("hooks: two lists", rows, rows.source(), lists, listed, workers, false, 1);
    check("hooks: stages", rows, Staged(rows), {}, causal, workers, false, 1);
    check("hooks: KV heads", rows, rows.source(), Thirds{}, sees, workers, false, 2);
  }
  return killer::failures == 0 ? 0 : 1;
}
