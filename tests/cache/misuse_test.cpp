/// \file
/// Every wrong call gets a status that names the argument and the number, and changes nothing.
#include <limits>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::misuse_test {
namespace {

using heed::Status, heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16, heed::F16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .v_head_dim = 4, .scale = 0.25f};

void expect_failure(const Status& status, StatusCode code, const std::string& message) {
  EXPECT_EQ(status.code(), code);
  EXPECT_EQ(status.message(), message);
}

class CacheMisuse : public testing::Test {
 protected:
  CacheMisuse() : cache(*Cache::create(policy, {.layers = 2, .max_tokens = 10})) { append(cache, tokens); }
  ~CacheMisuse() override { expect_holds(cache, tokens); }

  Cache cache;
  const Seeds tokens{1, 2, 3};
};

TEST_F(CacheMisuse, BeginWithBadTokens) {
  expect_failure(cache.begin(heed::NumTokens(-1)).status(), StatusCode::invalid_argument, "begin(): count is -1, must be at least 0");
  const std::vector<std::int32_t> bad{4, -7};
  expect_failure(cache.begin(bad).status(), StatusCode::invalid_argument, "begin(): tokens[1] is -7");
  expect_failure(cache.begin(heed::NumTokens(8)).status(), StatusCode::out_of_range,
                 "begin(): 8 tokens, but only 7 more fit: 3 of max_tokens 10 are in the cache");
  const volatile Index most = std::numeric_limits<Index>::max();  // volatile: GCC would warn of what is refused
  expect_failure(cache.begin(heed::NumTokens(most)).status(), StatusCode::out_of_range,
                 "begin(): 9223372036854775807 tokens, but only 7 more fit: 3 of max_tokens 10 are in the cache");
}

TEST_F(CacheMisuse, NothingElseWhileAStepIsOpen) {
  auto step = cache.begin(heed::NumTokens(2));
  ASSERT_TRUE(step.ok());
  const std::string open = ": a step of 2 tokens is open; commit or abort it";
  expect_failure(cache.begin(heed::NumTokens(1)).status(), StatusCode::wrong_state, "begin()" + open);
  expect_failure(cache.begin(std::vector<std::int32_t>{1}).status(), StatusCode::wrong_state, "begin()" + open);
  expect_failure(cache.reserve(5), StatusCode::wrong_state, "reserve()" + open);
  expect_failure(cache.truncate(1), StatusCode::wrong_state, "truncate()" + open);
  expect_failure(cache.clear(), StatusCode::wrong_state, "truncate()" + open);
  EXPECT_TRUE(step->open());
}

TEST_F(CacheMisuse, WriteOfTheWrongSizeOrPlace) {
  auto step = cache.begin(heed::NumTokens(2));
  const std::vector<float> keys(2 * 2 * 8), values(2 * 2 * 4);
  expect_failure(step->write(2, 0, keys), StatusCode::out_of_range, "write(): layer is 2, the cache has 2");
  expect_failure(step->write(-1, 0, keys), StatusCode::out_of_range, "write(): layer is -1, the cache has 2");
  expect_failure(step->write(0, 2, keys), StatusCode::out_of_range, "write(): stream is 2, the policy has 2");
  expect_failure(step->write(0, -1, keys), StatusCode::out_of_range, "write(): stream is -1, the policy has 2");
  expect_failure(step->write(1, 0, values), StatusCode::invalid_argument,
                 "write(): rows has 16 floats, must have 32 = 2 tokens x 2 heads x 8 (layer 1, stream 0)");
  expect_failure(step->write(1, keys, keys), StatusCode::invalid_argument,
                 "write(): rows has 32 floats, must have 16 = 2 tokens x 2 heads x 4 (layer 1, stream 1)");
  expect_failure(step->write(1, 1, std::span<const float>()), StatusCode::invalid_argument,
                 "write(): rows has 0 floats, must have 16 = 2 tokens x 2 heads x 4 (layer 1, stream 1)");
}

TEST_F(CacheMisuse, CommitNamesWhatIsMissing) {
  const std::vector<float> keys(2 * 2 * 8), values(2 * 2 * 4);
  {
    auto aborted = cache.begin(heed::NumTokens(2));  // its writes do not count for the next step
    ASSERT_TRUE(aborted->write(0, keys, values).ok());
    ASSERT_TRUE(aborted->write(1, keys, values).ok());
  }
  auto step = cache.begin(heed::NumTokens(2));
  expect_failure(step->commit(), StatusCode::wrong_state, "commit(): layer 0, stream 0 was not written in this step");
  ASSERT_TRUE(step->write(0, 0, keys).ok());
  expect_failure(step->commit(), StatusCode::wrong_state, "commit(): layer 0, stream 1 was not written in this step");
  ASSERT_TRUE(step->write(1, keys, values).ok());
  ASSERT_TRUE(step->write(0, 1, values).ok());
  EXPECT_TRUE(step->open());
  ASSERT_TRUE(step->commit().ok());
  ASSERT_TRUE(cache.truncate(3).ok());
}

