/// \file
/// What other projects store becomes the same weights and scale, and what is damaged is named.
#include <heed/ternary/import/ggml.hpp>
#include <heed/ternary/import/hugging_face.hpp>
#include <heed/ternary/import/i2_s.hpp>

#include "oracle/ternary_packings.hpp"
#include "ternary/ternary.hpp"

namespace heed_test::import_test {
namespace {

using heed::GgmlTernary, heed::I2sBlock, heed::WeightScale;

template <class L>
class TernaryImport : public testing::Test {
 protected:
  template <class Read>
  void expect_read(const oracle::TernaryWeights& weights, const Read& read) {
    const auto got = read();
    ASSERT_TRUE(got.ok()) << got.status().message();
    ASSERT_EQ(got->rows(), weights.rows);
    ASSERT_EQ(got->cols(), weights.cols);
    ASSERT_EQ(values_of(*got), weights.w) << weights.rows << " x " << weights.cols;
    ASSERT_EQ(got->scale(), float(weights.scale));
  }
  oracle::Random random{1};
};
using Layouts = heed::TernaryLayouts::As<testing::Types>;
TYPED_TEST_SUITE(TernaryImport, Layouts);

TYPED_TEST(TernaryImport, HuggingFace) {
  for (const Index rows : {1, 2, 3, 4, 5, 7, 32, 33, 130}) {
    for (const Index cols : {1, 5, 16, 33, 200}) {
      const auto weights = random_weights(this->random, rows, cols);  // a scale of 0.75
      const Bytes packed = oracle::hf_packed(weights);
      this->expect_read(weights, [&] {
        return heed::ternary_from_hugging_face<TypeParam>("w", packed, rows, cols, 0.75f, WeightScale::multiplier);
      });
      this->expect_read(weights, [&] {
        return heed::ternary_from_hugging_face<TypeParam>("w", packed, rows, cols, 1 / 0.75f, WeightScale::divisor);
      });
    }
  }
}

TYPED_TEST(TernaryImport, I2S) {
  for (const Index rows : {1, 3, 33}) {
    for (const Index blocks : {1, 2, 5}) {
      for (const auto& [machine, written_by] :
           {std::pair{I2sBlock::x86, oracle::I2sBlock::x86}, {I2sBlock::arm, oracle::I2sBlock::arm}}) {
        const I2sBlock kind = machine;
        const auto weights = random_weights(this->random, rows, blocks * Index(kind), 0.3f);
        Bytes bytes = oracle::i2_s_packed(weights, written_by);
        const auto read = [&] { return heed::ternary_from_i2_s<TypeParam>("w", bytes, rows, weights.cols, kind); };
        this->expect_read(weights, read);
        bytes.erase(bytes.end() - 28, bytes.end());  // the scale's padding need not be there
        this->expect_read(weights, read);
      }
    }
  }
}

/// Blocks run through the tensor: a row of 8640 columns (BitNet 3B) has 67 and a half of them.
TYPED_TEST(TernaryImport, I2SOfRowsThatBeginWithinABlock) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{2, 8640}, {4, 8640}, {2, 64}, {4, 32}, {128, 3}, {64, 10}}) {
    for (const auto& [machine, written_by] :
         {std::pair{I2sBlock::x86, oracle::I2sBlock::x86}, {I2sBlock::arm, oracle::I2sBlock::arm}}) {
      const I2sBlock kind = machine;
      const Index height = rows;
      const auto weights = random_weights(this->random, rows, cols, 0.3f);
      const Bytes bytes = oracle::i2_s_packed(weights, written_by);
      this->expect_read(weights,
                        [&] { return heed::ternary_from_i2_s<TypeParam>("w", bytes, height, weights.cols, kind); });
    }
  }
}

/// A file of the other kind of machine has other weights, and nothing tells.
TYPED_TEST(TernaryImport, I2SOfTheOtherMachine) {
  const auto weights = random_weights(this->random, 2, 128);
  const Bytes bytes = oracle::i2_s_packed(weights, oracle::I2sBlock::arm);
  const auto got = heed::ternary_from_i2_s<TypeParam>("w", bytes, 2, 128, I2sBlock::x86);
  ASSERT_TRUE(got.ok());
  EXPECT_NE(values_of(*got), weights.w);
}

