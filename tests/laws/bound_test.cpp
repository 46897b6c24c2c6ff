// Every result meets the float64 bound: random shapes, masks, options and sources.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::bound_test {
namespace {

class Bound : public Laws {
 protected:
  void SetUp() override {
    if (!subject().has_default_math()) GTEST_SKIP() << "the test of the math has its bound";
  }
};
HEED_FOR_ALL_KERNELS(Bound);

template <class T>
const T& pick(oracle::Random& random, const std::vector<T>& from) {
  return from[std::size_t(random.below(Index(from.size())))];
}

AttentionShape random_shape(oracle::Random& random, const std::vector<Mechanism>& mechanisms) {
  static const std::vector<std::pair<Index, Index>> heads = {{1, 1},  {2, 1},  {4, 2},  {9, 3}, {8, 8},
                                                             {16, 4}, {16, 1}, {12, 2}, {5, 5}};
  static const std::vector<std::pair<Index, Index>> dims = {
      {1, 1}, {3, 3}, {7, 8}, {8, 7}, {16, 16}, {40, 40}, {64, 64}, {72, 72}, {128, 128}, {192, 128}, {576, 512}};
  const auto [h, g] = pick(random, heads);
  const auto [k, v] = pick(random, dims);
  return {.mechanism = pick(random, mechanisms), .heads = h, .kv_heads = g, .key_dim = k, .value_dim = v};
}

AnyMask random_mask(oracle::Random& random, Index keys) {
  switch (random.below(6)) {
    case 0: return unmasked();
    case 1: return window(1 + random.below(keys + 2));
    case 2: return holes(std::uint64_t(random.below(1000)));
    case 3: return ignorant_holes(std::uint64_t(random.below(1000)));
    default: return causal();
  }
}

void add_options(oracle::Random& random, Problem& p) {
  if (random.below(3) == 0) p.soft_cap = float(1 + 20 * random.uniform());
  if (random.below(3) == 0) {
    for (Index h = 0; h < p.shape.heads; ++h)
      p.slopes.push_back(float(std::exp2(-8.0 * double(h + 1) / double(p.shape.heads))));
  }
  if (random.below(3) == 0) {
    for (Index h = 0; h < p.shape.heads; ++h) p.sinks.push_back(float(20 * random.uniform() - 10));
  }
  if (random.below(4) == 0) {
    for (Index i = 0; i < p.queries; ++i) p.query_positions.push_back(random.below(p.keys + 2));
  }
}

/// A random problem of bounded cost; `queries` < 0 chooses.
Problem random_problem(oracle::Random& random, const std::vector<Mechanism>& mechanisms, double most_work) {
  static const std::vector<Index> sizes = {0, 1, 2, 31, 255, 256, 257, 511, 513, 1000};
  for (;;) {
    const AttentionShape shape = random_shape(random, mechanisms);
    const Index queries = random.below(6) == 0 ? 64 + random.below(12) : random.below(17);
    const Index keys = pick(random, sizes);
    if (double(queries * keys * shape.heads) * double(shape.key_dim + shape.value_dim) > most_work) continue;
    Problem p = gaussian(shape, queries, keys, std::uint64_t(random.below(1 << 30)), random.below(4) == 0 ? 4 : 1);
    p.mask = random_mask(random, keys);
    add_options(random, p);
    return p;
  }
}

void expect_bound(const Problem& p, const Output& got, const oracle::Answer& want) {
  // Weights below 2^-118 are zero: no relative bound holds there.
  float largest = 0;
  for (const float v : p.v) largest = std::max(largest, std::abs(v));
  const double output = oracle::worst_output(got.out, want, oracle::eps32, 0x1p-118 * double(largest));
  EXPECT_TRUE(output <= 1) << p << ": " << output;
  EXPECT_TRUE(oracle::worst_lse(got.lse, want) <= 1) << p << ": " << oracle::worst_lse(got.lse, want);
  // The tight cap is for Gaussian logits, which ALiBi's and sinks are not. At deviation 4 some logits pass 16, where one
  // rounding is 8 units, so no order of additions keeps all of them below 16; 31 is the worst seen.
  if (p.slopes.empty() && p.sinks.empty()) {
    EXPECT_TRUE(oracle::worst_units(got.out, want) <= (p.deviation <= 1 ? 16 : 48))
        << p << ": " << oracle::worst_units(got.out, want);
  }
}

void random_caches(const Subject& subject, const std::vector<Mechanism>& mechanisms, int repeats, double most_work) {
  oracle::Random random(20240521);
  for (int i = 0; i < repeats; ++i) {
    const Problem p = random_problem(random, mechanisms, most_work);
    expect_bound(p, run(subject, p, 1 + random.below(3)), answer(subject, p));
  }
}

TEST_P(Bound, RandomCaches) { random_caches(subject(), mechanisms(), slow() ? 60 : 120, 8e6); }
TEST_P(Bound, RandomCachesLong) { random_caches(subject(), mechanisms(), slow() ? 200 : 2000, 4e7); }

/// Every shape in the list once, in decode and as a prefill that crosses a chunk.
TEST_P(Bound, EveryHeadSize) {
  std::uint64_t seed = 1;
  for (const auto& [k, v] : std::vector<std::pair<Index, Index>>{{1, 1},
                                                                 {3, 3},
                                                                 {7, 7},
                                                                 {8, 8},
                                                                 {16, 16},
                                                                 {40, 40},
                                                                 {64, 64},
                                                                 {72, 72},
                                                                 {128, 128},
                                                                 {192, 128},
                                                                 {576, 512}}) {
    for (const Index queries : {1, 20}) {
      const Problem p = gaussian({.heads = 6, .kv_heads = 2, .key_dim = k, .value_dim = v}, queries, 300, ++seed);
      expect_bound(p, run(subject(), p), answer(subject(), p));
    }
  }
}

/// Errors do not grow with the number of keys, nor much with the head size: a score's dims share accumulators 32 at a time.
TEST_P(Bound, ManyKeys) {
  for (const auto& [key_dim, value_dim] : {std::pair<Index, Index>{128, 128}, {576, 512}}) {
    for (const double deviation : {1.0, 4.0}) {
      const Problem p =
          gaussian({.heads = 4, .kv_heads = 2, .key_dim = key_dim, .value_dim = value_dim}, 2, 4096, 9, deviation);
      const Output got = run(subject(), p);
      const oracle::Answer want = answer(subject(), p);
      const double worst = oracle::worst_units(got.out, want);
      EXPECT_TRUE(worst <= (deviation <= 1 ? 2 : 16)) << p << ": " << worst;
      RecordProperty("units_" + std::to_string(key_dim) + "_" + std::to_string(int(deviation)), std::to_string(worst));
    }
  }
}

/// Foreign memory of any layout, and rows of which every one lies elsewhere.
TEST_P(Bound, RandomSources) {
  oracle::Random random(7);
  for (int i = 0; i < (slow() ? 30 : 60); ++i) {
    const Problem p = random_problem(random, mechanisms(), 4e6);
    const StridedRows strided(subject(), p, random);
    expect_bound(p, run(subject(), p, strided.keys()), answer(subject(), p));
  }
}

/// A cache that has forgotten tokens: positions have holes, which masks and ALiBi see.
TEST_P(Bound, EvictedTokens) {
  oracle::Random random(8);
  for (int i = 0; i < (slow() ? 30 : 60); ++i) {
    const Problem p = random_problem(random, mechanisms(), 4e6);
    std::vector<Index> positions;
    for (Index j = 0, next = random.below(5); j < p.keys;
         ++j, next += 1 + (random.below(9) == 0 ? random.below(300) : 0)) {
      positions.push_back(next);
    }
    const auto cache = filled(subject(), p);
    const auto keys = cache->keys();
    expect_bound(p, run(subject(), p, Paged(*keys, 1 + random.below(70), positions)), answer(subject(), p, positions));
  }
}

}  // namespace
}  // namespace heed_test::bound_test
