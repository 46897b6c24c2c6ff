/// \file
/// A cache as bytes: restored it is the same and goes on the same, and no bytes can hurt it.
#include <array>
#include <cstring>
#include <random>

#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test {
namespace {

using heed::AnyRule;
using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::F32, heed::Bf16>;
using Bytes = std::vector<std::byte>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 7, .v_head_dim = 3, .scale = 0.25f};

const std::vector<AnyRule>& rules() {
  static const std::vector<AnyRule> all{
      heed::Causal{},
      heed::SlidingWindow{9},
      heed::SinkWindow{2, 5},
      heed::Anchors{.ids = {1, 2}},
      heed::Separators{.initial = 2, .window = 6, .ids = {1}},
      heed::SeparatorStream{.initial = 2, .separators = 3, .local = 4, .capacity = 14, .ids = {1, 2}},
      heed::SeparatorStream{.initial = 1,
                            .separators = 2,
                            .local = 4,
                            .capacity = 12,
                            .ids = {1},
                            .form = heed::StreamForm::sep_cache,
                            .bounded = false},
  };
  return all;
}

Cache make(const AnyRule& rule, heed::CacheOptions options = {.layers = 2, .page_tokens = 5}) {
  return heed::value_or_throw(Cache::create(policy, options, rule));
}
Seeds some_tokens(std::mt19937_64& random, Index count) {
  Seeds tokens;
  for (Index i = 0; i < count; ++i) tokens.push_back(random() % 6);  // small ids, so that some are landmarks
  return tokens;
}
Bytes snapshot_of(const Cache& cache) {
  Bytes bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  return bytes;
}
heed::Result<Cache> restored(const AnyRule& rule, const Bytes& bytes, Index page_tokens = 3) {
  return Cache::restore(policy, {.layers = 2, .page_tokens = page_tokens}, rule, bytes);
}

TEST(CacheSnapshot, RestoredIsTheSameAndGoesOnTheSame) {
  std::mt19937_64 random(1);
  for (const AnyRule& rule : rules()) {
    SCOPED_TRACE(rule.name());
    for (const Index count : {0, 1, 13, 60}) {
      Cache cache = make(rule);
      ASSERT_NO_FATAL_FAILURE(append(cache, some_tokens(random, count)));
      const Bytes bytes = snapshot_of(cache);
      auto twin = restored(rule, bytes);
      ASSERT_TRUE(twin.ok()) << twin.status().message();
      EXPECT_EQ(snapshot_of(*twin), bytes);
      EXPECT_EQ(twin->rollback_floor(), cache.rollback_floor());
      EXPECT_EQ(twin->retention().kept_sum, cache.retention().kept_sum);
      for (int i = 0; i < 30; ++i) {
        const Seeds more = some_tokens(random, pick(random, 1, 4));
        ASSERT_NO_FATAL_FAILURE(append(cache, more));
        ASSERT_NO_FATAL_FAILURE(append(*twin, more));
        // The number of calls is the same, too, so all bytes are.
        ASSERT_EQ(snapshot_of(*twin), snapshot_of(cache)) << "after " << i;
      }
      ASSERT_TRUE(twin->truncate(twin->seen()).ok());
    }
  }
}

TEST(CacheSnapshot, LayerGroupsAreKept) {
  const std::vector<heed::LayerRule> groups{{heed::SlidingWindow{4}, {0, 2}}, {heed::Causal{}, {1}}};
  std::mt19937_64 random(2);
  auto cache = heed::value_or_throw(Cache::create(policy, {.layers = 3}, groups));
  ASSERT_NO_FATAL_FAILURE(append(cache, some_tokens(random, 20)));
  const Bytes bytes = snapshot_of(cache);
  auto twin = Cache::restore(policy, {.layers = 3}, groups, bytes);
  ASSERT_TRUE(twin.ok()) << twin.status().message();
  EXPECT_EQ(snapshot_of(*twin), bytes);
  const std::vector<heed::LayerRule> others{{heed::SlidingWindow{4}, {0, 1}}, {heed::Causal{}, {2}}};
  EXPECT_FALSE(Cache::restore(policy, {.layers = 3}, others, bytes).ok());
}

