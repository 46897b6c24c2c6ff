// Rows of numbers as codecs store them.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include <heed/concepts.hpp>

#include "lists/plain_codecs.hpp"
#include "oracle/random.hpp"

namespace heed_test::row_test {
namespace {

using heed::Index;

// Conversions can be computed by the compiler.
static_assert(heed::Bf16::from_float(1.0f) == 0x3f80 && heed::Bf16::to_float(0xc000) == -2.0f);
static_assert(heed::F16::from_float(1.0f) == 0x3c00 && heed::F16::to_float(0x0001) == 0x1p-24f);

template <class C>
class CodecRows : public testing::Test {};
using Codecs = heed_test::PlainCodecs::As<testing::Types>;
TYPED_TEST_SUITE(CodecRows, Codecs);

/// half_test.cpp has every pattern of bf16 and f16. Other codecs are compared with themselves here: where rows lie.
template <class C>
double rounded(float x) {
  if constexpr (std::is_same_v<C, heed::F32>) return x;
  if constexpr (std::is_same_v<C, heed::Bf16>) return oracle::round_to_bf16(x);
  if constexpr (std::is_same_v<C, heed::F16>) return oracle::round_to_f16(x);
  return C::to_float(C::from_float(x));
}

/// Rows of any length at any address; nothing outside them is touched.
TYPED_TEST(CodecRows, EncodeAndDecode) {
  oracle::Random random(1);
  for (Index n = 0; n < 70; ++n) {
    const std::vector<float> in = random.gaussians(n, 100);
    for (const std::size_t shift : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{5}}) {
      const auto bytes = std::size_t(TypeParam::row_bytes(n));
      std::vector<std::byte> stored(shift + bytes + 8, std::byte{0x5a});
      TypeParam::encode(in.data(), n, stored.data() + shift);
      for (std::size_t i = 0; i < stored.size(); ++i) {
        ASSERT_TRUE((i >= shift && i < shift + bytes) || stored[i] == std::byte{0x5a}) << n;
      }
      std::vector<float> out(std::size_t(n + 2), -7.0f);
      TypeParam::decode(stored.data() + shift, n, out.data() + 1);
      ASSERT_EQ(out.front(), -7.0f);
      ASSERT_EQ(out.back(), -7.0f);
      for (Index i = 0; i < n; ++i) {
        ASSERT_EQ(double(out[std::size_t(i + 1)]), rounded<TypeParam>(in[std::size_t(i)])) << n << " " << i;
        float one = 0;  // the same from the middle of the row
        TypeParam::decode(stored.data() + shift + TypeParam::offset_bytes(i), 1, &one);
        ASSERT_EQ(one, out[std::size_t(i + 1)]);
      }
    }
  }
}

TEST(CodecBytes, AreTheFormats) {
  EXPECT_EQ(heed::F32::row_bytes(7), 28);
  EXPECT_EQ(heed::Bf16::row_bytes(7), 14);
  EXPECT_EQ(heed::F16::row_bytes(7), 14);
  EXPECT_EQ(heed::Bf16::row_bytes(Index{1} << 40), Index{1} << 41);
  EXPECT_EQ(heed::F32::offset_bytes(3), 12);
}

}  // namespace
}  // namespace heed_test::row_test
