// The same bits for any number of threads, batch, chunking of the prompt and hand-off from prefill to decode.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::determinism_test {
namespace {

class Determinism : public Laws {};
HEED_FOR_ALL_KERNELS(Determinism);

/// Queries [first, first + count) of a problem, asked when the cache holds exactly the keys up to the last of them.
Problem part_of(const Problem& p, Index first, Index count) {
  Problem part = p;
  part.queries = count;
  part.keys = p.keys - p.queries + first + count;
  part.q = {p.q.begin() + first * p.q_row(), p.q.begin() + (first + count) * p.q_row()};
  part.k.resize(std::size_t(part.keys * p.k_row()));
  part.v.resize(std::size_t(part.keys * p.v_row()));
  return part;
}

/// Everything of a prompt in the calls that `sizes` says, each on a cache with that many keys.
Output in_parts(const Subject& subject, const Problem& p, const std::vector<Index>& sizes, Index threads = 1) {
  Output all;
  Index first = 0;
  for (const Index size : sizes) {
    const Output part = run(subject, part_of(p, first, size), threads);
    all.out.insert(all.out.end(), part.out.begin(), part.out.end());
    all.lse.insert(all.lse.end(), part.lse.begin(), part.lse.end());
    first += size;
  }
  return all;
}

std::vector<Index> random_sizes(oracle::Random& random, Index total, Index largest) {
  std::vector<Index> sizes;
  while (total > 0) {
    sizes.push_back(std::min(total, 1 + random.below(largest)));
    total -= sizes.back();
  }
  return sizes;
}

/// What a prefill gave, any chunked prefill gives, and any decode afterwards: every masking, head size and grouping.
TEST_P(Determinism, PrefillInChunksIsOneCallIsDecode) {
  oracle::Random random(1);
  std::vector<AttentionShape> shapes = {{.heads = 4, .kv_heads = 2, .key_dim = 24, .value_dim = 40},
                                        {.heads = 9, .kv_heads = 3, .key_dim = 7, .value_dim = 3},
                                        {.mechanism = Mechanism::mqa, .heads = 8, .key_dim = 64, .value_dim = 64},
                                        {.mechanism = Mechanism::mha, .heads = 2, .key_dim = 16, .value_dim = 80}};
  if (subject().shares()) {
    shapes.push_back({.mechanism = Mechanism::mla, .heads = 4, .key_dim = 40, .value_dim = 24});
    shapes.push_back({.mechanism = Mechanism::mla_expanded, .heads = 4, .key_dim = 40, .value_dim = 24});
    shapes.push_back({.mechanism = Mechanism::mfa_kr, .heads = 7, .key_dim = 48, .value_dim = 48});
  }
  for (const AttentionShape& shape : shapes) {
    for (const AnyMask& mask : {causal(), window(40)}) {
      Problem p = gaussian(shape, 60, 290, 1);
      p.mask = mask;
      p.soft_cap = shape.heads == 4 ? 5 : 0;
      for (Index h = 0; h < shape.heads; ++h) {
        p.slopes.push_back(shape.heads == 9 ? 0.01f * float(h) : 0);
        p.sinks.push_back(float(h) - 2);
      }
      const Output whole = run(subject(), p);
      EXPECT_TRUE(whole == in_parts(subject(), p, std::vector<Index>(60, 1))) << "decode " << p;
      for (const Index largest : slow() ? std::vector<Index>{8} : std::vector<Index>{3, 8, 16, 59}) {
        EXPECT_TRUE(whole == in_parts(subject(), p, random_sizes(random, 60, largest))) << largest << " " << p;
      }
      for (const Index handoff :
           slow() ? std::vector<Index>{30} : std::vector<Index>{1, 30, 59}) {  // prefill, then decode
        std::vector<Index> sizes(std::size_t(61 - handoff), 1);
        sizes[0] = handoff;
        EXPECT_TRUE(whole == in_parts(subject(), p, sizes)) << handoff << " " << p;
      }
    }
  }
}

/// Draft trees: positions given one by one, in any order, are the rows of the prefill.
TEST_P(Determinism, ExplicitPositionsInAnyOrder) {
  oracle::Random random(2);
  const Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 24, .value_dim = 40}, 40, 300, 2);
  const Output whole = run(subject(), p);
  Problem drawn = p;
  drawn.q.clear();
  Output want;
  for (Index i = 0; i < p.queries; ++i) {
    const Index query = random.below(p.queries);
    drawn.query_positions.push_back(p.keys - p.queries + query);
    drawn.q.insert(drawn.q.end(), p.q.begin() + query * p.q_row(), p.q.begin() + (query + 1) * p.q_row());
    want.out.insert(want.out.end(), whole.out.begin() + query * p.out_row(),
                    whole.out.begin() + (query + 1) * p.out_row());
    want.lse.insert(want.lse.end(), whole.lse.begin() + query * 4, whole.lse.begin() + (query + 1) * 4);
  }
  EXPECT_TRUE(want == run(subject(), drawn));
}

TEST_P(Determinism, ThreadsAndRepeats) {
  for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 3000}, {3, 1300}, {2, 257}, {60, 700}, {1, 1}}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 16}, queries, keys, 3);
    for (const AnyMask& mask : {causal(), window(300), holes(5)}) {
      p.mask = mask;
      const auto cache = filled(subject(), p);
      const auto rows = cache->keys();
      const Output want = run(subject(), p, *rows, 1);
      for (const Index threads : {2, 3, 7}) {
        for (int repeat = 0; repeat < 3; ++repeat) {
          EXPECT_TRUE(want == run(subject(), p, *rows, threads)) << p << " threads " << threads;
        }
      }
    }
  }
}

