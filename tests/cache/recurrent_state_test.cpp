/// \file
/// The state of a recurrent mechanism behind the interface of a cache: whatever an engine does to it, a layer's state is
/// that of the tokens that were committed.
#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <vector>

#include <heed/cache/kv_cache.hpp>
#include <heed/cache/recurrent_state.hpp>
#include <heed/cache/sequence_cache.hpp>
#include <heed/codec/f32.hpp>
#include <heed/policy/grouped.hpp>

#include "cache/counting_memory.hpp"

namespace heed_test {
namespace {

using heed::Index;
using heed::RecurrentState, heed::RecurrentOptions;
using heed::Status, heed::StatusCode;
using Tokens = std::vector<std::int32_t>;
using Numbers = std::vector<float>;
using Bytes = std::vector<std::byte>;

static_assert(heed::SequenceCache<RecurrentState>);
static_assert(heed::SequenceCache<heed::KvCache<heed::Gqa, heed::F32>>);
static_assert(!std::is_copy_constructible_v<RecurrentState> && !std::is_copy_assignable_v<RecurrentState>);
static_assert(std::is_nothrow_move_constructible_v<RecurrentState> &&
              std::is_nothrow_move_assignable_v<RecurrentState>);
static_assert(!std::is_copy_constructible_v<RecurrentState::Step>);
static_assert(std::is_nothrow_move_constructible_v<RecurrentState::Step>);

/// The numbers of a layer after these tokens: zeros without any, else a function of all of them in their order.
Numbers after_tokens(Index layer, Index width, std::span<const std::int32_t> tokens) {
  std::uint32_t hash = 0;
  for (const std::int32_t token : tokens) hash = (hash + std::uint32_t(token) + 1) * 2654435761u;
  Numbers numbers(std::size_t(width), 0.0f);
  for (Index i = 0; !tokens.empty() && i < width; ++i) {
    numbers[std::size_t(i)] = float((hash ^ std::uint32_t(layer * 1000003 + i * 7919) * 40503u) >> 8);
  }
  return numbers;
}

void expect_state(const RecurrentState& state, const Tokens& tokens) {
  ASSERT_EQ(state.seen(), Index(tokens.size()));
  for (Index layer = 0; layer < state.layers(); ++layer) {
    const auto got = state.state(layer);
    ASSERT_EQ(Numbers(got.begin(), got.end()), after_tokens(layer, state.width(), tokens)) << "layer " << layer;
  }
}

/// What a mechanism does to a layer: reads the state before, writes those after the tokens that are asked for.
void write_layer(RecurrentState::Step& step, Index layer, const Tokens& before, const Tokens& added) {
  const auto place = step.layer(layer);
  ASSERT_TRUE(place.ok()) << place.status().message();
  const Index width = place->width();
  ASSERT_EQ(Numbers(place->before(), place->before() + width), after_tokens(layer, width, before));
  Tokens all = before;
  for (std::size_t t = 0; t < added.size(); ++t) {
    all.push_back(added[t]);
    const Numbers now = after_tokens(layer, width, all);
    float* const to = place->after(Index(t));
    ASSERT_TRUE(to != nullptr || t + 1 < added.size()) << "the last token's state is always kept";
    if (to != nullptr) std::copy(now.begin(), now.end(), to);
  }
}
void write_all(RecurrentState::Step& step, const Tokens& before, const Tokens& added) {
  for (Index layer = step.layers() - 1; layer >= 0; --layer) {
    ASSERT_NO_FATAL_FAILURE(write_layer(step, layer, before, added));
  }
}
/// Appends tokens in one step, and to `tokens`.
void append(RecurrentState& state, Tokens& tokens, const Tokens& added) {
  auto step = state.begin(added);
  ASSERT_TRUE(step.ok()) << step.status().message();
  ASSERT_EQ(step->first_position(), Index(tokens.size()));
  ASSERT_EQ(step->tokens(), Index(added.size()));
  ASSERT_NO_FATAL_FAILURE(write_all(*step, tokens, added));
  ASSERT_TRUE(step->commit().ok());
  ASSERT_FALSE(step->open());
  tokens.insert(tokens.end(), added.begin(), added.end());
}

RecurrentState make(const RecurrentOptions& options) { return heed::value_or_throw(RecurrentState::create(options)); }
Bytes snapshot_of(const RecurrentState& state) {
  Bytes bytes(state.snapshot_bytes());
  heed::check(state.snapshot(bytes));
  return bytes;
}
Tokens first(const Tokens& tokens, Index count) { return {tokens.begin(), tokens.begin() + count}; }

void expect_failure(const Status& status, StatusCode code, const std::string& message) {
  EXPECT_EQ(status.code(), code);
  EXPECT_EQ(status.message(), message);
}

TEST(RecurrentState, IsZeroBeforeTheFirstToken) {
  CountingMemory memory;  // gives bytes that are not zero
  const RecurrentState state = make({.layers = 3, .width = 37, .undo_tokens = 2, .memory = memory.resource()});
  expect_state(state, {});
  EXPECT_EQ(state.rollback_floor(), 0);
}

TEST(RecurrentState, AnySplitOfTheTokens) {
  std::mt19937_64 random(1);
  const Tokens text{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  for (Index undo = 0; undo <= 5; ++undo) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      RecurrentState state = make({.layers = 2, .width = 5, .undo_tokens = undo});
      Tokens tokens;
      while (tokens.size() < text.size()) {
        const auto count = std::min<std::size_t>(random() % 6, text.size() - tokens.size());
        const auto from = text.begin() + std::ptrdiff_t(tokens.size());
        ASSERT_NO_FATAL_FAILURE(append(state, tokens, Tokens(from, from + std::ptrdiff_t(count))));
        ASSERT_NO_FATAL_FAILURE(expect_state(state, tokens));
      }
    }
  }
}

/// Of a step, any number of tokens whose states were kept can be accepted; then truncate() reaches what was kept before.
TEST(RecurrentState, EveryAcceptedCount) {
  for (Index undo = 0; undo <= 5; ++undo) {
    for (Index count = 0; count <= 7; ++count) {
      for (Index accepted = -1; accepted <= count + 1; ++accepted) {
        SCOPED_TRACE(std::to_string(accepted) + " of " + std::to_string(count) + ", undo_tokens " +
                     std::to_string(undo));
        RecurrentState state = make({.layers = 2, .width = 3, .undo_tokens = undo});
        Tokens tokens, added(std::size_t(count), 7);
        ASSERT_NO_FATAL_FAILURE(append(state, tokens, {1, 2, 3}));
        auto step = state.begin(added);
        ASSERT_NO_FATAL_FAILURE(write_all(*step, tokens, added));
        const Status status = step->commit(accepted);
        const Index kept = std::min(count, undo + 1);
        const bool possible = accepted == 0 || (accepted > count - kept && accepted <= count);
        ASSERT_EQ(status.ok(), possible);
        if (!possible) {
          EXPECT_EQ(status.code(), StatusCode::out_of_range);
          ASSERT_TRUE(step->open());
          step->abort();
          ASSERT_NO_FATAL_FAILURE(expect_state(state, tokens));
          continue;
        }
        tokens.resize(std::size_t(3 + accepted), 7);
        ASSERT_NO_FATAL_FAILURE(expect_state(state, tokens));
        for (Index left = state.seen(); left >= state.rollback_floor(); --left) {
          ASSERT_TRUE(state.truncate(left).ok());
          ASSERT_NO_FATAL_FAILURE(expect_state(state, first(tokens, left)));
        }
      }
    }
  }
}

/// undo_tokens is a promise: truncate() goes back so far, once so many tokens came.
TEST(RecurrentState, UndoesWhatWasPromised) {
  for (const Index undo : {0, 1, 3}) {
    for (const Index each : {1, 2, 5}) {
      RecurrentState state = make({.layers = 1, .width = 2, .undo_tokens = undo});
      Tokens tokens;
      for (int call = 0; call < 8; ++call) {
        ASSERT_NO_FATAL_FAILURE(append(state, tokens, Tokens(std::size_t(each), call)));
        ASSERT_LE(state.rollback_floor(), std::max<Index>(0, state.seen() - std::min(undo, each * (call + 1))));
      }
    }
  }
}

/// A fork goes its own way.
TEST(RecurrentState, Forks) {
  RecurrentState state = make({.layers = 2, .width = 4, .undo_tokens = 2});
  Tokens tokens, other;
  ASSERT_NO_FATAL_FAILURE(append(state, tokens, {1, 2, 3, 4}));
  auto fork = state.fork();
  ASSERT_TRUE(fork.ok());
  other = tokens;
  ASSERT_NO_FATAL_FAILURE(append(state, tokens, {5}));
  ASSERT_NO_FATAL_FAILURE(append(*fork, other, {6, 7, 8}));
  ASSERT_NO_FATAL_FAILURE(expect_state(state, tokens));
  ASSERT_NO_FATAL_FAILURE(expect_state(*fork, other));
  ASSERT_TRUE(fork->truncate(5).ok());
  ASSERT_NO_FATAL_FAILURE(expect_state(*fork, first(other, 5)));
  ASSERT_NO_FATAL_FAILURE(expect_state(state, tokens));
}

/// 10,000 histories of all that an engine does, against a list of tokens and a number of states that are kept.
class RandomHistories : public testing::Test {
 protected:
  Index pick(Index least, Index most) { return least + Index(random() % std::uint64_t(most - least + 1)); }
  bool one_in(int n) { return pick(1, n) == 1; }

