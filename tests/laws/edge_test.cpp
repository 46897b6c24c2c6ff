// Edge cases, each seen failing in some public library.
#include <cfloat>

#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::edge_test {
namespace {

class Edge : public Laws {};
HEED_FOR_ALL_KERNELS(Edge);

constexpr AttentionShape small{.heads = 4, .kv_heads = 2, .key_dim = 8, .value_dim = 8};

void expect_nothing(const Output& got) {
  for (const float x : got.out) EXPECT_EQ(x, 0.0f);
  for (const float x : got.lse) EXPECT_EQ(x, -infinity);
}

TEST_P(Edge, NoKeysNoQueriesNoSequences) {
  for (const Index threads : {1, 3}) {
    for (const Index queries : {1, 5, 200}) expect_nothing(run(subject(), gaussian(small, queries, 0, 1), threads));
    for (const Index keys : {0, 1, 300}) EXPECT_TRUE(run(subject(), gaussian(small, 0, keys, 1), threads).out.empty());
    heed::Workspace workspace;
    EXPECT_TRUE(subject().attend(small, {}, workspace, workers(threads), {}).ok());
  }
}

/// More queries than keys: the first ones come before every key.
TEST_P(Edge, QueriesBeforeTheFirstKeySeeNothing) {
  Problem p = gaussian(small, 9, 4, 2);
  p.sinks = {1, 2, 3, 4};
  Output got = run(subject(), p);
  EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p)) <= 1);
  got.out.resize(std::size_t(5 * p.out_row()));
  got.lse.resize(5 * 4);
  expect_nothing(got);
}

TEST_P(Edge, FullyMaskedRowsAreZeroAmongOthers) {
  struct NotTheThird {
    [[nodiscard]] bool visible(Index query, Index key) const { return query % 3 != 0 && key <= query; }
    [[nodiscard]] heed::Coverage coverage(Interval queries, Interval keys) const { return asked(*this, queries, keys); }
  };
  const NotTheThird mask;
  for (const Index queries : {4, 12, 70}) {
    for (const Index keys : {300, 600}) {
      const Problem p = gaussian(small, queries, keys, 3);
      const Output all = run(subject(), p);
      Output got{std::vector<float>(all.out.size(), nan), std::vector<float>(all.lse.size(), nan)};
      const auto cache = filled(subject(), p);
      const auto rows = cache->keys();
      heed::Workspace workspace;
      const Call call{rows.get(), mask, p.q, got.out, got.lse};
      ASSERT_TRUE(subject().attend(p.shape, {&call, 1}, workspace, workers(1), {}).ok());
      for (Index i = 0; i < queries; ++i) {
        const auto slice = [&](const Output& o) {
          return Output{{o.out.begin() + i * p.out_row(), o.out.begin() + (i + 1) * p.out_row()},
                        {o.lse.begin() + i * 4, o.lse.begin() + (i + 1) * 4}};
        };
        if ((keys - queries + i) % 3 == 0) {
          expect_nothing(slice(got));
        } else {
          EXPECT_TRUE(slice(got) == slice(all)) << i;
        }
      }
    }
  }
}

TEST_P(Edge, LargeLogits) {
  for (const float size : {1e2f, 1e4f}) {
    for (const Index keys : {5, 256, 300, 600}) {
      Problem p = gaussian(small, 3, keys, 4);
      p.shape.scale = 1;
      for (float& x : p.q) x = size / 8 * (x > 0 ? 1.0f : -1.0f);
      for (float& x : p.k) x = x > 0 ? 1.0f : -1.0f;  // logits are multiples of size / 4 in [-size, size], exactly
      const Output got = run(subject(), p);
      EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p)) <= 1) << p;
      EXPECT_TRUE(worst_lse(subject(), got.lse, answer(subject(), p)) <= 1) << p;
    }
  }
}

TEST_P(Edge, EqualLogitsGiveTheMean) {
  for (const Index keys : {1, 2, 255, 256, 257, 513, 1000}) {
    for (const float logit : {0.0f, 50.0f, -9984.0f}) {  // bf16 numbers
      Problem p = gaussian(small, 2, keys, 5);
      p.mask = unmasked();
      p.shape.scale = 1;
      for (std::size_t i = 0; i < p.q.size(); ++i) p.q[i] = i % 8 == 0 ? logit : 0;
      std::fill(p.k.begin(), p.k.end(), 1.0f);
      const Output got = run(subject(), p);
      EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p)) <= 1) << p;
      for (const float x : got.lse) EXPECT_TRUE(oracle::lse_ratio(x, logit + std::log(double(keys)), 0) <= 1) << x;
    }
  }
}

