/// \file
/// A recurrent state as bytes: restored it is the same and goes on the same, and no bytes can hurt it.
#include <cmath>
#include <cstring>
#include <limits>

#include <heed/cache/kv_cache.hpp>
#include <heed/codec/f32.hpp>
#include <heed/policy/grouped.hpp>

#include "cache/recurrent.hpp"

namespace heed_test::recurrent_snapshot_test {
namespace {

using namespace recurrent;
using recurrent::Tokens;

constexpr RecurrentOptions shape{.layers = 2, .width = 5, .undo_tokens = 3, .model_id = 42, .memory = {}};
RecurrentOptions options_of(RecurrentOptions options = shape) {
  options.memory = heed::default_memory();
  return options;
}

class RecurrentSnapshot : public testing::Test {
 protected:
  RecurrentSnapshot() {
    append(state, tokens, {1, 2, 3, 4, 5, 6});
    good = snapshot_of(state);
  }
  static Status restored(const Bytes& bytes, const RecurrentOptions& options = options_of()) {
    return RecurrentState::restore(options, bytes).status();
  }

  RecurrentState state = make(options_of());
  Tokens tokens;
  Bytes good;
};

TEST_F(RecurrentSnapshot, RestoredIsTheSameAndGoesOnTheSame) {
  auto twin = RecurrentState::restore(options_of(), good);
  ASSERT_TRUE(twin.ok()) << twin.status().message();
  EXPECT_EQ(snapshot_of(*twin), good);
  EXPECT_EQ(twin->rollback_floor(), state.rollback_floor());
  Tokens other = tokens;
  ASSERT_NO_FATAL_FAILURE(append(state, tokens, {7, 8}));
  ASSERT_NO_FATAL_FAILURE(append(*twin, other, {7, 8}));
  EXPECT_EQ(snapshot_of(*twin), snapshot_of(state));
  while (state.seen() > state.rollback_floor()) {
    ASSERT_TRUE(state.truncate(state.seen() - 1).ok() && twin->truncate(twin->seen() - 1).ok());
    EXPECT_EQ(snapshot_of(*twin), snapshot_of(state));
  }
}

/// With fewer undo_tokens, the latest states stay; with more, there are not more at once.
TEST_F(RecurrentSnapshot, OtherUndoTokens) {
  for (const Index undo : {0, 1, 2, 3, 4, 9}) {
    RecurrentOptions options = options_of();
    options.undo_tokens = undo;
    auto twin = RecurrentState::restore(options, good);
    ASSERT_TRUE(twin.ok()) << twin.status().message();
    EXPECT_EQ(twin->rollback_floor(), 6 - std::min<Index>(undo, 3));
    for (Index left = 6; left >= twin->rollback_floor(); --left) {
      ASSERT_TRUE(twin->truncate(left).ok());
      ASSERT_NO_FATAL_FAILURE(expect_state(*twin, first(tokens, left)));
    }
  }
}

TEST_F(RecurrentSnapshot, OfNoTokens) {
  const auto twin = RecurrentState::restore(options_of(), snapshot_of(make(options_of())));
  ASSERT_TRUE(twin.ok());
  expect_state(*twin, {});
}

TEST_F(RecurrentSnapshot, SaysWhatDoesNotFit) {
  const auto bad = StatusCode::invalid_argument;
  RecurrentOptions options = options_of();
  options.layers = 3;
  expect_failure(restored(good, options), bad, "snapshot: it has 2 layers of 5, must have 3 of 5");
  options = options_of();
  options.width = 10;
  expect_failure(restored(good, options), bad, "snapshot: it has 2 layers of 5, must have 2 of 10");
  options = options_of();
  options.model_id = 43;
  expect_failure(restored(good, options), bad, "snapshot: it was made with another model_id");
  options = options_of();
  options.max_tokens = 5;
  expect_failure(restored(good, options), StatusCode::out_of_range,
                 "snapshot: it has seen 6 tokens, but max_tokens is 5");
  options.max_tokens = 6;
  EXPECT_TRUE(restored(good, options).ok());
  options.width = 0;
  expect_failure(restored(good, options), bad, "width is 0, must be in 1 .. 16777216");
  Bytes bytes = good;
  bytes[0] = std::byte{'H'};
  expect_failure(restored(bytes), bad, "snapshot: it does not begin with heed-rs");
  bytes = good;
  bytes[8] = std::byte{9};
  expect_failure(restored(bytes), bad, "snapshot: version is 9, must be 1");
  bytes = good;
  bytes.push_back({});
  expect_failure(
      restored(bytes), bad,
      "snapshot: it has " + std::to_string(bytes.size()) + " bytes, its header says " + std::to_string(good.size()));
  bytes.resize(3);
  expect_failure(state.snapshot(bytes), bad, "snapshot(): to has 3 bytes, must have " + std::to_string(good.size()));
}

/// A cache's snapshot is none of a state.
TEST_F(RecurrentSnapshot, OfAnotherKindIsRefused) {
  using Cache = heed::KvCache<heed::Gqa, heed::F32>;
  const heed::Gqa policy{.num_heads = 2, .num_kv_heads = 1, .head_dim = 4, .scale = 1};
  const Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2}));
  Bytes bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  EXPECT_EQ(restored(bytes).message(), "snapshot: it does not begin with heed-rs");
  EXPECT_EQ(Cache::restore(policy, {.layers = 2}, heed::Causal{}, good).status().message(),
            "snapshot: it does not begin with heed-kv");
}

