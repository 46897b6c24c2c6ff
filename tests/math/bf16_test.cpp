/// \file
/// math::Bf16: every backend has the bits of the definition, and the definition is within its bound of float64.
#include <heed/heed.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "codec/scaled_rows.hpp"
#include "oracle/attention.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

namespace heed_test::bf16_test {
namespace {

using heed::Index;
using heed::Interval;
using M = heed::math::Bf16;
using Definition = M::On<heed::Scalar>;

template <class Body>
void each_vector(const Body& body) {
  heed::Backends::for_each([&]<class Backend>() {
    if constexpr (requires { typename Backend::Vector; }) body.template operator()<Backend>();
  });
}

std::uint32_t bits_of(float x) { return heed::detail::bits_as<std::uint32_t>(x); }
/// The same bits, or both NaN.
bool same(float a, float b) { return (a != a && b != b) || bits_of(a) == bits_of(b); }

/// bf16 numbers of any kind: most are ordinary, some subnormal, zero of either sign, infinite or NaN.
std::uint16_t any_bf16(oracle::Random& random, bool finite = false) {
  const auto bits = std::uint16_t(random.below(65536));
  const auto kind = random.below(16);
  if (kind == 0) return bits & 0x807f;                            // subnormal or zero
  if (kind == 1) return bits & 0x8000;                            // zero
  if (kind == 2 && !finite) return (bits & 0x8000) | 0x7f80;      // infinite
  if (kind == 3 && !finite) return bits | 0x7fc0;                 // NaN
  if (kind == 4) return std::uint16_t((bits & 0x80ff) | 0x1f00);  // products near the smallest normal number
  return std::uint16_t((bits & 0x807f) | ((120 + bits % 14) << 7));
}

TEST(Bf16Math, EveryBackendAddsProductsOfPairsAsTheDefinition) {
  each_vector([]<class Backend>() {
    using V = typename Backend::Vector;
    using Words = typename V::Words;
    using Dots = heed::detail::PairDots<V>;
    oracle::Random random(3);
    for (int turn = 0; turn < 20000; ++turn) {
      float sum[V::width], got[2][V::width];
      heed::Bf16Pair a[V::width], b[V::width];
      for (int i = 0; i < V::width; ++i) {
        const auto pair = [&] { return heed::Bf16Pair{any_bf16(random) | std::uint32_t(any_bf16(random)) << 16}; };
        a[i] = pair(), b[i] = pair();
        const auto start = std::uint32_t(any_bf16(random)) << 16 | std::uint32_t(random.below(65536));
        sum[i] = heed::detail::flushed(heed::detail::bits_as<float>(start));
      }
      Words x, y;
      std::memcpy(&x, a, sizeof x);
      std::memcpy(&y, b, sizeof y);
      V::store(got[0], Dots::dot(V::load(sum), x, y));
      V::store(got[1], Dots::dot_at(V::load(sum), reinterpret_cast<const heed::detail::PairWord*>(a), y));
      for (int i = 0; i < V::width; ++i) {
        ASSERT_TRUE(same(got[0][i], heed::detail::dot_pairs(sum[i], a[i], b[i])))
            << Backend::name << " " << got[0][i] << " " << heed::detail::dot_pairs(sum[i], a[i], b[i]);
        ASSERT_TRUE(same(got[1][i], heed::detail::dot_pairs(sum[i], a[0], b[i]))) << Backend::name;
      }
    }
  });
}

/// What a hidden value counts as changes no sum, not even one of -0.
TEST(Bf16Math, AHiddenValueChangesNoSum) {
  const heed::Bf16Pair nothing{heed::detail::negative_zero_bf16 << 16 | heed::detail::negative_zero_bf16};
  for (const float sum : {0.0f, -0.0f, 1.5f, -0x1p-126f, heed::detail::infinity}) {
    EXPECT_EQ(bits_of(heed::detail::dot_pairs(sum, {0}, nothing)), bits_of(sum)) << sum;
  }
  EXPECT_EQ(bits_of(heed::detail::dot_pairs(1, {0x3f80u << 16}, {0x4000u << 16 | 0x8000u})), bits_of(3));
}

/// Rows of random numbers in codec `C`, each in a block of its own, with what a kernel is given of them.
template <class C>
struct Rows {
  std::vector<std::vector<std::byte>> bytes, entries;
  std::vector<const std::byte*> row, entry;
  Index offset;