TEST_F(CacheMisuse, ClosedStep) {
  auto step = cache.begin(heed::NumTokens(1));
  step->abort();
  step->abort();  // harmless
  const std::vector<float> keys(2 * 8), values(2 * 4);
  expect_failure(step->write(0, keys, values), StatusCode::wrong_state, "write(): the step is closed");
  expect_failure(step->commit(), StatusCode::wrong_state, "commit(): the step is closed");
  EXPECT_EQ(step->keys(0).size(), 0);
  EXPECT_EQ(cache.keys(2).size(), 0);
  EXPECT_EQ(cache.keys(-1).size(), 0);
}

TEST_F(CacheMisuse, TruncateAndReserve) {
  expect_failure(cache.truncate(4), StatusCode::out_of_range, "truncate(): tokens is 4, but the cache has seen 3");
  expect_failure(cache.truncate(-1), StatusCode::out_of_range, "truncate(): tokens is -1, but the cache has seen 3");
  expect_failure(cache.reserve(11), StatusCode::out_of_range, "reserve(): tokens is 11, must be in 0 .. 10");
  expect_failure(cache.reserve(-1), StatusCode::out_of_range, "reserve(): tokens is -1, must be in 0 .. 10");
  EXPECT_EQ(cache.rollback_floor(), 0);
  EXPECT_TRUE(cache.truncate(3).ok());
}

TEST(CacheCreate, RefusesBadOptions) {
  const auto refused = [](const heed::CacheOptions& options) { return Cache::create(policy, options).status(); };
  const auto bad = StatusCode::invalid_argument;
  expect_failure(refused({.layers = 0}), bad, "layers is 0, must be in 1 .. 65536");
  expect_failure(refused({.capacity = -1}), bad, "capacity is -1, must be in 0 .. 281474976710656");
  expect_failure(refused({.capacity = 9, .max_tokens = 8}), bad, "capacity is 9, must be in 0 .. 8");
  expect_failure(refused({.max_tokens = -1}), bad, "max_tokens is -1, must be in 0 .. 281474976710656");
  expect_failure(refused({.undo_tokens = -1}), bad, "undo_tokens is -1, must be in 0 .. 1048576");
  expect_failure(refused({.page_tokens = -1}), bad, "page_tokens is -1, must be in 0 .. 281474976710656");
  expect_failure(refused({.memory = {}}), bad, "memory has no allocate function");
  expect_failure(refused({.memory = {.allocate = heed::default_memory().allocate}}), bad,
                 "memory has no deallocate function");
}

TEST(CacheCreate, RefusesABadPolicy) {
  const auto made = Cache::create({.num_heads = 4, .num_kv_heads = 3, .head_dim = 8, .scale = 1}, {});
  expect_failure(made.status(), StatusCode::invalid_argument, "num_kv_heads is 3, must divide num_heads 4");
}

/// A policy whose layout is whatever the test wants.
struct AnyLayout : Uneven {
  heed::AttentionLayout wrong = Uneven::layout();
  [[nodiscard]] heed::AttentionLayout layout() const { return wrong; }
};

TEST(CacheCreate, RefusesABadLayout) {
  const auto refused = [](auto change) {
    AnyLayout any;
    change(any.wrong);
    const Status status = heed::KvCache<AnyLayout, heed::F32>::create(any, {}).status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    return status.message();
  };
  EXPECT_EQ(refused([](auto& l) { l.num_streams = 5; }), "layout: num_streams is 5, must be in 1 .. 4");
  EXPECT_EQ(refused([](auto& l) { l.streams[1].num_heads = 0; }),
            "layout: num_heads of a stream is 0, must be in 1 .. 65536");
  EXPECT_EQ(refused([](auto& l) { l.streams[1].width = Index{1} << 62; }),
            "layout: width of a stream is 4611686018427387904, must be in 1 .. 16777216");
  EXPECT_EQ(refused([](auto& l) { l.key.stream = 1; }),
            "layout: key.stream is 1, must be the policy's key_stream 2 and less than num_streams 3");
  EXPECT_EQ(refused([](auto& l) { l.num_streams = 2; }),
            "layout: key.stream is 2, must be the policy's key_stream 2 and less than num_streams 2");
  EXPECT_EQ(refused([](auto& l) { l.value.offset = 1; }), "layout: value is 8 numbers from 1 of a row of 8");
  EXPECT_EQ(refused([](auto& l) { l.value.width = 0; }), "layout: value is 0 numbers from 0 of a row of 8");
  EXPECT_EQ(refused([](auto& l) { l.key.offset = -1; }), "layout: key is 8 numbers from -1 of a row of 8");
  EXPECT_EQ(refused([](auto& l) { l.streams[2].num_heads = 4; }),
            "layout: the key stream has 4 heads, must have 1 or num_kv_heads 2");
}

/// A rule may refuse its own parameters.
struct PickyRule : heed::Causal {
  [[nodiscard]] Status validate() const { return heed::fail(StatusCode::invalid_argument, "window is ", 0); }
};

TEST(CacheCreate, RefusesABadRule) {
  const auto made = heed::KvCache<heed::Gqa, heed::F32>::create(policy, {}, PickyRule{});
  expect_failure(made.status(), StatusCode::invalid_argument, "window is 0");
}

}  // namespace
}  // namespace heed_test::misuse_test