TYPED_TEST(TernaryImport, Ggml) {
  for (const Index rows : {1, 3, 33}) {
    for (const Index blocks : {1, 2, 5}) {
      const auto weights = random_weights(this->random, rows, blocks * 256);
      this->expect_read(weights, [&] {
        return heed::ternary_from_ggml<TypeParam>("w", oracle::ggml_packed(weights, oracle::tq2_0), rows, weights.cols,
                                                  GgmlTernary::tq2_0);
      });
      this->expect_read(weights, [&] {
        return heed::ternary_from_ggml<TypeParam>("w", oracle::ggml_packed(weights, oracle::tq1_0), rows, weights.cols,
                                                  GgmlTernary::tq1_0);
      });
    }
  }
}

TYPED_TEST(TernaryImport, GgmlScalesAreHalfPrecision) {
  const auto weights = random_weights(this->random, 2, 256, 0.1f);
  const auto got =
      heed::ternary_from_ggml<TypeParam>("w", oracle::ggml_packed(weights, oracle::tq2_0), 2, 256, GgmlTernary::tq2_0);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(double(got->scale()), oracle::round_to_f16(double(0.1f)));
}

/// Blocks of zeros have the scale 0, wherever they are, and all zeros the scale 1.
TYPED_TEST(TernaryImport, GgmlBlocksOfZeros) {
  auto weights = random_weights(this->random, 1, 1024);
  for (const Index zeros : {0, 1, 3}) {
    auto with_zeros = weights;
    std::fill_n(with_zeros.w.begin() + 256 * zeros, 256, std::int8_t{0});
    this->expect_read(with_zeros, [&] {
      return heed::ternary_from_ggml<TypeParam>("w", oracle::ggml_packed(with_zeros, oracle::tq1_0), 1, 1024,
                                                GgmlTernary::tq1_0);
    });
  }
  weights.w.assign(1024, 0);
  weights.scale = 1;
  this->expect_read(weights, [&] {
    return heed::ternary_from_ggml<TypeParam>("w", oracle::ggml_packed(weights, oracle::tq2_0), 1, 1024,
                                              GgmlTernary::tq2_0);
  });
}

TYPED_TEST(TernaryImport, Floats) {
  for (const Index rows : {1, 5, 33}) {
    for (const Index cols : {1, 17, 100}) {
      Floats master = this->random.gaussians(rows * cols, 0.02);
      auto want = oracle::quantized_weights(oracle::doubles(master), cols);
      // Of a scale rounded to float, a weight that close to half of it may be the other.
      for (float& w : master) {
        if (std::abs(std::abs(double(w)) / want.scale - 0.5) < 1e-6) w = 0;
      }
      want = oracle::quantized_weights(oracle::doubles(master), cols);
      want.scale = double(float(want.scale));
      this->expect_read(want, [&] { return heed::ternary_from_floats<TypeParam>("w", {master, rows, cols}); });
    }
  }
}

/// |W| = m / 2 is 0, and its neighbour above is not.
TYPED_TEST(TernaryImport, FloatsAtHalfOfTheMean) {
  const float above = std::nextafter(0.5f, 1.0f);  // the mean stays 1 in float
  const Floats master{0.5f, -0.5f, above, -above, 1.5f, -1.5f, 0, 3.0f};
  const auto got = heed::ternary_from_floats<TypeParam>("w", {master, 2, 4});
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->scale(), 1.0f);
  EXPECT_EQ(values_of(*got), (Trits{0, 0, 1, -1, 1, -1, 0, 1}));
}

TYPED_TEST(TernaryImport, FloatsThatAreAllSmall) {
  const auto zero = heed::ternary_from_floats<TypeParam>("w", {Floats(6, 0.0f), 2, 3});
  ASSERT_TRUE(zero.ok());
  EXPECT_EQ(zero->scale(), 1e-5f);
  EXPECT_EQ(values_of(*zero), Trits(6, 0));
  const auto tiny = heed::ternary_from_floats<TypeParam>("w", {Floats{4e-6f, -6e-6f}, 1, 2});
  ASSERT_TRUE(tiny.ok());
  EXPECT_EQ(tiny->scale(), 1e-5f);
  EXPECT_EQ(values_of(*tiny), (Trits{0, -1}));
}

// --- errors ---------------------------------------------------------------------------------------------------------

