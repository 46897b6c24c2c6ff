// Both forms of MLA against float64, their limits, and the rule that chooses between them.
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/layer/mla.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "oracle/mla.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"
#include "policy/worst.hpp"

namespace heed_test::mla_test {
namespace {

using heed::Mla;
using heed::MlaForm;

struct Sizes {
  Index heads, rank, rope, nope, v;
};

/// Random up-projections, rows and queries, for the library and for the oracle.
struct Problem {
  Problem(const Sizes& s, Index queries, Index keys, std::uint64_t seed)
      : mla{.num_heads = s.heads,
            .kv_lora_rank = s.rank,
            .qk_rope_head_dim = s.rope,
            .qk_nope_head_dim = s.nope,
            .v_head_dim = s.v,
            .scale = float(1.3 / std::sqrt(double(s.nope + s.rope)))} {
    oracle::Random random(seed);
    kv_b = random.gaussians(s.heads * (s.nope + s.v) * s.rank);
    for (float& w : kv_b) w *= float(1 / std::sqrt(double(s.rank)));
    packed = heed::value_or_throw(heed::PackedMlaWeights::create(mla, {kv_b, s.heads * (s.nope + s.v), s.rank}));
    mla.weights = packed.weights();
    rows = random.gaussians(keys * mla.row_width());
    q = random.gaussians(queries * s.heads * mla.qk_head_dim());
  }

  [[nodiscard]] oracle::Answer answer() const {
    const oracle::Mla o{.num_heads = mla.num_heads,
                        .kv_lora_rank = mla.kv_lora_rank,
                        .qk_nope_head_dim = mla.qk_nope_head_dim,
                        .qk_rope_head_dim = mla.qk_rope_head_dim,
                        .v_head_dim = mla.v_head_dim,
                        .scale = mla.scale,
                        .kv_b_proj = oracle::doubles(kv_b)};
    return o.naive(oracle::doubles(q), oracle::doubles(rows));
  }

  struct Output {
    std::vector<float> out, lse;
    friend bool operator==(const Output& a, const Output& b) {
      return std::memcmp(a.out.data(), b.out.data(), a.out.size() * sizeof(float)) == 0 &&
             std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0;
    }
  };

  /// Calls of the given numbers of queries, which are those of the last tokens.
  [[nodiscard]] Output run(MlaForm form, const std::vector<Index>& calls, heed::Index workers = 1) const {
    auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
    auto cache = heed::value_or_throw(heed::KvCache<Mla, heed::F32>::create(mla, {}));
    heed::Workspace workspace;
    const Index q_row = mla.num_heads * mla.qk_head_dim(), out_row = mla.num_heads * mla.v_head_dim;
    const Index queries = Index(q.size()) / q_row, keys = Index(rows.size()) / mla.row_width();
    Output result{std::vector<float>(std::size_t(queries * out_row)),
                  std::vector<float>(std::size_t(queries * mla.num_heads))};
    Index token = 0, query = 0;
    const auto append = [&](Index count) {
      auto step = heed::value_or_throw(cache.begin(heed::NumTokens(count)));
      heed::check(step.write(
          0, std::span(rows).subspan(std::size_t(token * mla.row_width()), std::size_t(count * mla.row_width()))));
      heed::check(step.commit());
      token += count;
    };
    if (keys > queries) append(keys - queries);
    for (const Index count : calls) {
      append(count);
      heed::check(heed::attend_mla<Backend>(
          mla, form, std::span(q).subspan(std::size_t(query * q_row), std::size_t(count * q_row)), cache.keys(0),
          heed::Causal{}, std::span(result.out).subspan(std::size_t(query * out_row), std::size_t(count * out_row)),
          workspace, *pool, {},
          std::span(result.lse).subspan(std::size_t(query * mla.num_heads), std::size_t(count * mla.num_heads))));
      query += count;
    }
    return result;
  }

