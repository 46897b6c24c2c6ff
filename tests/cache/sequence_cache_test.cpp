/// \file
/// Laws of every SequenceCache: one code for one mistake, whatever a sequence is kept in.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <heed/cache/kv_cache.hpp>
#include <heed/cache/recurrent_state.hpp>
#include <heed/cache/sequence_cache.hpp>
#include <heed/codec/f32.hpp>
#include <heed/policy/grouped.hpp>

namespace heed_test::sequence_cache_test {
namespace {

using heed::Index, heed::Result, heed::Status, heed::StatusCode;
using Bytes = std::vector<std::byte>;

struct Keys {
  using Cache = heed::KvCache<heed::Mqa, heed::F32>;
  static constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};
  static Result<Cache> create(Index most) { return Cache::create(policy, {.layers = 2, .max_tokens = most}); }
  static Result<Cache> restore(Index most, const Bytes& from) {
    return Cache::restore(policy, {.layers = 2, .max_tokens = most}, heed::Causal{}, from);
  }
  static void write(Cache::Step& step) {
    const std::vector<float> rows(std::size_t(2 * step.tokens()), 1.0f);
    for (const Index layer : {0, 1}) ASSERT_TRUE(step.write(layer, rows, rows).ok());
  }
};

struct States {
  using Cache = heed::RecurrentState;
  static heed::RecurrentOptions options(Index most) { return {.layers = 2, .width = 3, .max_tokens = most}; }
  static Result<Cache> create(Index most) { return Cache::create(options(most)); }
  static Result<Cache> restore(Index most, const Bytes& from) { return Cache::restore(options(most), from); }
  static void write(Cache::Step& step) {
    for (const Index layer : {0, 1}) {
      const auto place = heed::value_or_throw(step.layer(layer));
      for (Index t = 0; t < step.tokens(); ++t) {
        if (float* const to = place.after(t)) std::fill(to, to + 3, float(t + 1));
      }
    }
  }
};

template <class C>
class SequenceLaws : public testing::Test {
 protected:
  static void append(typename C::Cache& cache, Index tokens) {
    auto step = cache.begin(heed::NumTokens(tokens));
    ASSERT_TRUE(step.ok()) << step.status().message();
    C::write(*step);
    ASSERT_TRUE(step->commit().ok());
  }
  /// out_of_range, and a message with this number.
  static void expect_beyond(const Status& status, const std::string& number) {
    EXPECT_EQ(status.code(), StatusCode::out_of_range) << status.message();
    EXPECT_NE(status.message().find(number), std::string::npos) << status.message();
  }
};
using Kinds = testing::Types<Keys, States>;
TYPED_TEST_SUITE(SequenceLaws, Kinds, );

TYPED_TEST(SequenceLaws, MaxTokensIsARange) {
  auto cache = heed::value_or_throw(TypeParam::create(5));
  this->expect_beyond(cache.begin(heed::NumTokens(6)).status(), "max_tokens");
  this->append(cache, 5);
  this->expect_beyond(cache.begin(heed::NumTokens(1)).status(), "max_tokens");
  EXPECT_EQ(cache.seen(), 5);
  Bytes bytes(cache.snapshot_bytes());
  ASSERT_TRUE(cache.snapshot(bytes).ok());
  for (const Index most : {1, 4}) {
    this->expect_beyond(TypeParam::restore(most, bytes).status(), "max_tokens is " + std::to_string(most));
  }
  for (const Index most : {5, 6, 0}) {
    const auto same = TypeParam::restore(most, bytes);
    ASSERT_TRUE(same.ok()) << same.status().message();
    EXPECT_EQ(same->seen(), 5);
  }
}

TYPED_TEST(SequenceLaws, TruncateIsARange) {
  auto cache = heed::value_or_throw(TypeParam::create(0));
  this->append(cache, 5);
  for (const Index tokens : {-1, 6}) this->expect_beyond(cache.truncate(tokens), std::to_string(tokens));
  EXPECT_TRUE(cache.truncate(5).ok());
  EXPECT_TRUE(cache.truncate(0).ok());
}

}  // namespace
}  // namespace heed_test::sequence_cache_test