TEST(TernaryImportErrors, HuggingFace) {
  const auto refused = [](std::size_t bytes, Index rows, Index cols, float scale = 1,
                          WeightScale meaning = WeightScale::multiplier) {
    return heed::ternary_from_hugging_face("w", Bytes(bytes, 0x55), rows, cols, scale, meaning).status();
  };
  EXPECT_TRUE(refused(6, 5, 3).ok());
  expect_invalid(refused(5, 5, 3), "w has 5 bytes, must have [2, 3] for 5 rows of 3");
  expect_invalid(refused(7, 5, 3), "w has 7 bytes, must have [2, 3] for 5 rows of 3");
  expect_invalid(refused(9, 5, 3), "w has 9 bytes, must have [2, 3] for 5 rows of 3");
  expect_invalid(refused(0, 5, 3), "w has 0 bytes, must have [2, 3] for 5 rows of 3");
  expect_invalid(refused(0, 0, 3), "w has 0 bytes, must have [0, 3] for 0 rows of 3");
  expect_invalid(refused(0, 5, 0), "w has 0 bytes, must have [2, 0] for 5 rows of 0");
  expect_invalid(refused(6, 5, 3, 0), "w: scale is 0, must be positive");
  expect_invalid(refused(6, 5, 3, 0, WeightScale::divisor), "w: scale is inf, must be positive");
  expect_invalid(refused(6, 5, 3, nan_float), "w: scale is nan, must be positive");
  expect_invalid(refused(6, 5, 3, -1, WeightScale::divisor), "w: scale is -1, must be positive");
  Bytes bytes(6, 0x55);
  bytes[4] = 0x5d;  // code 3 of column 1, row 2 + 1
  expect_invalid(heed::ternary_from_hugging_face("w", bytes, 5, 3, 1, WeightScale::multiplier).status(),
                 "w has weight 2 at [3, 1], must be -1, 0 or 1");
}

TEST(TernaryImportErrors, I2S) {
  oracle::Random random(1);
  const auto weights = random_weights(random, 3, 256);
  const Bytes good = oracle::i2_s_packed(weights, oracle::I2sBlock::x86);
  const auto refused = [&](const Bytes& bytes, Index rows, Index cols, I2sBlock kind = I2sBlock::x86) {
    return heed::ternary_from_i2_s("w", bytes, rows, cols, kind).status();
  };
  EXPECT_TRUE(refused(good, 3, 256).ok());
  expect_invalid(refused(good, 3, 192), "w has shape [3, 192], must have weights in whole blocks of 128");
  expect_invalid(refused(good, 3, 96, I2sBlock::arm), "w has shape [3, 96], must have weights in whole blocks of 64");
  expect_invalid(refused(good, 3, 0), "w has shape [3, 0], must have weights in whole blocks of 128");
  expect_invalid(refused(good, 0, 128), "w has shape [0, 128], must have weights in whole blocks of 128");
  const Index half = Index{1} << 32;
  expect_invalid(refused(good, half, half),
                 "w has shape [4294967296, 4294967296], must have weights in whole blocks of 128");
  expect_invalid(refused(good, 4, 256), "w has 224 bytes, must have 256 for 4 rows of 256 and 4 for the scale");
  expect_invalid(refused(Bytes(good.begin(), good.begin() + 195), 3, 256),
                 "w has 195 bytes, must have 192 for 3 rows of 256 and 4 for the scale");
  EXPECT_TRUE(refused(Bytes(good.begin(), good.begin() + 196), 3, 256).ok());
  Bytes bytes = good;
  bytes[64 + 32 + 5] |= 0x30;  // row 1, weight 128 + 32 + 5
  expect_invalid(refused(bytes, 3, 256), "w has weight 2 at [1, 165], must be -1, 0 or 1");
  for (const auto& [scale, text] : {std::pair{0.0f, "0"}, {-2.0f, "-2"}, {nan_float, "nan"}}) {
    bytes = good;
    std::memcpy(bytes.data() + 192, &scale, sizeof scale);
    expect_invalid(refused(bytes, 3, 256), "w: scale is " + std::string(text) + ", must be positive");
  }
}

