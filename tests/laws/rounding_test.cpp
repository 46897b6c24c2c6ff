// Identities of attention that hold up to rounding, and those that hold exactly because nothing is rounded.
#include <heed/kernel/softmax_state.hpp>

#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::rounding_test {
namespace {

class Identity : public Laws {};
HEED_FOR_ALL_KERNELS(Identity);

// In units of eps32 sum p|v|. math::Bf16 rounds weights: twice its bound.
double few_eps(const Subject& subject) { return subject.has_default_math() ? 8 : 0x1p18; }

/// Attention over two parts of the keys, merged. On and off the tree of 256-key chunks.
TEST_P(Identity, SplitAndMergeIsTheWhole) {
  oracle::Random random(1);
  for (const Index queries : {1, 12}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 32, .value_dim = 24}, queries, 1100, 1);
    const Output whole = run(subject(), p);
    const oracle::Answer want = answer(subject(), p);
    p.query_positions.clear();
    for (Index i = 0; i < queries; ++i) p.query_positions.push_back(p.keys - queries + i);
    for (const Index split : {256, 512, 1024, 1, 300, 1099, 1095}) {
      const auto part = [&](Index first, Index count) {
        Problem half = p;
        half.keys = count;
        half.k = {p.k.begin() + first * p.k_row(), p.k.begin() + (first + count) * p.k_row()};
        half.v = {p.v.begin() + first * p.v_row(), p.v.begin() + (first + count) * p.v_row()};
        const auto cache = filled(subject(), half);
        const auto keys = cache->keys();
        std::vector<Index> positions;
        for (Index j = 0; j < count; ++j) positions.push_back(first + j);
        return run(subject(), half, Paged(*keys, count, positions));
      };
      const Output a = part(0, split), b = part(split, p.keys - split);
      Output merged = whole;
      for (std::size_t row = 0; row < merged.lse.size(); ++row) {
        const std::size_t at = row * std::size_t(p.shape.value_dim);
        heed::merge_results(a.lse[row], &a.out[at], b.lse[row], &b.out[at], p.shape.value_dim, &merged.out[at],
                            &merged.lse[row]);
      }
      EXPECT_TRUE(distance(merged.out, whole.out, want) <= few_eps(subject())) << p << " split " << split;
      EXPECT_TRUE(worst_output(subject(), merged.out, want) <= 1) << p << " split " << split;
      EXPECT_TRUE(worst_lse(subject(), merged.lse, want) <= 1) << p << " split " << split;
    }
  }
}

TEST_P(Identity, OrderOfKeysDoesNotMatter) {
  oracle::Random random(2);
  for (const Index queries : {1, 20}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 32, .value_dim = 24}, queries, 600, 2);
    p.mask = unmasked();
    const Output want = run(subject(), p);
    Problem permuted = p;
    for (Index j = p.keys - 1; j > 0; --j) {
      const Index other = random.below(j + 1);
      std::swap_ranges(permuted.k.begin() + j * p.k_row(), permuted.k.begin() + (j + 1) * p.k_row(),
                       permuted.k.begin() + other * p.k_row());
      if (other == j) continue;
      std::swap_ranges(permuted.v.begin() + j * p.v_row(), permuted.v.begin() + (j + 1) * p.v_row(),
                       permuted.v.begin() + other * p.v_row());
    }
    EXPECT_TRUE(distance(want.out, run(subject(), permuted).out, answer(subject(), p)) <= few_eps(subject())) << p;
  }
}