  Rows(oracle::Random& random, Index count, Index first, Index width, bool poison_last = false) : offset(first) {
    const Index all = heed::round_up(first + width, 64) + 64;
    for (Index k = 0; k < count; ++k) {
      std::vector<float> numbers(static_cast<std::size_t>(all));
      for (float& x : numbers) x = float(random.gaussian());
      if (poison_last && k + 1 == count) numbers.assign(numbers.size(), std::nanf(""));
      bytes.emplace_back(std::size_t(C::row_bytes(all)) + 64);
      entries.emplace_back(std::size_t(C::factor_bytes(all)) + 64);
      C::encode(numbers.data(), all, bytes.back().data(), entries.back().data());
    }
    for (Index k = 0; k < count; ++k) {
      row.push_back(bytes[std::size_t(k)].data());
      entry.push_back(entries[std::size_t(k)].data());
    }
  }
  [[nodiscard]] heed::KeyRows view() const {
    return {.row = row.data(), .count = Index(row.size()), .offset = offset, .factors = entry.data()};
  }
};

template <class C>
void expect_scores(const char* codec) {
  oracle::Random random(11);
  for (const Index width : {1, 2, 15, 16, 17, 31, 32, 40, 64, 73, 96, 128, 192, 576}) {
    for (const Index count : {1, 15, 16, 17, 33, 64}) {
      for (const Index rows : {1, 2, 3, 4, 5, 7, 8, 9, 13}) {
        const Rows<C> keys(random, count, C::view_step * (width % 3), width);
        std::vector<float> numbers(std::size_t(rows * width));
        for (float& x : numbers) x = float(random.gaussian());
        const Index pairs = (width + 1) / 2;
        std::vector<heed::Bf16Pair> q(std::size_t(rows * pairs)), panel(std::size_t(pairs * 64));
        std::vector<float> want(std::size_t(rows * 256)), got(want.size() + 64);
        Definition::queries(numbers.data(), rows, width, q.data());
        Definition::score_rows<C>(q.data(), pairs, rows, keys.view(), width, 0.3f, want.data());
        const auto expect_same = [&](const char* how) {
          for (Index r = 0; r < rows; ++r) {
            ASSERT_TRUE(heed::detail::same_bits(want.data() + r * 256, got.data() + r * 256, count))
                << how << " " << codec << " width " << width << " keys " << count << " rows " << rows << " row " << r;
          }
        };
        Definition::pack_keys<C>(keys.view(), width, panel.data());
        Definition::score_panel(q.data(), pairs, rows, panel.data(), width, count, 0.3f, got.data(), {});
        expect_same("packed definition");
        each_vector([&]<class Backend>() {
          using On = M::On<Backend>;
          std::vector<heed::Bf16Pair> rounded(q.size());
          On::queries(numbers.data(), rows, width, rounded.data());
          ASSERT_EQ(std::memcmp(rounded.data(), q.data(), q.size() * sizeof q[0]), 0) << width;
          std::fill(got.begin(), got.end(), 0.0f);
          On::template score_rows<C>(q.data(), pairs, rows, keys.view(), width, 0.3f, got.data());
          expect_same(Backend::name);
          std::fill(panel.begin(), panel.end(), heed::Bf16Pair{0x7fc07fc0});
          On::template pack_keys<C>(keys.view(), width, panel.data());
          On::score_panel(q.data(), pairs, rows, panel.data(), width, count, 0.3f, got.data(), {});
          expect_same(Backend::name);
        });
      }
    }
  }
}
TEST(Bf16Math, ScoresHaveTheBitsOfTheDefinition) {
  expect_scores<heed::Bf16>("bf16");
  expect_scores<heed::F32>("f32");
  expect_scores<heed::F16>("f16");
  expect_scores<Scaled>("scaled");
  expect_scores<BlockScaled>("block scaled");
}

/// Outputs of rows whose targets are in one piece of memory.
struct Targets {
  std::vector<float> out;
  std::vector<float> left;
  std::vector<heed::RowTarget> target;
  Targets(Index rows, Index width) : out(std::size_t(rows * width)), left(out.size()), target(std::size_t(rows)) {
    for (std::size_t i = 0; i < left.size(); ++i) left[i] = float(i % 13) - 6;
    for (Index r = 0; r < rows; ++r) {
      heed::RowTarget& to = target[std::size_t(r)];
      to.out = out.data() + r * width;
      to.normalise = 0.75f;
      to.merges = int(r % 2);
      to.merge[0] = {left.data() + r * width, 0.25f, 0.75f};
    }
  }
};

template <class C>
void expect_outputs(const char* codec) {
  oracle::Random random(17);
  const Index count = 96;
  for (const Index dims : {1, 16, 24, 40, 64, 80, 128}) {
    for (const Index rows : {1, 2, 3, 4, 6, 8, 9}) {
      const Index width = heed::round_up(dims, 16);
      const Rows<C> values(random, count, C::view_step * (dims % 3), dims, true);  // the last is NaN and hidden
      std::vector<heed::Bf16Weight> p(std::size_t(rows * 256));
      for (auto& weight : p) weight.bits = heed::Bf16::from_float(float(random.uniform()) * 0x1p-8f);
      // Some cuts of the keys into ranges: at odd slots, in the middle of pairs, and with hidden keys between them.
      const std::vector<std::vector<Interval>> cuts[] = {
          {{{0, 94}}, {{0, 1}, {1, 2}, {2, 63}, {63, 94}}, {{0, 40}, {40, 94}}},
          {{{7, 95}}, {{7, 8}, {8, 15}, {15, 95}}, {{7, 64}, {64, 95}}},
          {{{3, 4}}, {{3, 3}, {3, 4}}},
          {{{5, 20}, {21, 50}}, {{5, 6}, {6, 20}, {21, 22}, {22, 50}}}};
      for (const auto& ways : cuts) {
        Targets want(rows, width);
        const auto run = [&](const std::vector<Interval>& ranges, const auto& accumulate) {
          for (std::size_t i = 0; i < ranges.size(); ++i) {
            accumulate(ranges[i], heed::Accumulate{.resume = i > 0, .finish = i + 1 == ranges.size()});
          }
        };
        run(ways[0], [&](Interval keys, heed::Accumulate phase) {
          Definition::accumulate_rows<C>(p.data(), rows, values.view(), keys, 0, dims, want.target.data(), phase);
        });
        for (Index r = 0; r < rows; ++r) {
          for (Index d = 0; d < dims; ++d) ASSERT_FALSE(std::isnan(want.out[std::size_t(r * width + d)]));
        }
        for (const auto& ranges : ways) {
          const auto expect_same = [&](const Targets& got, const char* how) {
            for (Index r = 0; r < rows; ++r) {
              ASSERT_TRUE(heed::detail::same_bits(want.out.data() + r * width, got.out.data() + r * width, dims))
                  << how << " " << codec << " dims " << dims << " rows " << rows << " row " << r << " from "
                  << ranges[0].begin;
            }
          };
          heed::Backends::for_each([&]<class Backend>() {
            using On = M::On<Backend>;
            Targets in_place(rows, width), packed(rows, width);
            run(ranges, [&](Interval keys, heed::Accumulate phase) {
              On::template accumulate_rows<C>(p.data(), rows, values.view(), keys, 0, dims, in_place.target.data(),
                                              phase);
            });
            expect_same(in_place, Backend::name);
            std::vector<heed::Bf16Pair> panel(128 * 64, heed::Bf16Pair{0x7fc07fc0});
            for (Index first = 0; first < dims; first += 64) {
              const Index part = std::min<Index>(64, dims - first);
              On::template pack_values<C>(values.view(), first, part, panel.data());
              run(ranges, [&](Interval keys, heed::Accumulate phase) {
                On::accumulate_panel(p.data(), rows, panel.data(), keys, first, part, packed.target.data(), phase, {});
              });
            }
            expect_same(packed, Backend::name);
          });
        }
      }
    }
  }
}
TEST(Bf16Math, OutputsHaveTheBitsOfTheDefinitionForAnyCutOfTheKeys) {
  expect_outputs<heed::Bf16>("bf16");
  expect_outputs<heed::F32>("f32");
  expect_outputs<heed::F16>("f16");
  expect_outputs<Scaled>("scaled");
  expect_outputs<BlockScaled>("block scaled");
}

TEST(Bf16Math, WeightsHaveTheBitsOfTheDefinition) {
  oracle::Random random(23);
  for (const Index count : {1, 2, 15, 16, 17, 100, 255, 256}) {
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<float> logits(256, 7.0f);  // what follows the keys must not matter
      for (Index k = 0; k < count; ++k) {
        logits[std::size_t(k)] =
            kind == 1 || (kind == 2 && k % 3 != 0) ? -heed::detail::infinity : float(random.gaussian()) * 20;
      }
      if (kind == 3) logits[std::size_t(count / 2)] = std::nanf("");
      std::vector<float> s = logits;
      std::vector<heed::Bf16Weight> want(256), got(256);
      const heed::ChunkSum sum = Definition::softmax(s.data(), count, want.data());
      const Index padded = heed::round_up(count, 32);
      if (kind == 0) {
        double total = 0;
        for (Index k = 0; k < padded; ++k) {
          const double weight = double(float(want[std::size_t(M::weight_place(k))]));
          total += weight;
          const double exact = k < count ? std::exp(double(logits[std::size_t(k)]) - double(sum.max)) / 256 : 0;
          EXPECT_LE(std::abs(weight - exact), exact * (0x1p-8 + 5e-6) + 0x1p-126) << k;
        }
        EXPECT_LE(std::abs(total - double(sum.sum)), total * 1e-6);
      }
      each_vector([&]<class Backend>() {
        s = logits;
        const heed::ChunkSum of_vectors = M::On<Backend>::softmax(s.data(), count, got.data());
        EXPECT_TRUE(same(of_vectors.max, sum.max)) << count << " " << kind;
        EXPECT_TRUE(same(of_vectors.sum, sum.sum)) << count << " " << kind;
        if (sum.sum != sum.sum) return;  // the output is NaN, whatever the weights
        for (Index k = 0; k < padded; ++k) {
          ASSERT_TRUE(same(float(want[std::size_t(k)]), float(got[std::size_t(k)]))) << Backend::name << " " << k;
        }
      });
    }
  }
}

/// A problem in float64 on rounded queries and rows, and what the math says of it.
double worst_of(Index heads, Index kv_heads, Index width, Index v_width, Index keys, Index queries, double deviation,
                bool bf16_queries) {
  oracle::Random random(std::uint64_t(width * 1000 + keys));
  const heed::Gqa policy{.num_heads = heads,
                         .num_kv_heads = kv_heads,
                         .head_dim = width,
                         .v_head_dim = v_width,
                         .scale = 1 / std::sqrt(float(width))};
  oracle::Problem problem{.heads = heads,
                          .kv_heads = kv_heads,
                          .key_dim = width,
                          .value_dim = v_width,
                          .scale = double(policy.scale),
                          .visible = oracle::causal()};
  std::vector<float> q, k, v;
  for (Index i = 0; i < queries * heads * width; ++i) {
    q.push_back(float(random.gaussian() * deviation));
    if (bf16_queries) q.back() = heed::Bf16::to_float(heed::Bf16::from_float(q.back()));
    problem.q.push_back(oracle::round_to_bf16(double(q.back())));
  }
  std::vector<std::uint16_t> rows[2];
  for (int s = 0; s < 2; ++s) {
    for (Index i = 0; i < keys * kv_heads * (s == 0 ? width : v_width); ++i) {
      rows[s].push_back(heed::Bf16::from_float(float(random.gaussian())));
      (s == 0 ? problem.k : problem.v).push_back(double(heed::Bf16::to_float(rows[s].back())));
    }
  }
  const auto stream = [&](int s, Index n) {
    return heed::StridedStream{.data = reinterpret_cast<const std::byte*>(rows[s].data()),
                               .token_stride_bytes = kv_heads * n * 2,
                               .head_stride_bytes = n * 2,
                               .row_bytes = n * 2};
  };
  const heed::StridedSource<heed::Bf16> source{keys, stream(0, width), stream(1, v_width)};
  const oracle::Answer want = oracle::attention(problem);
  std::vector<float> first;
  double worst = 0;
  heed::Backends::for_each([&]<class Backend>() {
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> out(want.o.size());
    heed::check(heed::attend<Backend, M>(policy, q, source, heed::Causal{}, out, workspace, serial));
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double size = want.logit_size[i / std::size_t(v_width)];
      const double bound = oracle::eps32 * std::abs(want.o[i]) +
                           (0x1p-7 + 0x1p-16 + 16 * oracle::eps32 * (1 + size)) * want.abs_values[i];
      worst = std::max(worst, oracle::ratio(double(out[i]), want.o[i], bound));
    }
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    if (first.empty()) first = out;
    EXPECT_TRUE(heed::detail::same_bits(first.data(), out.data(), Index(out.size()))) << Backend::name;
#endif
  });
  return worst;
}
TEST(Bf16Math, OutputsAreWithinTheBound) {
  for (const double deviation : {1.0, 4.0}) {
    for (const bool bf16_queries : {false, true}) {
      for (const Index queries : {1, 4, 40}) {
        EXPECT_LE(worst_of(8, 2, 128, 128, 700, queries, deviation, bf16_queries), 1) << queries;
        EXPECT_LE(worst_of(6, 2, 73, 40, 300, queries, deviation, bf16_queries), 1) << queries;
        EXPECT_LE(worst_of(16, 1, 576, 512, 300, queries, deviation, bf16_queries), 1) << queries;
      }
    }
  }
}

}  // namespace
}  // namespace heed_test::bf16_test
