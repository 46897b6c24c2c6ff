/// \file
/// Where a weight lies, and what a matrix takes and refuses.
#include <set>

#include "cache/counting_memory.hpp"
#include "ternary/ternary.hpp"

namespace heed_test::layout_test {
namespace {

template <class L>
class TernaryLayouts : public testing::Test {};
using Layouts = heed::TernaryLayouts::As<testing::Types>;
TYPED_TEST_SUITE(TernaryLayouts, Layouts);

constexpr std::pair<Index, Index> shapes[] = {{1, 1}, {2, 3}, {31, 16}, {32, 20}, {33, 17}, {64, 40}, {70, 333}};

/// No two weights share a place, and all places are in the matrix.
TYPED_TEST(TernaryLayouts, EveryWeightHasItsPlace) {
  using L = TypeParam;
  for (const auto& [rows, cols] : shapes) {
    std::set<std::pair<Index, int>> places;
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        const Index byte = L::byte_of(r, c, cols);
        ASSERT_TRUE(0 <= byte && byte < L::bytes(rows, cols));
        ASSERT_TRUE(0 <= L::plane_of(c) && L::plane_of(c) < L::planes);
        ASSERT_TRUE(places.insert({byte, L::plane_of(c)}).second) << r << ", " << c;
      }
    }
  }
}

/// A column's four neighbours are the four bytes of a row, so that they meet four activations that follow each other.
TYPED_TEST(TernaryLayouts, QuadsAndRowsAreSideBySide) {
  using L = TypeParam;
  for (Index c = 0; c < 100; c += 4) {
    for (Index j = 1; j < 4; ++j) {
      EXPECT_EQ(L::byte_of(5, c + j, 100), L::byte_of(5, c, 100) + j);
      EXPECT_EQ(L::plane_of(c + j), L::plane_of(c));
    }
    EXPECT_EQ(L::byte_of(6, c, 100), L::byte_of(5, c, 100) + 4);
    EXPECT_EQ(L::plane_of(c), c / 4 % L::planes);
    EXPECT_EQ(L::byte_of(0, c, 100), c / L::block_cols * 128);
    EXPECT_EQ(L::byte_of(32, c, 100), L::byte_of(0, c, 100) + L::blocks(100) * 128);
  }
}

TYPED_TEST(TernaryLayouts, CodesOfEveryByte) {
  using L = TypeParam;
  int combinations = 1;
  for (int p = 0; p < L::planes; ++p) combinations *= 3;
  for (int n = 0; n < combinations; ++n) {
    int byte = 0, rest = n;
    for (int p = 0; p < L::planes; ++p, rest /= 3) byte += rest % 3 * L::plane_unit(p);
    ASSERT_LE(byte, 255);
    rest = n;
    for (int p = 0; p < L::planes; ++p, rest /= 3) ASSERT_EQ(L::code(std::uint8_t(byte), p), rest % 3) << byte;
  }
}

TYPED_TEST(TernaryLayouts, BitsPerWeight) {
  using L = TypeParam;
  EXPECT_EQ(L::bits_per_weight * L::planes, 8);
  const Index cols = 10 * L::block_cols;
  EXPECT_EQ(double(L::bytes(320, cols)) * 8, L::bits_per_weight * 320 * double(cols));
  EXPECT_EQ(L::bytes(1, 1), 128);
  EXPECT_EQ(L::bytes(33, L::block_cols + 1), 4 * 128);
}

TYPED_TEST(TernaryLayouts, MatricesGiveTheirWeightsBack) {
  oracle::Random random(1);
  for (const auto& [rows, cols] : shapes) {
    const auto weights = random_weights(random, rows, cols, 0.375f);
    const auto matrix = matrix_of<TypeParam>(weights);
    EXPECT_EQ(values_of(matrix), weights.w);
    EXPECT_EQ(matrix.rows(), rows);
    EXPECT_EQ(matrix.cols(), cols);
    EXPECT_EQ(matrix.scale(), 0.375f);
    EXPECT_EQ(matrix.bytes(), TypeParam::bytes(rows, cols));
    EXPECT_EQ(matrix.groups(), (rows + 31) / 32);
  }
}

/// Rows and columns that do not exist are zero weights.
TYPED_TEST(TernaryLayouts, PaddingIsZeroWeights) {
  using L = TypeParam;
  const auto matrix = matrix_of<L>({.rows = 1, .cols = 1, .w = {1}, .scale = 1});
  for (Index r = 0; r < 32; ++r) {
    for (Index c = 0; c < L::block_cols; ++c) {
      const auto byte = std::uint8_t(matrix.group(0)[L::byte_of(r, c, 1)]);
      EXPECT_EQ(L::code(byte, L::plane_of(c)), r == 0 && c == 0 ? 2 : 1);
    }
  }
}

std::uint8_t byte_at(const auto& matrix, Index at) { return std::uint8_t(matrix.group(0)[at]); }

