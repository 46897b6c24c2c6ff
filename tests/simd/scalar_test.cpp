// The scalar backend against double; the others against it.
#include "simd/function_laws.hpp"

namespace heed_test::scalar_test {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Scalar, FunctionLaws, Scalar);

static_assert(heed::SimdBackend<Scalar>);

/// The definition itself, in double: two passes over one small tile.
TEST(ScalarTile, IsAttentionOfOneChunk) {
  oracle::Random random(1);
  constexpr Index keys = 37, width = 5, dims = 3;
  const Rows<heed::F32> k(random, keys, width, width * 4), v(random, keys, dims, dims * 4);
  const std::vector<float> q = random.gaussians(width);
  std::vector<float> s(heed::chunk_keys), out(dims);
  Scalar::score_rows<heed::F32>(q.data(), width, 1, k.keys(), width, 0.5f, s.data());
  const heed::ChunkSum sum = Scalar::softmax(s.data(), keys);
  heed::RowTarget target{.out = out.data(), .normalise = 1 / sum.sum, .merges = 0, .merge = {}};
  Scalar::accumulate_rows<heed::F32>(s.data(), 1, v.keys(), {0, keys}, 0, dims, &target, {});

  std::vector<double> weight;
  double largest = -1e300, total = 0;
  for (Index j = 0; j < keys; ++j) {
    float row[width];
    heed::F32::decode(k.pointers[std::size_t(j)], width, row);
    double dot = 0;
    for (Index d = 0; d < width; ++d) dot += double(q[std::size_t(d)]) * double(row[d]);
    weight.push_back(0.5 * dot);
    largest = std::max(largest, 0.5 * dot);
  }
  for (double& w : weight) total += w = std::exp(w - largest);
  EXPECT_NEAR(sum.max, largest, 1e-6);
  EXPECT_NEAR(256.0 * double(sum.sum), total, 1e-5);
  for (Index d = 0; d < dims; ++d) {
    double want = 0;
    for (Index j = 0; j < keys; ++j) {
      float row[dims];
      heed::F32::decode(v.pointers[std::size_t(j)], dims, row);
      want += weight[std::size_t(j)] / total * double(row[d]);
    }
    EXPECT_NEAR(out[std::size_t(d)], want, 1e-6);
  }
}

/// The sum of a softmax has a fixed order: 16 lanes, then halves. The kernel's bits depend on it.
TEST(ScalarTile, SoftmaxSumsInSixteenLanes) {
  oracle::Random random(2);
  std::vector<float> s = random.gaussians(256, 3);
  const heed::ChunkSum sum = Scalar::softmax(s.data(), 200);
  float lane[16] = {};
  for (Index k = 0; k < 208; ++k) lane[k % 16] += s[std::size_t(k)];
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  EXPECT_EQ(sum.sum, lane[0]);
  EXPECT_TRUE(sum.sum >= 0x1p-8f && sum.sum <= 1) << "256 weights of at most 2^-8";
  for (std::size_t k = 200; k < 208; ++k) EXPECT_EQ(s[k], 0);
}

}  // namespace
}  // namespace heed_test::scalar_test
