/// \file
/// Wrong calls to a recurrent state are named and change nothing, and states and steps may move and end in any order.
#include <limits>

#include "cache/recurrent.hpp"

namespace heed_test::recurrent_misuse_test {
namespace {

using namespace recurrent;
using recurrent::Tokens;

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
  expect_failure(state.begin(heed::NumTokens(-1)).status(), StatusCode::invalid_argument,
                 "begin(): count is -1, must be at least 0");
  expect_failure(state.begin(heed::NumTokens(4)).status(), StatusCode::out_of_range,
                 "begin(): 5 tokens and 4 more exceed max_tokens 8");
  auto step = state.begin(heed::NumTokens(3));
  ASSERT_TRUE(step.ok());
  const std::string open = ": a step of 3 tokens is open; commit or abort it";
  Bytes bytes(state.snapshot_bytes());
  expect_failure(state.begin(heed::NumTokens(1)).status(), StatusCode::wrong_state, "begin()" + open);
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
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(3)));
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
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
    ASSERT_NO_FATAL_FAILURE(write_all(step, tokens, {6}));
  }
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
  EXPECT_EQ(step.commit().code(), StatusCode::wrong_state);
}

/// There is no memory of layers and tokens that do not exist.
TEST_F(RecurrentMisuse, NoSuchLayerOrToken) {
  const Index most = std::numeric_limits<Index>::max(), layers = state.layers();
  for (const Index layer : {Index{-1}, layers, layers + 1, most, -most - 1}) EXPECT_TRUE(state.state(layer).empty());
  EXPECT_EQ(Index(state.state(layers - 1).size()), state.width());
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(2)));
  const heed::RecurrentLayer layer = heed::value_or_throw(step.layer(0));
  EXPECT_NE(layer.after(1), nullptr);
  for (const Index token : {Index{-1}, Index{2}, Index{7}, most, -most - 1}) EXPECT_EQ(layer.after(token), nullptr);
  EXPECT_EQ(heed::RecurrentLayer().after(0), nullptr);
}

// --- lifetimes ------------------------------------------------------------------------------------------------------

TEST(RecurrentLifetime, AnOpenStepFollowsItsState) {
  std::vector<RecurrentState> states;
  states.push_back(make({.layers = 2, .width = 3}));
  auto step = heed::value_or_throw(states[0].begin(heed::NumTokens(2)));
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
    auto step = state.begin(heed::NumTokens(2));
    holder.emplace(*std::move(step));
    EXPECT_FALSE(step->open());
  }
  RecurrentState::Step last(std::move(*holder));
  holder.reset();
  EXPECT_EQ(state.begin(heed::NumTokens(1)).status().code(), StatusCode::wrong_state);
  ASSERT_NO_FATAL_FAILURE(write_all(last, {}, {1, 2}));
  ASSERT_TRUE(last.commit().ok());
  expect_state(state, {1, 2});
}

TEST(RecurrentLifetime, AStateThatEndsClosesItsStep) {
  std::optional<RecurrentState> state(make({.layers = 1, .width = 3}));
  auto step = heed::value_or_throw(state->begin(heed::NumTokens(2)));
  state.reset();
  EXPECT_FALSE(step.open());
  EXPECT_EQ(step.commit().code(), StatusCode::wrong_state);

  RecurrentState old = make({.layers = 1, .width = 3});
  auto other = heed::value_or_throw(old.begin(heed::NumTokens(2)));
  old = make({.layers = 1, .width = 5});
  EXPECT_FALSE(other.open());
  EXPECT_TRUE(old.begin(heed::NumTokens(1)).ok());
}

TEST(RecurrentLifetime, ALayerFollowsItsState) {
  std::optional<RecurrentState> state(make({.layers = 1, .width = 3}));
  auto step = heed::value_or_throw(state->begin(heed::NumTokens(1)));
  const heed::RecurrentLayer layer = heed::value_or_throw(step.layer(0));
  RecurrentState moved(std::move(*state));
  state.reset();
  RecurrentState last = make({.layers = 2, .width = 4});
  last = std::move(moved);
  EXPECT_EQ(*layer.before(), 0);
  std::ranges::copy(after_tokens(0, 3, Tokens{9}), layer.after(0));
  ASSERT_TRUE(step.commit().ok());
  expect_state(last, {9});
}

/// What was moved from is empty, and says so.
TEST(RecurrentLifetime, AMovedFromStateHasNothing) {
  for (const bool assign : {false, true}) {
    RecurrentState state = make({.layers = 2, .width = 3, .undo_tokens = 1});
    Tokens tokens;
    append(state, tokens, {1, 2});
    RecurrentState taken = make({.layers = 1, .width = 1});
    if (assign) {
      taken = std::move(state);
    } else {
      const RecurrentState made(std::move(state));
    }
    // NOLINTBEGIN(bugprone-use-after-move)
    EXPECT_EQ(state.layers(), 0);
    EXPECT_EQ(state.width(), 0);
    EXPECT_EQ(state.seen(), 0);
    EXPECT_EQ(state.rollback_floor(), 0);
    EXPECT_EQ(state.state_bytes(), 0);
    EXPECT_EQ(state.bytes().allocated, 0);
    EXPECT_EQ(state.bytes().live_per_layer(), 0);
    EXPECT_TRUE(state.state(0).empty());
    const auto gone = [](const Status& status) {
      EXPECT_EQ(status.code(), StatusCode::wrong_state);
      EXPECT_NE(status.message().find("(): the state was moved from"), std::string::npos) << status.message();
    };
    gone(state.begin(heed::NumTokens(1)).status());
    gone(state.truncate(0));
    gone(state.clear());
    gone(state.fork().status());
    Bytes bytes(state.snapshot_bytes());
    gone(state.snapshot(bytes));
    state = make({.layers = 1, .width = 3});
    Tokens others;
    append(state, others, {4});
    expect_state(state, {4});
    // NOLINTEND(bugprone-use-after-move)
  }
}

TEST(RecurrentLifetime, AStepIsReplaced) {
  RecurrentState a = make({.layers = 1, .width = 3}), b = make({.layers = 1, .width = 3});
  auto step = heed::value_or_throw(a.begin(heed::NumTokens(2)));
  step = heed::value_or_throw(b.begin(heed::NumTokens(3)));  // aborts the other
  EXPECT_EQ(step.tokens(), 3);
  EXPECT_TRUE(a.begin(heed::NumTokens(1)).ok());
  EXPECT_EQ(b.begin(heed::NumTokens(1)).status().code(), StatusCode::wrong_state);
}

}  // namespace
}  // namespace heed_test::recurrent_misuse_test
