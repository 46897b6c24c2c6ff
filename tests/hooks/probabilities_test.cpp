// The probabilities that a sink is given: those of the oracle, of every row and key once, for any workers.
#include <heed/kernel/softmax_state.hpp>

#include "hooks/recorder.hpp"
#include "laws/sources.hpp"

namespace heed_test::probabilities_test {
namespace {

class Probabilities : public HookLaws {};
HEED_FOR_ALL_HOOKED(Probabilities);

AttentionShape shape_of(Mechanism mechanism) {
  return {.mechanism = mechanism, .heads = 6, .kv_heads = 2, .key_dim = 40, .value_dim = 24};
}

void add_options(Problem& p, bool sinks) {
  p.soft_cap = 20;
  for (Index h = 0; h < p.shape.heads; ++h) {
    p.slopes.push_back(0.01f * float(h + 1));
    if (sinks) p.sinks.push_back(float(h) - 2);
  }
}

TEST_P(Probabilities, AreTheOraclesAndSumToOne) {
  for (const Mechanism mechanism : mechanisms()) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 600}, {9, 300}, {1, 1}}) {
      for (const AnyMask& mask : {causal(), window(40), unmasked(), holes(1), ignorant_holes(2)}) {
        for (const bool sinks : {false, true}) {
          Problem p = gaussian(shape_of(mechanism), queries, keys, 1);
          p.mask = mask;
          add_options(p, sinks);
          const oracle::Answer want = probabilities_of(plain(), p);
          const auto cache = filled(plain(), p);
          const auto rows = cache->keys();
          for (const Index threads : {1, 3}) {
            Recorder got(queries, p.shape.heads, keys);
            AnyHooks hooks = got.hooks();
            EXPECT_TRUE(hooked(hooks, p, *rows, threads) == run(plain(), p, *rows)) << p;
            expect_oracles(got, want, p);
            Recorder planned(queries, p.shape.heads, keys);
            hooks = planned.hooks();
            EXPECT_TRUE(hooked_planned(hooks, p, *rows, threads) == run(plain(), p, *rows)) << "planned " << p;
            EXPECT_TRUE(planned.probabilities() == got.probabilities()) << "planned " << p;
            expect_oracles(planned, want, p);
          }
        }
      }
    }
  }
}