TEST(TernaryImportErrors, Ggml) {
  oracle::Random random(1);
  const auto weights = random_weights(random, 2, 512);
  const Bytes good = oracle::ggml_packed(weights, oracle::tq2_0), dense = oracle::ggml_packed(weights, oracle::tq1_0);
  const auto refused = [&](const Bytes& bytes, Index rows, Index cols, GgmlTernary type = GgmlTernary::tq2_0) {
    return heed::ternary_from_ggml("w", bytes, rows, cols, type).status();
  };
  EXPECT_TRUE(refused(good, 2, 512).ok());
  EXPECT_TRUE(refused(dense, 2, 512, GgmlTernary::tq1_0).ok());
  expect_invalid(refused(good, 2, 500), "w has shape [2, 500], must have columns in whole blocks of 256");
  expect_invalid(refused(good, 0, 256), "w has shape [0, 256], must have columns in whole blocks of 256");
  expect_invalid(refused(good, 2, 0), "w has shape [2, 0], must have columns in whole blocks of 256");
  expect_invalid(refused(good, 3, 512), "w has 264 bytes, must have 3 rows of 132");
  expect_invalid(refused(dense, 2, 512), "w has 216 bytes, must have 2 rows of 132");
  expect_invalid(refused({}, 2, 512), "w has 0 bytes, must have 2 rows of 132");
  Bytes bytes = good;
  bytes[66 + 3] |= 0x0c;  // row 0, weight 256 + 32 + 3
  expect_invalid(refused(bytes, 2, 512), "w has weight 2 at [0, 291], must be -1, 0 or 1");
}

/// One scale for the tensor: blocks that disagree are named. A block of zeros may have any, even none.
TEST(TernaryImportErrors, GgmlScales) {
  oracle::Random random(1);
  auto weights = random_weights(random, 2, 512, 0.5f);
  std::fill_n(weights.w.begin() + 512, 256, std::int8_t{0});  // block 2
  const auto with_scale = [&](Index block, double scale) {
    Bytes bytes = oracle::ggml_packed(weights, oracle::tq1_0);
    const std::uint16_t bits = std::isnan(scale) ? 0x7e00 : oracle::f16_bits(scale);
    bytes[std::size_t(54 * block + 52)] = std::uint8_t(bits & 255);
    bytes[std::size_t(54 * block + 53)] = std::uint8_t(bits >> 8);
    return heed::ternary_from_ggml("w", bytes, 2, 512, GgmlTernary::tq1_0);
  };
  const std::string rest = ", those before have 0.5; a ternary matrix has one scale";
  expect_invalid(with_scale(3, 0.25).status(), "w: block 3 has scale 0.25" + rest);
  expect_invalid(with_scale(1, 0).status(), "w: block 1 has scale 0" + rest);
  expect_invalid(with_scale(1, std::nan("")).status(), "w: block 1 has scale nan" + rest);
  EXPECT_EQ(with_scale(0, 0.25).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(with_scale(0, 0).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(with_scale(0, std::nan("")).status().code(), StatusCode::invalid_argument);
  for (const double scale : {0.0, 0.25, 0.5, std::nan("")}) {
    const auto got = with_scale(2, scale);
    ASSERT_TRUE(got.ok()) << got.status().message();
    EXPECT_EQ(got->scale(), 0.5f);
    EXPECT_EQ(values_of(*got), weights.w);
  }
}

/// A block of weights with the scale 0, and no other.
TEST(TernaryImportErrors, GgmlScaleOfZero) {
  oracle::Random random(1);
  Bytes bytes = oracle::ggml_packed(random_weights(random, 1, 256), oracle::tq2_0);
  bytes[64] = bytes[65] = 0;
  expect_invalid(heed::ternary_from_ggml("w", bytes, 1, 256, GgmlTernary::tq2_0).status(),
                 "w: scale is 0, must be positive");
}

TEST(TernaryImportErrors, Floats) {
  for (const auto& [bad, text] : {std::pair{nan_float, "nan"}, {inf_float, "inf"}, {-inf_float, "-inf"}}) {
    Floats master(6, 1.0f);
    master[4] = bad;
    expect_invalid(heed::ternary_from_floats("w", {master, 2, 3}).status(),
                   "w has " + std::string(text) + " at 4, must be finite");
  }
  const Floats master(6, 1.0f);
  expect_invalid(heed::ternary_from_floats("w", {master, 2, 4}).status(), "w has 6 numbers, must have 8");
  EXPECT_EQ(heed::ternary_from_floats("w", {}).status().code(), StatusCode::invalid_argument);
}

TEST(TernaryImportErrors, Values) {
  const Trits values(6, 1);
  expect_invalid(heed::ternary_from_values("w", values, 2, 4, 1).status(), "w has 6 values, must have [2, 4]");
  expect_invalid(heed::ternary_from_values("w", values, -2, -3, 1).status(), "w has 6 values, must have [-2, -3]");
  expect_invalid(heed::ternary_from_values("w", values, 2, 3, nan_float).status(), "w: scale is nan, must be positive");
}

}  // namespace
}  // namespace heed_test::import_test
