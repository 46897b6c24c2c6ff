// MFA and MFA-KR against float64: which key is rotated, which is not, and where the value map goes.
#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/layer/mfa.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "oracle/mfa.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"
#include "policy/worst.hpp"

namespace heed_test::mfa_test {
namespace {

using heed::MfaKr;

heed::Rope make_rope(Index head_dim) {
  return heed::value_or_throw(
      heed::Rope::create({.head_dim = head_dim, .layout = heed::RopeLayout::half_split, .theta = 5e5}));
}

std::vector<float> attend(const auto& policy, const std::vector<float>& q, const std::vector<float>& k,
                          const std::vector<float>& v, Index dim, Index first_position = 0) {
  const auto stream = [&](const std::vector<float>& rows) {
    return heed::StridedStream{reinterpret_cast<const std::byte*>(rows.data()), dim * 4, 0, dim * 4};
  };
  const heed::StridedSource<heed::F32> keys(Index(k.size()) / dim, stream(k), stream(v), first_position);
  std::vector<float> out(q.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::attend<Backend>(policy, q, keys, heed::Causal{}, out, workspace, executor));
  return out;
}

std::vector<float> rotated(const heed::Rope& rope, std::vector<float> rows, Index heads, Index first) {
  std::vector<Index> positions(rows.size() / std::size_t(heads * rope.options().head_dim));
  std::iota(positions.begin(), positions.end(), first);
  heed::check(rope.apply_rows(positions, heads, rows));
  return rows;
}

struct Problem {
  Problem(Index num_heads, Index head_dim, Index queries, Index keys)
      : heads(num_heads), dim(head_dim), rope(make_rope(head_dim)), scale(heed::default_scale(head_dim)) {
    oracle::Random random(std::uint64_t(heads * dim + keys));
    q = rotated(rope, random.gaussians(queries * heads * dim), heads, keys - queries);
    k = random.gaussians(keys * dim);
    reuse.n = oracle::doubles(random.gaussians(dim * dim));
    reuse.alpha = oracle::doubles(random.gaussians(dim));
    for (double& x : reuse.n) x = float(x / std::sqrt(double(dim)));
    map.resize(std::size_t(dim * dim));
    const std::vector<float> n(reuse.n.begin(), reuse.n.end()), alpha(reuse.alpha.begin(), reuse.alpha.end());
    heed::check(heed::make_value_map({n, dim, dim}, {alpha, 1, dim}, dim, map));
  }

  [[nodiscard]] MfaKr policy() const {
    return {.num_heads = heads, .head_dim = dim, .scale = scale, .rope = &rope, .value_map = map};
  }
  /// Keys rotated, values made of the un-rotated ones before the softmax.
  [[nodiscard]] oracle::Answer answer() const {
    const oracle::Mfa o{.num_heads = heads, .head_dim = dim, .scale = scale};
    return o.attend(oracle::doubles(q), oracle::doubles(rotated(rope, k, 1, 0)), reuse.values(oracle::doubles(k)));
  }

  Index heads, dim;
  heed::Rope rope;
  float scale;
  std::vector<float> q, k, map;
  oracle::KeyReuse reuse;
};

TEST(MfaKr, ValuesAreOfTheUnrotatedKey) {
  for (const auto& [heads, dim] : {std::pair<Index, Index>{4, 256}, {64, 64}, {3, 40}, {1, 2}, {9, 96}}) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 1}, {1, 300}, {5, 700}, {30, 30}}) {
      const Problem p(heads, dim, queries, keys);
      EXPECT_LE(worst(attend(p.policy(), p.q, p.k, p.k, dim), p.answer().o), 1)
          << heads << " x " << dim << ", " << queries;
    }
  }
}

