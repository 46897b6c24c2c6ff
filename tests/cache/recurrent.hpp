/// \file
/// A recurrent state whose every number says which tokens it has seen.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <heed/cache/recurrent_state.hpp>

#include "cache/counting_memory.hpp"

namespace heed_test {

using heed::Index;
using heed::RecurrentState, heed::RecurrentOptions;
using heed::Status, heed::StatusCode;

/// Apart from what other tests of caches call by these names.
namespace recurrent {

using Tokens = std::vector<std::int32_t>;
using Numbers = std::vector<float>;
using Bytes = std::vector<std::byte>;

/// The numbers of a layer after these tokens: zeros without any, else a function of all of them in their order.
inline Numbers after_tokens(Index layer, Index width, std::span<const std::int32_t> tokens) {
  std::uint32_t hash = 0;
  for (const std::int32_t token : tokens) hash = (hash + std::uint32_t(token) + 1) * 2654435761u;
  Numbers numbers(std::size_t(width), 0.0f);
  for (Index i = 0; !tokens.empty() && i < width; ++i) {
    numbers[std::size_t(i)] = float((hash ^ std::uint32_t(layer * 1000003 + i * 7919) * 40503u) >> 8);
  }
  return numbers;
}

inline void expect_state(const RecurrentState& state, const Tokens& tokens) {
  ASSERT_EQ(state.seen(), Index(tokens.size()));
  for (Index layer = 0; layer < state.layers(); ++layer) {
    const auto got = state.state(layer);
    ASSERT_EQ(Numbers(got.begin(), got.end()), after_tokens(layer, state.width(), tokens)) << "layer " << layer;
  }
}

/// What a mechanism does to a layer: reads the state before, writes those after the tokens that are asked for.
inline void write_layer(RecurrentState::Step& step, Index layer, const Tokens& before, const Tokens& added) {
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
inline void write_all(RecurrentState::Step& step, const Tokens& before, const Tokens& added) {
  for (Index layer = step.layers() - 1; layer >= 0; --layer) {
    ASSERT_NO_FATAL_FAILURE(write_layer(step, layer, before, added));
  }
}
/// Appends tokens in one step, and to `tokens`.
inline void append(RecurrentState& state, Tokens& tokens, const Tokens& added) {
  auto step = state.begin(added);
  ASSERT_TRUE(step.ok()) << step.status().message();
  ASSERT_EQ(step->first_logical_position(), Index(tokens.size()));
  ASSERT_EQ(step->tokens(), Index(added.size()));
  ASSERT_NO_FATAL_FAILURE(write_all(*step, tokens, added));
  ASSERT_TRUE(step->commit().ok());
  ASSERT_FALSE(step->open());
  tokens.insert(tokens.end(), added.begin(), added.end());
}

inline RecurrentState make(const RecurrentOptions& options) {
  return heed::value_or_throw(RecurrentState::create(options));
}
inline Bytes snapshot_of(const RecurrentState& state) {
  Bytes bytes(state.snapshot_bytes());
  heed::check(state.snapshot(bytes));
  return bytes;
}
inline Tokens first(const Tokens& tokens, Index count) { return {tokens.begin(), tokens.begin() + count}; }

inline void expect_failure(const Status& status, StatusCode code, const std::string& message) {
  EXPECT_EQ(status.code(), code);
  EXPECT_EQ(status.message(), message);
}

}  // namespace recurrent
}  // namespace heed_test
