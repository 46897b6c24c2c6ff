// Masks that depend on the KV head: each head's rows have the bits of a call with that head's mask for all, and are what
// the oracle says for that head.
#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/policy/grouped.hpp>

#include "hooks/recorder.hpp"
#include "policy/backend.hpp"

namespace heed_test::grouped_mask_test {
namespace {

class GroupedMasks : public HookLaws {};
HEED_FOR_ALL_HOOKED(GroupedMasks);

/// What KV head `g` sees by itself: holes of its own, or every (g + 2)nd block of 64 keys and the query's own.
struct OfHead {
  Index g = 0;
  bool blocks = false;
  [[nodiscard]] bool visible(Index query, Index key) const {
    if (!blocks) return Holes{std::uint64_t(g + 1)}.visible(query, key);
    return key <= query && (key / 64 == query / 64 || key / 64 % (g + 2) == 0);
  }
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const { return asked(*this, queries, keys); }
};

struct PerHead {
  bool blocks = false, ignorant = false;
  Index heads = 0;  ///< KV heads that there are
  [[nodiscard]] bool visible(Index query, Index key, Index kv_head) const {
    EXPECT_TRUE(kv_head >= 0 && kv_head < heads) << kv_head;
    return OfHead{kv_head, blocks}.visible(query, key);
  }
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys, Index kv_head) const {
    EXPECT_TRUE(kv_head >= 0 && kv_head < heads) << kv_head;
    return ignorant ? Coverage::partial : OfHead{kv_head, blocks}.coverage(queries, keys);
  }
};
static_assert(heed::GroupedMask<PerHead> && !heed::AttentionMask<PerHead> && !heed::GroupedMask<OfHead>);

/// A mask of one list that does not look at the KV head.
template <class M>
struct SameForAll {
  M mask;
  [[nodiscard]] bool visible(Index query, Index key, Index) const { return mask.visible(query, key); }
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys, Index) const { return mask.coverage(queries, keys); }
};

AttentionShape shape_of(Mechanism mechanism) {
  return {.mechanism = mechanism, .heads = 6, .kv_heads = 2, .key_dim = 40, .value_dim = 24};
}

/// KV heads as the kernel counts them: in the expanded form of MLA, every head has keys of its own.
Index kv_heads_of(const Problem& p) {
  return p.shape.mechanism == Mechanism::mla_expanded ? p.shape.heads : p.shape.kv_heads;
}