  Mla mla;
  std::vector<float> kv_b, rows, q;
  heed::PackedMlaWeights packed;
};

const std::vector<Sizes> shapes = {{2, 512, 64, 128, 128}, {3, 256, 64, 64, 64}, {2, 512, 0, 128, 256},
                                   {4, 24, 8, 16, 12},     {1, 7, 3, 5, 11},     {5, 1, 1, 1, 1},
                                   {20, 32, 16, 48, 64}};

/// Sees what the KV head says; only the expanded form has more than one.
struct FromHeadOn {
  [[nodiscard]] bool visible(Index query, Index key, Index kv_head) const { return key <= query && key >= kv_head; }
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval, Index) const { return heed::Coverage::partial; }
};

TEST(Mla, AMaskOfKvHeadsNeedsAForm) {
  const Problem p({4, 24, 8, 16, 12}, 1, 20, 1);
  auto cache = heed::value_or_throw(heed::KvCache<Mla, heed::F32>::create(p.mla, {}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(20)));
  heed::check(step.write(0, p.rows));
  heed::check(step.commit());
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const auto attend = [&](MlaForm form, heed::MaskRef mask, std::vector<float>& out) {
    out.assign(4 * 12, 0);
    return heed::attend_mla<Backend>(p.mla, form, p.q, cache.keys(0), mask, out, workspace, serial);
  };
  std::vector<float> out, all;
  const heed::Status status = attend(MlaForm::automatic, FromHeadOn{}, out);
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("mask depends on the KV head"), std::string::npos) << status.message();
  for (const MlaForm form : {MlaForm::absorbed, MlaForm::expanded}) {
    ASSERT_TRUE(attend(form, FromHeadOn{}, out).ok());
    ASSERT_TRUE(attend(form, heed::Causal{}, all).ok());
    for (Index head = 0; head < 4; ++head) {
      const bool same = std::equal(out.begin() + 12 * head, out.begin() + 12 * (head + 1), all.begin() + 12 * head);
      EXPECT_EQ(same, form == MlaForm::absorbed || head == 0) << head;
    }
  }
}

TEST(Mla, BothFormsMeetTheNaiveFormula) {
  for (const Sizes& s : shapes) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 1}, {1, 300}, {3, 700}, {40, 40}, {200, 257}}) {
      const Problem p(s, queries, keys, std::uint64_t(keys));
      const oracle::Answer want = p.answer();
      for (const MlaForm form : {MlaForm::absorbed, MlaForm::expanded, MlaForm::automatic}) {
        const Problem::Output got = p.run(form, {queries});
        EXPECT_LE(worst(got.out, want.o), 1) << s.heads << " heads, rank " << s.rank << ", " << queries << "/" << keys;
        EXPECT_LE(worst(got.lse, want.lse), 1)
            << s.heads << " heads, rank " << s.rank << ", " << queries << "/" << keys;
      }
    }
  }
}

TEST(Mla, EachFormHasTheSameBitsForAnyCallsAndWorkers) {
  for (const Sizes& s : {Sizes{4, 24, 8, 16, 12}, {2, 64, 16, 40, 24}}) {
    const Problem p(s, 70, 600, 3);
    for (const MlaForm form : {MlaForm::absorbed, MlaForm::expanded}) {
      const Problem::Output whole = p.run(form, {70});
      EXPECT_TRUE(whole == p.run(form, std::vector<Index>(70, 1)));
      EXPECT_TRUE(whole == p.run(form, {1, 30, 2, 37}));
      EXPECT_TRUE(whole == p.run(form, {70}, 3));
      EXPECT_TRUE(whole == p.run(form, {35, 35}, 2));
    }
  }
}

/// More queries than one task of the expanded form takes.
TEST(Mla, LongPrefill) {
  const Problem p({2, 16, 4, 8, 8}, 1100, 1300, 5);
  const Problem::Output got = p.run(MlaForm::expanded, {1100}, 2);
  EXPECT_LE(worst(got.out, p.answer().o), 1);
}

/// sigma is on the whole logit: with one key any scale gives the same output, with two it does not.
TEST(Mla, ScaleIsTheQueriesNotTheRows) {
  Problem p({2, 64, 8, 16, 8}, 2, 2, 7);
  const Problem::Output first = p.run(MlaForm::absorbed, {2});
  p.mla.scale *= 1.87f;
  const Problem::Output second = p.run(MlaForm::absorbed, {2});
  const Index row = p.mla.num_heads * p.mla.v_head_dim;
  EXPECT_TRUE(std::equal(first.out.begin(), first.out.begin() + row, second.out.begin()));
  EXPECT_FALSE(std::equal(first.out.begin() + row, first.out.end(), second.out.begin() + row));
  EXPECT_LE(worst(second.out, p.answer().o), 1);
}

/// Absorbed queries in, latent outputs out: what FlashMLA takes.
TEST(Mla, WithoutWeightsItStaysLatent) {
  const Problem p({3, 20, 4, 6, 10}, 2, 50, 9);
  Mla bare = p.mla;
  bare.weights = {};
  oracle::Random random(1);
  const std::vector<float> q = random.gaussians(2 * 3 * 24);
  std::vector<float> out(2 * 3 * 20);
  const heed::StridedSource<heed::F32> keys(50, {reinterpret_cast<const std::byte*>(p.rows.data()), 96, 0, 96});
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  ASSERT_TRUE(heed::attend<Backend>(bare, q, keys, heed::Causal{}, out, workspace, executor).ok());
  const oracle::Mla o{.num_heads = 3,
                      .kv_lora_rank = 20,
                      .qk_nope_head_dim = 6,
                      .qk_rope_head_dim = 4,
                      .v_head_dim = 10,
                      .scale = bare.scale};
  EXPECT_LE(worst(out, o.latent(oracle::doubles(q), oracle::doubles(p.rows)).o), 1);
}

