// Masks that are read in two lists: the same bits whatever else is cached, however the queries are asked.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::split_mask_test {
namespace {

class SplitMasks : public Laws {};
HEED_FOR_ALL_KERNELS(SplitMasks);

enum class Near { window, segments, any };

struct Case {
  Index tokens = 0, queries = 0;  ///< the last tokens are queries
  Index landmarks = 0;
  Near near = Near::window;
  Index width = 1;  ///< of windows and segments
  Index first_slot = 0;
  bool blind = false;
};

Split mask_of(const Case& c, oracle::Random& random) {
  Split mask;
  mask.first_slot = c.first_slot;
  mask.landmark.resize(std::size_t(c.tokens));
  Index begin = 0;
  for (Index i = 0; i < c.tokens; ++i) {
    if (c.near == Near::window) begin = std::max<Index>(0, i + 1 - c.width);
    if (c.near == Near::segments) begin = i / c.width * c.width;
    if (c.near == Near::any && random.below(4) == 0) begin += random.below(i - begin + 1);
    mask.begin.push_back(begin);
    mask.blind.push_back(c.blind && random.below(5) == 0);
  }
  for (Index left = c.landmarks; left > 0;) {
    char& mark = mask.landmark[std::size_t(random.below(std::min(c.tokens, c.landmarks + c.tokens / 8)))];
    left -= mark == 0 ? 1 : 0;
    mark = 1;
  }
  return mask;
}

/// A problem, its mask, and a cache of all its tokens.
struct World {
  World(const Subject& of, const AttentionShape& shape, const Case& c, std::uint64_t seed)
      : World(of, gaussian(shape, c.queries, c.tokens, seed), c, seed) {}
  World(const Subject& of, const Problem& numbers, const Case& c, std::uint64_t seed) : subject(of), p(numbers) {
    oracle::Random random(seed + 100);
    mask = mask_of(c, random);
    p.mask = split(mask);
    cache = filled(subject, p);
    rows = cache->keys();
  }

  /// Queries [first, last), on all tokens up to them, or only on what these queries see.
  [[nodiscard]] Output ask(Index first, Index last, bool evicted, Index threads = 1, Index page = 0) const {
    const Index before = p.keys - p.queries, end = before + last;
    const Index tail = evicted ? mask.begin[std::size_t(before + first)] : 0;
    std::vector<Index> kept;
    for (Index i = 0; i < end; ++i) {
      if (i >= tail || mask.landmark[std::size_t(i)]) kept.push_back(i);
    }
    Problem part = p;
    part.queries = last - first;
    part.q = {p.q.begin() + first * p.q_row(), p.q.begin() + last * p.q_row()};
    part.mask = split(mask.of(kept));
    const Picked picked(*rows, kept);
    return page == 0 ? run(subject, part, picked, threads) : run(subject, part, Paged(picked, page), threads);
  }
  [[nodiscard]] Output all(bool evicted = false, Index threads = 1, Index page = 0) const {
    return ask(0, p.queries, evicted, threads, page);
  }
  [[nodiscard]] Output in_calls(oracle::Random& random, Index largest, bool evicted) const {
    Output whole;
    for (Index first = 0; first < p.queries;) {
      const Index last = std::min(p.queries, first + 1 + random.below(largest));
      const Output part = ask(first, last, evicted, 1 + random.below(3));
      whole.out.insert(whole.out.end(), part.out.begin(), part.out.end());
      whole.lse.insert(whole.lse.end(), part.lse.begin(), part.lse.end());
      first = last;
    }
    return whole;
  }