  void step(RecurrentState& state) {
    Tokens added(std::size_t(one_in(3) ? pick(0, 9) : 1));
    for (std::int32_t& token : added) token = std::int32_t(pick(0, 99));
    const Index count = Index(added.size());
    auto opened = state.begin(added);
    ASSERT_TRUE(opened.ok());
    auto step = *std::move(opened);
    ASSERT_EQ(state.truncate(0).code(), StatusCode::wrong_state);
    const Index missing = one_in(8) ? pick(0, state.layers() - 1) : -1;
    for (Index layer = 0; layer < state.layers(); ++layer) {
      if (layer == missing) continue;
      ASSERT_NO_FATAL_FAILURE(write_layer(step, layer, tokens, added));
    }
    if (one_in(6)) return one_in(2) ? step.abort() : void();  // or by its end
    if (missing >= 0 && count > 0) {
      ASSERT_EQ(step.commit().code(), StatusCode::wrong_state);
      ASSERT_NO_FATAL_FAILURE(write_layer(step, missing, tokens, added));
    }
    const Index kept = std::min(count, undo + 1), accepted = one_in(3) ? pick(0, count) : count;
    const Status status = step.commit(accepted);
    if (accepted > 0 && accepted <= count - kept) {
      ASSERT_EQ(status.code(), StatusCode::out_of_range);
      return;
    }
    ASSERT_TRUE(status.ok()) << status.message();
    if (accepted == 0) return;
    depth = kept < count ? accepted - (count - kept) - 1 : std::min(depth + accepted, undo);
    tokens.insert(tokens.end(), added.begin(), added.begin() + accepted);
  }

