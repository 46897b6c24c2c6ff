/// \file
/// A cache as bytes: restored it is the same and goes on the same, and no bytes can hurt it.
#include <array>
#include <cstring>
#include <limits>
#include <random>


#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "lists/rules.hpp"

namespace heed_test::snapshot_test {
namespace {

using heed::AnyRule;
using heed::StatusCode;
using Cache = heed::KvCache<heed::Gqa, heed::F32, heed::Bf16>;
using Bytes = std::vector<std::byte>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 7, .v_head_dim = 3, .scale = 0.25f};

/// Every rule, and a stream with another option.
const std::vector<AnyRule>& rules() {
  static const std::vector<AnyRule> all = [] {
    std::vector<AnyRule> made = heed_examples::every_rule({2, 6}, {.anchors = {1, 2}, .separators = {1}});
    made.push_back(heed::SeparatorStream{.initial = 1,
                                         .separators = 2,
                                         .local = 4,
                                         .capacity = 12,
                                         .ids = {1},
                                         .form = heed::StreamForm::sep_cache,
                                         .bounded = false});
    return made;
  }();
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
  EXPECT_EQ(spoiled(8, std::byte{9}), "snapshot: version is 9, must be 3");
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

TEST(CacheSnapshot, AfterARollback) {
  const auto restored_equal = [](const Cache& cache, const AnyRule& rule) {
    const Bytes bytes = snapshot_of(cache);
    const auto twin = restored(rule, bytes);
    ASSERT_TRUE(twin.ok()) << rule.name() << ": " << twin.status().message();
    EXPECT_EQ(snapshot_of(*twin), bytes);
  };
  const AnyRule separators = heed::Separators{0, 1, {1}};
  Cache marked = make(separators);
  ASSERT_NO_FATAL_FAILURE(append(marked, Seeds(10, 1)));
  ASSERT_TRUE(marked.truncate(2).ok());
  ASSERT_NO_FATAL_FAILURE(restored_equal(marked, separators));
  for (const AnyRule& rule : {AnyRule(heed::Causal{}), AnyRule(heed::SlidingWindow{9})}) {
    Cache cache = make(rule);
    ASSERT_NO_FATAL_FAILURE(append(cache, Seeds(6, 3)));
    ASSERT_TRUE(cache.compact(all_positions(6)).ok());
    ASSERT_TRUE(cache.truncate(3).ok());
    ASSERT_NO_FATAL_FAILURE(restored_equal(cache, rule));
  }
}

// --- what cannot be -----------------------------------------------------------------------------------------------------

/// Where the numbers of a snapshot with one layer group stand.
enum Field : std::size_t {
  seen = 72,
  floor_at = 80,
  first_removed = 88,
  reach_first = 96,
  begin_at = 104,
  first_landmark = 112,
  most_landmarks = 120,
  last_seen = 128,
  calls = 136,
  kept_sum = 144,
  seen_sum = 152,
  num_far = 160,
  far_tokens = 168,  // 12 bytes each
};
void seal(Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 16, &size, sizeof size);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - 4});
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, sizeof crc);
}
template <class T>
Bytes edited(Bytes bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  seal(bytes);
  return bytes;
}
template <class T = Index>
T number_at(const Bytes& bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// Every number is refused by its own name, one step beyond what can be.
TEST(CacheSnapshot, NamesTheNumberThatCannotBe) {
  const auto expect_refused = [](const AnyRule& rule, const Bytes& good, std::size_t at, auto value, const char* name) {
    const auto twin = restored(rule, edited(good, at, value));
    EXPECT_EQ(twin.status().code(), StatusCode::invalid_argument) << name << " " << value;
    const std::string expected = std::string("snapshot: ") + name + " is ";
    EXPECT_TRUE(twin.status().message().starts_with(expected)) << twin.status().message() << ", not " << expected;
  };
  constexpr Index most = std::numeric_limits<Index>::max();
  {
    // 3 landmarks, and 3 recent tokens after the last separator.
    const AnyRule rule = heed::Separators{1, 4, {1}};
    Cache cache = make(rule);
    ASSERT_NO_FATAL_FAILURE(append(cache, {2, 3, 1, 4, 1, 5, 5, 5, 5, 5}));
    const Bytes good = snapshot_of(cache);
    ASSERT_EQ(number_at(good, seen), 10);
    ASSERT_EQ(number_at(good, begin_at), 7);
    ASSERT_EQ(number_at(good, reach_first), 10);
    ASSERT_EQ(number_at(good, num_far), 3);
    for (const Index wrong : {Index{-1}, Index{1} << 48 | 1, most}) expect_refused(rule, good, seen, wrong, "seen");
    for (const Index wrong : {Index{-1}, Index{11}, most}) {
      expect_refused(rule, good, reach_first, wrong, "reach_first");
    }
    for (const Index wrong : {Index{-1}, Index{11}, -most - 1}) expect_refused(rule, good, begin_at, wrong, "begin");
    expect_refused(rule, good, reach_first, Index{6}, "begin");
    for (const Index wrong : {Index{-2}, Index{11}, most}) {
      expect_refused(rule, good, first_removed, wrong, "first_removed");
    }
    for (const Index wrong : {Index{-1}, Index{1}, most}) expect_refused(rule, good, floor_at, wrong, "floor");
    for (const Index wrong : {Index{-1}, Index{1}, most}) {
      expect_refused(rule, good, first_landmark, wrong, "first_landmark");
      expect_refused(rule, good, most_landmarks, wrong, "most_landmarks");
    }
    for (const Index wrong : {Index{-1}, Index{0}, most}) expect_refused(rule, good, calls, wrong, "calls");
    for (const Index wrong : {Index{-1}, most}) expect_refused(rule, good, last_seen, wrong, "last_seen");
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
    for (const double wrong : {-1.0, nan, infinite}) expect_refused(rule, good, seen_sum, wrong, "seen_sum");
    for (const double wrong : {-1.0, nan, infinite, 11.0}) expect_refused(rule, good, kept_sum, wrong, "kept_sum");
    // Far tokens: 0, 2, 4; not after each other, not before the near ones, or no landmark.
    for (const Index wrong : {Index{-1}, Index{0}, Index{4}, Index{7}, most}) {
      expect_refused(rule, good, far_tokens + 12, wrong, "position");
    }
    expect_refused(rule, good, far_tokens + 12 + 8, std::int32_t{5}, "position of a landmark");
  }
  {
    // What lies before a removed token is far, and the near run begins behind it.
    Cache cache = make(heed::Causal{});
    ASSERT_NO_FATAL_FAILURE(append(cache, {1, 2, 3, 4, 5, 6}));
    ASSERT_TRUE(cache.compact(std::vector<Index>{0, 2, 4, 5}).ok());
    const Bytes good = snapshot_of(cache);
    ASSERT_EQ(number_at(good, first_removed), 1);
    ASSERT_EQ(number_at(good, begin_at), 4);
    for (const Index wrong : {-1, 0, 3, 6}) {
      expect_refused(heed::Causal{}, good, first_removed, wrong, "first_removed");
    }
    expect_refused(heed::Causal{}, good, far_tokens + 12, Index{3}, "position of a landmark");
  }
  {
    const AnyRule rule = heed::SlidingWindow{8};
    Cache cache = make(rule);
    ASSERT_NO_FATAL_FAILURE(append(cache, Seeds(10, 2)));
    ASSERT_TRUE(cache.remove(5, 6).ok() && cache.remove(8, 10).ok());
    const Bytes good = snapshot_of(cache);
    constexpr std::size_t holes = far_tokens + 7 * 4;  // behind the ids of 3 ... 9
    ASSERT_EQ(number_at(good, holes), 2);
    ASSERT_EQ(number_at(good, first_removed), 5);
    for (const Index wrong : {Index{-1}, Index{2}, Index{6}, most}) {
      expect_refused(rule, good, holes + 8, wrong, "hole");
    }
    for (const Index wrong : {Index{5}, Index{8}, most}) expect_refused(rule, good, holes + 16, wrong, "hole");
    expect_refused(rule, good, holes + 32, Index{11}, "hole");
    for (const Index wrong : {-1, 6}) expect_refused(rule, good, first_removed, wrong, "hole");
  }
  {
    const AnyRule rule = heed::SeparatorStream{.initial = 2, .separators = 2, .local = 3, .capacity = 9, .ids = {1}};
    Cache cache = make(rule);
    for (Index i = 0; i < 24; ++i) ASSERT_NO_FATAL_FAILURE(append(cache, {i % 3 == 0 ? Seed{1} : Seed{2}}));
    const Bytes good = snapshot_of(cache);
    const Index begin = number_at(good, begin_at), first = number_at(good, reach_first);
    ASSERT_GT(begin, 0);
    for (const Index wrong : {begin - 1, first + 1, Index{0}, most}) {
      expect_refused(rule, good, floor_at, wrong, "floor");
    }
    expect_refused(rule, good, first_removed, Index{1}, "first_removed");
    for (const Index wrong : {Index{-1}, Index{5}, most, -most - 1}) {
      expect_refused(rule, good, first_landmark, wrong, "first_landmark");
    }
    for (const Index wrong : {Index{-1}, Index{0}, Index{1}, first + 1, most}) {
      expect_refused(rule, good, most_landmarks, wrong, "most_landmarks");
    }
  }
}

TEST(CacheSnapshot, OldVersionsAreRefused) {
  const Bytes good = snapshot_of(make(heed::Causal{}));
  EXPECT_EQ(restored(heed::Causal{}, edited(good, 8, std::uint32_t{2})).status().message(),
            "snapshot: version is 2, must be 3");
}

/// Few bytes cannot ask for much memory: neither index nor rows are allocated before there are bytes for them.
TEST(CacheSnapshot, LengthsAreNotBelieved) {
  CountingMemory memory;
  constexpr heed::Gqa wide{.num_heads = 2, .num_kv_heads = 2, .head_dim = 4096, .scale = 1};
  using Wide = heed::KvCache<heed::Gqa, heed::F32>;
  const AnyRule rule = heed::Separators{1, 40, {1}};
  Wide cache = heed::value_or_throw(Wide::create(wide, {.layers = 1}, rule));
  for (int i = 0; i < 50; ++i) ASSERT_NO_FATAL_FAILURE(append(cache, {i % 7 == 0 ? Seed{1} : Seed{2}}));
  Bytes good(cache.snapshot_bytes());
  heed::check(cache.snapshot(good));
  const auto refusal = [&](const Bytes& bytes) {
    memory.peak = 0;
    const auto twin = Wide::restore(wide, {.memory = memory.resource()}, rule, bytes);
    EXPECT_FALSE(twin.ok());
    EXPECT_LT(memory.peak, 1 << 16);
    EXPECT_EQ(memory.held, 0);
    return twin.status().message();
  };
  ASSERT_TRUE(Wide::restore(wide, {}, rule, good).ok());
  // All of the index, and no row, one row, all but one byte of them.
  const Index rows = Index(good.size()) - 4 - cache.kept() * cache.row_bytes_per_token();
  for (const Index left : {Index{0}, cache.row_bytes_per_token(), cache.kept() * cache.row_bytes_per_token() - 1}) {
    Bytes cut(good.begin(), good.begin() + rows + left + 4);
    seal(cut);
    EXPECT_EQ(refusal(cut), "snapshot: it ends before its rows");
  }
  // A trillion recent tokens, or landmarks.
  Bytes longer = edited(edited(good, seen, Index{1} << 40), reach_first, Index{1} << 40);
  EXPECT_EQ(refusal(longer), "snapshot: it ends before its index");
  EXPECT_EQ(refusal(edited(good, num_far, Index{1} << 40)), "snapshot: it ends before its index");
  EXPECT_EQ(refusal(edited(good, num_far, Index{-1})), "snapshot: it ends before its index");
}

TEST(CacheSnapshot, MaxTokensHolds) {
  CountingMemory memory;
  const AnyRule rule = heed::SlidingWindow{9};
  Cache cache = make(rule);
  ASSERT_NO_FATAL_FAILURE(append(cache, Seeds(40, 3)));
  const Bytes bytes = snapshot_of(cache);
  const auto with = [&](Index most) {
    return Cache::restore(policy, {.layers = 2, .max_tokens = most, .memory = memory.resource()}, rule, bytes);
  };
  const auto small = with(7);
  EXPECT_EQ(small.status().code(), StatusCode::out_of_range);
  EXPECT_EQ(small.status().message(), "snapshot: it holds 8 tokens, but max_tokens is 7");
  EXPECT_EQ(memory.held, 0);
  auto fits = with(8);
  ASSERT_TRUE(fits.ok()) << fits.status().message();
  EXPECT_EQ(fits->begin(ids({1})).status().code(), StatusCode::out_of_range);
}

TEST(CacheSnapshot, ChecksumIsTheKnownOne) {
  constexpr std::array text{'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  EXPECT_EQ(heed::detail::crc32(std::as_bytes(std::span(text))), 0xcbf43926u);
}

}  // namespace
}  // namespace heed_test::snapshot_test
