// Kills mutants of masks in two lists and of staged sources: full and evicted sources, workers, and single queries.
#include <cstring>

#include <heed/attend.hpp>
#include <heed/policy/grouped.hpp>

#include "mutants/expect.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

namespace {

using heed::Index;
constexpr Index dim = 8;

struct Workers {
  Index count = 1;
  Index workers() const { return count; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) {
    for (Index task = 0; task < tasks; ++task) body(task, task % count);
  }
};

/// Segments of several chunks; every third token is a landmark; every seventh query sees no far keys.
struct Segments {
  static Index begin(Index query) { return query / 970 * 970; }
  static bool blind(Index query) { return query % 7 == 0; }
  heed::NearKeys near;
  std::vector<Index> far = {}, far_position = {};

  bool near_visible(Index query, Index key) const { return key <= query && key >= begin(query); }
  bool far_visible(Index query, Index i) const { return !blind(query) && far_position[std::size_t(i)] < begin(query); }
  bool visible(Index query, Index key) const {
    return key <= query && (key >= begin(query) || (key % 3 == 0 && !blind(query)));
  }
  heed::NearKeys near_keys() const { return near; }
  Index far_keys() const { return Index(far.size()); }
  Index far_key(Index i) const { return far[std::size_t(i)]; }
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  heed::Coverage near_coverage(heed::Interval queries, heed::Interval keys) const {
    return asked(queries, keys, [this](Index query, Index key) { return near_visible(query, key); });
  }
  heed::Coverage far_coverage(heed::Interval queries, heed::Interval keys) const {
    return asked(queries, keys, [this](Index query, Index i) { return far_visible(query, i); });
  }
  template <class Visible>
  static heed::Coverage asked(heed::Interval queries, heed::Interval keys, const Visible& visible) {
    Index seen = 0;
    for (Index query = queries.begin; query < queries.end; ++query) {
      for (Index key = keys.begin; key < keys.end; ++key) seen += visible(query, key) ? 1 : 0;
    }
    if (seen == 0) return heed::Coverage::none;
    return seen == queries.size() * keys.size() ? heed::Coverage::full : heed::Coverage::partial;
  }
};
static_assert(heed::SplitMask<Segments>);

/// Some tokens, and stages: lists of tokens at positions of their own.
struct Tokens {
  using KeyCodec = heed::F32;
  using ValueCodec = heed::F32;
  const float* rows = nullptr;
  std::vector<Index> kept = {};
  std::vector<std::vector<Index>> lists = {};

  Index size() const { return Index(kept.size()); }
  Index position(Index key) const { return kept[std::size_t(key)]; }
  heed::RowRun row_run(int stream, Index, Index first, Index) const { return row(stream, kept[std::size_t(first)]); }
  Index stages() const { return Index(lists.size()); }
  heed::Interval stage_queries(Index n) const { return {2 * n, 2 * n + 2}; }
  Index stage_size(Index n) const { return Index(lists[std::size_t(n)].size()); }
  Index stage_position(Index, Index key) const { return key; }
  heed::RowRun stage_row_run(Index n, int stream, Index, Index first, Index) const {
    return row(stream, lists[std::size_t(n)][std::size_t(first)]);
  }
  heed::RowRun row(int stream, Index token) const {
    const float* at = rows + (2 * token + stream) * dim;
    return {reinterpret_cast<const std::byte*>(at), 1, 4 * dim, 4 * dim};
  }
};

/// One list as a source of its own.
struct List : Tokens {
  std::vector<Index> list = {};
  Index size() const { return Index(list.size()); }
  Index position(Index key) const { return key; }
  heed::RowRun row_run(int stream, Index, Index first, Index) const { return row(stream, list[std::size_t(first)]); }
};

struct Output {
  std::vector<float> o, lse;
  bool operator==(const Output& other) const {
    return o.size() == other.o.size() && std::memcmp(o.data(), other.o.data(), o.size() * 4) == 0 &&
           std::memcmp(lse.data(), other.lse.data(), lse.size() * 4) == 0;
  }
  void append(const Output& more) {
    o.insert(o.end(), more.o.begin(), more.o.end());
    lse.insert(lse.end(), more.lse.begin(), more.lse.end());
  }
};

struct Numbers {
  explicit Numbers(Index tokens) : rows(random.gaussians(tokens * 2 * dim)), q(random.gaussians(tokens * dim)) {}
  oracle::Random random{1};
  std::vector<float> rows, q;

