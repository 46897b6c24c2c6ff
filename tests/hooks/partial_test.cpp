// Hooks and attention in parts: each part calls the hooks for its keys, and the finish tells a sink of every row once. What
// the sink then has are the probabilities of a call over all keys, bit for bit.
#include "hooks/recorder.hpp"
#include "laws/partial.hpp"

namespace heed_test::partial_test {
namespace {

class PartialHooks : public HookLaws {};
HEED_FOR_ALL_HOOKED(PartialHooks);

AttentionShape shape_of(Mechanism mechanism) {
  return {.mechanism = mechanism, .heads = 6, .kv_heads = 2, .key_dim = 40, .value_dim = 24};
}

void add_options(Problem& p) {
  p.soft_cap = 20;
  for (Index h = 0; h < p.shape.heads; ++h) {
    p.slopes.push_back(0.001f * float(h + 1));  // probabilities of far keys stay normal floats
    p.sinks.push_back(float(h) - 2);
  }
}

/// Rows of both ended once, and were told the same.
void expect_same_rows(const Recorder& got, const Recorder& want, Index threads) {
  ASSERT_EQ(got.rows().size(), want.rows().size());
  for (std::size_t row = 0; row < got.rows().size(); ++row) {
    const heed::FinishedRow &its = got.rows()[row].end, &wanted = want.rows()[row].end;
    EXPECT_EQ(got.rows()[row].finished, 1) << row;
    EXPECT_EQ(got.rows()[row].chunks, want.rows()[row].chunks) << row;
    const float numbers[] = {its.max, its.sum, its.share}, wanted_numbers[] = {wanted.max, wanted.sum, wanted.share};
    EXPECT_EQ(std::memcmp(numbers, wanted_numbers, sizeof numbers), 0) << row;
    EXPECT_EQ(its.row.sequence, 0);
    EXPECT_EQ(its.row.query, wanted.row.query);
    EXPECT_EQ(its.row.position, wanted.row.position);
    EXPECT_EQ(its.row.head, wanted.row.head);
    EXPECT_EQ(its.row.kv_head, wanted.row.kv_head);
    EXPECT_TRUE(its.row.worker >= 0 && its.row.worker < threads) << its.row.worker;
  }
}

TEST_P(PartialHooks, GiveTheProbabilitiesOfTheWhole) {
  oracle::Random random(1);
  for (const Mechanism mechanism : mechanisms()) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 1500}, {9, 700}, {2, 1}}) {
      for (const AnyMask& mask : {causal(), window(300), holes(1)}) {
        Problem p = gaussian(shape_of(mechanism), std::min(queries, keys), keys, 1);
        p.mask = mask;
        if (queries != 9) add_options(p);
        const auto cache = filled(plain(), p);
        const auto rows = cache->keys();
        Recorder whole(p.queries, p.shape.heads, keys), got(p.queries, p.shape.heads, keys);
        AnyHooks hooks = whole.hooks(), of_parts = got.hooks();
        const Output want = hooked(hooks, p, *rows);
        const heed::Kernel kernel = GetParam().with(of_parts);
        const Subject subject{kernel, plain().storage};
        const std::vector<KeyRange> ranges =
            random_ranges(plain().storage.key_chunks(*rows, mask.ref()), 1 + random.below(4), random);
        std::deque<PartialStates> states(ranges.size());
        std::vector<PartialView> parts;
        for (std::size_t i = 0; i < ranges.size(); ++i) {
          attend_part(subject, p, *rows, ranges[i], states[i], 1 + random.below(3));
          parts.emplace_back(states[i]);
        }
        for (const Recorder::Row& row : got.rows()) EXPECT_EQ(row.finished, 0) << "a part ends no row";
        shuffle(parts, random);
        EXPECT_TRUE(finish(subject, p, parts, 3) == want) << p;
        EXPECT_TRUE(got.probabilities() == whole.probabilities()) << p;
        expect_same_rows(got, whole, 3);
        expect_oracles(got, probabilities_of(plain(), p), p);
      }
    }
  }
}

/// A kernel without hooks finishes the same states, and one with hooks those of a kernel without.
TEST_P(PartialHooks, DoNotChangeTheStates) {
  Problem p = gaussian(shape_of(Mechanism::gqa), 5, 900, 2);
  add_options(p);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  Recorder got(p.queries, p.shape.heads, p.keys);
  AnyHooks hooks = got.hooks();
  const heed::Kernel kernel = GetParam().with(hooks);
  PartialStates with, without;
  attend_part(Subject{kernel, plain().storage}, p, *rows, {}, with);
  attend_part(plain(), p, *rows, {}, without);
  EXPECT_TRUE(std::equal(with.bytes().begin(), with.bytes().end(), without.bytes().begin(), without.bytes().end()));
  const PartialView parts[] = {with};
  EXPECT_TRUE(finish(plain(), p, parts) == run(plain(), p, *rows));
  for (const Recorder::Row& row : got.rows()) EXPECT_EQ(row.finished, 0);
  EXPECT_TRUE(finish(Subject{kernel, plain().storage}, p, parts, 3) == run(plain(), p, *rows));
  for (const Recorder::Row& row : got.rows()) EXPECT_EQ(row.finished, 1);
}