TEST_F(RecurrentSnapshot, EveryDamagedByteIsRefused) {
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bytes = good;
    for (int change = 1; change < 256; ++change) {
      bytes[at] = good[at] ^ std::byte(change);
      const Status status = restored(bytes);
      ASSERT_EQ(status.code(), StatusCode::invalid_argument) << "byte " << at;
      ASSERT_TRUE(status.message().starts_with("snapshot: ")) << status.message();
    }
  }
}

TEST_F(RecurrentSnapshot, EveryTruncationIsRefused) {
  for (std::size_t size = 0; size < good.size(); ++size) {
    const Bytes bytes(good.begin(), good.begin() + std::ptrdiff_t(size));  // an allocation that ends there
    ASSERT_EQ(restored(bytes).code(), StatusCode::invalid_argument) << size;
  }
}

// --- bytes with a right length and checksum ----------------------------------------------------------------------------

void seal(Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 16, &size, sizeof size);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - 4});
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, sizeof crc);
}

struct Tally {
  int accepted = 0, refused = 0;
};

/// Everything an engine may do to a state.
void exercise(RecurrentState& state, const RecurrentOptions& options) {
  const Index seen = state.seen(), floor = state.rollback_floor();
  ASSERT_GE(floor, 0);
  ASSERT_LE(floor, seen);
  ASSERT_LE(seen - floor, options.undo_tokens);
  const Bytes bytes = snapshot_of(state);
  auto twin = RecurrentState::restore(options, bytes);
  ASSERT_TRUE(twin.ok()) << twin.status().message();
  ASSERT_EQ(snapshot_of(*twin), bytes);
  for (Index tokens = floor; tokens <= seen; ++tokens) {
    auto fork = heed::value_or_throw(state.fork());
    ASSERT_TRUE(fork.truncate(tokens).ok());
    ASSERT_EQ(fork.seen(), tokens);
    for (const Index count : {1, 5, 2}) {
      auto step = fork.begin(heed::NumTokens(count));
      if (!step.ok()) {  // as many tokens as there can be
        ASSERT_EQ(step.status().code(), StatusCode::out_of_range);
        break;
      }
      float sum = 0;
      for (Index layer = 0; layer < fork.layers(); ++layer) {
        const heed::RecurrentLayer place = heed::value_or_throw(step->layer(layer));
        for (Index i = 0; i < place.width(); ++i) sum += place.before()[i];
        for (Index token = 0; token < count; ++token) {
          if (place.after(token) != nullptr) std::fill_n(place.after(token), place.width(), 1.0f);
        }
      }
      ASSERT_TRUE(sum == sum || std::isnan(sum));  // read it
      ASSERT_TRUE(step->commit().ok());
      ASSERT_EQ(fork.state(0)[0], 1.0f);
    }
  }
  ASSERT_TRUE(state.clear().ok());
}
void try_bytes(Bytes bytes, const RecurrentOptions& options, Tally& tally) {
  seal(bytes);
  auto made = RecurrentState::restore(options, bytes);
  if (!made.ok()) {
    ++tally.refused;
    ASSERT_EQ(made.status().code(), StatusCode::invalid_argument);
    ASSERT_TRUE(made.status().message().starts_with("snapshot: ")) << made.status().message();
    return;
  }
  ++tally.accepted;
  ASSERT_NO_FATAL_FAILURE(exercise(*made, options));
}

