/// \file
/// The state of a recurrent mechanism behind the interface of a cache: whatever an engine does to it, a layer's state is
/// that of the tokens that were committed.
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/sequence_cache.hpp>
#include <heed/codec/f32.hpp>
#include <heed/policy/grouped.hpp>

#include "cache/recurrent.hpp"

namespace heed_test::recurrent_state_test {
namespace {

using namespace recurrent;
using recurrent::Tokens;

static_assert(heed::SequenceCache<RecurrentState>);
static_assert(heed::SequenceCache<heed::KvCache<heed::Gqa, heed::F32>>);
static_assert(!std::is_copy_constructible_v<RecurrentState> && !std::is_copy_assignable_v<RecurrentState>);
static_assert(std::is_nothrow_move_constructible_v<RecurrentState> &&
              std::is_nothrow_move_assignable_v<RecurrentState>);
static_assert(!std::is_copy_constructible_v<RecurrentState::Step>);
static_assert(std::is_nothrow_move_constructible_v<RecurrentState::Step>);

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
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
  for (Index layer = 0; layer < 3; ++layer) {
    const auto place = heed::value_or_throw(step.layer(layer));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(place.before()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(place.after(0)) % 64, 0u);
  }
}

}  // namespace
}  // namespace heed_test::recurrent_state_test