/// Hooks that change logits change them in every part.
TEST_P(PartialHooks, ThatChangeLogits) {
  oracle::Random random(3);
  for (const Mechanism mechanism : mechanisms()) {
    Problem p = gaussian(shape_of(mechanism), 7, 1100, 4);
    add_options(p);
    const auto cache = filled(plain(), p);
    const auto rows = cache->keys();
    AnyHooks hooks;
    hooks.before_cap = [](const heed::LogitChunk& chunk) {
      for (std::size_t i = 0; i < chunk.logits.size(); ++i) chunk.logits[i] += float(chunk.positions[i] % 7) * 0.25f;
    };
    hooks.after_cap = [](const heed::LogitChunk& chunk) {
      for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
        if (chunk.keys[i] % 5 == chunk.row.head % 5) chunk.logits[i] = -infinity;
      }
    };
    const Output want = hooked(hooks, p, *rows);
    EXPECT_FALSE(want == run(plain(), p, *rows));
    const heed::Kernel kernel = GetParam().with(hooks);
    const std::vector<KeyRange> ranges =
        random_ranges(plain().storage.key_chunks(*rows, p.mask.ref()), 3, random);
    EXPECT_TRUE(in_parts(Subject{kernel, plain().storage}, p, *rows, ranges, random) == want) << p;
  }
}

/// Positions of a text: pairs of neighbours stand for one place, as drafts do.
struct Paired : heed::Causal {
  [[nodiscard]] Index text_position(Index position) const { return position / 2; }
};

/// Rows that end are named by their places in the text, and by the sequences and queries of the finish.
TEST_P(PartialHooks, NameTheRowsOfTheFinish) {
  const Problem p = gaussian(shape_of(Mechanism::gqa), 4, 600, 5);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  std::vector<heed::HookRow> told;
  AnyHooks hooks;
  hooks.of_row = [&](const heed::FinishedRow& row) { told.push_back(row.row); };
  const heed::Kernel kernel = GetParam().with(hooks);
  PartialStates early, late;
  for (const auto& [range, states] : {std::pair{KeyRange::before(1), &early}, {KeyRange::from(1), &late}}) {
    heed::Workspace workspace;
    const PartialCall call{rows.get(), Paired{}, p.q, range, states, {}};
    ASSERT_TRUE(plain().storage.attend_partial(kernel, p.shape, {&call, 1}, workspace, workers(1), {}).ok());
  }
  EXPECT_TRUE(told.empty());
  // Queries 1 and 2 as one sequence, query 3 as another.
  const PartialView first[] = {early.queries(1, 2), late.queries(1, 2)};
  const PartialView second[] = {late.queries(3, 1), early.queries(3, 1)};
  std::vector<float> out(std::size_t(3 * p.out_row()));
  const std::span<float> all(out);
  const heed::FinishSequence sequences[] = {{first, all.first(std::size_t(2 * p.out_row()))},
                                            {second, all.last(std::size_t(p.out_row()))}};
  heed::Workspace workspace;
  ASSERT_TRUE(plain().storage.attend_finish(kernel, p.shape, sequences, workspace, workers(1), {}).ok());
  ASSERT_EQ(told.size(), std::size_t(3 * 6));
  for (std::size_t i = 0; i < told.size(); ++i) {
    const Index row = Index(i) / 6, head = Index(i) % 6;
    EXPECT_EQ(told[i].sequence, row / 2);
    EXPECT_EQ(told[i].query, row % 2);
    EXPECT_EQ(told[i].position, (596 + 1 + row) / 2);
    EXPECT_EQ(told[i].head, head);
    EXPECT_EQ(told[i].kv_head, head / 3);
  }
}

/// Queries that see none of the keys end as well.
TEST_P(PartialHooks, EndRowsWithoutKeys) {
  const Problem p = gaussian(shape_of(Mechanism::gqa), 3, 0, 6);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  Recorder got(3, 6, 1);
  AnyHooks hooks = got.hooks();
  const heed::Kernel kernel = GetParam().with(hooks);
  PartialStates states;
  const Subject subject{kernel, plain().storage};
  attend_part(subject, p, *rows, {}, states);
  const PartialView parts[] = {states};
  EXPECT_TRUE(finish(subject, p, parts) == run(plain(), p, *rows));
  for (const Recorder::Row& row : got.rows()) {
    EXPECT_EQ(row.finished, 1);
    EXPECT_EQ(row.end.max, -infinity);
    EXPECT_EQ(row.end.sum, 0);
    EXPECT_EQ(row.end.share, 1);
  }
  EXPECT_EQ(got.rows()[7].end.row.position, -2);
}

}  // namespace
}  // namespace heed_test::partial_test