/// Visible keys whose logit is -inf have no weight at all; one finite logit takes all, none leaves nothing. Their values are
/// as large as can be stored: the smallest weight would show.
TEST_P(Edge, AllLogitsMinusInfinityButOne) {
  const std::string codec = subject().value_codec();
  const float huge = codec == "f16" ? 65504.0f : codec == "bf16" ? 0x1.fep127f : FLT_MAX;
  for (const Index queries : {1, 9, 40}) {  // rows read in place, and packed
    for (const Index keys : {1, 3, 256, 600}) {
      Problem p = gaussian(small, queries, keys, 6);
      p.mask = unmasked();
      for (std::size_t i = 0; i < p.q.size(); ++i) p.q[i] = i % 8 == 0 ? 1.0f : 0.5f;
      std::fill(p.k.begin(), p.k.end(), -infinity);
      for (std::size_t i = 0; i < p.v.size(); ++i) p.v[i] = i % 2 == 0 ? huge : -huge;
      expect_nothing(run(subject(), p));
      for (const Index hot : {Index{0}, keys / 2, keys - 1}) {
        Problem one = p;
        std::fill_n(one.k.begin() + hot * p.k_row(), p.k_row(), 0.25f);
        for (Index i = 0; i < p.v_row(); ++i) one.v[std::size_t(hot * p.v_row() + i)] = float(i) - 7.5f;
        const Output got = run(subject(), one);
        for (Index row = 0; row < queries * 4; ++row) {
          ASSERT_EQ(got.lse[std::size_t(row)], 1.125f * p.shape.scale) << one << " hot " << hot;
          for (Index d = 0; d < 8; ++d) {
            ASSERT_EQ(got.out[std::size_t(row * 8 + d)], float(row % 4 / 2 * 8 + d) - 7.5f) << one << " hot " << hot;
          }
        }
      }
    }
  }
}

/// A mask that shows later keys gets the symmetric form of ALiBi: both neighbours of a query count the same.
TEST_P(Edge, AlibiCountsDistancesOnBothSides) {
  for (const Index queries : {1, 40}) {
    for (const Index keys : {5, 300, 600}) {
      Problem p = gaussian(small, queries, keys, 10);
      p.mask = unmasked();
      p.slopes = {0.5f, 0.1f, 0, 0.02f};
      for (Index i = 0; i < queries; ++i) p.query_positions.push_back(i * (keys - 1) / std::max<Index>(queries - 1, 2));
      const Output got = run(subject(), p);
      EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p)) <= 1) << p;
      EXPECT_TRUE(worst_lse(subject(), got.lse, answer(subject(), p)) <= 1) << p;
    }
  }
  // Equal logits, the query in the middle of three keys: weights e^-1, 1, e^-1.
  Problem p = gaussian(small, 1, 3, 11);
  p.mask = unmasked();
  p.slopes = {1, 1, 1, 1};
  p.query_positions = {1};
  std::fill(p.k.begin(), p.k.end(), 0.0f);
  for (std::size_t i = 0; i < p.v.size(); ++i) p.v[i] = float(i / std::size_t(p.v_row()));  // key 0, 1, 2
  const Output got = run(subject(), p);
  for (const float x : got.out) EXPECT_NEAR(x, 1, 1e-6);
  const double rounded = subject().has_default_math() ? 1e-6 : 0x1p-9;  // weights of math::Bf16 have 8 bits
  for (const float x : got.lse) EXPECT_NEAR(x, std::log(1 + 2 * std::exp(-1.0)), rounded);
}

