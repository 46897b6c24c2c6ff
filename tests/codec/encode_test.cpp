/// \file
/// Rows are encoded by vectors. For every float the bits are those of from_float(), which half_test.cpp compares with
/// rounding in double; rounding_modes_test.cpp has the hosts that round and flush in other ways.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include <heed/heed.hpp>

#include "codec/vectors.hpp"
#include "lists/plain_codecs.hpp"

namespace heed_test::encode_test {
namespace {

using heed::Index;

template <class C>
std::vector<typename C::Element> from_float(const std::vector<float>& in) {
  std::vector<typename C::Element> made(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) made[i] = C::from_float(in[i]);
  return made;
}
template <class C, class V>
void expect_encoded(const std::vector<float>& in, const std::vector<typename C::Element>& want, const char* what) {
  std::vector<typename C::Element> got(in.size());
  C::template encode_by<V>(in.data(), Index(in.size()), reinterpret_cast<std::byte*>(got.data()));
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof got[0]), 0)
      << C::name << ", " << V::width << " lanes, " << what;
}
template <class V>
void expect_as_from_float(const std::vector<float>& in, const char* what) {
  PlainCodecs::for_each([&]<class C>() { expect_encoded<C, V>(in, from_float<C>(in), what); });
}

/// `count` floats, `step` patterns apart, from pattern `first` on.
std::vector<float> floats(std::uint64_t first, std::uint64_t step, std::size_t count) {
  std::vector<float> made(count);
  for (std::size_t i = 0; i < count; ++i) made[i] = std::bit_cast<float>(std::uint32_t(first + i * step));
  return made;
}

template <class V>
class Encode : public testing::Test {};
TYPED_TEST_SUITE(Encode, Vectors);

/// Every exponent with the fractions around each place where bf16 or f16 may round: ties, neighbours of ties, carries.
TYPED_TEST(Encode, RoundsAsFromFloat) {
  std::vector<float> in;
  for (std::uint32_t exponent = 0; exponent < 512; ++exponent) {  // the sign is bit 8
    for (std::uint32_t place = 0; place < 23; ++place) {
      for (const std::uint32_t above : {0u, 1u, 2u, 3u, 0x2aaaaau, 0x7fffffu}) {
        const std::uint32_t tie = ((above << 1) | 1u) << place;
        for (const std::uint32_t fraction : {tie - 1, tie, tie + 1}) {
          in.push_back(std::bit_cast<float>(exponent << 23 | (fraction & 0x7fffffu)));
        }
      }
    }
  }
  expect_as_from_float<TypeParam>(in, "around ties");
  for (std::uint64_t part = 0; part < 16; ++part) {
    expect_as_from_float<TypeParam>(floats(part << 28, 1009, (std::size_t{1} << 28) / 1009), "every thousandth");
  }
}

TEST(EncodeAll, EveryFloatLong) {
  constexpr std::uint64_t at_once = 1 << 20;
  for (std::uint64_t first = 0; first < std::uint64_t{1} << 32; first += at_once) {
    const std::vector<float> in = floats(first, 1, at_once);
    PlainCodecs::for_each([&]<class C>() {
      const std::vector<typename C::Element> want = from_float<C>(in);
      const std::string from = "from pattern " + std::to_string(first);
      expect_encoded<C, Lanes<4>>(in, want, from.c_str());
      expect_encoded<C, Lanes<8>>(in, want, from.c_str());
      expect_encoded<C, Lanes<16>>(in, want, from.c_str());
    });
    ASSERT_FALSE(HasFailure());
  }
}

/// Rows of any length at any address; nothing outside them is touched.
TYPED_TEST(Encode, WritesTheRowAndNoMore) {
  PlainCodecs::for_each([&]<class C>() {
    for (Index n = 0; n < 70; ++n) {
      const std::vector<float> in = floats(0x3f812345u, 0x00123457u, std::size_t(n));
      for (std::size_t shift = 0; shift < 4; ++shift) {
        const auto bytes = std::size_t(C::row_bytes(n));
        std::vector<std::byte> got(shift + bytes + 64, std::byte{0x5a}), want = got;
        C::template encode_by<TypeParam>(in.data(), n, got.data() + shift);
        for (Index i = 0; i < n; ++i) {
          const auto element = C::from_float(in[std::size_t(i)]);
          std::memcpy(want.data() + shift + i * C::element_bytes, &element, sizeof element);
        }
        ASSERT_EQ(got, want) << C::name << " " << n << " numbers at " << shift;
      }
    }
  });
}

}  // namespace
}  // namespace heed_test::encode_test