/// Rows that see some chunks and not others: what is merged with what is a matter of chunk numbers, not of who works.
/// With 36 chunks and 2 threads a task has 4 of them.
TEST_P(Determinism, ThreadsWithChunksMissing) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    Problem p = gaussian({.heads = 2, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, 4, 9000, seed);
    p.mask = holes(seed);
    const auto cache = filled(subject(), p);
    const auto rows = cache->keys();
    const Output want = run(subject(), p, *rows, 1);
    for (const Index threads : {2, 3, 7}) {
      EXPECT_TRUE(want == run(subject(), p, *rows, threads)) << seed << " threads " << threads;
    }
  }
}

/// A batch of everything at once, in any order and with any neighbours.
TEST_P(Determinism, BatchCompositionAndPosition) {
  oracle::Random random(4);
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 20};
  const std::vector<std::pair<Index, Index>> sizes = {{1, 1},   {1, 700}, {16, 300}, {1, 1300}, {0, 5},
                                                      {50, 50}, {5, 0},   {2, 256},  {1, 257}};
  std::vector<Problem> problems;
  std::vector<Output> alone;
  std::vector<std::unique_ptr<Cache>> caches;
  std::vector<std::unique_ptr<Source>> sources;
  for (const auto& [queries, keys] : sizes) {
    problems.push_back(gaussian(shape, queries, keys, 5 + problems.size()));
    if (problems.size() % 3 == 0) problems.back().mask = window(100);
    caches.push_back(filled(subject(), problems.back()));
    sources.push_back(caches.back()->keys());
    alone.push_back(run(subject(), problems.back(), *sources.back()));
  }
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<std::size_t> members;
    for (Index i = random.below(12); i >= 0; --i) members.push_back(std::size_t(random.below(Index(sizes.size()))));
    std::vector<Output> got;
    for (const std::size_t m : members) {
      got.push_back({std::vector<float>(alone[m].out.size(), nan), std::vector<float>(alone[m].lse.size(), nan)});
    }
    std::vector<Call> calls;
    for (std::size_t i = 0; i < members.size(); ++i) {
      const Problem& p = problems[members[i]];
      calls.push_back({sources[members[i]].get(), p.mask.ref(), p.q, got[i].out, got[i].lse});
    }
    const Index threads = 1 + random.below(3);
    heed::Workspace workspace;
    ASSERT_TRUE(subject().attend(problems[0].shape, calls, workspace, workers(threads), {}).ok());
    for (std::size_t i = 0; i < members.size(); ++i) {
      EXPECT_TRUE(got[i] == alone[members[i]]) << "threads " << threads << " member " << problems[members[i]];
    }
  }
}

/// The matrix: batch size x position x chunking x hand-off x page size x threads, many draws.
void matrix(const Subject& subject, int repeats, std::uint64_t seed) {
  oracle::Random random(seed);
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 16};
  const Problem p = gaussian(shape, 48, 560, 6);
  const Output whole = run(subject, p);
  const auto cache = filled(subject, p);
  const auto rows = cache->keys();
  const Problem other = gaussian(shape, 5, 700, 7);
  const auto other_cache = filled(subject, other);
  const auto other_rows = other_cache->keys();
  heed::Workspace workspace;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const Index pages[] = {1, 8, 16, 64}, threads[] = {1, 2, 3, 7};
    const Index page = pages[random.below(4)], workers_used = threads[random.below(4)];
    const Index batch = 1 + random.below(4), position = random.below(batch);
    const Paged paged(*rows, page);
    Output got;
    std::vector<Index> sizes = random_sizes(random, 1 + random.below(48), 1 + random.below(20));
    Index first = 0;
    for (const Index s : sizes) first += s;
    sizes.insert(sizes.end(), std::size_t(48 - first), 1);  // hand over to decode
    first = 0;
    for (const Index size : sizes) {
      const std::vector<float> q(p.q.begin() + first * p.q_row(), p.q.begin() + (first + size) * p.q_row());
      std::vector<Index> positions;
      for (Index i = 0; i < size; ++i) positions.push_back(p.keys - p.queries + first + i);
      Output part{std::vector<float>(std::size_t(size * p.out_row())), std::vector<float>(std::size_t(size * 4))};
      std::vector<Output> others(std::size_t(batch), Output{std::vector<float>(std::size_t(5 * p.out_row())), {}});
      std::vector<Call> calls;
      for (Index b = 0; b < batch; ++b) {
        calls.push_back(b == position ? Call{&paged, p.mask.ref(), q, part.out, part.lse, positions}
                                      : Call{other_rows.get(), other.mask.ref(), other.q, others[std::size_t(b)].out});
      }
      ASSERT_TRUE(subject.attend(p.shape, calls, workspace, workers(workers_used), {}).ok());
      got.out.insert(got.out.end(), part.out.begin(), part.out.end());
      got.lse.insert(got.lse.end(), part.lse.begin(), part.lse.end());
      first += size;
    }
    EXPECT_TRUE(whole == got) << "page " << page << " threads " << workers_used << " batch " << batch;
  }
}

TEST_P(Determinism, Matrix) { matrix(subject(), slow() ? 5 : 20, 8); }
TEST_P(Determinism, MatrixLong) { matrix(subject(), 500, 9); }

}  // namespace
}  // namespace heed_test::determinism_test