TEST(CacheSnapshot, SaysWhatDoesNotFit) {
  std::mt19937_64 random(3);
  const AnyRule rule = heed::SlidingWindow{9};
  Cache cache = make(rule);
  ASSERT_NO_FATAL_FAILURE(append(cache, some_tokens(random, 20)));
  const Bytes good = snapshot_of(cache);
  const auto message = [](const auto& result) {
    EXPECT_EQ(result.status().code(), StatusCode::invalid_argument);
    return result.status().message();
  };
  const std::string other =
      "snapshot: it was made by a cache of another shape, rule, positions, undo_tokens or model_id";
  EXPECT_EQ(message(restored(heed::SlidingWindow{8}, good)), other);
  EXPECT_EQ(message(Cache::restore(policy, {.layers = 3}, rule, good)), other);
  EXPECT_EQ(message(Cache::restore(policy, {.layers = 2, .undo_tokens = 1}, rule, good)), other);
  EXPECT_EQ(message(Cache::restore(policy, {.layers = 2, .model_id = 7}, rule, good)), other);
  heed::Gqa wider = policy;
  wider.head_dim = 8;
  EXPECT_EQ(message(Cache::restore(wider, {.layers = 2}, rule, good)), other);
  using Half = heed::KvCache<heed::Gqa, heed::F16, heed::Bf16>;
  EXPECT_EQ(message(Half::restore(policy, {.layers = 2}, rule, good)),
            "snapshot: its codecs are f32 and bf16, the cache's f16 and bf16");
  const auto spoiled = [&](std::size_t at, std::byte value) {
    Bytes bytes = good;
    bytes[at] = value;
    return message(restored(rule, bytes));
  };
  EXPECT_EQ(spoiled(0, std::byte{'H'}), "snapshot: it does not begin with heed-kv");
  EXPECT_EQ(spoiled(8, std::byte{9}), "snapshot: version is 9, must be 1");
  EXPECT_EQ(spoiled(12, std::byte{1}), "snapshot: it has another byte order");
  EXPECT_EQ(spoiled(good.size() / 2, ~good[good.size() / 2]), "snapshot: its checksum does not match");
  Bytes longer = good;
  longer.push_back({});
  EXPECT_EQ(message(restored(rule, longer)), "snapshot: it has " + std::to_string(longer.size()) +
                                                 " bytes, its header says " + std::to_string(good.size()));
  EXPECT_EQ(message(restored(rule, {})), "snapshot: it does not begin with heed-kv");
  Bytes buffer(3);
  EXPECT_EQ(cache.snapshot(buffer).message(), "snapshot(): to has 3 bytes, must have " + std::to_string(good.size()));
  auto step = cache.begin(heed::NumTokens(1));
  EXPECT_EQ(cache.snapshot(buffer).code(), StatusCode::wrong_state);
}

/// Bytes that are spoiled and then given a right length and checksum: an error, or a cache that works.
TEST(CacheSnapshot, HostileBytesAreAnErrorOrHarmless) {
  std::mt19937_64 random(4);
  int accepted = 0, refused = 0;
  for (const AnyRule& rule : rules()) {
    Cache cache = make(rule);
    ASSERT_NO_FATAL_FAILURE(append(cache, some_tokens(random, 40)));
    const Bytes good = snapshot_of(cache);
    for (int i = 0; i < 1500; ++i) {
      Bytes bytes = good;
      const int edits = 1 + int(random() % 3);
      for (int e = 0; e < edits; ++e) {
        // Mostly the numbers in front of the rows, of which every value is a valid one; whole words now and then.
        const std::size_t at = 24 + random() % std::min<std::size_t>(bytes.size() - 32, random() % 4 == 0 ? 5000 : 500);
        const std::uint64_t word = random() % 3 == 0 ? std::uint64_t(-1) - random() % 3 : random() % 50;
        std::memcpy(bytes.data() + at, &word, random() % 2 == 0 ? 1 : 8);
      }
      if (random() % 4 == 0) bytes.resize(24 + random() % bytes.size());
      const std::uint64_t size = bytes.size();
      std::memcpy(bytes.data() + 16, &size, sizeof size);
      const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - 4});
      std::memcpy(bytes.data() + bytes.size() - 4, &crc, sizeof crc);
      auto twin = restored(rule, bytes);
      if (!twin.ok()) {
        ++refused;
        ASSERT_FALSE(twin.status().message().empty());
        continue;
      }
      ++accepted;
      for (int more = 0; more < 20; ++more) ASSERT_NO_FATAL_FAILURE(append(*twin, some_tokens(random, 2)));
      ASSERT_TRUE(twin->truncate(twin->rollback_floor()).ok());
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

/// Few bytes cannot ask for much memory.
TEST(CacheSnapshot, LengthsAreNotBelieved) {
  CountingMemory memory;
  const Bytes good = snapshot_of(make(heed::Causal{}));
  Bytes bytes = good;
  // The index's first number is the tokens seen, behind 32 bytes of header, 32 of codec names and 8 of groups.
  const std::uint64_t seen = std::uint64_t{1} << 40;
  std::memcpy(bytes.data() + 72, &seen, sizeof seen);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - 4});
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, sizeof crc);
  const auto twin = Cache::restore(policy, {.layers = 2, .memory = memory.resource()}, heed::Causal{}, bytes);
  EXPECT_EQ(twin.status().message(), "snapshot: number of ids is 0");
  EXPECT_LT(memory.peak, 1 << 16);
  EXPECT_EQ(memory.held, 0);
}

TEST(CacheSnapshot, ChecksumIsTheKnownOne) {
  constexpr std::array text{'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  EXPECT_EQ(heed::detail::crc32(std::as_bytes(std::span(text))), 0xcbf43926u);
}

}  // namespace
}  // namespace heed_test