  /// Queries [first, last).
  template <class Source>
  Output attend(const Source& keys, heed::MaskRef mask, Index first, Index last, Index workers, float slope) const {
    Output out{std::vector<float>(std::size_t((last - first) * dim), 9.0f),
               std::vector<float>(std::size_t(last - first), 9.0f)};
    const heed::Mha policy{.num_heads = 1, .head_dim = dim, .v_head_dim = dim, .scale = 0.5f};
    const std::span<const float> some(q.data() + first * dim, std::size_t((last - first) * dim));
    heed::Workspace workspace;
    Workers executor{workers};
    const bool ok = heed::attend<heed::Scalar>(policy, some, keys, mask, out.o, workspace, executor,
                                               {.alibi_slopes = {&slope, 1}}, out.lse)
                        .ok();
    killer::expect(ok, "attend", "status");
    return out;
  }
};

void split() {
  constexpr Index tokens = 3000, queries = 200, first_slot = 1452;  // segments cross chunk 16
  const Numbers numbers(tokens);
  // Queries [first, last) on a source that holds them, `tail` tokens before them, and the landmarks before that.
  const auto ask = [&](Index first, Index last, Index tail, Index workers) {
    Tokens keys{numbers.rows.data()};
    Segments mask;
    for (Index token = 0; token < last; ++token) {
      if (token < tail && token % 3 != 0) continue;
      if (token % 3 == 0) {
        mask.far.push_back(keys.size());
        mask.far_position.push_back(token);
      }
      if (token == tail) mask.near = {keys.size(), first_slot + tail};
      keys.kept.push_back(token);
    }
    return numbers.attend(keys, mask, first, last, workers, 0.01f);
  };
  oracle::Problem problem{.key_dim = dim,
                          .value_dim = dim,
                          .scale = 0.5,
                          .q = {},
                          .visible = [](Index i, Index j) { return Segments{}.visible(i, j); },
                          .slopes = {double(0.01f)}};
  problem.q = oracle::doubles({numbers.q.end() - queries * dim, numbers.q.end()});
  for (Index token = 0; token < tokens; ++token) {
    const float* row = numbers.rows.data() + token * 2 * dim;
    problem.k.insert(problem.k.end(), row, row + dim);
    problem.v.insert(problem.v.end(), row + dim, row + 2 * dim);
  }
  const oracle::Answer answer = oracle::attention(problem);
  const Output all = ask(tokens - queries, tokens, 0, 1);
  killer::expect(oracle::worst_output(all.o, answer) <= 1, "split", "output");
  killer::expect(ask(tokens - queries, tokens, Segments::begin(tokens - queries), 1) == all, "split",
                 "bits of evicted");
  killer::expect(ask(tokens - queries, tokens, 0, 3) == all, "split", "bits of three workers");
  Output single, evicted;
  for (Index i = tokens - queries; i < tokens; ++i) {
    single.append(ask(i, i + 1, 0, 3));
    evicted.append(ask(i, i + 1, Segments::begin(i), 2));
  }
  killer::expect(single == all, "split", "bits of single queries");
  killer::expect(evicted == all, "split", "bits of evicted single queries");
}

void staged() {
  const Numbers numbers(600);
  Tokens keys{numbers.rows.data()};
  Output want;
  const heed::Causal causal;
  for (Index stage = 0; stage < 4; ++stage) {
    List alone{{numbers.rows.data()}};
    for (Index token = stage; token < 500; token += 1 + stage) alone.list.push_back(token);
    for (Index query = 2 * stage; query < 2 * stage + 2; ++query) {
      alone.list.push_back(500 + query);
      want.append(numbers.attend(alone, causal, query, query + 1, 1, 0));
    }
    keys.lists.push_back(alone.list);
  }
  for (const Index workers : {1, 3}) {
    killer::expect(numbers.attend(keys, {}, 0, 8, workers, 0) == want, "staged", "bits of single queries");
  }
}

}  // namespace

int main() {
  split();
  staged();
  return killer::failures == 0 ? 0 : 1;
}