/// The sum of probabilities times values is the output.
TEST_P(Probabilities, GiveTheOutput) {
  Problem p = gaussian(shape_of(Mechanism::gqa), 5, 700, 2);
  add_options(p, true);
  Recorder got(p.queries, p.shape.heads, p.keys);
  AnyHooks hooks = got.hooks();
  const Output output = hooked(hooks, p);
  const oracle::Answer sizes = answer(plain(), p);
  std::vector<double> sums(output.out.size(), 0.0);
  for (Index row = 0; row < p.queries * p.shape.heads; ++row) {
    const Index g = row % p.shape.heads / 3;
    for (Index key = 0; key < p.keys; ++key) {
      for (Index d = 0; d < p.shape.value_dim; ++d) {
        const float v = p.v[std::size_t((key * p.shape.kv_heads + g) * p.shape.value_dim + d)];
        sums[std::size_t(row * p.shape.value_dim + d)] +=
            double(got.row(std::size_t(row))[std::size_t(key)]) * rounded(double(v), plain().value_codec());
      }
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    EXPECT_LE(oracle::units(output.out[i], sums[i], sizes.abs_values[i]), 16);
  }
}

/// lse is made of the numbers that finish() is given.
TEST_P(Probabilities, FinishedRowHasTheBitsOfLse) {
  Problem p = gaussian(shape_of(Mechanism::mha), 4, 900, 3);
  p.mask = holes(3);
  for (const Index threads : {1, 3}) {
    Recorder got(p.queries, p.shape.heads, p.keys);
    AnyHooks hooks = got.hooks();
    const Output output = hooked(hooks, p, threads);
    for (std::size_t row = 0; row < output.lse.size(); ++row) {
      const heed::FinishedRow& end = got.rows()[row].end;
      const float lse = heed::SoftmaxState{end.max, end.sum}.lse();
      EXPECT_EQ(std::memcmp(&lse, &output.lse[row], sizeof lse), 0);
    }
  }
}

/// Few rows and many keys: the keys are cut into parts, each row's chunks come from several workers, and finish() after all.
TEST_P(Probabilities, RowsAreFinishedAfterAllTheirParts) {
  Problem p = gaussian({.heads = 2, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, 1, 9000, 4);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  Recorder want(1, 2, p.keys);
  AnyHooks hooks = want.hooks();
  const Output output = hooked(hooks, p, *rows);
  EXPECT_EQ(want.rows()[0].chunks, 36);
  for (const Index threads : {2, 3}) {
    Recorder got(1, 2, p.keys);
    AnyHooks watched = got.hooks();
    std::atomic<bool> outside = false;
    watched.of_chunk = [&](const heed::ChunkProbabilities& chunk) {
      if (chunk.row.worker < 0 || chunk.row.worker >= threads) outside = true;
      got.chunk(chunk);
    };
    watched.of_row = [&](const heed::FinishedRow& row) {
      if (row.row.worker < 0 || row.row.worker >= threads) outside = true;
      EXPECT_EQ(got.rows()[std::size_t(row.row.head)].chunks, 36);
      got.finish(row);
    };
    EXPECT_TRUE(hooked(watched, p, *rows, threads) == output);
    EXPECT_FALSE(outside);
    EXPECT_EQ(got.probabilities(), want.probabilities());
  }
}

/// Calls with one worker never overlap, so memory of its own per worker needs no lock.
TEST_P(Probabilities, AWorkerIsCalledByOneThreadAtATime) {
  const Problem p = gaussian(shape_of(Mechanism::gqa), 60, 600, 5);
  std::atomic<int> inside[3] = {};
  std::atomic<bool> overlap = false;
  AnyHooks hooks;
  hooks.before_cap = [&](const heed::LogitChunk& chunk) {
    if (inside[chunk.row.worker]++ != 0) overlap = true;
    --inside[chunk.row.worker];
  };
  static_cast<void>(hooked(hooks, p, 3));
  EXPECT_FALSE(overlap);
}

/// A NaN logit: all weights of its chunk and all probabilities of its row are NaN. Other rows have theirs.
TEST_P(Probabilities, NanReachesItsRowOnly) {
  Problem p = gaussian(shape_of(Mechanism::gqa), 2, 600, 6);
  p.q[std::size_t(1 * p.q_row() + 2 * p.shape.key_dim)] = nan;  // query 1, head 2
  Recorder got(2, 6, p.keys);
  AnyHooks hooks = got.hooks();
  static_cast<void>(hooked(hooks, p));
  for (std::size_t row = 0; row < 12; ++row) {
    double sum = 0;
    for (const float probability : got.row(row)) sum += double(probability);
    EXPECT_EQ(std::isnan(sum), row == 8) << row;
  }
}

/// Sequences of a batch are told apart, whatever their number of queries and keys.
TEST_P(Probabilities, OfABatchAreThoseOfItsSequences) {
  const std::vector<std::pair<Index, Index>> sizes{{1, 300}, {3, 40}, {0, 10}, {2, 700}};
  std::vector<Problem> problems;
  std::vector<std::unique_ptr<Cache>> caches;
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<Output> outputs;
  for (const auto& [queries, keys] : sizes) {
    problems.push_back(gaussian(shape_of(Mechanism::gqa), queries, keys, std::uint64_t(7 + keys)));
    caches.push_back(filled(plain(), problems.back()));
    sources.push_back(caches.back()->keys());
    outputs.push_back({std::vector<float>(std::size_t(queries * problems.back().out_row())), {}});
  }
  std::vector<std::unique_ptr<Recorder>> got;
  std::vector<Call> calls;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    got.push_back(std::make_unique<Recorder>(problems[i].queries, 6, problems[i].keys));
    calls.push_back({sources[i].get(), problems[i].mask.ref(), problems[i].q, outputs[i].out, {}, {}});
  }
  AnyHooks hooks;
  hooks.of_chunk = [&](const heed::ChunkProbabilities& c) { got[std::size_t(c.row.sequence)]->chunk(c); };
  hooks.of_row = [&](const heed::FinishedRow& row) { got[std::size_t(row.row.sequence)]->finish(row); };
  const heed::Kernel kernel = GetParam().with(hooks);
  heed::Workspace workspace;
  ASSERT_TRUE(plain().storage.attend(kernel, problems[0].shape, calls, workspace, workers(3), {}).ok());
  for (std::size_t i = 0; i < problems.size(); ++i) {
    Recorder alone(problems[i].queries, 6, problems[i].keys);
    AnyHooks one = alone.hooks();
    const Output output = hooked(one, problems[i], *sources[i]);
    EXPECT_EQ(got[i]->probabilities(), alone.probabilities()) << i;
    EXPECT_EQ(outputs[i].out, output.out) << i;
  }
}

/// Each stage has its own list of keys, whose indices a sink is given; queries are counted through all stages.
TEST_P(Probabilities, OfStagesNameKeysOfTheirLists) {
  const Problem p = gaussian(shape_of(Mechanism::gqa), 4, 300, 8);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  std::vector<Index> even, all;
  for (Index token = 0; token < 298; ++token) {
    if (token % 2 == 0 || token >= 296) even.push_back(token);
  }
  for (Index token = 0; token < 300; ++token) all.push_back(token);
  const std::vector<Staged::Stage> stages{{{0, 2}, even}, {{2, 4}, all}};
  const Staged staged(*rows, stages);
  Recorder got(4, 6, 300);
  AnyHooks hooks = got.hooks();
  const heed::Kernel kernel = GetParam().with(hooks);
  Output output{std::vector<float>(std::size_t(4 * p.out_row())), std::vector<float>(4 * 6)};
  const Call call{&staged, {}, p.q, output.out, output.lse, {}};
  heed::Workspace workspace;
  ASSERT_TRUE(plain().storage.attend(kernel, p.shape, {&call, 1}, workspace, workers(3), {}).ok());
  for (std::size_t row = 0; row < 4 * 6; ++row) {
    const std::size_t query = row / 6, keys = query < 2 ? even.size() - 1 + query : 297 + query;
    double sum = 0;
    for (std::size_t key = 0; key < 300; ++key) {
      EXPECT_EQ(got.row(row)[key] > 0, key < keys) << "query " << query << " key " << key;
      sum += double(got.row(row)[key]);
    }
    EXPECT_NEAR(sum, 1, 1e-5);
    EXPECT_EQ(got.rows()[row].finished, 1);
    const heed::FinishedRow& end = got.rows()[row].end;
    EXPECT_EQ((heed::SoftmaxState{end.max, end.sum}.lse()), output.lse[row]);
  }
}

}  // namespace
}  // namespace heed_test::probabilities_test
