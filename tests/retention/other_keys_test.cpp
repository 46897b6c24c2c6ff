/// \file
/// Masks over keys that they were not made for: refused, or what was removed stays hidden.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/retention/rule_mask.hpp>
#include <heed/simd/scalar.hpp>

#include "retention/tracked_cache.hpp"

namespace heed_test {
namespace {

template <class Keys>
heed::Status attend(const Keys& keys, heed::MaskRef mask, std::vector<float>& out) {
  const std::vector<float> q{0.5f, 0.25f};
  out.assign(2, std::nanf(""));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  return heed::attend<heed::Scalar>(tracked_policy, q, keys, mask, out, workspace, serial);
}

TEST(MaskOfOtherKeys, AWholeTextsMaskOverACacheThatForgot) {
  const heed::SinkWindow rule{2, 8};
  auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {}, rule));
  ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(40, 3)));
  const auto whole = heed::value_or_throw(heed::RuleMask::create(rule, std::vector<std::int32_t>(40, 3)));
  std::vector<float> out;
  const heed::Status status = attend(cache.keys(0), whole.mask(), out);
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("every position from 0 on"), std::string::npos) << status.message();
  EXPECT_TRUE(std::isnan(out[0]));
}

TEST(MaskOfOtherKeys, AWholeTextsMaskOverALaterPart) {
  const auto whole =
      heed::value_or_throw(heed::RuleMask::create(heed::SinkWindow{2, 8}, std::vector<std::int32_t>(40, 3)));
  const std::vector<float> rows(9 * 2, 1.0f);
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 8, 8};
  std::vector<float> out;
  const heed::StridedSource<heed::F32> later(9, stream, stream, 31), from_start(9, stream, stream);
  EXPECT_EQ(attend(later, whole.mask(), out).code(), heed::StatusCode::invalid_argument);
  EXPECT_TRUE(attend(from_start, whole.mask(), out).ok());
}

/// A mask of two lists whose near keys must follow each other.
struct TwoLists {
  heed::NearKeys near_list;
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const { return key <= query; }
  [[nodiscard]] heed::NearKeys near_keys() const { return near_list; }
  [[nodiscard]] Index far_keys() const { return 0; }
  [[nodiscard]] Index far_key(Index) const { return 0; }
  [[nodiscard]] heed::Coverage near_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool near_visible(Index query, Index key) const { return key <= query; }
  [[nodiscard]] heed::Coverage far_coverage(heed::Interval, heed::Interval) const { return heed::Coverage::none; }
  [[nodiscard]] bool far_visible(Index, Index) const { return false; }
};

TEST(MaskOfOtherKeys, NearKeysThatDoNotFollowEachOther) {
  auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {}, heed::SinkWindow{2, 8}));
  ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(40, 3)));
  std::vector<float> out;
  EXPECT_EQ(attend(cache.keys(0), TwoLists{{0, 0}}, out).code(), heed::StatusCode::invalid_argument);
  EXPECT_EQ(attend(cache.keys(0), TwoLists{{2, -5}}, out).code(), heed::StatusCode::invalid_argument);
  EXPECT_TRUE(attend(cache.keys(0), TwoLists{{2, 33}}, out).ok());
}

/// Queries under another rule's mask do not see a removed token, whatever the list it stands in.
TEST(MaskOfOtherKeys, ARemovedLandmarkStaysHidden) {
  auto cache = heed::value_or_throw(TrackedCache::create(tracked_policy, {}, heed::SlidingWindow{100}));
  std::vector<std::int32_t> ids(50, 3);
  ids[10] = 7;
  ids[20] = 7;
  ASSERT_NO_FATAL_FAILURE(append(cache, Tokens(ids.begin(), ids.end())));
  ASSERT_TRUE(cache.remove(10, 11).ok());
  const auto mask =
      heed::value_or_throw(heed::RuleMask::create(heed::Separators{.initial = 0, .window = 4, .ids = {7}}, ids));
  std::vector<float> out;
  ASSERT_TRUE(attend(cache.keys(0), mask.mask(), out).ok());
  // Rows are (p, -p): scores 0.25 p, values p.
  double sum = 0, weights = 0;
  for (const double p : {20.0, 46.0, 47.0, 48.0, 49.0}) {
    sum += std::exp(0.25 * (p - 49)) * p;
    weights += std::exp(0.25 * (p - 49));
  }
  const double with_removed = (sum + std::exp(0.25 * (10 - 49)) * 10) / (weights + std::exp(0.25 * (10 - 49)));
  EXPECT_NEAR(out[0], sum / weights, 1e-4);
  EXPECT_GT(std::abs(with_removed - sum / weights), 5e-4);
}

}  // namespace
}  // namespace heed_test
