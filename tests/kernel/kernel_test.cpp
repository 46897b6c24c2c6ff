// A kernel is a value: it can be chosen when the program runs, it gives the bits of attend<Backend>(), and it refuses rows
// that it does not read.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/compiled.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>
#include <heed/simd/backends.hpp>

#include "oracle/random.hpp"

namespace heed_test::kernel_test {
namespace {

using heed::Index;

constexpr Index keys = 300, width = 24;
const heed::Gqa gqa{.num_heads = 4, .num_kv_heads = 2, .head_dim = width, .scale = 0.2f};

/// Rows of two KV heads, encoded.
template <class C>
std::vector<std::byte> rows(std::uint64_t seed) {
  const std::vector<float> numbers = oracle::Random(seed).gaussians(keys * 2 * width);
  std::vector<std::byte> stored(std::size_t(C::row_bytes(keys * 2 * width)));
  C::encode(numbers.data(), keys * 2 * width, stored.data(), nullptr);
  return stored;
}
template <class C>
heed::StridedStream stream(const std::vector<std::byte>& stored) {
  const Index row = C::row_bytes(width);
  return {stored.data(), 2 * row, row, row};
}

template <class Policy, class Source>
std::vector<float> attend(const heed::Kernel& kernel, const Policy& policy, const Source& source) {
  const std::vector<float> q = oracle::Random(3).gaussians(5 * 4 * width);
  std::vector<float> out(q.size(), NAN);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const heed::Status status = heed::attend(kernel, policy, q, source, heed::Causal{}, out, workspace, serial);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(Kernel, ChosenAtRunTimeHasTheBitsOfItsTypes) {
  const auto k = rows<heed::Bf16>(1), v = rows<heed::F16>(2);
  const heed::StridedSource<heed::Bf16, heed::F16> source(keys, stream<heed::Bf16>(k), stream<heed::F16>(v));
  const std::vector<float> q = oracle::Random(3).gaussians(5 * 4 * width);
  std::vector<float> want(q.size(), NAN);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  ASSERT_TRUE(heed::attend<heed::Scalar>(gqa, q, source, heed::Causal{}, want, workspace, serial).ok());

  std::vector<const heed::Kernel*> all;
  heed::Backends::for_each([&]<class B>() { all.push_back(&heed::kernel<B, heed::Bf16, heed::F16>()); });
  const heed::Kernel* const scalar = &heed::kernel<heed::Scalar, heed::Bf16, heed::F16>();
  for (const heed::Kernel* kernel : all) {
    SCOPED_TRACE(kernel->backend);
    EXPECT_EQ(std::string(kernel->key_codec), "bf16");
    EXPECT_EQ(std::string(kernel->value_codec), "f16");
    const std::vector<float> got = attend(*kernel, gqa, source);
    if (kernel == scalar) {
      EXPECT_TRUE(same_bits(got, want));
    } else {  // without fused multiply-add, backends differ in bits
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5) << i;
    }
  }
}

TEST(Kernel, IsOneValueForItsTypes) {
  const heed::Kernel& one = heed::kernel<heed::Scalar, heed::F32, heed::F32>();
  EXPECT_EQ(&one, &(heed::kernel<heed::Scalar, heed::F32, heed::F32>()));
  EXPECT_NE(&one, &(heed::kernel<heed::Scalar, heed::F32, heed::Bf16>()));
}

/// Where keys and values are made of one row, the codec of values has no meaning.
TEST(Kernel, OfSharedRowsReadsTheCodecOfKeys) {
  const heed::SharedRow policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = width, .v_head_dim = width, .scale = 0.2f};
  const auto k = rows<heed::Bf16>(1);
  const heed::StridedSource<heed::Bf16, heed::F32> source(keys, stream<heed::Bf16>(k), {});
  const std::vector<float> out = attend(heed::kernel<heed::Scalar, heed::Bf16, heed::Bf16>(), policy, source);
  for (const float x : out) EXPECT_TRUE(std::isfinite(x));
}

TEST(Kernel, RefusesRowsOfOtherCodecs) {
  const auto k = rows<heed::Bf16>(1), v = rows<heed::F32>(2);
  const heed::StridedSource<heed::Bf16, heed::F32> source(keys, stream<heed::Bf16>(k), stream<heed::F32>(v));
  const std::vector<float> q(std::size_t(4 * width));
  std::vector<float> out(q.size(), 7.0f);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const auto refuse = [&](const heed::Kernel& kernel, const char* message) {
    const heed::Status status = heed::attend(kernel, gqa, q, source, heed::Causal{}, out, workspace, serial);
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    EXPECT_EQ(status.message(), message);
    for (const float x : out) EXPECT_EQ(x, 7.0f);
  };
  refuse(heed::kernel<heed::Scalar, heed::Bf16, heed::Bf16>(),
         "sequence 0: keys are stored as bf16 and values as f32, but kernel scalar reads bf16 and bf16");
  refuse(heed::kernel<heed::Scalar, heed::F16, heed::F32>(),
         "sequence 0: keys are stored as bf16 and values as f32, but kernel scalar reads f16 and f32");
}

}  // namespace
}  // namespace heed_test::kernel_test
