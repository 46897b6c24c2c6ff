// A masked NaN or infinity never reaches a result, a visible one always does.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::nan_test {
namespace {

class Poison : public Laws {};
HEED_FOR_ALL_KERNELS(Poison);

struct Poisoned {
  Problem problem;
  std::vector<Index> keys;  ///< whose rows are poisoned
};

/// Poisons number `dim` of the keys' or the values' rows of some random keys, in all KV heads.
Poisoned poison(const Problem& clean, oracle::Random& random, bool values, Index dim, float with) {
  Poisoned made{clean, {}};
  for (Index i = 1 + random.below(6); i > 0; --i) {
    const Index j = random.below(clean.keys), width = values ? clean.shape.value_dim : clean.shape.key_dim;
    made.keys.push_back(j);
    for (Index g = 0; g < clean.shape.kv_heads; ++g) {
      (values ? made.problem.v : made.problem.k)[std::size_t((j * clean.shape.kv_heads + g) * width + dim)] = with;
    }
  }
  share_rows(made.problem);
  return made;
}

[[nodiscard]] bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// A mask that also hides the poisoned keys.
struct Without {
  oracle::Visible visible_of;
  const std::vector<Index>* keys;
  [[nodiscard]] bool visible(Index query, Index key) const {
    return visible_of(query, key) && std::find(keys->begin(), keys->end(), key) == keys->end();
  }
  [[nodiscard]] heed::Coverage coverage(Interval, Interval) const { return heed::Coverage::partial; }
};

/// What `subject` answers if the poisoned keys are hidden.
Output without(const Subject& subject, const Poisoned& p) {
  const Without mask{p.problem.mask.visible(), &p.keys};
  Output result{std::vector<float>(std::size_t(p.problem.queries * p.problem.out_row()), nan),
                std::vector<float>(std::size_t(p.problem.queries * p.problem.shape.heads), nan)};
  const auto cache = filled(subject, p.problem);
  const auto rows = cache->keys();
  heed::Workspace workspace;
  const Call call{rows.get(), mask, p.problem.q, result.out, result.lse, p.problem.query_positions};
  EXPECT_TRUE(subject.attend(p.problem.shape, {&call, 1}, workspace, workers(1), {}).ok());
  return result;
}

/// An infinity in a key that a row sees makes a logit of +inf, which makes everything NaN, or of -inf, which has no weight:
/// the row is as if the key were hidden.
void expect_infinite_logits(const Poisoned& p, const Output& hidden, const Output& got, Index row, Index query,
                            Index dim, float with) {
  const Problem& problem = p.problem;
  const float q = problem.q[std::size_t(row * problem.shape.key_dim + dim)];
  const bool plus = q * with > 0;
  const auto at = std::size_t(row * problem.shape.value_dim), width = std::size_t(problem.shape.value_dim);
  for (std::size_t i = at; i < at + width; ++i) {
    ASSERT_TRUE(plus ? std::isnan(got.out[i]) : same_bits(got.out[i], hidden.out[i]))
        << problem << " query " << query << " row " << row << ": " << got.out[i] << ", hidden " << hidden.out[i];
  }
  const float lse = got.lse[std::size_t(row)];
  ASSERT_TRUE(plus ? std::isnan(lse) : same_bits(lse, hidden.lse[std::size_t(row)])) << problem << " row " << row;
}

/// Rows that see no poisoned key are as without poison. In the others, NaN and infinity in a value reach that number of
/// the output and nothing else, NaN in a key reaches everything. `hidden`: the answer without those keys.
void expect_contained(const Poisoned& p, const Output& clean, const Output& got, bool values, Index dim, float with,
                      const Output& hidden = {}) {
  const bool is_nan = std::isnan(with);
  const Problem& problem = p.problem;
  const oracle::Visible visible = problem.mask.visible();
  for (Index row = 0; row < problem.queries * problem.shape.heads; ++row) {
    const Index query = problem.keys - problem.queries + row / problem.shape.heads;
    const bool sees = std::any_of(p.keys.begin(), p.keys.end(), [&](Index key) { return visible(query, key); });
    const float lse = got.lse[std::size_t(row)];
    if (sees && !values && !is_nan) {
      ASSERT_NO_FATAL_FAILURE(expect_infinite_logits(p, hidden, got, row, query, dim, with));
      continue;
    }
    if (!sees || values) {
      ASSERT_TRUE(same_bits(lse, clean.lse[std::size_t(row)])) << problem << " row " << row;
    } else if (is_nan) {
      ASSERT_TRUE(std::isnan(lse)) << problem << " row " << row;
    }
    for (Index d = 0; d < problem.shape.value_dim; ++d) {
      const auto at = std::size_t(row * problem.shape.value_dim + d);
      if (!sees || (values && d != dim)) {
        ASSERT_TRUE(same_bits(got.out[at], clean.out[at])) << problem << " row " << row << " dim " << d;
      } else if (values && !is_nan) {
        ASSERT_FALSE(std::isfinite(got.out[at])) << problem << " row " << row << " dim " << d;
      } else if (is_nan) {
        ASSERT_TRUE(std::isnan(got.out[at])) << problem << " row " << row << " dim " << d;
      }
    }
  }
}

void all_masks(const Subject& subject, bool values, int repeats) {
  oracle::Random random(values ? 1 : 2);
  const std::vector<std::pair<Index, Index>> sizes = {{1, 300}, {4, 40}, {8, 300}, {9, 600}, {33, 260}, {70, 300}};
  for (const auto& [queries, keys] : sizes) {
    for (const AnyMask& mask : {causal(), window(30), window(270), holes(1), ignorant_holes(2), ignorant_causal()}) {
      Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 18, .value_dim = 21}, queries, keys, 3);
      p.mask = mask;
      const Output clean = run(subject, p);
      for (int i = 0; i < repeats; ++i) {
        for (const float with : {nan, infinity, -infinity}) {
          const Index dim = random.below(18);
          const Poisoned bad = poison(p, random, values, dim, with);
          const Index threads = 1 + random.below(2);
          const Output hidden = values || std::isnan(with) ? Output{} : without(subject, bad);
          ASSERT_NO_FATAL_FAILURE(
              expect_contained(bad, clean, run(subject, bad.problem, threads), values, dim, with, hidden));
        }
      }
    }
  }
}

