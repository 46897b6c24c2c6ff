// Rotation at read: the preparation a policy hands to the kernel.
#include <heed/policy/rotated_keys.hpp>

#include <gtest/gtest.h>

#include <vector>

#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>

#include "oracle/random.hpp"

namespace heed_test::rotated_keys_test {
namespace {

using heed::Index;
using heed::Rope;
using heed::RotatedKeys;

static_assert(heed::AttentionPolicy<RotatedKeys<heed::Gqa>>);
static_assert(heed::AttentionPolicy<RotatedKeys<heed::SharedRow>>);
static_assert(heed::RowPreparation<heed::KeyRotation>);

Rope make(Index head_dim) {
  return heed::value_or_throw(
      Rope::create({.head_dim = head_dim, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
}

TEST(RotatedKeys, DescribesTheSameCacheAsItsPolicy) {
  const Rope rope = make(16);
  const heed::Gqa gqa{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .v_head_dim = 8, .scale = 0.25f};
  const RotatedKeys<heed::Gqa> policy{.policy = gqa, .rope = &rope};
  ASSERT_TRUE(policy.validate().ok());
  const auto a = policy.layout(), b = gqa.layout();
  EXPECT_EQ(a.streams, b.streams);
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.value, b.value);
  EXPECT_EQ(a.key_width, b.key_width);
  EXPECT_FALSE(policy.preparation().makes_values());
}

TEST(RotatedKeys, ReadingRotatesAsWritingDoes) {  // bit for bit, whatever the positions
  oracle::Random random(1);
  const Rope rope = make(16);
  const RotatedKeys<heed::SharedRow> policy{
      .policy = {.num_heads = 4, .head_dim = 16, .v_head_dim = 12, .scale = 0.25f}, .rope = &rope};
  const Index count = 200;
  const auto rows = random.gaussians(count * 16);
  std::vector<Index> positions;
  for (Index i = 0; i < count; ++i) positions.push_back(i < 100 ? i + 30 : random.below(100000));
  auto written = rows;
  ASSERT_TRUE(rope.apply_rows(positions, 1, written).ok());
  std::vector<float> read(rows.size());
  policy.preparation().keys(0, count, rows.data(), positions.data(), read.data(), nullptr);
  EXPECT_EQ(read, written);
}

TEST(RotatedKeys, TakesTheKeyViewOutOfAWiderRow) {
  oracle::Random random(2);
  const Rope rope = make(8);
  const heed::KeyRotation rotation{.rope = &rope, .key = {.stream = 0, .offset = 5, .width = 8}, .stream_width = 20};
  const auto rows = random.gaussians(3 * 20);
  const std::vector<Index> positions = {7, 64, 200};
  std::vector<float> keys(3 * 8);
  rotation.keys(0, 3, rows.data(), positions.data(), keys.data(), nullptr);
  for (std::size_t i = 0; i < 3; ++i) {
    std::vector<float> want(rows.begin() + std::ptrdiff_t(i * 20 + 5), rows.begin() + std::ptrdiff_t(i * 20 + 13));
    rope.apply(positions[i], want.data());
    EXPECT_EQ(std::vector<float>(keys.begin() + std::ptrdiff_t(i * 8), keys.begin() + std::ptrdiff_t(i * 8 + 8)), want);
  }
}

TEST(RotatedKeysErrors, NameWhatDoesNotFit) {
  const Rope rope = make(16);
  const heed::Gqa gqa{.num_heads = 4, .num_kv_heads = 2, .head_dim = 32, .scale = 0.25f};
  EXPECT_NE((RotatedKeys<heed::Gqa>{.policy = gqa, .rope = &rope}).validate().message().find("16"), std::string::npos);
  EXPECT_NE((RotatedKeys<heed::Gqa>{.policy = gqa}).validate().message().find("null"), std::string::npos);
  EXPECT_NE((RotatedKeys<heed::Gqa>{.policy = {}, .rope = &rope}).validate().message().find("num_heads"),
            std::string::npos);
}

}  // namespace
}  // namespace heed_test::rotated_keys_test
