// The masks of heed by brute force: coverage promises nothing that visible() denies, and recall() drops nothing needed.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include <heed/retention/full.hpp>
#include <heed/retention/landmark_mask.hpp>
#include <heed/retention/mask_ref.hpp>
#include <heed/retention/window.hpp>

#include "oracle/attention.hpp"

namespace heed_test::mask_test {
namespace {

using heed::Coverage;
using heed::Index;
using heed::Interval;

static_assert(heed::Retention<heed::Causal> && heed::Retention<heed::SlidingWindow> &&
              !heed::Retention<heed::Unmasked>);
static_assert(heed::SlidingWindow{4}.visible(10, 7) && !heed::SlidingWindow{4}.visible(10, 6));

template <class M>
void expect_honest(const M& mask, const oracle::Visible& visible) {
  constexpr Index n = 14;
  for (Index query = -3; query < n; ++query) {
    for (Index key = 0; key < n; ++key) ASSERT_EQ(mask.visible(query, key), visible(query, key)) << query << " " << key;
  }
  for (Index q0 = -3; q0 < n; ++q0) {
    for (Index q1 = q0 + 1; q1 <= n; ++q1) {
      for (Index k0 = 0; k0 < n; ++k0) {
        for (Index k1 = k0 + 1; k1 <= n; ++k1) {
          bool some = false, all = true;
          for (Index q = q0; q < q1; ++q) {
            for (Index k = k0; k < k1; ++k) {
              some |= visible(q, k);
              all &= visible(q, k);
            }
          }
          // Of these masks also the best answer: a `partial` too many is work for nothing.
          const Coverage want = all ? Coverage::full : some ? Coverage::partial : Coverage::none;
          ASSERT_EQ(mask.coverage({q0, q1}, {k0, k1}), want)
              << "queries [" << q0 << ", " << q1 << ") keys [" << k0 << ", " << k1 << ")";
        }
      }
    }
  }
}

/// A key that is dropped is seen by no later query; of these rules, a key that is kept is needed by one.
template <class R>
void expect_needed(const R& rule, const oracle::Visible& visible) {
  constexpr Index n = 14;
  for (Index next = 0; next < n; ++next) {
    for (Index key = 0; key < next; ++key) {
      bool needed = false;
      for (Index query = next; query < next + 40; ++query) needed |= visible(query, key);
      ASSERT_EQ(key >= rule.recall({.next = next}).begin, needed) << "key " << key << " next " << next;
    }
  }
}

TEST(Mask, Causal) {
  expect_honest(heed::Causal{}, oracle::causal());
  expect_needed(heed::Causal{}, oracle::causal());
}
TEST(Mask, Unmasked) {
  expect_honest(heed::Unmasked{}, [](Index, Index) { return true; });
}
TEST(Mask, SlidingWindow) {
  for (Index width = 1; width < 18; ++width) {
    ASSERT_NO_FATAL_FAILURE(expect_honest(heed::SlidingWindow{width}, oracle::window(width))) << width;
    ASSERT_NO_FATAL_FAILURE(expect_needed(heed::SlidingWindow{width}, oracle::window(width))) << width;
  }
}

TEST(Mask, WindowsHoldTheQueryAtLeast) {
  EXPECT_TRUE(heed::SlidingWindow{1}.validate().ok());
  for (const Index width : {Index{0}, Index{-7}}) {
    const heed::Status status = heed::SlidingWindow{width}.validate();
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    EXPECT_EQ(status.message(), "window is " + std::to_string(width) + ", must be at least 1");
  }
}

/// Positions beyond 2^31 are like small ones.
TEST(Mask, FarPositions) {
  constexpr Index far = (Index{1} << 40) + 5;
  constexpr heed::SlidingWindow window{100};
  EXPECT_TRUE(window.visible(far, far - 99));
  EXPECT_FALSE(window.visible(far, far - 100));
  EXPECT_EQ(window.coverage({far, far + 1}, {far - 99, far + 1}), Coverage::full);
  EXPECT_EQ(window.coverage({far, far + 1}, {0, far - 99}), Coverage::none);
  EXPECT_EQ(heed::Causal{}.coverage({far, far + 1}, {0, far + 1}), Coverage::full);
  EXPECT_EQ(window.recall({.next = far}).begin, far - 99);
}

/// What `Sequence{.mask = SlidingWindow{4}}` keeps: the mask may be gone, or changed, before it is asked.
TEST(MaskRef, KeepsASmallMask) {
  auto window = std::make_unique<heed::SlidingWindow>(heed::SlidingWindow{5});
  const heed::MaskRef first(*window);
  heed::MaskRef ref;
  EXPECT_FALSE(bool(ref));
  ref = first;
  window->window = 1;
  window.reset();
  EXPECT_TRUE(bool(ref));
  EXPECT_EQ(ref.coverage({10, 11}, {6, 11}, 0), Coverage::full);
  EXPECT_EQ(ref.coverage({10, 11}, {0, 6}, 0), Coverage::none);
}

/// The largest of heed's masks, with its two lists: what a cache's view or a RuleMask gives.
TEST(MaskRef, KeepsALandmarkMask) {
  const std::vector<heed::Reach> reach{{.begin = 7, .end_landmark = 2}};
  const std::vector<heed::FarToken> far{{.position = 2}, {.position = 4}, {.position = 8}};
  auto mask = std::make_unique<heed::LandmarkMask>(reach, 9, far, 2, 5, 1);
  const heed::MaskRef ref(*mask);
  *mask = heed::LandmarkMask(reach, 0, {}, 0, 0, 1);
  mask.reset();
  EXPECT_EQ(ref.near_keys(), (heed::NearKeys{.first_key = 2, .first_slot = 5}));
  EXPECT_EQ(ref.far_keys(), 3);
  EXPECT_EQ(ref.far_run(9, {0, 3}), (heed::Interval{0, 2}));
  EXPECT_EQ(ref.near_run(9, {0, 12}), (heed::Interval{7, 10}));
}

/// A mask that is too large, or owns something, is asked where it is.
TEST(MaskRef, RefersToALargeMask) {
  struct Window {
    std::vector<Index> of;  // [queries]
    [[nodiscard]] bool visible(Index query, Index key) const {
      return key <= query && query - key < of[std::size_t(query)];
    }
    [[nodiscard]] Coverage coverage(heed::Interval, heed::Interval) const { return Coverage::partial; }
  };
  static_assert(!heed::MaskRef::copies<Window>);
  Window mask{{1, 1}};
  const heed::MaskRef ref(mask);
  mask.of[1] = 2;
  const Index positions[] = {0, 1};
  std::uint64_t bits = 0;
  ref.fill(1, positions, 2, 0, &bits);
  EXPECT_EQ(bits, 3u);
}

static_assert(heed::MaskRef::copies<heed::Causal> && heed::MaskRef::copies<heed::Unmasked>);
static_assert(heed::MaskRef::copies<heed::SlidingWindow> && heed::MaskRef::copies<heed::LandmarkMask>);

TEST(MaskRef, AsksTheMask) {
  const heed::SlidingWindow window{5};
  const heed::MaskRef ref(window);
  EXPECT_EQ(ref.coverage({10, 11}, {6, 11}, 0), Coverage::full);
  EXPECT_EQ(ref.coverage({10, 11}, {0, 6}, 0), Coverage::none);
  std::vector<Index> positions;
  for (Index k = 0; k < 200; ++k) positions.push_back(k / 3 * 2);
  std::vector<std::uint64_t> bits(5, 0);
  ref.fill(40, positions.data(), 200, 0, bits.data());
  for (std::size_t k = 0; k < 256; ++k) {
    const bool set = (bits[k / 64] >> (k % 64)) & 1;
    ASSERT_EQ(set, k < 200 && window.visible(40, positions[k])) << k;
  }
  EXPECT_EQ(bits[4], 0u) << "wrote beyond the positions";
}

}  // namespace
}  // namespace heed_test::mask_test
