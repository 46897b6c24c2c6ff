// The roofline: the longer of reading and of arithmetic, whose kinds add their times.
#include "roof.hpp"

#include <gtest/gtest.h>

namespace heed_test::roof_test {
namespace {

using bench::Limit;
using bench::Roof;
using bench::Work;

/// GB and GFLOP a second.
double rate(Limit limit) {
  switch (limit) {
    case Limit::read_dram: return 10;
    case Limit::read_l3: return 40;
    case Limit::read_l2: return 80;
    case Limit::fma_f32: return 100;
    case Limit::dot_bf16: return 200;
    case Limit::dot_int8: return 0;  // a build without it
  }
  return 0;
}

TEST(Roof, ReadingBindsWhereItTakesLonger) {
  const Work work{.bytes = 20e9, .operations = {{Limit::fma_f32, 150e9}}};
  const Roof roof = bench::roof(work, rate);
  EXPECT_DOUBLE_EQ(roof.read, 2);
  EXPECT_DOUBLE_EQ(roof.math, 1.5);
  EXPECT_DOUBLE_EQ(roof.seconds(), 2);
}

TEST(Roof, ArithmeticBindsWhereItTakesLonger) {
  const Work work{.bytes = 20e9, .operations = {{Limit::fma_f32, 300e9}}};
  EXPECT_DOUBLE_EQ(bench::roof(work, rate).seconds(), 3);
}

TEST(Roof, BytesComeFromTheirSource) {
  const Work work{.source = Limit::read_l3, .bytes = 20e9, .operations = {}};
  EXPECT_DOUBLE_EQ(bench::roof(work, rate).seconds(), 0.5);
}

TEST(Roof, KindsOfInstructionsAddTheirTimes) {
  const Work work{.bytes = 1, .operations = {{Limit::dot_bf16, 100e9}, {Limit::fma_f32, 100e9}}};
  EXPECT_DOUBLE_EQ(bench::roof(work, rate).seconds(), 1.5);
  EXPECT_DOUBLE_EQ(work.total_operations(), 200e9);
}

TEST(Roof, AnInstructionThatTheBuildLacksTakesNoTime) {
  const Work work{.bytes = 10e9, .operations = {{Limit::dot_int8, 100e9}}};
  EXPECT_EQ(bench::roof(work, rate).math, 0);
  EXPECT_DOUBLE_EQ(bench::roof(work, rate).seconds(), 1);
}

TEST(Roof, NamesItsLimitsOnce) {
  const Work mixed{.source = Limit::read_l2, .operations = {{Limit::dot_bf16, 1}, {Limit::fma_f32, 2}}};
  EXPECT_EQ(mixed.limit_names(), "read_l2 dot_bf16+fma_f32");
  // Scores and values in one instruction, and no preparation.
  const Work plain{.operations = {{Limit::fma_f32, 1}, {Limit::fma_f32, 2}, {Limit::dot_bf16, 0}}};
  EXPECT_EQ(plain.limit_names(), "read_dram fma_f32");
  EXPECT_EQ(Work{}.limit_names(), "read_dram");
}

}  // namespace
}  // namespace heed_test::roof_test
