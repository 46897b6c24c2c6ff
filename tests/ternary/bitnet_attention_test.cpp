// BitNet's attention layer: ternary projections around a GQA cache, against float64.
#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/ternary/bitnet_attention.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "oracle/bitlinear.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test::bitnet_attention_test {
namespace {

using heed::Index;

constexpr Index tokens = 19, hidden = 90;
constexpr double eps = 1e-5;
const heed::Gqa shape{.num_heads = 6, .num_kv_heads = 2, .head_dim = 14, .scale = heed::default_scale(14)};
const heed::RopeOptions rope{.head_dim = 14, .layout = heed::RopeLayout::half_split, .theta = 500000};

/// One projection on both sides, made from the same floats.
template <class L>
struct Projection {
  heed::BitLinear<L> heeds;
  oracle::BitLinear exact;
};

/// A block's layer on both sides.
template <class L>
struct Block {
  oracle::Random random{20};
  std::deque<std::vector<float>> kept = {};
  std::vector<float> input_norm = gains(hidden), sub_norm = gains(6 * 14);
  Projection<L> q = projection(6 * 14, hidden, input_norm), k = projection(2 * 14, hidden, input_norm),
                v = projection(2 * 14, hidden, input_norm), o = projection(hidden, 6 * 14, sub_norm);
  std::vector<float> x = random.gaussians(tokens * hidden);

  std::vector<float> gains(Index count) {
    std::vector<float> made = random.gaussians(count);
    for (float& gain : made) gain = 1 + gain / 4;
    return made;
  }
  Projection<L> projection(Index out, Index in, const std::vector<float>& norm) {
    kept.push_back(random.gaussians(out * in));
    const heed::Tensor weight{kept.back(), out, in};
    auto made = heed::BitLinear<L>::create("w", weight, out, in, {norm, 1, in}, {.norm_eps = eps});
    return {heed::value_or_throw(std::move(made)),
            oracle::bit_linear(oracle::doubles(kept.back()), oracle::doubles(norm), eps)};
  }

  heed::Result<heed::BitNetAttention<L>> layer() {
    return heed::BitNetAttention<L>::create(
        hidden, shape, rope, {std::move(q.heeds), std::move(k.heeds), std::move(v.heeds), std::move(o.heeds)});
  }

  std::vector<double> expected() const {
    oracle::Rotation rotation;
    for (int i = 0; i < 7; ++i) rotation.frequencies.push_back(std::pow(500000.0, -2.0 * i / 14));
    std::vector<oracle::Int> positions(tokens);
    std::iota(positions.begin(), positions.end(), 0);
    const auto input = oracle::doubles(x);
    const oracle::Problem problem{.heads = 6,
                                  .kv_heads = 2,
                                  .key_dim = 14,
                                  .value_dim = 14,
                                  .scale = 1 / std::sqrt(14.0),
                                  .q = rotation.rotated(q.exact(input), 14, positions),
                                  .k = rotation.rotated(k.exact(input), 14, positions),
                                  .v = v.exact(input)};
    return o.exact(oracle::attention(problem).o);
  }
};

/// The layer over a cache, `calls` tokens at a time.
template <class L>
std::vector<float> run(const heed::BitNetAttention<L>& layer, const std::vector<float>& x, Index calls,
                       heed::ThreadPool& pool) {
  auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, heed::F32>::create(shape, {.capacity = tokens}));
  heed::Workspace projections, attention;
  std::vector<float> all;
  for (Index first = 0; first < tokens; first += calls) {
    const Index count = std::min(calls, tokens - first);
    const auto rows = [count](Index width) { return std::vector<float>(std::size_t(count * width)); };
    auto q = rows(6 * 14), k = rows(2 * 14), v = rows(2 * 14), heads = rows(6 * 14), y = rows(hidden);
    std::vector<Index> positions(static_cast<std::size_t>(count));
    std::iota(positions.begin(), positions.end(), first);
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(count)));
    const auto part = std::span(x).subspan(std::size_t(first * hidden), std::size_t(count * hidden));
    heed::check(layer.template project<Backend>(part, positions, q, k, v, projections, pool));
    heed::check(step.write(0, k, v));
    heed::check(heed::attend<Backend>(shape, q, step.keys(0), heads, attention, pool));
    heed::check(layer.template output<Backend>(heads, y, projections, pool));
    heed::check(step.commit());
    all.insert(all.end(), y.begin(), y.end());
  }
  return all;
}

template <class L>
class BitNetAttentionLayer : public testing::Test {};
using Layouts = heed::TernaryLayouts::As<testing::Types>;
TYPED_TEST_SUITE(BitNetAttentionLayer, Layouts);

TYPED_TEST(BitNetAttentionLayer, IsTernaryProjectionsAroundGqa) {
  Block<TypeParam> block;
  const std::vector<double> want = block.expected();
  const auto layer = heed::value_or_throw(block.layer());
  auto pool = heed::value_or_throw(heed::ThreadPool::create(1));
  const std::vector<float> got = run(layer, block.x, tokens, *pool);
  double largest = 0;
  for (const double y : want) largest = std::max(largest, std::abs(y));
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_TRUE(std::abs(double(got[i]) - want[i]) <= 2e-5 * largest) << i << ": " << got[i] << ", want " << want[i];
  }
}

TYPED_TEST(BitNetAttentionLayer, HasTheSameBitsForAnyCallsAndWorkers) {
  Block<TypeParam> block;
  const auto layer = heed::value_or_throw(block.layer());
  auto one = heed::value_or_throw(heed::ThreadPool::create(1)),
       three = heed::value_or_throw(heed::ThreadPool::create(3));
  const std::vector<float> whole = run(layer, block.x, tokens, *one);
  for (const Index calls : {1, 3, 5, 8}) EXPECT_EQ(run(layer, block.x, calls, *three), whole) << calls;
}

TYPED_TEST(BitNetAttentionLayer, NamesAProjectionOfAnotherShape) {
  Block<TypeParam> block;
  std::swap(block.q, block.k);
  const auto layer = block.layer();
  ASSERT_FALSE(layer.ok());
  EXPECT_EQ(layer.status().message(), "q_proj has shape [28, 90], must be [84, 90]");
}

TYPED_TEST(BitNetAttentionLayer, RefusesRopeOfAnotherHead) {
  Block<TypeParam> block;
  const auto layer = heed::BitNetAttention<TypeParam>::create(
      hidden, shape, heed::RopeOptions{.head_dim = 16},
      {std::move(block.q.heeds), std::move(block.k.heeds), std::move(block.v.heeds), std::move(block.o.heeds)});
  ASSERT_FALSE(layer.ok());
  EXPECT_EQ(layer.status().message(), "rope.head_dim is 16, must be head_dim 14");
}

}  // namespace
}  // namespace heed_test::bitnet_attention_test
