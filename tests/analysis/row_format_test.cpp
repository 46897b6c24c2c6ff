// Bytes of a stored row, in every format that heed's figures name.
#include <heed/analysis/row_format.hpp>

#include <gtest/gtest.h>

namespace heed_test::row_format_test {
namespace {

using namespace heed::analysis;

// MLA's row: 512 + 64 elements.
static_assert(rows_f32.bytes(512, 64) == 2304);
static_assert(rows_16bit.bytes(512, 64) == 1152);
static_assert(rows_in<heed::F32>() == plain_rows(4) && rows_in<heed::Bf16>() == plain_rows(2));
static_assert(rows_8bit.bytes(512, 64) == 576);
static_assert(rows_4bit.bytes(512, 64) == 288);
static_assert(rows_flashmla_fp8.bytes(512, 64) == 656);
static_assert(rows_q8_0.bytes(512, 64) == 612);
static_assert(rows_q8_kv.bytes(512, 64) == 584);
static_assert(rows_flashmla_fp8.bytes(512, 64) == 512 + 4 * 4 + 64 * 2);

TEST(RowFormat, TheLastBlockIsWhole) {
  EXPECT_EQ(rows_q8_0.bytes(32), 34);
  EXPECT_EQ(rows_q8_0.bytes(33), 68);
  EXPECT_EQ(rows_q8_0.bytes(1), 34);
  EXPECT_EQ(rows_4bit.bytes(7), 4);
  EXPECT_EQ(rows_q8_0.bytes(48, 16), 68) << "both parts share blocks unless the format keeps them apart";
  EXPECT_EQ(rows_flashmla_fp8.bytes(100, 3), 132 + 6);
}

TEST(RowFormat, OfNothingIsNothingButThePerRowPart) {
  EXPECT_EQ(rows_q8_0.bytes(0), 0);
  EXPECT_EQ(rows_q8_kv.bytes(0), 8);
  EXPECT_EQ(rows_q8_kv.bytes(KvRows{}), 0);
}

TEST(RowFormat, CountsEveryRow) {
  const KvRows rows{.num_rows = 8, .width = 40, .rope_width = 0};
  EXPECT_EQ(rows.elements(), 320);
  EXPECT_EQ(rows_16bit.bytes(rows), 640);
  EXPECT_EQ(rows_q8_0.bytes(rows), 8 * 68) << "blocks do not span rows";
}

TEST(RowFormat, PlainRowsTakeAnySize) {
  for (const heed::Index bytes : {1, 2, 4, 8, 16}) EXPECT_EQ(plain_rows(bytes).bytes(576), 576 * bytes);
}

}  // namespace
}  // namespace heed_test::row_format_test
