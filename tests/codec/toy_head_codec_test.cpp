/// \file
/// A codec written outside the library: four bits a number, behind a factor at the head of the row, as in rows that other
/// programs store.
#include "codec/codec_laws.hpp"

namespace heed_test::toy_head_codec_test {
namespace {

using heed::Index;

/// number = factor * code, code in [-7, 7]. A row is a float and blocks of 16 bytes: byte j of a block has number j in its
/// low half and number j + 16 in its high half, each plus 8.
struct Nibbles {
  static constexpr const char* name = "nibbles";
  static constexpr heed::Factors factors = heed::Factors::per_row;
  static constexpr Index view_step = 32;
  static constexpr Index row_alignment = 4;
  static constexpr Index head = sizeof(float);
  static Index row_bytes(Index width) { return head + (width + 31) / 32 * 16; }
  static Index factor_bytes(Index) { return 0; }
  static Index offset_bytes(Index first) { return head + first / 32 * 16; }
  static void encode(const float* in, Index width, std::byte* row, std::byte*) {
    float most = 0;
    for (Index i = 0; i < width; ++i) most = std::max(most, std::abs(in[i]));
    const float factor = most / 7;
    std::memcpy(row, &factor, sizeof factor);
    for (Index i = 0; i < row_bytes(width) - head; ++i) row[head + i] = std::byte{0x88};
    for (Index i = 0; i < width; ++i) {
      const int code = factor > 0 ? int(std::nearbyint(in[i] / factor)) : 0, shift = i % 32 < 16 ? 0 : 4;
      std::byte& to = row[head + i / 32 * 16 + i % 16];
      to = (to & std::byte(0xf0 >> shift)) | std::byte((code + 8) << shift);
    }
  }
  static void codes(const std::byte* row, Index first, Index n, float* out) {
    for (Index i = first; i < first + n; ++i) {
      out[i - first] = float((int(row[head + i / 32 * 16 + i % 16]) >> (i % 32 < 16 ? 0 : 4) & 15) - 8);
    }
  }
  static float factor(const std::byte* row, const std::byte*, Index) {
    float factor;
    std::memcpy(&factor, row, sizeof factor);
    return factor;
  }
  template <class V>
  struct Reader {
    using Reg = typename V::Reg;
    using Ints = typename V::Ints;
    static constexpr int group_words = 4;
    static constexpr int group_numbers = 32;
    static Reg number(const Reg* group, int i) {
      return V::from_ints((Ints)(V::words(group[i % 16 / 4]) >> (i % 4 * 8 + i / 16 * 4) & 15u) - 8);
    }
    static Reg load(const std::byte* row, Index first) {
      const Ints bytes = __builtin_convertvector(V::load_bytes(row + offset_bytes(first) + first % 16), Ints);
      return V::from_ints((bytes >> (first % 32 < 16 ? 0 : 4) & 15) - 8);
    }
  };
};
static_assert(heed::Codec<Nibbles>);

HEED_CODEC_LAWS(Nibbles);

}  // namespace
}  // namespace heed_test::toy_head_codec_test
