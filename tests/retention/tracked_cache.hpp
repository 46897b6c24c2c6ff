/// \file
/// A cache of one layer whose rows are their own positions, so that a test sees which rows a query gets.
#pragma once

#include <gtest/gtest.h>

#include <span>
#include <vector>

#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>

#include "retention/rule_model.hpp"

namespace heed_test {

using heed::Index;

/// One head of two numbers: a row is its position and the position's negative.
using TrackedCache = heed::KvCache<heed::Mqa, heed::F32>;
using RankCache = heed::KvCache<heed::RotatedKeys<heed::Mqa>, heed::F32>;
inline constexpr heed::Mqa tracked_policy{.num_heads = 1, .head_dim = 2, .scale = 1};

[[nodiscard]] inline std::vector<std::int32_t> as_ids(const Tokens& ids) { return {ids.begin(), ids.end()}; }

template <class Step>
void write_positions(Step& step) {
  std::vector<float> rows;
  for (Index i = 0; i < step.tokens(); ++i) {
    rows.push_back(float(step.first_logical_position() + i));
    rows.push_back(-rows.back());
  }
  ASSERT_TRUE(step.write(0, rows, rows).ok());
}

template <class Cache>
void append(Cache& cache, const Tokens& ids) {
  auto step = cache.begin(as_ids(ids));
  ASSERT_TRUE(step.ok()) << step.status().message();
  ASSERT_NO_FATAL_FAILURE(write_positions(*step));
  ASSERT_TRUE(step->commit().ok());
}

/// The positions in the rows of `row_run(stream, head, first, max)`, for `size` keys; both streams must agree.
template <class GetRun>
[[nodiscard]] Tokens positions_in_rows(Index size, const GetRun& run_of) {
  Tokens positions;
  for (Index first = 0; first < size;) {
    const heed::RowRun keys = run_of(0, first, size - first), values = run_of(1, first, size - first);
    EXPECT_EQ(keys.rows, values.rows);
    EXPECT_GE(keys.rows, 1);
    EXPECT_LE(keys.rows, size - first);
    if (keys.rows < 1) break;
    for (Index i = 0; i < keys.rows; ++i) {
      float key[2], value[2];
      heed::F32::decode(keys.data + i * keys.stride_bytes, 2, key);
      heed::F32::decode(values.data + i * values.stride_bytes, 2, value);
      EXPECT_EQ(key[0], -key[1]);
      EXPECT_EQ(key[0], value[0]);
      positions.push_back(Int(key[0]));
    }
    first += keys.rows;
  }
  return positions;
}
template <class View>
[[nodiscard]] Tokens positions_in_rows(const View& view) {
  return positions_in_rows(view.size(),
                           [&](int stream, Index first, Index max) { return view.row_run(stream, 0, first, max); });
}

/// The cache holds what the model says: rows, positions and ids.
template <class Cache>
void expect_holds(const Cache& cache, const RuleModel& model) {
  ASSERT_EQ(cache.seen(), model.seen());
  ASSERT_EQ(positions_in_rows(cache.keys(0)), model.held());
  for (Index key = 0; key < cache.kept(); ++key) {
    ASSERT_EQ(cache.position(key), model.held()[std::size_t(key)]);
    ASSERT_EQ(cache.keys(0).position(key), cache.position(key));
    ASSERT_EQ(cache.token_id(key), model.ids()[std::size_t(cache.position(key))]);
  }
  ASSERT_EQ(cache.evicted(), cache.seen() - cache.kept());
}

/// What every query of a step sees, by each way of asking that there is.
template <class Step>
[[nodiscard]] oracle::Trace seen_in_step(const Step& step) {
  const auto view = step.keys(0);
  const Index first = step.first_logical_position();
  oracle::Trace seen(std::size_t(step.tokens()));
  for (Index stage = 0; stage < view.stages(); ++stage) {
    const heed::Interval queries = view.stage_queries(stage);
    const Tokens all = positions_in_rows(view.stage_size(stage), [&](int stream, Index key, Index max) {
      return view.stage_row_run(stage, stream, 0, key, max);
    });
    for (Index i = queries.begin; i < queries.end; ++i) {
      // The last query sees all, the one before it all but the last ...
      seen[std::size_t(i)].seen.assign(all.begin(), all.end() - (queries.end - 1 - i));
    }
  }
  if (view.stages() > 0) return seen;

  const Tokens rows = positions_in_rows(view);
  const Tokens slots = positions_in_rows(
      view.slots(), [&](int stream, Index slot, Index max) { return view.slot_row_run(stream, 0, slot, max); });
  const heed::LandmarkMask& mask = view.mask();
  const heed::NearKeys near = mask.near_keys();
  for (Index i = 0; i < step.tokens(); ++i) {
    Tokens far;
    for (Index k = 0; k < mask.far_keys(); ++k) {
      if (mask.far_visible(first + i, k)) far.push_back(slots.at(std::size_t(mask.far_key(k))));
    }
    for (Index slot = near.first_key; slot < view.slots(); ++slot) {
      const Index key_slot = near.first_slot + slot - near.first_key;
      EXPECT_EQ(key_slot, view.slot_position(slot));
      if (view.next_hole(slot).begin == slot) continue;
      EXPECT_EQ(key_slot, slots[std::size_t(slot)]);
      if (mask.near_visible(first + i, key_slot)) far.push_back(key_slot);
    }
    seen[std::size_t(i)].seen = oracle::where(rows, [&](Int key) { return mask.visible(first + i, key); });
    EXPECT_EQ(far, seen[std::size_t(i)].seen) << "the two lists and the mask differ for query " << first + i;
  }
  return seen;
}

/// Every query of an open step sees what the model says, once it has the step's tokens. `held`: before the step.
template <class Step>
void expect_sees(const Step& step, const RuleModel& with_step, const Tokens& held) {
  const oracle::Trace seen = seen_in_step(step);
  Tokens available = held;
  for (Index i = 0; i < step.tokens(); ++i) {
    const Index query = step.first_logical_position() + i;
    available.push_back(query);
    ASSERT_EQ(seen[std::size_t(i)].seen, with_step.seen_of(available, query)) << "query " << query;
  }
}

}  // namespace heed_test
