// RoPE against the float64 formula, and the laws a rotation obeys.
#include <heed/rope/rope.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "oracle/random.hpp"
#include "oracle/rope.hpp"

namespace heed_test::rope_test {
namespace {

using heed::Index;
using heed::Rope;
using heed::RopeDirection;
using heed::RopeLayout;
using heed::RopeOptions;

constexpr auto both_layouts = {RopeLayout::interleaved, RopeLayout::half_split};

Rope make(const RopeOptions& options) { return heed::value_or_throw(Rope::create(options)); }

RopeOptions shape(Index head_dim, RopeLayout layout) { return {.head_dim = head_dim, .layout = layout, .theta = 1e4}; }

std::vector<float> applied(const Rope& rope, Index position, std::vector<float> row,
                           RopeDirection direction = RopeDirection::forward) {
  rope.apply(position, row.data(), direction);
  return row;
}

// A rotated float differs from the exact one by the rounding of cos, sin, one product and the result, each at most half
// of eps32 relative to the pair's length, and by what the angle is off.
double tolerance(float a, float b, Index position) {
  return (2 * 0x1p-23 + 4e-16 * std::abs(double(position))) * std::hypot(a, b);
}

void expect_rotated(const Rope& rope, Index position, const std::vector<float>& before,
                    const std::vector<float>& after) {
  const RopeOptions& o = rope.options();
  std::vector<double> want = oracle::doubles(before);
  oracle::rotate(want.data() + o.rotary_offset, double(position), oracle::rope_frequencies(o.rotary_dim, o.theta),
                 o.layout == RopeLayout::interleaved);
  for (Index i = 0; i < o.head_dim; ++i) {
    const Index in = i - o.rotary_offset, pairs = o.rotary_dim / 2;
    const bool turns = in >= 0 && in < o.rotary_dim;
    const Index partner = o.layout == RopeLayout::interleaved ? in ^ 1 : (in + pairs) % o.rotary_dim;
    const Index other = turns ? o.rotary_offset + partner : i;
    const double allowed = turns ? tolerance(before[std::size_t(i)], before[std::size_t(other)], position) : 0;
    EXPECT_NEAR(after[std::size_t(i)], want[std::size_t(i)], allowed) << "dim " << i << " position " << position;
  }
}

TEST(Rope, IsTheFormulaAtAnyPosition) {
  oracle::Random random(1);
  for (const RopeLayout layout : both_layouts) {
    for (const Index dim : {2, 4, 10, 64, 128, 256, 576}) {
      const Rope rope = make(shape(dim, layout));
      const auto row = random.gaussians(dim);
      // around the ends of the blocks of 64 and of the table of 65,536; far beyond it; before 0
      for (const Index p :
           {Index{0}, Index{1}, Index{63}, Index{64}, Index{65}, Index{1000}, Index{65535}, Index{65536}, Index{131071},
            Index{1} << 20, Index{1} << 31, Index{-1}, Index{-64}, Index{-1000}}) {
        expect_rotated(rope, p, row, applied(rope, p, row));
      }
    }
  }
}

TEST(Rope, PositionZeroChangesNothing) {
  const auto row = oracle::Random(2).gaussians(64);
  for (const RopeLayout layout : both_layouts) EXPECT_EQ(applied(make(shape(64, layout)), 0, row), row);
}

TEST(Rope, TheTableChangesNoBit) {
  oracle::Random random(3);
  for (const RopeLayout layout : both_layouts) {
    RopeOptions options = shape(96, layout);
    const Rope with = make(options);
    options.table_positions = 0;
    const Rope without = make(options);
    options.table_positions = 100;
    const Rope partly = make(options);
    for (const Index p : {Index{0}, Index{5}, Index{64}, Index{127}, Index{128}, Index{9999}, Index{70000}}) {
      const auto row = random.gaussians(96);
      EXPECT_EQ(applied(with, p, row), applied(without, p, row)) << p;
      EXPECT_EQ(applied(with, p, row), applied(partly, p, row)) << p;
    }
  }
}

TEST(Rope, ManyRowsAreTheRowsOneByOne) {
  oracle::Random random(4);
  const Index tokens = 150, heads = 3, dim = 40;
  for (const RopeLayout layout : both_layouts) {
    const Rope rope = make(shape(dim, layout));
    std::vector<Index> positions(tokens);
    std::iota(positions.begin(), positions.end(), 20);
    for (Index t = 100; t < tokens; ++t) positions[std::size_t(t)] = random.below(200000);
    const auto before = random.gaussians(tokens * heads * dim);
    auto rows = before;
    ASSERT_TRUE(rope.apply_rows(positions, heads, rows).ok());
    for (Index t = 0; t < tokens; ++t) {
      for (Index h = 0; h < heads; ++h) {
        const auto at = std::ptrdiff_t((t * heads + h) * dim);
        const std::vector<float> one(before.begin() + at, before.begin() + at + dim);
        const std::vector<float> got(rows.begin() + at, rows.begin() + at + dim);
        EXPECT_EQ(got, applied(rope, positions[std::size_t(t)], one)) << t << " " << h;
      }
    }
  }
}

TEST(Rope, InterleavedIsDeinterleaveThenHalfSplit) {
  const Index dim = 32;
  const auto row = oracle::Random(5).gaussians(dim);
  std::vector<float> sorted(row.size());
  for (std::size_t i = 0; i < row.size() / 2; ++i) {
    sorted[i] = row[2 * i];
    sorted[i + row.size() / 2] = row[2 * i + 1];
  }
  for (const Index p : {1, 77, 4000}) {
    const auto interleaved = applied(make(shape(dim, RopeLayout::interleaved)), p, row);
    const auto split = applied(make(shape(dim, RopeLayout::half_split)), p, sorted);
    for (std::size_t i = 0; i < row.size() / 2; ++i) {
      EXPECT_EQ(interleaved[2 * i], split[i]);
      EXPECT_EQ(interleaved[2 * i + 1], split[i + row.size() / 2]);
    }
    // and without the permutation it is another function
    EXPECT_NE(interleaved, applied(make(shape(dim, RopeLayout::half_split)), p, row));
  }
}

TEST(Rope, ScoresDependOnTheDistanceOnly) {
  oracle::Random random(6);
  const Index dim = 64;
  const auto q = random.gaussians(dim), k = random.gaussians(dim);
  const auto dot = [&](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += double(a[i]) * double(b[i]);
    return sum;
  };
  for (const RopeLayout layout : both_layouts) {
    const Rope rope = make(shape(dim, layout));
    for (const Index distance : {0, 1, 17, 3000}) {
      const double near = dot(applied(rope, distance, q), applied(rope, 0, k));
      for (const Index shift : {Index{1}, Index{63}, Index{64}, Index{100000}, Index{10000000}}) {
        EXPECT_NEAR(dot(applied(rope, distance + shift, q), applied(rope, shift, k)), near, 1e-5) << distance << shift;
      }
    }
  }
}

TEST(Rope, KeepsTheLengthOfEveryPair) {
  const auto row = oracle::Random(7).gaussians(48);
  const auto got = applied(make(shape(48, RopeLayout::half_split)), 12345, row);
  for (std::size_t i = 0; i < 24; ++i) {
    const double length = std::hypot(row[i], row[i + 24]);
    EXPECT_NEAR(std::hypot(got[i], got[i + 24]), length, 3 * 0x1p-23 * length);
  }
}

TEST(Rope, InverseUndoes) {
  oracle::Random random(8);
  for (const RopeLayout layout : both_layouts) {
    for (const bool stretched : {false, true}) {
      RopeOptions options = shape(64, layout);
      if (stretched) options.yarn = heed::Yarn{.factor = 40, .original_max_position = 4096};
      const Rope rope = make(options);
      EXPECT_EQ(rope.amplitude() != 1, stretched);
      for (const Index p : {Index{1}, Index{500}, Index{66666}, Index{1} << 30}) {
        const auto row = random.gaussians(64);
        const auto back = applied(rope, p, applied(rope, p, row), RopeDirection::inverse);
        for (std::size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(back[i], row[i], 2e-6);
      }
    }
  }
}

TEST(Rope, PartialRotationTouchesOnlyItsDims) {
  oracle::Random random(9);
  for (const RopeLayout layout : both_layouts) {
    for (const auto& [rotary, offset] :
         {std::pair<Index, Index>{32, 0}, {32, 40}, {6, 66}, {72, 0}}) {  // MLA: the last
      RopeOptions options = shape(72, layout);
      options.rotary_dim = rotary;
      options.rotary_offset = offset;
      const Rope rope = make(options);
      const auto row = random.gaussians(72);
      expect_rotated(rope, 321, row, applied(rope, 321, row));  // demands equality outside
    }
  }
}

TEST(Rope, LinearScalingDividesPositions) {
  RopeOptions options = shape(32, RopeLayout::half_split);
  const Rope plain = make(options);
  options.linear_factor = 4;
  const auto row = oracle::Random(10).gaussians(32);
  EXPECT_EQ(applied(make(options), 4000, row), applied(plain, 1000, row));
}

TEST(Rope, FrequenciesAreThePowersOfTheta) {
  for (const double theta : {1e4, 5e4, 5e5, 150000.0}) {
    RopeOptions options = shape(64, RopeLayout::half_split);
    options.theta = theta;
    const Rope rope = make(options);
    ASSERT_EQ(rope.frequencies().size(), 32u);
    for (std::size_t i = 0; i < 32; ++i) {
      const double want = std::pow(theta, -double(i) / 32);
      EXPECT_NEAR(rope.frequencies()[i], want, 1e-15 * want);
    }
  }
}

TEST(RopeErrors, NameTheArgumentAndTheNumber) {
  const RopeOptions good = shape(64, RopeLayout::half_split);
  ASSERT_TRUE(good.validate().ok());
  const auto expect = [&](auto change, const char* name, const char* number) {
    RopeOptions options = good;
    change(options);
    const auto rope = Rope::create(options);
    ASSERT_FALSE(rope.ok()) << name;
    EXPECT_EQ(rope.status().code(), heed::StatusCode::invalid_argument);
    EXPECT_EQ(rope.status().message().rfind(name, 0), 0u) << rope.status().message();
    EXPECT_NE(rope.status().message().find(number), std::string::npos) << rope.status().message();
  };
  expect([](auto& o) { o.head_dim = 0; }, "head_dim", "0");
  expect([](auto& o) { o.rotary_dim = 0; }, "rotary_dim", "0");
  expect([](auto& o) { o.rotary_dim = 31; }, "rotary_dim", "31");
  expect([](auto& o) { o.rotary_dim = 66; }, "rotary_dim", "66");
  expect([](auto& o) { o.rotary_offset = -1; }, "rotary_offset", "-1");
  expect([](auto& o) { o.rotary_dim = 32, o.rotary_offset = 33; }, "rotary_offset", "33");
  expect([](auto& o) { o.layout = RopeLayout::unset; }, "layout", "0");
  expect([](auto& o) { o.theta = 0; }, "theta", "0");
  expect([](auto& o) { o.theta = std::nan(""); }, "theta", "nan");
  expect([](auto& o) { o.theta = 1, o.yarn = heed::Yarn{.factor = 2, .original_max_position = 10}; }, "theta", "1");
  expect([](auto& o) { o.linear_factor = -2; }, "linear_factor", "-2");
  expect([](auto& o) { o.linear_factor = 2, o.yarn = heed::Yarn{.factor = 2, .original_max_position = 10}; },
         "linear_factor", "2");
  expect([](auto& o) { o.table_positions = -7; }, "table_positions", "-7");
  expect([](auto& o) { o.table_positions = Index{1} << 62; }, "table_positions", "4611686018427387904");
  expect([](auto& o) { o.yarn = heed::Yarn{.factor = 40}; }, "yarn.original_max_position", "0");
}

TEST(RopeErrors, ATableBeyondMemoryIsReported) {
  RopeOptions options = shape(Index{1} << 20, RopeLayout::half_split);
  options.table_positions = RopeOptions::max_table_positions;  // 2^45 numbers
  const auto rope = Rope::create(options);
  ASSERT_FALSE(rope.ok());
  EXPECT_EQ(rope.status().code(), heed::StatusCode::out_of_memory);
}

TEST(RopeErrors, RowsOfTheWrongSizeAreRefusedUntouched) {
  const Rope rope = make(shape(8, RopeLayout::half_split));
  std::vector<float> rows(47, 1.0f);
  const std::vector<Index> positions = {5, 6, 7};
  const heed::Status status = rope.apply_rows(positions, 2, rows);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("47"), std::string::npos) << status.message();
  EXPECT_EQ(rows, std::vector<float>(47, 1.0f));
  EXPECT_FALSE(rope.apply_rows(positions, Index{1} << 62, rows).ok());
  EXPECT_FALSE(rope.apply_rows(positions, -1, rows).ok());
}

}  // namespace
}  // namespace heed_test::rope_test
