// Cascades: the queries of many sequences read the prefix that these share in one call.
#include "laws/partial.hpp"

namespace heed_test::cascade_test {
namespace {

class Cascade : public Laws {};
HEED_FOR_ALL_KERNELS(Cascade);

/// Counts the rows that are read of another source.
class Counted final : public Source {
 public:
  explicit Counted(const Source& source) : source_(source) {}
  [[nodiscard]] Index size() const override { return source_.size(); }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const override {
    const heed::RowRun run = source_.row_run(stream, head, first, max);
    rows_ += run.rows;
    return run;
  }
  [[nodiscard]] Index position(Index key) const override { return source_.position(key); }
  [[nodiscard]] Index rows() const { return rows_; }

 private:
  const Source& source_;
  mutable Index rows_ = 0;
};

/// Some sequences with a prefix in common. Each is a problem of its own over all its keys.
struct Sequences {
  Sequences(const AttentionShape& shape, Index shared_keys, const std::vector<std::pair<Index, Index>>& own,
            bool options)
      : prefix_keys(shared_keys) {
    std::uint64_t seed = 20;
    prefix = gaussian(shape, 0, prefix_keys, ++seed);
    for (const auto& [queries, keys] : own) {
      Problem p = gaussian(shape, queries, prefix_keys + keys, ++seed);
      std::copy(prefix.k.begin(), prefix.k.end(), p.k.begin());
      share_rows(p);
      if (!shares_rows(shape.mechanism)) std::copy(prefix.v.begin(), prefix.v.end(), p.v.begin());
      if (options) {
        p.soft_cap = 6;
        for (Index h = 0; h < p.shape.heads; ++h) {
          p.slopes.push_back(0.002f * float(h));
          p.sinks.push_back(float(h) - 2);
        }
      }
      all.push_back(p);
      prefix.q.insert(prefix.q.end(), p.q.begin(), p.q.end());
      prefix.queries += queries;
      for (Index i = 0; i < queries; ++i) prefix.query_positions.push_back(p.keys - queries + i);
    }
    prefix.soft_cap = all[0].soft_cap;
    prefix.slopes = all[0].slopes;
    prefix.sinks = all[0].sinks;
  }

  Index prefix_keys;
  Problem prefix;            ///< the prefix's keys, and the queries of all sequences
  std::vector<Problem> all;  ///< each with the prefix's keys and its own
};

/// A sequence's own keys alone, at their positions.
struct OwnKeys {
  OwnKeys(const Subject& subject, const Problem& p, Index prefix_keys) {
    Problem own = p;
    own.keys = p.keys - prefix_keys;
    own.k.erase(own.k.begin(), own.k.begin() + prefix_keys * p.k_row());
    own.v.erase(own.v.begin(), own.v.begin() + prefix_keys * p.v_row());
    cache = filled(subject, own);
    rows = cache->keys();
    std::vector<Index> positions;
    for (Index i = 0; i < own.keys; ++i) positions.push_back(prefix_keys + i);
    keys = std::make_unique<Paged>(*rows, 100, positions);
  }
  std::unique_ptr<Cache> cache;
  std::unique_ptr<Source> rows, keys;
};

/// The outputs of all sequences, each asked for its own keys alone or for those of a cache that also has the prefix.
std::vector<Output> cascade(const Subject& subject, const Sequences& s, bool own_alone, Index threads) {
  const AttentionShape& shape = s.prefix.shape;
  const Index chunks = s.prefix_keys / heed::chunk_keys;
  const auto cache = filled(subject, s.prefix);
  PartialStates shared;
  attend_part(subject, s.prefix, *cache->keys(), KeyRange::before(chunks), shared, threads);

  std::deque<PartialStates> states(s.all.size());
  std::deque<OwnKeys> own;
  std::vector<PartialCall> calls;
  std::vector<Output> got;
  std::vector<std::array<PartialView, 2>> parts;
  Index query = 0;
  for (std::size_t i = 0; i < s.all.size(); ++i) {
    const Problem& p = s.all[i];
    KeyRange range = KeyRange::from(chunks);
    if (own_alone) range.first_near = chunks;
    own.emplace_back(subject, p, own_alone ? s.prefix_keys : 0);
    calls.push_back({own.back().keys.get(), p.mask.ref(), p.q, range, &states[i]});
    got.push_back({std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                   std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)});
    parts.push_back({shared.queries(query, p.queries), states[i]});
    query += p.queries;
  }
  if (!own_alone) {  // keys of every sequence from position 0 on
    for (std::size_t i = 0; i < s.all.size(); ++i) calls[i].keys = own[i].rows.get();
  }
  heed::Workspace workspace;
  const heed::AttendOptions options = s.prefix.options();
  heed::Status status =
      subject.storage.attend_partial(subject.kernel, shape, calls, workspace, workers(threads), options);
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<heed::FinishSequence> sequences;
  for (std::size_t i = 0; i < s.all.size(); ++i) sequences.push_back({parts[i], got[i].out, got[i].lse});
  status = subject.storage.attend_finish(subject.kernel, shape, sequences, workspace, workers(threads), options);
  EXPECT_TRUE(status.ok()) << status.message();
  return got;
}

TEST_P(Cascade, HasTheBitsOfAttendAndMeetsTheBound) {
  const std::vector<std::pair<Index, Index>> own{{1, 1}, {1, 300}, {4, 4}, {1, 700}, {30, 257}, {0, 9}, {1, 256}};
  for (const Mechanism mechanism : mechanisms()) {
    const AttentionShape shape{.mechanism = mechanism, .heads = 4, .kv_heads = 2, .key_dim = 24, .value_dim = 16};
    for (const Index prefix_keys : slow() ? std::vector<Index>{256} : std::vector<Index>{256, 1792}) {
      const Sequences s(shape, prefix_keys, own, mechanism != Mechanism::mha);
      const std::vector<Output> got = cascade(subject(), s, prefix_keys == 256, prefix_keys == 256 ? 1 : 3);
      for (std::size_t i = 0; i < s.all.size(); ++i) {
        const Problem& p = s.all[i];
        EXPECT_TRUE(got[i] == run(subject(), p)) << p;
        const oracle::Answer want = answer(subject(), p);
        EXPECT_TRUE(worst_output(subject(), got[i].out, want) <= 1) << p;
        EXPECT_TRUE(worst_lse(subject(), got[i].lse, want) <= 1) << p;
      }
    }
  }
}

/// A prefix of which all queries see all keys may be asked without a mask.
TEST_P(Cascade, UnmaskedPrefix) {
  Sequences s({.heads = 8, .kv_heads = 2, .key_dim = 16, .value_dim = 16}, 1280, {{1, 40}, {1, 300}, {2, 7}}, false);
  const std::vector<Output> want = cascade(subject(), s, true, 1);
  s.prefix.mask = unmasked();
  EXPECT_TRUE(want == cascade(subject(), s, true, 2));
}

/// Without positions the queries would count as the prefix's last tokens, and miss keys.
TEST_P(Cascade, PrefixWithoutPositions) {
  const Sequences s({.heads = 2, .kv_heads = 2, .key_dim = 8, .value_dim = 8}, 256, {{1, 5}, {2, 9}}, false);
  Problem prefix = s.prefix;
  prefix.query_positions.clear();
  const auto cache = filled(subject(), prefix), own_cache = filled(subject(), s.all[1]);
  PartialStates shared, own;
  attend_part(subject(), prefix, *cache->keys(), KeyRange::before(1), shared);
  attend_part(subject(), s.all[1], *own_cache->keys(), KeyRange::from(1), own);
  const PartialView parts[] = {shared.queries(1, 2), own};
  std::vector<float> out(std::size_t(2 * prefix.out_row()), nan);
  const heed::FinishSequence sequence{parts, out};
  heed::Workspace workspace;
  const heed::Status status =
      subject().storage.attend_finish(subject().kernel, prefix.shape, {&sequence, 1}, workspace, workers(1), {});
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_EQ(status.message(),
            "sequence 0: part 1: query 0 is at position 263, in part 0 at 254: give attend_partial() "
            "the query_positions");
  EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float x) { return std::isnan(x); }));
}

