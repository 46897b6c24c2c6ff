// The identities of the latent family, in float64: two ways to the same numbers, and ways that must not lead there.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "oracle/golden_cases.hpp"
#include "oracle/mfa.hpp"
#include "oracle/mla.hpp"
#include "oracle/random.hpp"

namespace heed_test::latent_test {
namespace {

using oracle::Int;
using oracle::Numbers;
using oracle::golden::distance;
using oracle::golden::expect_near;
constexpr double tolerance = 1e-13;
constexpr Int hidden = 14, tokens = 9;

Numbers random_numbers(oracle::Random& random, Int n, double deviation = 1) {
  Numbers x;
  for (Int i = 0; i < n; ++i) x.push_back(deviation * random.gaussian());
  return x;
}
Numbers random_weight(oracle::Random& random, Int out, Int in) {
  return random_numbers(random, out * in, 1 / std::sqrt(double(in)));
}

std::vector<Int> positions_from(Int first) {
  std::vector<Int> positions(std::size_t(tokens), 0);
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

Numbers input() {
  oracle::Random random(7);
  return random_numbers(random, tokens * hidden, 2);
}

/// The last `count` of `all` rows.
Numbers last(const Numbers& rows, Int count, Int all = tokens) {
  return {rows.end() - std::ptrdiff_t(rows.size()) / all * count, rows.end()};
}

oracle::Mla random_mla(bool compressed_queries = true) {
  oracle::Random random(3);
  oracle::Mla m{
      .num_heads = 3, .kv_lora_rank = 10, .qk_nope_head_dim = 6, .qk_rope_head_dim = 4, .v_head_dim = 5, .scale = 0.4};
  m.rotation = {.frequencies = oracle::rope_frequencies(4, 1e4), .interleaved = true};
  m.q_a_eps = m.kv_a_eps = 1e-6;
  if (compressed_queries) {
    m.q_a_proj = random_weight(random, 8, hidden);
    m.q_a_layernorm = random_numbers(random, 8);
    m.q_b_proj = random_weight(random, m.num_heads * m.query_width(), 8);
  } else {
    m.q_proj = random_weight(random, m.num_heads * m.query_width(), hidden);
  }
  m.kv_a_proj_with_mqa = random_weight(random, m.row_width(), hidden);
  m.kv_a_layernorm = random_numbers(random, m.kv_lora_rank);
  m.kv_b_proj = random_weight(random, m.num_heads * (m.qk_nope_head_dim + m.v_head_dim), m.kv_lora_rank);
  m.o_proj = random_weight(random, hidden, m.num_heads * m.v_head_dim);
  return m;
}

oracle::Mfa random_mfa() {
  oracle::Random random(4);
  oracle::Mfa m{.num_heads = 5, .head_dim = 6, .scale = 0.4};
  m.rotation.frequencies = oracle::rope_frequencies(6, 1e4);
  m.eps = 1e-5;
  m.q_proj = random_weight(random, 8, hidden);
  m.inter_norm = random_numbers(random, 8);
  m.wq = random_weight(random, m.num_heads * m.head_dim, 8);
  m.k_proj = random_weight(random, m.head_dim, hidden);
  m.v_proj = random_weight(random, m.head_dim, hidden);
  m.o_proj = random_weight(random, hidden, m.num_heads * m.head_dim);
  return m;
}

oracle::KeyReuse random_reuse() {
  oracle::Random random(5);
  return {random_weight(random, 6, 6), random_numbers(random, 6)};
}

TEST(OracleNorm, ByHand) {  // mean square of (1, 7) is 25, of (0, 0) is 0
  const Numbers got = oracle::rms_norm({1, 7, 0, 0}, {2, 3}, 11);
  expect_near(got, {2.0 / 6, 21.0 / 6, 0, 0}, 1e-15, "rows of two");
  EXPECT_EQ(oracle::rms_norm({1, 7}, {}, 1), (Numbers{1, 7}));
}

TEST(OracleMla, AbsorbedIsNaive) {
  for (const bool compressed : {false, true}) {
    const oracle::Mla m = random_mla(compressed);
    const Numbers q = m.queries(input(), positions_from(0)), rows = m.rows(input(), positions_from(0));
    for (const Int queries : {tokens, Int{1}, Int{3}}) {  // prefill, decode, a step of three at the end
      SCOPED_TRACE(queries);
      const auto naive = m.naive(last(q, queries), rows), absorbed = m.absorbed(last(q, queries), rows);
      ASSERT_EQ(naive.lse.size(), std::size_t(queries * m.num_heads));
      expect_near(m.from_latent(absorbed.o), naive.o, tolerance, "o");
      expect_near(absorbed.lse, naive.lse, tolerance, "lse");
      expect_near(naive.o, last(m.naive(q, rows).o, queries), 0, "the same rows of the prefill");
    }
  }
}

TEST(OracleMla, OneKeyHidesAWrongScaleTwoShowIt) {
  const oracle::Mla m = random_mla();
  oracle::Mla wrong = m;
  wrong.scale *= 1.1;
  const Numbers q = m.queries(input(), positions_from(0)), rows = m.rows(input(), positions_from(0));
  const Int row = m.num_heads * m.v_head_dim;
  const Numbers right_o = m.naive(q, rows).o, wrong_o = wrong.naive(q, rows).o;
  expect_near({wrong_o.begin(), wrong_o.begin() + row}, {right_o.begin(), right_o.begin() + row}, tolerance, "one key");
  EXPECT_GT(
      distance({wrong_o.begin() + row, wrong_o.begin() + 2 * row}, {right_o.begin() + row, right_o.begin() + 2 * row}),
      1e-3);
}

TEST(OracleMla, ShiftOfAllPositionsChangesNothing) {
  const oracle::Mla m = random_mla();
  const auto at = [&](Int first) {
    return m.naive(m.queries(input(), positions_from(first)), m.rows(input(), positions_from(first)));
  };
  expect_near(at(1000).o, at(0).o, 1e-11, "o");
  expect_near(at(1000).lse, at(0).lse, 1e-11, "lse");
}

// Rows of a weight whose last `rope` of every `width` rows are taken pairs apart: evens first, then odds.
Numbers deinterleaved(const Numbers& w, Int width, Int rope, Int in) {
  Numbers to = w;
  for (Int r = 0; r * in < Int(w.size()); ++r) {
    const Int i = r % width - (width - rope);
    if (i < 0) continue;
    const Int target = r - i + (i % 2 == 0 ? i / 2 : rope / 2 + i / 2);
    std::copy_n(w.begin() + r * in, in, to.begin() + target * in);
  }
  return to;
}

TEST(OracleMla, InterleavedIsDeinterleavedAndHalfSplit) {
  const oracle::Mla m = random_mla(false);
  oracle::Mla half = m;
  half.rotation.interleaved = false;
  const auto positions = positions_from(3);
  const auto answer = [&](const oracle::Mla& mla) {
    return mla.naive(mla.queries(input(), positions), mla.rows(input(), positions));
  };
  EXPECT_GT(distance(answer(half).lse, answer(m).lse), 1e-2) << "half-split on interleaved weights is wrong";
  half.q_proj = deinterleaved(m.q_proj, m.query_width(), m.qk_rope_head_dim, hidden);
  half.kv_a_proj_with_mqa = deinterleaved(m.kv_a_proj_with_mqa, m.row_width(), m.qk_rope_head_dim, hidden);
  expect_near(answer(half).o, answer(m).o, tolerance, "o");
  expect_near(answer(half).lse, answer(m).lse, tolerance, "lse");
  // What is cached is the same numbers in another order.
  const Numbers a = m.rows(input(), positions), b = half.rows(input(), positions);
  expect_near(b, deinterleaved(a, m.row_width(), m.qk_rope_head_dim, 1), tolerance, "rows");
  EXPECT_GT(distance(a, b), 1e-2);
}

TEST(OracleMla, NormIsOverTheLatentOnlyAndEachHasItsEps) {
  const oracle::Mla m = random_mla();
  oracle::Mla changed = m;
  changed.kv_a_eps = 0.5;
  const auto positions = positions_from(0);
  const Numbers rows = m.rows(input(), positions), other = changed.rows(input(), positions);
  const auto part = [&](const Numbers& all, Int first, Int count) {
    return oracle::columns(all, m.row_width(), first, count);
  };
  EXPECT_GT(distance(part(other, 0, 10), part(rows, 0, 10)), 1e-2);
  EXPECT_EQ(part(other, 10, 4), part(rows, 10, 4));
  EXPECT_EQ(changed.queries(input(), positions), m.queries(input(), positions));
  changed.q_a_eps = 0.5;
  EXPECT_GT(distance(changed.queries(input(), positions), m.queries(input(), positions)), 1e-2);
}

TEST(OracleMla, BoundCoversBothForms) {
  const oracle::Mla m = random_mla();
  const Numbers q = m.queries(input(), positions_from(0)), rows = m.rows(input(), positions_from(0));
  const auto bounded = m.bounded(q, rows), naive = m.naive(q, rows), absorbed = m.absorbed(q, rows);
  EXPECT_EQ(bounded.o, naive.o);
  for (std::size_t i = 0; i < bounded.logit_size.size(); ++i) {
    EXPECT_GE(bounded.logit_size[i], std::max(naive.logit_size[i], absorbed.logit_size[i]));
  }
  for (std::size_t i = 0; i < bounded.o.size(); ++i) {
    EXPECT_GE(bounded.abs_values[i], naive.abs_values[i] * (1 - 1e-12));
  }
}

TEST(OracleMfa, WithoutBottleneckItIsMqa) {  // r >= hidden_size, W_dq = I, no norm
  for (const Int r : {hidden, hidden + 3}) {
    oracle::Random random(6);
    oracle::Mfa m = random_mfa();
    m.inter_norm.clear();
    m.q_proj.assign(std::size_t(r * hidden), 0.0);
    for (Int i = 0; i < hidden; ++i) m.q_proj[std::size_t(i * hidden + i)] = 1;
    m.wq = random_weight(random, m.num_heads * m.head_dim, r);
    ASSERT_EQ(m.share_q_dim(), r);

    const auto positions = positions_from(2);
    const auto rotated = [&](const Numbers& w) {
      return m.rotation.rotated(oracle::linear(input(), w, hidden), m.head_dim, positions);
    };
    oracle::Problem mqa{.heads = m.num_heads, .kv_heads = 1, .key_dim = 6, .value_dim = 6, .scale = m.scale};
    mqa.q = rotated(oracle::columns(m.wq, r, 0, hidden));
    mqa.k = rotated(m.k_proj);
    mqa.v = oracle::linear(input(), m.v_proj, hidden);
    const auto got = m.attend(m.queries(input(), positions), rotated(m.k_proj), m.values(input()));
    const auto want = oracle::attention(mqa);
    expect_near(got.o, want.o, tolerance, "o");
    expect_near(got.lse, want.lse, tolerance, "lse");
  }
}

TEST(OracleMfaKr, AlphaZeroIsMfaWithValuesFromKeys) {
  oracle::Mfa m = random_mfa();
  m.v_proj = m.k_proj;
  auto reuse = random_reuse();
  EXPECT_GT(distance(reuse.values(m.keys(input())), m.values(input())), 1e-2);
  reuse.alpha.assign(6, 0.0);
  EXPECT_EQ(reuse.values(m.keys(input())), m.values(input()));
  EXPECT_EQ(reuse.folded(m.o_proj), m.o_proj);
}

TEST(OracleMfaKr, AlphaGatesOutputChannels) {  // N k = (k_1, k_0), alpha = (2, 0)
  const oracle::KeyReuse reuse{.n = {0, 1, 1, 0}, .alpha = {2, 0}};
  EXPECT_EQ(reuse.values({10, 1}), (Numbers{12, 1}));
  EXPECT_EQ(reuse.folded({100, 3}), (Numbers{100, 203}));  // (100, 3) M,  M = [1 2; 0 1]
}

TEST(OracleMfaKr, ExplicitValuesAreTheFoldedOutputWeight) {
  const oracle::Mfa m = random_mfa();
  const auto reuse = random_reuse();
  const auto positions = positions_from(0);
  const Numbers q = m.queries(input(), positions), k = m.keys(input());
  const Numbers rotated = m.rotation.rotated(k, m.head_dim, positions);
  for (const Int queries : {tokens, Int{1}, Int{3}}) {
    const Numbers o = m.attend(last(q, queries), rotated, reuse.values(k)).o;
    const Numbers z = m.attend(last(q, queries), rotated, k).o;
    expect_near(reuse.values(z), o, tolerance, "M z");
    expect_near(oracle::linear(z, reuse.folded(m.o_proj), m.num_heads * m.head_dim), m.output(o), tolerance, "out");
  }
}

TEST(OracleMfaKr, RotatedCacheUnrotatedAtReadIsTheSame) {  // option B = option A; C is another function
  oracle::Mfa m = random_mfa();
  m.rotation.amplitude = 1.25;
  const auto reuse = random_reuse();
  const auto positions = positions_from(100);
  const Numbers q = m.queries(input(), positions), k = m.keys(input());
  const Numbers cached = m.rotation.rotated(k, m.head_dim, positions);
  const Numbers a = m.attend(q, cached, reuse.values(k)).o;
  expect_near(m.attend(q, cached, reuse.values(m.rotation.unrotated(cached, m.head_dim, positions))).o, a, tolerance,
              "values from un-rotated rows");
  EXPECT_GT(distance(m.attend(q, cached, reuse.values(cached)).o, a), 1e-2) << "values from rotated rows are others";
}

TEST(OracleMfaKr, ShiftOfAllPositionsChangesNothing) {
  const oracle::Mfa m = random_mfa();
  const auto reuse = random_reuse();
  const auto at = [&](Int first, bool values_from_rotated) {
    const Numbers k = m.keys(input()), rotated = m.rotation.rotated(k, m.head_dim, positions_from(first));
    const Numbers v = reuse.values(values_from_rotated ? rotated : k);
    return m.attend(m.queries(input(), positions_from(first)), rotated, v).o;
  };
  expect_near(at(1000, false), at(0, false), 1e-11, "o");
  EXPECT_GT(distance(at(1000, true), at(0, true)), 1e-2) << "values from rotated keys know absolute positions";
}

TEST(OracleMfa, ShiftOfAllPositionsChangesNothing) {
  const oracle::Mfa m = random_mfa();
  const auto at = [&](Int first) {
    const Numbers k = m.rotation.rotated(m.keys(input()), m.head_dim, positions_from(first));
    return m.attend(m.queries(input(), positions_from(first)), k, m.values(input())).o;
  };
  expect_near(at(1000), at(0), 1e-11, "o");
}

TEST(OracleGoldenCases, DistanceToNanIsInfinite) {
  const double nan = std::nan("");
  EXPECT_EQ(distance({1, -oracle::infinity}, {1, -oracle::infinity}), 0);
  EXPECT_EQ(distance({nan}, {nan}), oracle::infinity);
  EXPECT_EQ(distance({1, nan, 1}, {1, 1, 1}), oracle::infinity);
  EXPECT_EQ(distance({1}, {1, 1}), oracle::infinity);
}

}  // namespace
}  // namespace heed_test::latent_test