  void truncate(RecurrentState& state) {
    const Index seen = Index(tokens.size()), to = one_in(8) ? 0 : pick(std::max<Index>(0, seen - 7), seen + 1);
    const Status status = state.truncate(to);
    if (to == 0) {
      depth = 0;
    } else if (to > seen || to < seen - depth) {
      ASSERT_EQ(status.code(), StatusCode::out_of_range);
      return;
    } else {
      depth -= seen - to;
    }
    ASSERT_TRUE(status.ok()) << status.message();
    tokens.resize(std::size_t(to));
  }

  std::mt19937_64 random{2024};
  CountingMemory memory;
  Tokens tokens;
  Index undo = 0, depth = 0;
};

TEST_F(RandomHistories, AgreeWithAListOfTokens) {
  for (int repeat = 0; repeat < 10'000; ++repeat) {
    undo = pick(0, 5);
    depth = 0;
    tokens.clear();
    RecurrentOptions options{
        .layers = pick(1, 3), .width = pick(1, 18), .undo_tokens = undo, .memory = memory.resource()};
    std::optional<RecurrentState> state(make(options));
    const Index moves = pick(1, 24);
    for (Index move = 0; move < moves; ++move) {
      switch (pick(0, 9)) {
        case 0: {
          ASSERT_NO_FATAL_FAILURE(truncate(*state));
          break;
        }
        case 1: {
          auto fork = state->fork();
          ASSERT_TRUE(fork.ok());
          if (one_in(2)) *state = *std::move(fork);
          break;
        }
        case 2: {
          const Bytes bytes = snapshot_of(*state);
          if (one_in(4)) options.undo_tokens = undo = pick(0, 5);
          auto twin = RecurrentState::restore(options, bytes);
          ASSERT_TRUE(twin.ok()) << twin.status().message();
          state.emplace(*std::move(twin));
          depth = std::min(depth, undo);
          break;
        }
        case 3: {
          if (!one_in(4)) break;
          ASSERT_TRUE(state->clear().ok());
          tokens.clear();
          depth = 0;
          break;
        }
        case 4: {
          memory.failing_from = memory.allocations + pick(0, 1);
          ASSERT_EQ(state->fork().status().code(), StatusCode::out_of_memory);
          memory.failing_from = -1;
          break;
        }
        default: {
          ASSERT_NO_FATAL_FAILURE(step(*state));
        }
      }
      ASSERT_NO_FATAL_FAILURE(expect_state(*state, tokens)) << "history " << repeat << ", move " << move;
      ASSERT_EQ(state->rollback_floor(), Index(tokens.size()) - depth) << "history " << repeat << ", move " << move;
      ASSERT_EQ(state->bytes().allocated, memory.held);
    }
    state.reset();
    ASSERT_EQ(memory.held, 0);
  }
}

// --- bytes ----------------------------------------------------------------------------------------------------------

/// The memory of a state is what its resource gave, and the same after any number of tokens.
TEST(RecurrentState, BytesAreConstantInTokens) {
  for (const Index undo : {0, 3}) {
    CountingMemory memory;
    RecurrentState state = make({.layers = 3, .width = 20, .undo_tokens = undo, .memory = memory.resource()});
    const Index held = memory.held;
    EXPECT_EQ(state.state_bytes(), 3 * 20 * 4);
    Tokens tokens;
    for (int call = 0; call < 50; ++call) {
      ASSERT_NO_FATAL_FAILURE(append(state, tokens, Tokens(std::size_t(call % 7), call)));
      const heed::CacheBytes bytes = state.bytes();
      EXPECT_EQ(bytes.allocated, held);
      EXPECT_EQ(bytes.peak, held);
      EXPECT_EQ(memory.peak, held);
      EXPECT_LE(bytes.allocated_rows, bytes.allocated);
      EXPECT_EQ(bytes.live, 3 * 20 * 4);
      EXPECT_EQ(bytes.live_per_layer(), 20 * 4);
      EXPECT_EQ(bytes.shared, 0);
      EXPECT_EQ(bytes.seen, state.seen());
      EXPECT_EQ(bytes.kept, double(state.seen()));
    }
    // As many states again are for a step; a state has padding.
    EXPECT_GE(held, 2 * (undo + 1) * state.state_bytes());
    EXPECT_LE(held, 2 * (undo + 1) * 3 * (20 * 4 + heed::block_alignment) + heed::block_alignment);
    auto fork = state.fork();
    ASSERT_TRUE(fork.ok());
    EXPECT_EQ(memory.held, 2 * held);
  }
}

/// Layers may be written at once: no two of them share a cache line.
TEST(RecurrentState, LayersAreAligned) {
  RecurrentState state = make({.layers = 3, .width = 5});
  auto step = heed::value_or_throw(state.begin(1));
  for (Index layer = 0; layer < 3; ++layer) {
    const auto place = heed::value_or_throw(step.layer(layer));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(place.before()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(place.after(0)) % 64, 0u);
  }
}

// --- wrong calls ----------------------------------------------------------------------------------------------------

TEST(RecurrentStateErrors, Options) {
  const auto refused = [](const RecurrentOptions& options) { return RecurrentState::create(options).status(); };
  const auto bad = StatusCode::invalid_argument;
  expect_failure(refused({.layers = 0, .width = 4}), bad, "layers is 0, must be in 1 .. 65536");
  expect_failure(refused({.layers = 65537, .width = 4}), bad, "layers is 65537, must be in 1 .. 65536");
  expect_failure(refused({.width = 0}), bad, "width is 0, must be in 1 .. 16777216");
  expect_failure(refused({.width = 4, .max_tokens = -1}), bad, "max_tokens is -1, must be in 0 .. 281474976710656");
  expect_failure(refused({.width = 4, .undo_tokens = -1}), bad, "undo_tokens is -1, must be in 0 .. 1048576");
  expect_failure(refused({.width = 4, .memory = {}}), bad, "memory has no allocate function");
  expect_failure(refused({.width = 4, .memory = {.allocate = heed::default_memory().allocate}}), bad,
                 "memory has no deallocate function");
}

TEST(RecurrentStateErrors, NoMemory) {
  CountingMemory memory;
  for (const Index failing : {0, 1}) {
    memory.failing_from = memory.allocations + failing;
    EXPECT_EQ(RecurrentState::create({.layers = 2, .width = 9, .memory = memory.resource()}).status().code(),
              StatusCode::out_of_memory);
    EXPECT_EQ(memory.held, 0);
  }
  memory.failing_from = -1;
  EXPECT_EQ(
      RecurrentState::create({.layers = 65536, .width = 1 << 24, .undo_tokens = 1 << 20, .memory = memory.resource()})
          .status()
          .code(),
      StatusCode::out_of_memory);
}

class RecurrentMisuse : public testing::Test {
 protected:
  RecurrentMisuse() { append(state, tokens, {1, 2, 3, 4, 5}); }
  ~RecurrentMisuse() override { expect_state(state, tokens); }