/// M in the output projection, or applied per query: the same layer.
TEST(MfaKr, FoldsIntoTheOutputProjection) {
  const Problem p(3, 32, 4, 90);
  oracle::Random random(5);
  const Index hidden = 17, width = 3 * 32;
  const std::vector<float> o_proj = random.gaussians(hidden * width);
  std::vector<float> folded(o_proj.size());
  ASSERT_TRUE(heed::fold_value_map(p.map, 32, o_proj, folded).ok());
  MfaKr bare = p.policy();
  bare.value_map = {};
  const auto y = [&](const std::vector<float>& heads, const std::vector<float>& weights) {
    return oracle::linear(oracle::doubles(heads), oracle::doubles(weights), width);
  };
  const auto per_query = y(attend(p.policy(), p.q, p.k, p.k, 32), o_proj);
  const auto once = y(attend(bare, p.q, p.k, p.k, 32), folded);
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(once[i], per_query[i], 1e-4);
  std::vector<float> in_place = o_proj;
  ASSERT_TRUE(heed::fold_value_map(p.map, 32, in_place, in_place).ok());
  EXPECT_EQ(in_place, folded);
}

/// alpha = 0 is MFA with the un-rotated key as its value.
TEST(MfaKr, WithoutAlphaItIsMfa) {
  const Problem p(6, 64, 3, 500);
  const heed::Mfa mfa{.num_heads = 6, .head_dim = 64, .scale = p.scale};
  MfaKr kr = p.policy();
  kr.value_map = {};
  const auto want = attend(mfa, p.q, rotated(p.rope, p.k, 1, 0), p.k, 64);
  EXPECT_EQ(attend(kr, p.q, p.k, p.k, 64), want);  // a row rotated at read has the bits of one rotated at write
}

/// Moving all positions changes nothing but rounding.
TEST(MfaKr, OnlyDistancesCount) {
  const Problem p(4, 64, 2, 200);
  const auto here = attend(p.policy(), p.q, p.k, p.k, 64);
  for (const Index shift : {1, 63, 1000, 60000}) {
    // The same queries, turned further.
    const auto inverse = [&](std::vector<float> q) {
      std::vector<Index> positions{198, 199};
      heed::check(p.rope.apply_rows(positions, 4, q, heed::RopeDirection::inverse));
      return q;
    };
    const auto moved = attend(p.policy(), rotated(p.rope, inverse(p.q), 4, 198 + shift), p.k, p.k, 64, shift);
    for (std::size_t i = 0; i < here.size(); ++i) EXPECT_NEAR(moved[i], here[i], 2e-5) << shift;
  }
}

/// Without a rotation the keys are used as they are.
TEST(MfaKr, NeedsNoRope) {
  const Problem p(4, 48, 2, 70);
  MfaKr kr = p.policy();
  kr.rope = nullptr;
  const oracle::Mfa o{.num_heads = 4, .head_dim = 48, .scale = p.scale};
  const auto want = o.attend(oracle::doubles(p.q), oracle::doubles(p.k), p.reuse.values(oracle::doubles(p.k)));
  EXPECT_LE(worst(attend(kr, p.q, p.k, p.k, 48), want.o), 1);
}

/// heads.md, section 7: the 1B model of the paper.
TEST(Mfa, CacheBytes) {
  const auto live = [](const auto& policy, const auto&... streams) {
    using P = std::remove_cvref_t<decltype(policy)>;
    auto cache = heed::value_or_throw(
        heed::KvCache<P, heed::F32>::create(policy, {.layers = 20, .capacity = 1, .max_tokens = 1}));
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
    for (Index layer = 0; layer < 20; ++layer) heed::check(step.write(layer, std::span<const float>(streams)...));
    heed::check(step.commit());
    return cache.bytes().live;
  };
  const std::vector<float> row(256);
  EXPECT_EQ(live(heed::Mfa{.num_heads = 16, .head_dim = 256, .scale = 1}, row, row), 2 * 20480);  // there in 16 bits
  EXPECT_EQ(live(MfaKr{.num_heads = 16, .head_dim = 256, .scale = 1}, row), 2 * 10240);
}

TEST(MfaKr, RefusesWrongShapes) {
  const Problem p(2, 8, 1, 1);
  const heed::Rope other = make_rope(10);
  MfaKr wrong = p.policy();
  wrong.rope = &other;
  EXPECT_EQ(wrong.validate().message(), "rope->options().head_dim is 10, must be head_dim 8");
  wrong = p.policy();
  wrong.value_map = std::span(p.map).first(63);
  EXPECT_EQ(wrong.validate().message(), "value_map has 63 numbers, must have head_dim * head_dim = 64 or none");
  EXPECT_FALSE(heed::Mfa{}.validate().ok());
}

}  // namespace
}  // namespace heed_test::mfa_test