Output masked(const heed::Kernel& kernel, const Storage& storage, const Problem& p, const Source& keys,
              const heed::MaskRef& mask, Index threads = 1) {
  Output result{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
  heed::Workspace workspace;
  const Call call{&keys, mask, p.q, result.out, result.lse, p.query_positions};
  const heed::Status status = storage.attend(kernel, p.shape, {&call, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message() << " " << p;
  return result;
}

/// The same by a plan. (Storage::attend() also compares every call without hooks with a plan's.)
Output masked_planned(const heed::Kernel& kernel, const Storage& storage, const Problem& p, const Source& keys,
                      const heed::MaskRef& mask, Index threads = 1) {
  Output result{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
  heed::Workspace workspace;
  const Call call{&keys, mask, p.q, result.out, result.lse, p.query_positions};
  const heed::Status status =
      storage.attend_planned(kernel, p.shape, {&call, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message() << " " << p;
  return result;
}

/// The rows of the query heads that read one KV head.
Output rows_of(const Output& all, const Problem& p, Index kv_head) {
  Output some;
  const Index group = p.shape.heads / kv_heads_of(p);
  for (Index row = 0; row < p.queries * p.shape.heads; ++row) {
    if (row % p.shape.heads / group != kv_head) continue;
    some.lse.push_back(all.lse[std::size_t(row)]);
    some.out.insert(some.out.end(), all.out.begin() + row * p.shape.value_dim,
                    all.out.begin() + (row + 1) * p.shape.value_dim);
  }
  return some;
}

Problem problem_of(Mechanism mechanism, Index queries, Index keys) {
  Problem p = gaussian(shape_of(mechanism), queries, keys, 1);
  for (Index h = 0; h < p.shape.heads; ++h) {
    p.slopes.push_back(0.01f * float(h + 1));
    p.sinks.push_back(float(h) - 2);
  }
  return p;
}

TEST_P(GroupedMasks, HaveTheBitsOfEachHeadsOwnMask) {
  for (const Mechanism mechanism : mechanisms()) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 700}, {40, 600}, {3, 30}}) {
      const Problem p = problem_of(mechanism, queries, keys);
      const auto cache = filled(plain(), p);
      const auto rows = cache->keys();
      for (const bool blocks : {false, true}) {
        for (const bool ignorant : {false, true}) {
          const PerHead mask{blocks, ignorant, kv_heads_of(p)};
          const Output got = masked(plain().kernel, plain().storage, p, *rows, mask);
          EXPECT_TRUE(masked(plain().kernel, plain().storage, p, *rows, mask, 3) == got) << p;
          EXPECT_TRUE(masked_planned(plain().kernel, plain().storage, p, *rows, mask) == got) << "planned " << p;
          EXPECT_TRUE(masked_planned(plain().kernel, plain().storage, p, *rows, mask, 3) == got) << "planned " << p;
          for (Index g = 0; g < kv_heads_of(p); ++g) {
            const Output want = masked(plain().kernel, plain().storage, p, *rows, OfHead{g, blocks});
            EXPECT_TRUE(rows_of(got, p, g) == rows_of(want, p, g)) << "KV head " << g << " " << p;
          }
        }
      }
    }
  }
}

TEST_P(GroupedMasks, AreWhatTheOracleSaysForEachHead) {
  for (const Mechanism mechanism : mechanisms()) {
    const Problem p = problem_of(mechanism, 40, 600);
    const auto cache = filled(plain(), p);
    const auto rows = cache->keys();
    for (const bool blocks : {false, true}) {
      const Output got = masked(plain().kernel, plain().storage, p, *rows, PerHead{blocks, false, kv_heads_of(p)});
      oracle::Problem o{.heads = p.shape.heads,
                        .kv_heads = p.shape.kv_heads,
                        .key_dim = p.shape.key_dim,
                        .value_dim = p.shape.value_dim,
                        .scale = p.shape.scale,
                        .q = oracle::doubles(p.q),
                        .k = oracle::doubles(p.k),
                        .v = oracle::doubles(p.v),
                        .slopes = oracle::doubles(p.slopes),
                        .sinks = oracle::doubles(p.sinks)};
      for (double& x : o.k) x = rounded(x, plain().key_codec());
      for (double& x : o.v) x = rounded(x, plain().value_codec());
      const Index group = p.shape.heads / kv_heads_of(p);
      for (Index g = 0; g < kv_heads_of(p); ++g) {
        o.visible = [&](oracle::Int query, oracle::Int key) { return OfHead{g, blocks}.visible(query, key); };
        const oracle::Answer want = oracle::attention(o);
        for (std::size_t i = 0; i < got.out.size(); ++i) {
          const std::size_t row = i / std::size_t(p.shape.value_dim);
          if (Index(row) % p.shape.heads / group != g) continue;
          ASSERT_LE(oracle::output_ratio(got.out[i], want.o[i], want.abs_values[i], want.logit_size[row]), 1)
              << "KV head " << g << " " << p;
          ASSERT_LE(oracle::lse_ratio(got.lse[row], want.lse[row], want.logit_size[row]), 1) << "KV head " << g;
        }
      }
    }
  }
}

TEST_P(GroupedMasks, ThatIgnoreTheHeadHaveTheBitsOfTheMask) {
  for (const Mechanism mechanism : mechanisms()) {
    const Problem p = problem_of(mechanism, 40, 600);
    const auto cache = filled(plain(), p);
    const auto rows = cache->keys();
    const auto same = [&](const auto& mask) {
      EXPECT_TRUE(
          masked(plain().kernel, plain().storage, p, *rows, mask) ==
          masked(plain().kernel, plain().storage, p, *rows, SameForAll<std::remove_cvref_t<decltype(mask)>>{mask}))
          << p;
    };
    same(heed::Causal{});
    same(heed::Unmasked{});
    same(Holes{7});
    same(Ignorant<heed::Causal>{});
  }
}

/// With few rows and many keys the keys are cut into parts: each part asks for its KV head.
TEST_P(GroupedMasks, InParts) {
  Problem p = gaussian({.heads = 2, .kv_heads = 2, .key_dim = 8, .value_dim = 8}, 1, 9000, 2);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  for (const bool blocks : {false, true}) {
    const PerHead mask{blocks, false, 2};
    const Output want = masked(plain().kernel, plain().storage, p, *rows, mask);
    for (const Index threads : {2, 3}) {
      EXPECT_TRUE(masked(plain().kernel, plain().storage, p, *rows, mask, threads) == want);
    }
  }
}

/// Hooks of a head are told of what that head sees.
TEST_P(GroupedMasks, HooksSeeEachHeadsKeys) {
  const Problem p = problem_of(Mechanism::gqa, 9, 600);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  const PerHead mask{false, false, 2};
  Recorder got(p.queries, p.shape.heads, p.keys);
  AnyHooks hooks = got.hooks();
  EXPECT_TRUE(masked(GetParam().with(hooks), plain().storage, p, *rows, mask) ==
              masked(plain().kernel, plain().storage, p, *rows, mask));
  Recorder planned(p.queries, p.shape.heads, p.keys);
  hooks = planned.hooks();
  EXPECT_TRUE(masked_planned(GetParam().with(hooks), plain().storage, p, *rows, mask, 3) ==
              masked(plain().kernel, plain().storage, p, *rows, mask));
  EXPECT_TRUE(planned.probabilities() == got.probabilities());
  for (Index row = 0; row < p.queries * p.shape.heads; ++row) {
    for (Index key = 0; key < p.keys; ++key) {
      const bool seen = OfHead{row % 6 / 3, false}.visible(p.keys - p.queries + row / 6, key);
      ASSERT_EQ(got.row(std::size_t(row))[std::size_t(key)] > 0, seen) << "row " << row << " key " << key;
    }
  }
}

// --- what attend() takes ---------------------------------------------------------------------------------------------

struct Rows {
  Rows(Index queries, Index keys) {
    oracle::Random random(3);
    q = random.gaussians(queries * 4 * 16);
    k = random.gaussians(keys * 2 * 16);
    v = random.gaussians(keys * 2 * 16);
    out.assign(q.size(), nan);
  }
  [[nodiscard]] heed::StridedSource<heed::F32> source() const { return {Index(k.size()) / 32, stream(k), stream(v)}; }
  static heed::StridedStream stream(const std::vector<float>& numbers) {
    return {reinterpret_cast<const std::byte*>(numbers.data()), 128, 64, 64};
  }
  std::vector<float> q, k, v, out;
};
constexpr heed::Gqa four_heads{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .v_head_dim = 16, .scale = 0.25f};

/// A mask too large to be copied.
struct Large : PerHead {
  Large() : PerHead{true, false, 2} {}
  char more[100] = {};
};

TEST(GroupedMask, LargeMasksAndBatchesOfDifferentMasks) {
  Rows a(5, 400);
  const auto keys = a.source();
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  static_assert(!heed::MaskRef::copies<Large> && heed::MaskRef::copies<PerHead>);
  EXPECT_TRUE(heed::MaskRef(PerHead{}).grouped());
  EXPECT_FALSE(heed::MaskRef(heed::Causal{}).grouped());
  EXPECT_FALSE(heed::MaskRef().grouped());
  std::vector<float> large(a.out), small(a.out), causal_out(a.out), batch[2] = {a.out, a.out};
  heed::check(heed::attend<Backend>(four_heads, a.q, keys, Large{}, large, workspace, serial));
  heed::check(heed::attend<Backend>(four_heads, a.q, keys, PerHead{true, false, 2}, small, workspace, serial));
  heed::check(heed::attend<Backend>(four_heads, a.q, keys, heed::Causal{}, causal_out, workspace, serial));
  EXPECT_EQ(large, small);
  EXPECT_NE(large, causal_out);
  using Sequence = heed::Sequence<heed::StridedSource<heed::F32>>;
  const std::vector<Sequence> sequences{{.keys = &keys, .mask = PerHead{true, false, 2}, .q = a.q, .out = batch[0]},
                                        {.keys = &keys, .mask = heed::Causal{}, .q = a.q, .out = batch[1]}};
  heed::check(heed::attend_batch<Backend>(four_heads, std::span<const Sequence>(sequences), workspace, serial));
  EXPECT_EQ(batch[0], small);
  EXPECT_EQ(batch[1], causal_out);
}

/// Positions of a text: pairs of neighbours stand for one place, as drafts do.
template <class M>
struct Paired : M {
  [[nodiscard]] Index text_position(Index position) const { return position / 2; }
};

TEST(GroupedMask, HasTextPositions) {
  Rows a(5, 400);
  const auto keys = a.source();
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const std::vector<float> slopes{0.1f, 0.2f, 0.3f, 0.4f};
  const heed::AttendOptions options{.soft_cap = 0, .alibi_slopes = slopes, .sink_logits = {}};
  std::vector<float> want(a.out), got(a.out), straight(a.out);
  heed::check(heed::attend<Backend>(four_heads, a.q, keys, Paired<heed::Causal>{}, want, workspace, serial, options));
  heed::check(heed::attend<Backend>(four_heads, a.q, keys, Paired<SameForAll<heed::Causal>>{}, got, workspace, serial,
                                    options));
  heed::check(heed::attend<Backend>(four_heads, a.q, keys, heed::Causal{}, straight, workspace, serial, options));
  EXPECT_EQ(got, want);
  EXPECT_NE(got, straight);
}

/// One stage, whose mask depends on the KV head.
struct StagedRows : heed::StridedSource<heed::F32> {
  explicit StagedRows(const Rows& rows, Index count) : StridedSource(rows.source()), queries(count) {}
  Index queries;
  [[nodiscard]] Index stages() const { return 1; }
  [[nodiscard]] Interval stage_queries(Index) const { return {0, queries}; }
  [[nodiscard]] Index stage_size(Index) const { return size(); }
  [[nodiscard]] heed::RowRun stage_row_run(Index, int stream, Index head, Index first, Index max) const {
    return row_run(stream, head, first, max);
  }
  [[nodiscard]] Index stage_position(Index, Index key) const { return position(key); }
  [[nodiscard]] heed::MaskRef stage_mask(Index) const { return PerHead{false, false, 2}; }
};

TEST(GroupedMask, OfAStage) {
  Rows a(5, 400);
  const StagedRows staged(a, 5);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::vector<float> want(a.out), got(a.out);
  heed::check(heed::attend<Backend>(four_heads, a.q, a.source(), PerHead{false, false, 2}, want, workspace, serial));
  heed::check(heed::attend<Backend>(four_heads, a.q, staged, got, workspace, serial));
  EXPECT_EQ(got, want);
}

}  // namespace
}  // namespace heed_test::grouped_mask_test