  RecurrentState state = make({.layers = 2, .width = 3, .max_tokens = 8, .undo_tokens = 2});
  Tokens tokens;
};

TEST_F(RecurrentMisuse, Begin) {
  expect_failure(state.begin(-1).status(), StatusCode::invalid_argument, "begin(): count is -1, must be at least 0");
  expect_failure(state.begin(4).status(), StatusCode::out_of_range, "begin(): 5 tokens and 4 more exceed max_tokens 8");
  auto step = state.begin(3);
  ASSERT_TRUE(step.ok());
  const std::string open = ": a step of 3 tokens is open; commit or abort it";
  Bytes bytes(state.snapshot_bytes());
  expect_failure(state.begin(1).status(), StatusCode::wrong_state, "begin()" + open);
  expect_failure(state.truncate(5), StatusCode::wrong_state, "truncate()" + open);
  expect_failure(state.clear(), StatusCode::wrong_state, "truncate()" + open);
  expect_failure(state.fork().status(), StatusCode::wrong_state, "fork()" + open);
  expect_failure(state.snapshot(bytes), StatusCode::wrong_state, "snapshot()" + open);
}

TEST_F(RecurrentMisuse, Truncate) {
  const std::string rest = ", must be 0 or 3 .. 5; a recurrent state keeps those of undo_tokens 2. fork() before";
  expect_failure(state.truncate(2), StatusCode::out_of_range, "truncate(): tokens is 2" + rest);
  expect_failure(state.truncate(6), StatusCode::out_of_range, "truncate(): tokens is 6" + rest);
  expect_failure(state.truncate(-1), StatusCode::out_of_range, "truncate(): tokens is -1" + rest);
}

TEST_F(RecurrentMisuse, Steps) {
  auto step = heed::value_or_throw(state.begin(3));
  expect_failure(step.layer(2).status(), StatusCode::out_of_range, "layer(): layer is 2, the state has 2");
  expect_failure(step.layer(-1).status(), StatusCode::out_of_range, "layer(): layer is -1, the state has 2");
  expect_failure(step.commit(), StatusCode::wrong_state, "commit(): layer 0 was not written in this step");
  ASSERT_NO_FATAL_FAILURE(write_layer(step, 0, tokens, {7, 8, 9}));
  expect_failure(step.commit(), StatusCode::wrong_state, "commit(): layer 1 was not written in this step");
  expect_failure(step.commit(4), StatusCode::out_of_range,
                 "commit(): accepted is 4, must be 0 or 1 .. 3 with undo_tokens 2");
  expect_failure(step.commit(-1), StatusCode::out_of_range,
                 "commit(): accepted is -1, must be 0 or 1 .. 3 with undo_tokens 2");
  step.abort();
  EXPECT_FALSE(step.open());
  EXPECT_EQ(step.layers(), 0);
  expect_failure(step.layer(0).status(), StatusCode::wrong_state, "layer(): the step is closed");
  expect_failure(step.commit(), StatusCode::wrong_state, "commit(): the step is closed");
}

/// A step does not inherit what an aborted one has written.
TEST_F(RecurrentMisuse, WritesOfAnAbortedStepDoNotCount) {
  {
    auto step = heed::value_or_throw(state.begin(1));
    ASSERT_NO_FATAL_FAILURE(write_all(step, tokens, {6}));
  }
  auto step = heed::value_or_throw(state.begin(1));
  EXPECT_EQ(step.commit().code(), StatusCode::wrong_state);
}

// --- lifetimes ------------------------------------------------------------------------------------------------------

TEST(RecurrentLifetime, AnOpenStepFollowsItsState) {
  std::vector<RecurrentState> states;
  states.push_back(make({.layers = 2, .width = 3}));
  auto step = heed::value_or_throw(states[0].begin(2));
  for (int i = 0; i < 4; ++i) states.push_back(make({.layers = 1, .width = 1}));  // moves the first one
  ASSERT_TRUE(step.open());
  ASSERT_NO_FATAL_FAILURE(write_all(step, {}, {1, 2}));
  ASSERT_TRUE(step.commit().ok());
  expect_state(states[0], {1, 2});
}

TEST(RecurrentLifetime, AStateFollowsItsStep) {
  RecurrentState state = make({.layers = 2, .width = 3});
  std::optional<RecurrentState::Step> holder;
  {
    auto step = state.begin(2);
    holder.emplace(*std::move(step));
    EXPECT_FALSE(step->open());
  }
  RecurrentState::Step last(std::move(*holder));
  holder.reset();
  EXPECT_EQ(state.begin(1).status().code(), StatusCode::wrong_state);
  ASSERT_NO_FATAL_FAILURE(write_all(last, {}, {1, 2}));
  ASSERT_TRUE(last.commit().ok());
  expect_state(state, {1, 2});
}

TEST(RecurrentLifetime, AStateThatEndsClosesItsStep) {
  std::optional<RecurrentState> state(make({.layers = 1, .width = 3}));
  auto step = heed::value_or_throw(state->begin(2));
  state.reset();
  EXPECT_FALSE(step.open());
  EXPECT_EQ(step.commit().code(), StatusCode::wrong_state);

  RecurrentState old = make({.layers = 1, .width = 3});
  auto other = heed::value_or_throw(old.begin(2));
  old = make({.layers = 1, .width = 5});
  EXPECT_FALSE(other.open());
  EXPECT_TRUE(old.begin(1).ok());
}

TEST(RecurrentLifetime, AStepIsReplaced) {
  RecurrentState a = make({.layers = 1, .width = 3}), b = make({.layers = 1, .width = 3});
  auto step = heed::value_or_throw(a.begin(2));
  step = heed::value_or_throw(b.begin(3));  // aborts the other
  EXPECT_EQ(step.tokens(), 3);
  EXPECT_TRUE(a.begin(1).ok());
  EXPECT_EQ(b.begin(1).status().code(), StatusCode::wrong_state);
}

// --- snapshots ------------------------------------------------------------------------------------------------------

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
  expect_failure(restored(good, options), bad, "snapshot: it has seen 6 tokens, must be in 0 .. 5");
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

/// Bytes that are spoiled and then given a right length and checksum: an error, or a state that works.
TEST_F(RecurrentSnapshot, HostileBytesAreAnErrorOrHarmless) {
  std::mt19937_64 random(4);
  int accepted = 0, refused = 0;
  for (int repeat = 0; repeat < 20'000; ++repeat) {
    Bytes bytes = good;
    const int edits = 1 + int(random() % 3);
    for (int e = 0; e < edits; ++e) {
      const std::size_t at = 24 + random() % (random() % 4 == 0 ? bytes.size() - 36 : 48);
      const std::uint64_t word = random() % 3 == 0 ? std::uint64_t(-1) - random() % 3 : random() % 10;
      std::memcpy(bytes.data() + at, &word, random() % 2 == 0 ? 1 : 8);
    }
    if (random() % 4 == 0) bytes.resize(24 + 4 + random() % bytes.size());
    const std::uint64_t size = bytes.size();
    std::memcpy(bytes.data() + 16, &size, sizeof size);
    const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - 4});
    std::memcpy(bytes.data() + bytes.size() - 4, &crc, sizeof crc);
    auto twin = RecurrentState::restore(options_of(), bytes);
    if (!twin.ok()) {
      ++refused;
      ASSERT_FALSE(twin.status().message().empty());
      continue;
    }
    ++accepted;
    for (const Index count : {1, 5, 2}) {
      auto step = twin->begin(count);
      if (!step.ok()) break;  // as many tokens as there can be
      for (Index layer = 0; layer < 2; ++layer) std::fill_n((*step->layer(layer)).after(count - 1), 5, 1.0f);
      ASSERT_TRUE(step->commit().ok());
    }
    ASSERT_TRUE(twin->truncate(twin->rollback_floor()).ok());
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace heed_test