/// A further key dim that is 1 in every key adds a constant to all logits of a query.
TEST_P(Identity, AddingAConstantToAllLogitsShiftsTheLse) {
  for (const double shift : {-3.0, 5.0}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 32, .value_dim = 24}, 6, 600, 3);
    Problem shifted = p;
    const auto added = float(rounded(shift / p.shape.scale, "bf16"));  // exact in every math
    shifted.shape.key_dim = 33;
    shifted.q.clear();
    shifted.k.clear();
    for (auto row = p.q.begin(); row != p.q.end(); row += 32) {
      shifted.q.insert(shifted.q.end(), row, row + 32);
      shifted.q.push_back(added);
    }
    for (auto row = p.k.begin(); row != p.k.end(); row += 32) {
      shifted.k.insert(shifted.k.end(), row, row + 32);
      shifted.k.push_back(1);
    }
    Output want = run(subject(), p);
    const Output got = run(subject(), shifted);
    EXPECT_TRUE(distance(want.out, got.out, answer(subject(), p)) <= few_eps(subject())) << p;
    for (std::size_t i = 0; i < want.lse.size(); ++i) {
      const double expected = double(want.lse[i]) + double(added) * p.shape.scale;
      if (subject().has_default_math()) {
        EXPECT_TRUE(oracle::lse_ratio(got.lse[i], expected, 3) <= 1) << p;
      } else {
        EXPECT_LE(std::abs(double(got.lse[i]) - expected), 0x1p-6) << p;
      }
    }
  }
}

TEST_P(Identity, ConstantValuesComeOutConstant) {
  for (const Index queries : {1, 20}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 32, .value_dim = 24}, queries, 1000, 4);
    std::fill(p.v.begin(), p.v.end(), 1.5f);
    double worst = 0;
    for (const float x : run(subject(), p).out) worst = std::max(worst, oracle::units(x, 1.5, 1.5));
    EXPECT_TRUE(worst <= 4) << p << ": " << worst;  // two eps, and one for each level of the tree
  }
}

TEST_P(Identity, OutputsLieBetweenTheValues) {
  for (const Index queries : {1, 20}) {
    const Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 8, .value_dim = 5}, queries, 280, 5, 4);
    const Output got = run(subject(), p);
    std::vector<double> v = oracle::doubles(p.v);
    for (double& x : v) x = rounded(x, subject().value_codec());
    for (Index row = 0; row < queries * p.shape.heads; ++row) {
      const Index last = p.keys - queries + row / p.shape.heads, group = row % p.shape.heads / 2;
      for (Index d = 0; d < 5; ++d) {
        double low = oracle::infinity, high = -oracle::infinity;
        for (Index j = 0; j <= last; ++j) {
          const double x = v[std::size_t((j * 2 + group) * 5 + d)];
          low = std::min(low, x);
          high = std::max(high, x);
        }
        const double slack = 2 * oracle::eps32 * std::max(std::abs(low), std::abs(high));
        const double x = got.out[std::size_t(row * 5 + d)];
        EXPECT_TRUE(x >= low - slack && x <= high + slack) << p << ": " << x;
      }
    }
  }
}

/// One logit far above the others: exactly that value row comes out.
TEST_P(Identity, OneHugeLogitReturnsItsValueRow) {
  for (const Index queries : {1, 20}) {
    for (const Index hot : {0, 100, 255, 256, 511, 600}) {
      Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 24}, queries, 700, 6);
      for (Index row = 0; row < queries * 4; ++row) p.q[std::size_t(row * 16)] = 100;
      for (Index row = 0; row < p.keys * 2; ++row) p.k[std::size_t(row * 16)] = row / 2 == hot ? 16 : 0;
      const Output got = run(subject(), p);
      const auto stored_value = [&](float v) {
        const double stored = rounded(v, subject().value_codec());
        return subject().has_default_math() ? stored : rounded(stored, "bf16");
      };
      bool exact = true;
      for (Index row = 0; row < queries * 4; ++row) {
        for (Index d = 0; d < 24; ++d) {
          const float v = p.v[std::size_t((hot * 2 + row % 4 / 2) * 24 + d)];
          exact = exact && double(got.out[std::size_t(row * 24 + d)]) == stored_value(v);
        }
      }
      EXPECT_TRUE(exact) << p << " hot " << hot;
    }
  }
}

}  // namespace
}  // namespace heed_test::rounding_test