/// Finite rows beyond what a codec stores saturate: no output becomes NaN or infinite.
TEST_P(Edge, RowsBeyondTheFormatSaturate) {
  const auto beyond = [](const std::string& codec) { return codec == "f16" ? 1e6f : codec == "bf16" ? FLT_MAX : 1e6f; };
  for (const Index queries : {1, 40}) {
    Problem p = gaussian(small, queries, 300, 12);
    for (float& x : p.q) x *= subject().key_codec() == "bf16" ? 1e-35f : 1e-3f;
    for (std::size_t i = 0; i < p.k.size(); i += 37) p.k[i] = i % 2 == 0 ? beyond(subject().key_codec()) : -1e6f;
    for (std::size_t i = 0; i < p.v.size(); i += 29) p.v[i] = i % 2 == 0 ? beyond(subject().value_codec()) : -1e6f;
    const Output got = run(subject(), p);
    for (const float x : got.out) EXPECT_TRUE(std::isfinite(x)) << p;
    // A weight is 2^-8 e^(s - max), and may be lost below 2^-126. That much of the largest value counts for each key.
    const double lost = 300 * 0x1p-118 * double(beyond(subject().value_codec()));
    EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p), oracle::eps32, lost) <= 1) << p;
    EXPECT_TRUE(worst_lse(subject(), got.lse, answer(subject(), p)) <= 1) << p;
  }
}

/// Numbers at the edge of the format: the sum of many is beyond it, their mean is not.
TEST_P(Edge, HugeValuesDoNotOverflow) {
  if (subject().value_codec() == "f16") GTEST_SKIP() << "f16 has no such numbers";
  const float huge = subject().value_codec() == "bf16" ? float(oracle::round_to_bf16(FLT_MAX / 4)) : FLT_MAX / 4;
  for (const Index keys : {5, 200, 256, 1025, 3000}) {
    for (const Index queries : {1, 20}) {
      Problem p = gaussian(small, queries, keys, 7);
      p.mask = unmasked();
      std::fill(p.k.begin(), p.k.end(), 0.5f);
      for (std::size_t i = 0; i < p.v.size(); ++i) p.v[i] = i % 8 < 4 ? huge : (i / 16) % 2 == 0 ? huge : -huge;
      const Output got = run(subject(), p);
      EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p)) <= 1) << p;
    }
  }
}

/// Weights carry a factor of 2^-8, which costs subnormal values their last bits: at most 2^7 units of the last place.
/// math::Bf16 takes subnormal values and sums as 0.
TEST_P(Edge, SubnormalNumbers) {
  for (const Index keys : {1, 40, 600}) {
    for (const float size : {0x1p-149f, 0x1p-140f, 0x1p-130f, 0x1p-126f, 0x1p-110f}) {
      Problem p = gaussian(small, 2, keys, 8);
      for (float& x : p.v) x *= size;
      const double floor =
          subject().has_default_math() ? double(128 + 4 * keys) * 0x1p-149 : double(1 + keys) * 0x1p-118;
      EXPECT_TRUE(worst_output(subject(), run(subject(), p).out, answer(subject(), p), oracle::eps32, floor) <= 1) << p;
      p = gaussian(small, 2, keys, 8);
      for (float& x : p.q) x *= size;
      EXPECT_TRUE(worst_output(subject(), run(subject(), p).out, answer(subject(), p)) <= 1) << p;
      for (float& x : p.k) x *= size;
      EXPECT_TRUE(worst_output(subject(), run(subject(), p).out, answer(subject(), p)) <= 1) << p;
    }
  }
}

/// A sink logit far above all others leaves almost nothing, far below changes nothing.
TEST_P(Edge, SinkLogits) {
  for (const Index keys : {1, 256, 300, 900}) {
    Problem p = gaussian(small, 3, keys, 9);
    const Output without = run(subject(), p);
    for (const float sink : {-infinity, -1e4f, -10.0f, 0.0f, 10.0f, 80.0f, 1e4f}) {
      p.sinks = {sink, sink - 1, sink + 1, sink};
      const Output got = run(subject(), p);
      EXPECT_TRUE(worst_output(subject(), got.out, answer(subject(), p), oracle::eps32, 0x1p-118) <= 1) << p << " " << sink;
      EXPECT_TRUE(got.lse == without.lse) << "a sink is not in the lse";
      if (sink <= -1e4f) {
        EXPECT_TRUE(got == without) << p << " " << sink;
      }
      if (sink >= 1e4f) {
        for (const float x : got.out) EXPECT_EQ(x, 0.0f);
      }
    }
  }
}

}  // namespace
}  // namespace heed_test::edge_test
