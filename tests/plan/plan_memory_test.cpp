// A plan's memory: plan_bytes() suffices and not a byte less, and once it is there no step allocates.
#include <heed/retention/sinks.hpp>

#include "counting_new.hpp"
#include "plan/plans.hpp"

namespace heed_test::plan_memory_test {
namespace {

using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;

TEST(PlanMemory, BytesAreExact) {
  const Subject<heed::Gqa> subject = gqa();
  oracle::Random random(1);
  for (int i = 0; i < 40; ++i) {
    const Index before = random.below(900), queries = 1 + random.below(80), workers = 1 + random.below(4);
    auto cache = make_cache<heed::Bf16>(subject, {.page_tokens = 32});
    if (before > 0) decode(subject, cache, random_rows(subject, before, random));
    const Rows rows = random_rows(subject, queries, random);
    auto step = begin(cache, rows);
    const auto keys = step.keys(0);
    const std::size_t bytes =
        heed::value_or_throw(heed::plan_bytes(subject.policy, queries, before + queries, workers));
    std::vector<std::byte> memory(bytes + 64);
    std::byte* const aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
    std::vector<Index> positions;
    for (Index q = 0; q < queries; ++q) positions.push_back(before + q);
    heed::Plan less{std::span<std::byte>(aligned, bytes - heed::Workspace::alignment - 1)};
    expect_refusal(less.make(subject.policy, keys, queries, workers, {}, positions), heed::StatusCode::out_of_memory,
                   {"plan has memory of"});
    EXPECT_EQ(less.num_sequences(), 0);
    heed::Plan enough{std::span<std::byte>(memory.data() + random.below(64), bytes)};
    ASSERT_TRUE(enough.make(subject.policy, keys, queries, workers, {}, positions).ok());
    heed::SerialExecutor serial;
    EXPECT_TRUE(attend_planned(subject, enough, rows, keys, serial) == attend(subject, rows, keys));
  }
}

TEST(PlanMemory, WorkspaceOfACallSuffices) {
  const Subject<heed::Mla> subject = mla();
  oracle::Random random(2);
  auto cache = make_cache<heed::F32>(subject);
  decode(subject, cache, random_rows(subject, 600, random));
  const Rows rows = random_rows(subject, 30, random);
  auto step = begin(cache, rows);
  const auto keys = step.keys(0);
  const heed::Plan plan = plan_of(subject.policy, keys, 30);
  std::vector<std::byte> memory(heed::value_or_throw(heed::workspace_bytes(subject.policy, 30, 630, 1)));
  heed::Workspace workspace(memory);
  heed::SerialExecutor serial;
  Output got = empty_output(subject, 30);
  const auto run = [&](heed::Workspace& scratch) {
    return heed::attend<Backend>(plan, subject.policy, rows.q, keys, got.out, scratch, serial, {}, got.lse);
  };
  EXPECT_TRUE(run(workspace).ok());
  heed::Workspace small{std::span<std::byte>(memory).first(1000)};
  expect_refusal(run(small), heed::StatusCode::out_of_memory, {"workspace has"});
}

TEST(PlanMemory, StepsAllocateNothing) {
  const Subject<heed::Gqa> subject = gqa();
  for (const heed::AnyRule& rule : {heed::AnyRule(heed::Causal{}), heed::AnyRule(heed::SinkWindow{4, 64})}) {
    auto cache = heed::value_or_throw(Cache::create(subject.policy, {.layers = 2, .capacity = 1200}, rule));
    oracle::Random random(3);
    const Rows rows = random_rows(subject, 2, random);
    Output out = empty_output(subject, 2);
    heed::Plan plan;
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    heed::check(plan.reserve(heed::value_or_throw(heed::plan_bytes(subject.policy, 2, 1200, 1))));
    heed::check(workspace.reserve(heed::value_or_throw(heed::workspace_bytes(subject.policy, 2, 1200, 1))));
    const auto decode_two = [&] {
      auto step = cache.begin(rows.ids);
      bool ok = step.ok();
      ok = ok && plan.make(subject.policy, step->keys(0), 2, 1).ok();
      for (Index layer = 0; layer < 2; ++layer) {
        ok = ok && step->write(layer, rows.streams[0], rows.streams[1]).ok();
        ok = ok && heed::attend<Backend>(plan, subject.policy, rows.q, step->keys(layer), out.out, workspace, serial,
                                         {}, out.lse)
                       .ok();
      }
      return ok && step->commit().ok();
    };
    bool ok = true;
    for (int i = 0; i < 100; ++i) ok = decode_two() && ok;
    const long before = news.load();
    for (int i = 0; i < 400; ++i) ok = decode_two() && ok;
    const long after = news.load();
    EXPECT_TRUE(ok);
    EXPECT_EQ(after, before) << rule.name();
  }
}

}  // namespace
}  // namespace heed_test::plan_memory_test