TEST_P(Poison, InValuesStaysWhereItIsSeen) { all_masks(subject(), true, slow() ? 1 : 3); }
TEST_P(Poison, InKeysStaysWhereItIsSeen) { all_masks(subject(), false, slow() ? 1 : 3); }

/// In shared rows a bad key is also a bad value.
TEST_P(Poison, InSharedRows) {
  if (!subject().shares()) GTEST_SKIP() << "keys and values have different codecs";
  oracle::Random random(3);
  for (const Index queries : {1, 9, 40}) {
    for (const AnyMask& mask : {causal(), holes(3)}) {
      Problem p =
          gaussian({.mechanism = Mechanism::shared_row, .heads = 4, .kv_heads = 1, .key_dim = 24, .value_dim = 20},
                   queries, 300, 4);
      p.mask = mask;
      const Output clean = run(subject(), p);
      const Poisoned bad = poison(p, random, false, random.below(24), nan);
      ASSERT_NO_FATAL_FAILURE(expect_contained(bad, clean, run(subject(), bad.problem), false, 0, nan));
    }
  }
}

/// The causal prefill whose later rows are not written yet: garbage beyond each query.
TEST_P(Poison, PrefillWithPoisonedFuture) {
  for (const Index queries : {5, 16, 40, 70}) {
    Problem p = gaussian({.heads = 2, .kv_heads = 1, .key_dim = 16, .value_dim = 16}, queries, 280, 5);
    const Output clean = run(subject(), p);
    for (Index good = p.keys - queries + 1; good < p.keys; good += 4) {
      Problem bad = p;
      std::fill(bad.k.begin() + good * p.k_row(), bad.k.end(), nan);
      std::fill(bad.v.begin() + good * p.v_row(), bad.v.end(), nan);
      const Output got = run(subject(), bad);
      for (Index i = 0; i < queries; ++i) {
        for (Index x = i * p.out_row(); x < (i + 1) * p.out_row(); ++x) {
          const bool sees = p.keys - queries + i >= good;
          ASSERT_TRUE(sees ? std::isnan(got.out[std::size_t(x)])
                           : same_bits(got.out[std::size_t(x)], clean.out[std::size_t(x)]))
              << p << " query " << i << " good " << good;
        }
      }
    }
  }
}

/// A NaN query is its own problem only.
TEST_P(Poison, InOneQueryStaysThere) {
  for (const Index queries : {1, 8, 30}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 18, .value_dim = 21}, queries, 300, 6);
    const Output clean = run(subject(), p);
    const Index bad = queries * 4 / 2;
    p.q[std::size_t(bad * 18 + 3)] = nan;
    const Output got = run(subject(), p);
    for (Index row = 0; row < queries * 4; ++row) {
      for (Index d = 0; d < 21; ++d) {
        const auto at = std::size_t(row * 21 + d);
        ASSERT_TRUE(row == bad ? std::isnan(got.out[at]) : same_bits(got.out[at], clean.out[at])) << row;
      }
      const auto at = std::size_t(row);
      ASSERT_TRUE(row == bad ? std::isnan(got.lse[at]) : same_bits(got.lse[at], clean.lse[at])) << row;
    }
  }
}

}  // namespace
}  // namespace heed_test::nan_test