/// Bits 2p of byte j of row r: column 4p + j, code weight + 1.
TEST(TernaryTwoBit, BytesByHand) {
  oracle::TernaryWeights weights{.rows = 2, .cols = 18, .w = Trits(36, 0), .scale = 1};
  weights.w[0] = 1, weights.w[4] = -1, weights.w[8] = 1, weights.w[12] = -1;  // codes 2, 0, 2, 0 of byte 0
  weights.w[3] = -1;                                                          // byte 3
  weights.w[18 + 1] = 1;                                                      // row 1, byte 1
  weights.w[17] = 1;                                                          // the next block, byte 1
  const auto matrix = matrix_of<heed::TwoBit>(weights);
  EXPECT_EQ(byte_at(matrix, 0), 0b00'10'00'10);
  EXPECT_EQ(byte_at(matrix, 1), 0b01'01'01'01);
  EXPECT_EQ(byte_at(matrix, 3), 0b01'01'01'00);
  EXPECT_EQ(byte_at(matrix, 5), 0b01'01'01'10);
  EXPECT_EQ(byte_at(matrix, 128 + 1), 0b01'01'01'10);
}

/// A byte is the sum of code 3^p.
TEST(TernaryFiveTrits, BytesByHand) {
  oracle::TernaryWeights weights{.rows = 1, .cols = 21, .w = Trits(21, 0), .scale = 1};
  weights.w[0] = 1, weights.w[4] = -1, weights.w[8] = 1, weights.w[12] = -1, weights.w[16] = 1;
  weights.w[20] = -1;
  const auto matrix = matrix_of<heed::FiveTrits>(weights);
  EXPECT_EQ(byte_at(matrix, 0), 2 + 0 * 3 + 2 * 9 + 0 * 27 + 2 * 81);
  EXPECT_EQ(byte_at(matrix, 1), 1 + 3 + 9 + 27 + 81);
  EXPECT_EQ(byte_at(matrix, 128), 0 + 3 + 9 + 27 + 81);
}

TEST(TernaryMatrix, OtherLayoutSameWeights) {
  oracle::Random random(2);
  const auto weights = random_weights(random, 37, 55, 0.125f);
  const auto two = matrix_of<heed::TwoBit>(weights);
  const auto five = heed::value_or_throw(heed::with_layout<heed::FiveTrits>("weight", two));
  const auto back = heed::value_or_throw(heed::with_layout<heed::TwoBit>("weight", five));
  EXPECT_EQ(values_of(five), weights.w);
  EXPECT_EQ(five.scale(), 0.125f);
  EXPECT_EQ(std::memcmp(back.group(0), two.group(0), std::size_t(two.bytes())), 0);
}

using Matrix = heed::TernaryMatrix<>;
constexpr auto zeros = [](Index, std::span<std::int8_t> to) -> Status {
  std::fill(to.begin(), to.end(), std::int8_t{0});
  return {};
};

TEST(TernaryMatrix, RefusesWhatItCannotBe) {
  const auto refused = [](Index rows, Index cols, float scale) {
    return Matrix::create("w", rows, cols, scale, zeros).status();
  };
  const std::string shape = "], must be in [1 .. 4294967296, 1 .. 500000]";
  expect_invalid(refused(0, 4, 1), "w has shape [0, 4" + shape);
  expect_invalid(refused(4, 0, 1), "w has shape [4, 0" + shape);
  expect_invalid(refused(-1, 4, 1), "w has shape [-1, 4" + shape);
  expect_invalid(refused(4, 500'001, 1), "w has shape [4, 500001" + shape);
  expect_invalid(refused(Index{1} << 33, 4, 1), "w has shape [8589934592, 4" + shape);
  expect_invalid(refused(4, 4, 0), "w: scale is 0, must be positive");
  expect_invalid(refused(4, 4, -1), "w: scale is -1, must be positive");
  expect_invalid(refused(4, 4, nan_float), "w: scale is nan, must be positive");
  expect_invalid(refused(4, 4, inf_float), "w: scale is inf, must be positive");
}

TEST(TernaryMatrix, RefusesWeightsThatAreNotTernary) {
  for (const int w : {2, -2, 127, -128}) {
    Trits values(15, 0);
    values[7] = std::int8_t(w);
    expect_invalid(heed::ternary_from_values("w", values, 3, 5, 1).status(),
                   "w has weight " + std::to_string(w) + " at [1, 2], must be -1, 0 or 1");
  }
}

TEST(TernaryMatrix, SaysWhatTheReaderSays) {
  const auto read = [](Index row, std::span<std::int8_t> to) -> Status {
    if (row == 2) return heed::fail(StatusCode::unsupported, "row ", row);
    return zeros(row, to);
  };
  expect_failure(Matrix::create("w", 4, 4, 1, read).status(), StatusCode::unsupported, "row 2");
}

TEST(TernaryMatrix, MemoryIsTheCallers) {
  CountingMemory memory;
  {
    const auto made = Matrix::create("w", 40, 70, 1, zeros, memory.resource());
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(memory.held, made->bytes());
    EXPECT_EQ(values_of(*made), Trits(40 * 70, 0));
  }
  EXPECT_EQ(memory.held, 0);
  for (const Index failing : {0, 1}) {
    memory.failing_from = memory.allocations + failing;
    EXPECT_EQ(Matrix::create("w", 40, 70, 1, zeros, memory.resource()).status().code(), StatusCode::out_of_memory);
    EXPECT_EQ(memory.held, 0);
  }
}

}  // namespace
}  // namespace heed_test::layout_test