/// Two levels: a prefix of all, prefixes of some, and own keys. Each level is read by its own queries.
TEST_P(Cascade, OfTwoLevels) {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12};
  Sequences s(shape, 768, {{1, 600}, {1, 900}, {1, 512}, {1, 1100}}, true);
  for (const std::size_t first : {0u, 2u}) {  // the pairs share 512 keys more
    const Problem& from = s.all[first];
    Problem& to = s.all[first + 1];
    std::copy(from.k.begin(), from.k.begin() + (768 + 512) * from.k_row(), to.k.begin());
    std::copy(from.v.begin(), from.v.begin() + (768 + 512) * from.v_row(), to.v.begin());
  }
  const auto cache = filled(subject(), s.prefix);
  PartialStates top;
  attend_part(subject(), s.prefix, *cache->keys(), KeyRange::before(3), top);
  for (const std::size_t pair : {0u, 1u}) {
    Problem both = s.all[2 * pair];
    both.queries = 2;
    both.query_positions = {s.all[2 * pair].keys - 1, s.all[2 * pair + 1].keys - 1};
    both.q.insert(both.q.end(), s.all[2 * pair + 1].q.begin(), s.all[2 * pair + 1].q.end());
    const auto middle_cache = filled(subject(), both);
    PartialStates middle;
    attend_part(subject(), both, *middle_cache->keys(), {.far_chunks = {}, .near_chunks = {3, 5}}, middle);
    for (const Index one : {0, 1}) {
      const std::size_t i = 2 * pair + std::size_t(one);
      const auto own_cache = filled(subject(), s.all[i]);
      PartialStates own;
      attend_part(subject(), s.all[i], *own_cache->keys(), KeyRange::from(5), own);
      const PartialView parts[] = {own, top.queries(Index(i), 1), middle.queries(one, 1)};
      EXPECT_TRUE(run(subject(), s.all[i]) == finish(subject(), s.all[i], parts)) << i;
    }
  }
}

/// The rows of the prefix are asked for once, however many sequences there are.
TEST_P(Cascade, ReadsThePrefixOnce) {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 16};
  const auto rows_read = [&](std::size_t count) {
    const Sequences s(shape, 2048, std::vector<std::pair<Index, Index>>(count, {1, 1}), false);
    const auto cache = filled(subject(), s.prefix);
    const auto keys = cache->keys();
    const Counted counted(*keys);
    PartialStates states;
    attend_part(subject(), s.prefix, counted, KeyRange::before(8), states);
    EXPECT_EQ(states.num_nodes(), 1);
    return counted.rows();
  };
  // Rows that follow are looked up too, for prefetches: at most once more. Many queries have shorter passes.
  EXPECT_LE(rows_read(96), rows_read(1));
  EXPECT_LE(rows_read(1), 2 * 2 * 2 * 2048) << "twice the keys and values of two KV heads";
}

}  // namespace
}  // namespace heed_test::cascade_test