/// One row per token for all heads, whatever their number: 576 numbers in DeepSeek-V3.
TEST(Mla, CachesOneRow) {
  const Mla v3{.num_heads = 128,
               .kv_lora_rank = 512,
               .qk_rope_head_dim = 64,
               .qk_nope_head_dim = 128,
               .v_head_dim = 128,
               .scale = 0.1f};
  auto cache =
      heed::value_or_throw(heed::KvCache<Mla, heed::Bf16>::create(v3, {.layers = 61, .capacity = 4, .max_tokens = 4}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(2)));
  const std::vector<float> rows(2 * 576);
  for (Index layer = 0; layer < 61; ++layer) ASSERT_TRUE(step.write(layer, rows).ok());
  ASSERT_TRUE(step.commit().ok());
  EXPECT_EQ(cache.bytes().live, 2 * 70272);  // heads.md, section 7
}

/// Keys and values of a chunk exist once per worker: a prompt of 65,536 tokens on 128 heads takes no 8 GiB.
TEST(Mla, ExpansionNeedsFewMiBPerWorker) {
  Mla v3{.num_heads = 128,
         .kv_lora_rank = 512,
         .qk_rope_head_dim = 64,
         .qk_nope_head_dim = 128,
         .v_head_dim = 128,
         .scale = 0.1f};
  const std::vector<float> uk(128 * 128 * 512), ukv(128 * 512 * 256);
  v3.weights = {uk, ukv};
  const auto one = heed::value_or_throw(heed::workspace_bytes(heed::MlaExpanded{v3}, 65536, 65536, 1));
  const auto two = heed::value_or_throw(heed::workspace_bytes(heed::MlaExpanded{v3}, 65536, 65536, 2));
  EXPECT_LE(one, std::size_t{10} << 20);
  EXPECT_LE(two, 2 * one);
}

/// The break-even points of heads.md, section 3.4, for DeepSeek's sizes and causal chunks.
TEST(Mla, ChoosesTheCheaperForm) {
  const Mla v3{.num_heads = 128,
               .kv_lora_rank = 512,
               .qk_rope_head_dim = 64,
               .qk_nope_head_dim = 128,
               .v_head_dim = 128,
               .scale = 0.1f};
  for (const auto& [cached, even] :
       {std::pair<Index, double>{64, 97.1}, {256, 135.0}, {1000, 158.2}, {4000, 167.2}, {16000, 169.8}}) {
    const Index below = Index(even) - 1, above = Index(even) + 2;
    EXPECT_FALSE(heed::mla_expansion_is_cheaper(v3, below, cached + below)) << cached;
    EXPECT_TRUE(heed::mla_expansion_is_cheaper(v3, above, cached + above)) << cached;
  }
  EXPECT_TRUE(heed::mla_expansion_is_cheaper(v3, 1024, 1024));
  EXPECT_FALSE(heed::mla_expansion_is_cheaper(v3, 1, Index{1} << 40));
  EXPECT_FALSE(heed::mla_expansion_is_cheaper(v3, 0, 100));
  // A verification takes decode's form, even where a prompt begins.
  EXPECT_TRUE(heed::mla_expansion_is_cheaper(v3, 16, 16));
  EXPECT_FALSE(heed::mla_expands(v3, 16, 16));
  EXPECT_TRUE(heed::mla_expands(v3, 17, 17));
}

TEST(Mla, RefusesWrongShapes) {
  const Problem p({2, 8, 4, 6, 10}, 1, 1, 1);
  const auto message = [](const Mla& mla) { return mla.validate().message(); };
  EXPECT_EQ(message(p.mla), "");
  Mla wrong = p.mla;
  wrong.kv_lora_rank = 0;
  EXPECT_EQ(message(wrong), "kv_lora_rank is 0, must be in 1 .. 8388608");
  wrong = p.mla;
  wrong.qk_rope_head_dim = -1;
  EXPECT_EQ(message(wrong), "qk_rope_head_dim is -1, must be in 0 .. 8388608");
  wrong = p.mla;
  wrong.v_head_dim = 11;
  EXPECT_EQ(message(wrong), "weights.w_ukv has 256 numbers, must have 272");
  wrong = p.mla;
  wrong.weights.w_uk = {};
  EXPECT_EQ(message(wrong), "weights.w_uk has 0 numbers, must have 96");
  wrong = p.mla;
  wrong.weights = {};
  EXPECT_EQ(heed::MlaExpanded{wrong}.validate().message(), "weights are empty, expanded MLA needs them");
  EXPECT_TRUE(wrong.validate().ok());
}

}  // namespace
}  // namespace heed_test::mla_test