  const Subject& subject;
  Problem p;
  Split mask;
  std::unique_ptr<Cache> cache;
  std::unique_ptr<Source> rows;
};

/// Every promise about one problem.
void expect_laws(const World& w, oracle::Random& random) {
  const Output whole = w.all();
  const oracle::Answer want = answer(w.subject, w.p);
  EXPECT_TRUE(worst_output(w.subject, whole.out, want) <= 1) << w.p;
  EXPECT_TRUE(worst_lse(w.subject, whole.lse, want) <= 1) << w.p;
  EXPECT_TRUE(whole == w.all(true)) << "evicted " << w.p;
  for (const Index threads : {2, 3, 8}) {
    EXPECT_TRUE(whole == w.all(threads == 3, threads)) << "threads " << threads << " " << w.p;
  }
  EXPECT_TRUE(whole == w.all(false, 2, 1 + random.below(40))) << "pages " << w.p;
  for (const Index largest : {1, 4, 40}) {
    EXPECT_TRUE(whole == w.in_calls(random, largest, false)) << "calls of " << largest << " " << w.p;
    EXPECT_TRUE(whole == w.in_calls(random, largest, true)) << "evicted, calls of " << largest << " " << w.p;
  }
}

/// The far list at the borders of chunks, near slots that start anywhere.
TEST_P(SplitMasks, SameBitsWhateverIsCached) {
  oracle::Random random(1);
  const Index landmarks[] = {0, 1, 255, 256, 257, 600}, slots[] = {0, 1, 255, 256, 4'000'037};
  const AttentionShape shapes[] = {{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12},
                                   {.mechanism = Mechanism::mha, .heads = 2, .key_dim = 9, .value_dim = 70}};
  std::uint64_t seed = 0;
  for (const Index count : landmarks) {
    for (const Near near : {Near::window, Near::segments, Near::any}) {
      const Index widths[] = {1, 40, 64, 300}, width = widths[seed % 4];
      const Case c{.tokens = count + 320 + random.below(200),
                   .queries = 1 + random.below(slow() ? 20 : 120),
                   .landmarks = count,
                   .near = near,
                   .width = width,
                   .first_slot = slots[seed % 5],
                   .blind = seed % 2 == 0};
      const World w(subject(), shapes[seed % 2], c, seed);
      ++seed;
      ASSERT_NO_FATAL_FAILURE(expect_laws(w, random)) << count << " landmarks, width " << width;
    }
  }
}

/// Logits are changed and rows prepared by the positions of far and near keys.
TEST_P(SplitMasks, EveryMechanismAndOption) {
  oracle::Random random(2);
  for (const Mechanism mechanism : mechanisms()) {
    const AttentionShape shape{.mechanism = mechanism, .heads = 4, .kv_heads = 2, .key_dim = 24, .value_dim = 16};
    const Case c{.tokens = 700,
                 .queries = slow() ? 12 : 50,
                 .landmarks = 270,
                 .near = Near::segments,
                 .width = 90,
                 .first_slot = 77,
                 .blind = true};
    Problem p = gaussian(shape, c.queries, c.tokens, 3);
    p.soft_cap = 4;
    p.slopes = {0.01f, 0, 0.02f, 0.001f};
    p.sinks = {1, 0, -2, 3};
    ASSERT_NO_FATAL_FAILURE(expect_laws(World(subject(), p, c, 4 + std::uint64_t(mechanism)), random));
  }
}

/// Parts of the tree: many chunks of both lists, and workers that cut them.
TEST_P(SplitMasks, ManyChunksOfBothLists) {
  oracle::Random random(3);
  for (const Index first_slot : {0, 256 * 5 + 9, 4'000'000}) {
    const Case c{.tokens = 12000,
                 .queries = 3,
                 .landmarks = 4300,
                 .near = Near::window,
                 .width = 6000,
                 .first_slot = first_slot,
                 .blind = true};
    const World w(subject(), {.heads = 2, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, c, 5);
    ASSERT_NO_FATAL_FAILURE(expect_laws(w, random));
  }
}

/// A batch of full and evicted sources, of plain and of split masks.
TEST_P(SplitMasks, InABatch) {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12};
  const Problem plain = gaussian(shape, 5, 700, 7);
  const auto plain_cache = filled(subject(), plain);
  const auto plain_rows = plain_cache->keys();
  const Output plain_alone = run(subject(), plain, *plain_rows);
  const Case c{.tokens = 900, .queries = 30, .landmarks = 300, .near = Near::any, .blind = true};
  const World w(subject(), shape, c, 8);
  const Output alone = w.all();
  std::vector<Index> everything(900);
  for (Index i = 0; i < 900; ++i) everything[std::size_t(i)] = i;
  const AnyMask mask = split(w.mask.of(everything));
  for (const Index threads : {1, 3}) {
    Output a = alone, b = plain_alone, d = alone;
    for (Output* o : {&a, &b, &d}) std::fill(o->out.begin(), o->out.end(), nan);
    const Call calls[] = {{w.rows.get(), mask.ref(), w.p.q, a.out, a.lse},
                          {plain_rows.get(), plain.mask.ref(), plain.q, b.out, b.lse},
                          {w.rows.get(), mask.ref(), w.p.q, d.out, d.lse}};
    heed::Workspace workspace;
    ASSERT_TRUE(subject().attend(w.p.shape, calls, workspace, workers(threads), {}).ok());
    EXPECT_TRUE(a == alone) << threads;
    EXPECT_TRUE(d == alone) << threads;
    EXPECT_TRUE(b == plain_alone) << threads;
  }
}

/// Positions given one by one, in any order.
TEST_P(SplitMasks, ExplicitPositions) {
  oracle::Random random(9);
  const Case c{.tokens = 800, .queries = 40, .landmarks = 280, .near = Near::window, .width = 50, .blind = true};
  const World w(subject(), {.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, c, 9);
  const Output whole = w.all();
  std::vector<Index> everything(800);
  for (Index i = 0; i < 800; ++i) everything[std::size_t(i)] = i;
  Problem drawn = w.p;
  drawn.mask = split(w.mask.of(everything));
  drawn.q.clear();
  Output want;
  const auto append = [](auto& to, const auto& from, Index row, Index width) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
  };
  for (Index i = 0; i < c.queries; ++i) {
    const Index query = random.below(c.queries);
    drawn.query_positions.push_back(c.tokens - c.queries + query);
    append(drawn.q, w.p.q, query, w.p.q_row());
    append(want.out, whole.out, query, w.p.out_row());
    append(want.lse, whole.lse, query, 4);
  }
  EXPECT_TRUE(want == run(subject(), drawn, *w.rows));
}

/// NaN in keys that no query sees, and in far keys that only some see.
TEST_P(SplitMasks, HiddenNaNStaysHidden) {
  for (const bool values : {false, true}) {
    const Case c{.tokens = 700, .queries = 60, .landmarks = 270, .near = Near::segments, .width = 64, .blind = true};
    const AttentionShape shape{.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 16};
    const World clean(subject(), shape, c, 10);
    const auto seen = [&](Index query, Index key) { return clean.mask.visible(c.tokens - c.queries + query, key); };
    Index last_far = 0;
    Problem p = clean.p;
    for (Index key = 0; key < c.tokens; ++key) {
      bool any = false;
      for (Index query = 0; query < c.queries; ++query) any |= seen(query, key);
      if (any && clean.mask.landmark[std::size_t(key)] && key < c.tokens - c.queries - 64) last_far = key;
      std::vector<float>& numbers = values ? p.v : p.k;
      if (!any) std::fill_n(numbers.begin() + key * 2 * 16, 2 * 16, nan);
    }
    const Output want = clean.all();
    EXPECT_TRUE(want == World(subject(), p, c, 10).all()) << values;

    std::fill_n((values ? p.v : p.k).begin() + last_far * 2 * 16, 2 * 16, nan);
    const Output got = World(subject(), p, c, 10).all();
    for (Index query = 0; query < c.queries; ++query) {
      for (Index d = query * p.out_row(); d < (query + 1) * p.out_row(); ++d) {
        const float x = got.out[std::size_t(d)], y = want.out[std::size_t(d)];
        ASSERT_TRUE(seen(query, last_far) ? std::isnan(x) : x == y) << values << " query " << query;
      }
    }
  }
}

/// The whole truth: coverage() and visible() read as one list.
TEST_P(SplitMasks, OneListGivesTheSameAnswer) {
  const Case c{.tokens = 800, .queries = 30, .landmarks = 300, .near = Near::any, .blind = true};
  const World w(subject(), {.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, c, 11);
  Problem p = w.p;
  p.mask = ignorant_split(w.mask);
  EXPECT_TRUE(worst_output(subject(), run(subject(), p, *w.rows).out, answer(subject(), p)) <= 1);
}

/// workspace_bytes() knows nothing of masks, and suffices.
TEST_P(SplitMasks, WorkspaceBytesSuffice) {
  oracle::Random random(12);
  for (int i = 0; i < 20; ++i) {
    const Case c{.tokens = 600 + random.below(3000),
                 .queries = 1 + random.below(20),
                 .landmarks = random.below(500),
                 .near = Near::any,
                 .first_slot = random.below(1000)};
    const World w(subject(), {.heads = 4, .kv_heads = 2, .key_dim = 10, .value_dim = 12}, c, 13 + std::uint64_t(i));
    std::vector<Index> everything;
    for (Index token = 0; token < c.tokens; ++token) everything.push_back(token);
    const AnyMask mask = split(w.mask.of(everything));
    for (const Index threads : {1, 2, 7}) {
      const auto bytes = subject().storage.workspace_bytes(subject().kernel, w.p.shape, c.queries, c.tokens, threads);
      std::vector<std::byte> memory(*bytes);
      heed::Workspace workspace{std::span<std::byte>(memory)};
      std::vector<float> out(std::size_t(c.queries * w.p.out_row()));
      const Call call{w.rows.get(), mask.ref(), w.p.q, out};
      EXPECT_TRUE(subject().attend(w.p.shape, {&call, 1}, workspace, workers(threads), {}).ok()) << w.p;
    }
  }
}

TEST_P(SplitMasks, MaskOfAnotherSource) {
  const Case c{.tokens = 30, .queries = 1, .landmarks = 3, .near = Near::window, .width = 8};
  const World w(subject(), {.heads = 1, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, c, 14);
  const auto refused = [&](const Split& wrong) {
    std::vector<float> out(8);
    heed::Workspace workspace;
    const Call call{w.rows.get(), wrong, w.p.q, out};
    return subject().attend(w.p.shape, {&call, 1}, workspace, workers(1), {}).message();
  };
  Split wrong = w.mask;
  wrong.near = {31, 0};
  EXPECT_EQ(refused(wrong), "sequence 0: mask has near keys from key 31 on, keys has 30");
  wrong = w.mask;
  wrong.far = {3, 30};
  wrong.far_token = {3, 30};
  EXPECT_EQ(refused(wrong), "sequence 0: mask has far key 30, keys has 30");
}

}  // namespace
}  // namespace heed_test::split_mask_test
