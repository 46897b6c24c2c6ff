/// \file
/// A codec written outside the library: signed bytes, and a factor for every 32 numbers in a plane of the page.
#include "codec/codec_laws.hpp"

namespace heed_test::toy_plane_codec_test {
namespace {

using heed::Index;

/// number = factor * code, code in [-127, 127]. The factor is the f16 next to the largest magnitude / 127.
struct Bytes32 {
  static constexpr const char* name = "bytes32";
  static constexpr heed::Factors factors = heed::Factors::per_block;
  static constexpr Index view_step = heed::factor_dims;
  static constexpr Index row_alignment = 32;
  static Index row_bytes(Index width) { return width; }
  static Index factor_bytes(Index width) { return heed::F16::row_bytes((width + 31) / 32); }
  static Index offset_bytes(Index first) { return first; }
  static void encode(const float* in, Index width, std::byte* row, std::byte* entry) {
    for (Index begin = 0; begin < width; begin += 32) {
      const Index end = std::min<Index>(begin + 32, width);
      float most = 0;
      for (Index i = begin; i < end; ++i) most = std::max(most, std::abs(in[i]));
      float factor = most / 127;
      heed::F16::encode(&factor, 1, entry + begin / 16);
      heed::F16::decode(entry + begin / 16, 1, &factor);
      for (Index i = begin; i < end; ++i) {
        const float code = factor > 0 ? std::nearbyint(in[i] / factor) : 0;
        row[i] = std::byte(int(std::clamp(code, -127.0f, 127.0f)) & 255);
      }
    }
  }
  static void codes(const std::byte* row, Index first, Index n, float* out) {
    for (Index i = 0; i < n; ++i) out[i] = float(std::int8_t(row[first + i]));
  }
  static float factor(const std::byte*, const std::byte* entry, Index i) {
    float factor;
    heed::F16::decode(entry + 2 * i, 1, &factor);
    return factor;
  }
  template <class V>
  struct Reader {
    using Reg = typename V::Reg;
    static constexpr int group_words = 1;
    static constexpr int group_numbers = 4;
    static Reg number(const Reg* group, int i) {
      return V::from_ints((typename V::Ints)(V::words(*group) << (24 - 8 * i)) >> 24);
    }
    static Reg load(const std::byte* row, Index first) { return V::from_bytes(V::load_bytes(row + first)); }
  };
};
static_assert(heed::Codec<Bytes32>);

HEED_CODEC_LAWS(Bytes32);

/// A view of such rows begins where a factor begins; and factors must be somewhere.
TEST(ToyPlaneCodec, WhatCannotBeReadIsRefused) {
  std::vector<std::byte> bytes(4 * 64), entries(4 * 4);
  std::vector<float> q(64), out(64);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const heed::SharedRow policy{.num_heads = 1, .head_dim = 64, .scale = 1};
  heed::StridedStream stream{.data = bytes.data(), .token_stride_bytes = 64, .row_bytes = 64};
  const auto attend = [&] {
    return heed::attend<heed::Scalar>(policy, q, heed::StridedSource<Bytes32>(4, stream), heed::Causal{}, out,
                                      workspace, serial);
  };
  const heed::Status status = attend();
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("bytes32 keeps apart"), std::string::npos) << status.message();
  stream.factors = entries.data();
  stream.factor_token_stride_bytes = 4;
  EXPECT_TRUE(attend().ok());
}

}  // namespace
}  // namespace heed_test::toy_plane_codec_test
