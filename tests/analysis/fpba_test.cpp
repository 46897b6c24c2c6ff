// MHA, GQA, MQA, MLA and MFA are FPBA with matrices of the rank that the analysis claims.
#include <gtest/gtest.h>

#include <cmath>

#include "analysis/mechanisms.hpp"

#if __has_include(<Eigen/SVD>)
#define EIGEN_DONT_VECTORIZE  // GCC 12 warns in Eigen's AVX-512 loops, and these matrices are small
#include <Eigen/SVD>
#define HEED_TEST_HAS_SVD 1
#endif

namespace heed_test::fpba_test {
namespace {

using heed_test::Matrix;
using heed_test::Mechanism;

constexpr std::size_t tokens = 11, hidden = 24;

Matrix random_tokens(oracle::Random& random) {
  Matrix x = heed_test::zeros(tokens, hidden);
  for (double& number : x.numbers) number = random.gaussian();
  return x;
}

std::vector<Mechanism> mechanisms(oracle::Random& random, const Matrix& x) {
  using namespace heed_test;
  return {
      grouped(random, x, "MHA", 6, 6, 4),
      grouped(random, x, "GQA", 6, 2, 4),
      grouped(random, x, "GQA, three heads to a group", 9, 3, 5),
      grouped(random, x, "MQA", 6, 1, 4),
      mla(random, x, "MLA", 4, 14, 10, 6, 0, 6),
      mla(random, x, "MLA without query LoRA", 4, 0, 10, 6, 0, 6),
      mla(random, x, "MLA with a shared key part", 4, 14, 10, 6, 3, 6),
      mfa(random, x, "MFA, theory", 5, 8, 8),
      mfa(random, x, "MFA, wide query latent", 5, 8, 12),
      mfa(random, x, "MFA, narrow query latent", 5, 8, 3),
      mfa(random, x, "MFA-KR", 5, 8, 8, true),
  };
}

/// FPBA's own scale is 1 / sqrt(D): a mechanism's goes into W_c.
std::vector<oracle::BilinearChannel> channels_of(const Mechanism& m) {
  std::vector<oracle::BilinearChannel> channels;
  for (std::size_t c = 0; c < m.w.size(); ++c) {
    channels.push_back({(m.scale * std::sqrt(double(hidden)) * m.w[c]).numbers, m.u[c].numbers});
  }
  return channels;
}

// Float64, sums of at most 24 numbers of about 1, a few of them in a row.
constexpr double tolerance = 1e-12;

TEST(Fpba, HoldsEveryMechanism) {
  oracle::Random random(1);
  const Matrix x = random_tokens(random);
  for (const Mechanism& m : mechanisms(random, x)) {
    ASSERT_LE(m.w.size(), hidden) << m.name;
    const std::vector<double> got =
        oracle::fpba(x.numbers, oracle::Int(hidden), channels_of(m), 1 / std::sqrt(double(hidden)));
    for (const std::vector<double>& want : m.outputs) {
      ASSERT_EQ(got.size(), want.size()) << m.name;
      double largest = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], want[i], tolerance) << m.name << " " << i;
        largest = std::max(largest, std::abs(want[i]));
      }
      EXPECT_GT(largest, 0.1) << m.name << ": the comparison says nothing about zeros";
    }
  }
}

TEST(Fpba, UnusedChannelsAddNothing) {
  oracle::Random random(2);
  const Matrix x = random_tokens(random);
  const Mechanism m = heed_test::grouped(random, x, "MHA", 6, 6, 4);
  auto channels = channels_of(m);
  const auto want = oracle::fpba(x.numbers, oracle::Int(hidden), channels, 0.2);
  while (channels.size() < hidden) {
    channels.push_back(
        {heed_test::random_weight(random, hidden, hidden).numbers, std::vector<double>(hidden * hidden, 0.0)});
  }
  EXPECT_EQ(oracle::fpba(x.numbers, oracle::Int(hidden), channels, 0.2), want);
}

TEST(Fpba, IsZeroWhereNothingIsVisible) {
  oracle::Random random(3);
  const Matrix x = random_tokens(random);
  const Mechanism m = heed_test::grouped(random, x, "MHA", 6, 6, 4);
  const auto after_four = [](oracle::Int query, oracle::Int key) { return key <= query && query >= 4; };
  const auto got = oracle::fpba(x.numbers, oracle::Int(hidden), channels_of(m), 0.2, after_four);
  const auto causal = oracle::fpba(x.numbers, oracle::Int(hidden), channels_of(m), 0.2);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], i < 4 * hidden ? 0.0 : causal[i]);
}

#if defined(HEED_TEST_HAS_SVD)

/// Singular values above 1e-9 of the largest: those of the random weights here are above 1e-3 or below 1e-14 of it.
std::size_t rank(const Matrix& a) {
  using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Rows copy = Eigen::Map<const Rows>(a.numbers.data(), Eigen::Index(a.rows), Eigen::Index(a.columns));
  Eigen::JacobiSVD<Rows> svd(copy);
  svd.setThreshold(1e-9);
  return std::size_t(svd.rank());
}

TEST(Fpba, CircuitsHaveTheClaimedRank) {
  oracle::Random random(4);
  const Matrix x = random_tokens(random);
  for (const Mechanism& m : mechanisms(random, x)) {
    const auto frh = std::size_t(m.costs.factorization_rank_per_head);
    std::size_t total = 0;
    for (std::size_t c = 0; c < m.w.size(); ++c) {
      EXPECT_EQ(rank(m.w[c]), m.circuit_rank) << m.name;
      EXPECT_EQ(rank(m.u[c]), frh) << m.name;
      total += rank(m.u[c]);
    }
    EXPECT_EQ(total, std::size_t(total_effective_rank(m.costs))) << m.name;
    // The nominal rank is the true one but for a narrow query latent and for MLA's shared key part.
    const bool nominal = m.name.find("narrow") == std::string::npos && m.name.find("shared") == std::string::npos;
    EXPECT_EQ(m.circuit_rank == frh, nominal) << m.name;
  }
}

TEST(Fpba, AllHeadsReadTheClaimedSharedSpace) {
  oracle::Random random(5);
  const Matrix x = random_tokens(random);
  for (const Mechanism& m : mechanisms(random, x)) {
    if (m.circuit_rank != std::size_t(m.costs.factorization_rank_per_head)) continue;
    // Tokens are seen through the right factors of all W_c, and through the left factors of all U_c.
    Matrix keys = m.w[0], values = heed_test::transposed(m.u[0]);
    for (std::size_t c = 1; c < m.w.size(); ++c) {
      keys = heed_test::stacked(keys, m.w[c]);
      values = heed_test::stacked(values, heed_test::transposed(m.u[c]));
    }
    const auto slsd = std::size_t(m.costs.shared_latent_subspace_dim);
    EXPECT_EQ(rank(keys), slsd) << m.name;
    EXPECT_EQ(rank(values), slsd) << m.name;
  }
}

TEST(Fpba, ItselfHasFullRank) {
  oracle::Random random(6);
  const heed::analysis::AttentionCosts costs = heed::analysis::FpbaShape{.hidden_size = heed::Index(hidden)}.costs();
  EXPECT_EQ(rank(heed_test::random_weight(random, hidden, hidden)), std::size_t(costs.factorization_rank_per_head));
}

#endif

}  // namespace
}  // namespace heed_test::fpba_test