/// Every eight bytes become an extreme number, or a little more or less than they were.
TEST_F(RecurrentSnapshot, EveryNumberIsEdited) {
  Tally tally;
  constexpr Index most = std::numeric_limits<Index>::max();
  RecurrentOptions options = options_of();
  for (const Index undo : {0, 1, 3, 8}) {
    options.undo_tokens = undo;
    for (std::size_t at = 24; at + 12 <= good.size(); at += 4) {
      Index was = 0;
      std::memcpy(&was, good.data() + at, sizeof was);
      std::vector<Index> values{0,    1,         -1,      Index{1} << 20, Index{1} << 48, Index{1} << 48 | 1,
                                most, -most - 1, most / 2};
      for (Index more = -4; more <= 4; ++more) values.push_back(Index(std::uint64_t(was) + std::uint64_t(more)));
      for (const Index value : values) {
        Bytes bytes = good;
        std::memcpy(bytes.data() + at, &value, sizeof value);
        ASSERT_NO_FATAL_FAILURE(try_bytes(bytes, options, tally)) << "byte " << at << ": " << value << ", was " << was;
      }
    }
  }
  EXPECT_GT(tally.accepted, 1000);
  EXPECT_GT(tally.refused, 200);
}

TEST_F(RecurrentSnapshot, EveryByteIsEdited) {
  Tally tally;
  for (std::size_t at = 0; at + 4 < good.size(); ++at) {
    for (int change = 1; change < 256; change += 2) {
      Bytes bytes = good;
      bytes[at] ^= std::byte(change);
      ASSERT_NO_FATAL_FAILURE(try_bytes(bytes, options_of(), tally)) << "byte " << at << " ^ " << change;
    }
  }
  EXPECT_GT(tally.accepted, 1000);
  EXPECT_GT(tally.refused, 1000);
}

/// Another number of states than the length says, and another length than the numbers say.
TEST_F(RecurrentSnapshot, NamesTheNumberThatCannotBe) {
  const auto refusal = [&](std::size_t at, Index value) {
    Bytes bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    seal(bytes);
    return restored(bytes).message();
  };
  constexpr std::size_t seen_at = 40, depth_at = 48;
  EXPECT_EQ(refusal(seen_at, -1), "snapshot: it has seen -1 tokens, must be in 0 .. 281474976710656");
  EXPECT_EQ(refusal(seen_at, Index{1} << 49),
            "snapshot: it has seen 562949953421312 tokens, must be in 0 .. 281474976710656");
  EXPECT_EQ(refusal(seen_at, 2), "snapshot: it keeps 3 states of 2");
  EXPECT_EQ(refusal(seen_at, 3), "snapshot: the state before the first token is not zero");
  EXPECT_EQ(refusal(seen_at, 4), "");
  EXPECT_EQ(refusal(depth_at, -1), "snapshot: it keeps -1 states of 6");
  EXPECT_EQ(refusal(depth_at, 7), "snapshot: it keeps 7 states of 6");
  EXPECT_EQ(refusal(depth_at, 2), "snapshot: it has 160 bytes of states, must have 120");
  EXPECT_EQ(refusal(depth_at, 4), "snapshot: it has 160 bytes of states, must have 200");
  for (const std::ptrdiff_t more : {-20, -1, 1, 40}) {
    Bytes bytes = good;
    bytes.resize(std::size_t(std::ptrdiff_t(good.size()) + more));
    seal(bytes);
    EXPECT_EQ(restored(bytes).message(),
              "snapshot: it has " + std::to_string(160 + more) + " bytes of states, must have 160");
  }
}

/// Several numbers at once, which may agree with each other, and another length.
TEST_F(RecurrentSnapshot, SeveralNumbersAreEdited) {
  std::mt19937_64 random(4);
  Tally tally;
  for (int repeat = 0; repeat < 20'000; ++repeat) {
    Bytes bytes = good;
    const int edits = 1 + int(random() % 3);
    for (int e = 0; e < edits; ++e) {
      const std::size_t at = 24 + random() % (random() % 4 == 0 ? bytes.size() - 36 : 48);
      const std::uint64_t word = random() % 3 == 0 ? std::uint64_t(-1) - random() % 3 : random() % 10;
      std::memcpy(bytes.data() + at, &word, random() % 2 == 0 ? 1 : 8);
    }
    if (random() % 4 == 0) bytes.resize(24 + 4 + random() % bytes.size());
    ASSERT_NO_FATAL_FAILURE(try_bytes(bytes, options_of(), tally)) << "repeat " << repeat;
  }
  EXPECT_GT(tally.accepted, 1000);
  EXPECT_GT(tally.refused, 1000);
}

}  // namespace
}  // namespace heed_test::recurrent_snapshot_test
