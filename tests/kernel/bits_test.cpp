// KeyBits against a vector of bools.
#include <gtest/gtest.h>

#include <vector>

#include <heed/kernel/bits.hpp>

#include "oracle/random.hpp"

namespace heed_test::bits_test {
namespace {

using heed::Index;
using heed::detail::KeyBits;

std::vector<bool> random_bools(oracle::Random& random) {
  std::vector<bool> b(256);
  const Index run = 1 + random.below(100);  // long runs and single bits
  bool value = random.below(2) == 0;
  for (std::size_t k = 0; k < 256; ++k) {
    if (random.below(run) == 0) value = !value;
    b[k] = value;
  }
  return b;
}

KeyBits bits_of(const std::vector<bool>& b) {
  KeyBits bits;
  for (std::size_t k = 0; k < 256; ++k) bits.word[k / 64] |= std::uint64_t(b[k]) << (k % 64);
  return bits;
}

TEST(KeyBits, OfAnInterval) {
  for (Index begin = 0; begin < 256; begin += begin % 64 == 62 ? 1 : 3) {
    for (Index end = begin; end <= 256; ++end) {
      const KeyBits bits = KeyBits::of({begin, end});
      for (Index k = 0; k < 256; ++k) ASSERT_EQ(bits.test(k), k >= begin && k < end) << begin << " " << end;
      ASSERT_EQ(bits.any(), end > begin);
      ASSERT_EQ(bits.hull(), end > begin ? (heed::Interval{begin, end}) : heed::Interval{});
    }
  }
}

TEST(KeyBits, FindHullAndLogic) {
  oracle::Random random(1);
  for (int i = 0; i < 60; ++i) {
    const std::vector<bool> b = random_bools(random), c = random_bools(random);
    const KeyBits bits = bits_of(b), other = bits_of(c);
    for (Index from = 0; from <= 256; ++from) {
      const Index end = random.below(257);
      for (const bool value : {false, true}) {
        Index want = from;
        while (want < end && b[std::size_t(want)] != value) ++want;
        if (from >= end) want = end;
        ASSERT_EQ(bits.find(from, end, value), want) << from << " " << end << " " << value;
      }
    }
    Index begin = 0, end = 256;
    while (begin < 256 && !b[std::size_t(begin)]) ++begin;
    while (end > begin && !b[std::size_t(end - 1)]) --end;
    if (begin == 256) begin = end = 0;
    EXPECT_EQ(bits.hull(), (heed::Interval{begin, end}));
    const KeyBits both = bits & other, either = bits | other;
    for (std::size_t k = 0; k < 256; ++k) {
      ASSERT_EQ(both.test(Index(k)), b[k] && c[k]);
      ASSERT_EQ(either.test(Index(k)), b[k] || c[k]);
    }
  }
}

TEST(KeyBits, NothingHasAnEmptyHull) {
  EXPECT_EQ(KeyBits{}.hull().size(), 0);
  EXPECT_FALSE(KeyBits{}.any());
}

}  // namespace
}  // namespace heed_test::bits_test
