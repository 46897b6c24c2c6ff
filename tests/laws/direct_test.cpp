// attend() as an engine calls it: the same bits as through the tests' wrappers, and no allocation once warm.
#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>

#include "counting_new.hpp"
#include "policy/backend.hpp"
#include "laws/problem.hpp"

namespace heed_test::direct_test {
namespace {

using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .v_head_dim = 40, .scale = 0.2f};
constexpr Index k_row = 2 * 24, v_row = 2 * 40, q_row = 4 * 24, out_row = 4 * 40;

std::span<const float> slice(const std::vector<float>& all, Index first, Index count, Index width) {
  return std::span(all).subspan(std::size_t(first * width), std::size_t(count * width));
}

/// The mask of the cache's own rule, in a step: what commit() leaves is for the next query.
TEST(DirectAttend, StepAndForeignMemoryAgree) {
  oracle::Random random(1);
  constexpr Index keys = 400, queries = 9;
  const std::vector<float> q = random.gaussians(queries * q_row), k = random.gaussians(keys * k_row),
                           v = random.gaussians(keys * v_row);
  auto cache = heed::value_or_throw(Cache::create(policy, {}, heed::SlidingWindow{.window = 100}));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  auto before = heed::value_or_throw(cache.begin(heed::NumTokens(keys - queries)));
  ASSERT_TRUE(before.write(0, slice(k, 0, keys - queries, k_row), slice(v, 0, keys - queries, v_row)).ok());
  ASSERT_TRUE(before.commit().ok());
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(queries)));
  ASSERT_TRUE(step.write(0, slice(k, keys - queries, queries, k_row), slice(v, keys - queries, queries, v_row)).ok());
  std::vector<float> in_step(queries * out_row), threaded(in_step), foreign(in_step), lse(queries * 4),
      lse_foreign(lse);
  ASSERT_TRUE(heed::attend<Backend>(policy, q, step.keys(0), in_step, workspace, serial).ok());
  ASSERT_TRUE(heed::attend<Backend>(policy, q, step.keys(0), threaded, workspace, *pool, {}, lse).ok());
  ASSERT_TRUE(step.commit().ok());
  EXPECT_EQ(cache.kept(), 99);
  std::vector<std::byte> k_bytes(std::size_t(2 * keys * k_row)), v_bytes(std::size_t(2 * keys * v_row));
  heed::Bf16::encode(k.data(), keys * k_row, k_bytes.data());
  heed::Bf16::encode(v.data(), keys * v_row, v_bytes.data());
  const heed::StridedSource<heed::Bf16> rows(keys, {k_bytes.data(), 2 * k_row, 48, 48},
                                             {v_bytes.data(), 2 * v_row, 80, 80});
  ASSERT_TRUE(
      heed::attend<Backend>(policy, q, rows, heed::SlidingWindow{100}, foreign, workspace, serial, {}, lse_foreign)
          .ok());
  EXPECT_EQ(in_step, threaded);
  EXPECT_EQ(in_step, foreign);
  EXPECT_EQ(lse, lse_foreign);
}

/// Decode steps across several chunks, after the workspace was reserved.
template <class E>
void expect_no_allocation(E& executor) {
  oracle::Random random(2);
  constexpr Index tokens = 1100;
  const std::vector<float> q = random.gaussians(q_row), k = random.gaussians(k_row), v = random.gaussians(v_row);
  auto cache = heed::value_or_throw(
      Cache::create(policy, {.layers = 2, .capacity = tokens}, heed::SlidingWindow{.window = 700}));
  heed::Workspace workspace;
  heed::check(workspace.reserve(heed::value_or_throw(heed::workspace_bytes(policy, 1, tokens, executor.workers()))));
  std::vector<float> out(out_row), lse(4);
  const std::vector<float> slopes(4, 0.1f), sinks(4, 1.0f);
  const heed::AttendOptions options{.soft_cap = 20, .alibi_slopes = slopes, .sink_logits = sinks};
  bool ok = true;
  const auto decode = [&] {
    auto step = cache.begin(heed::NumTokens(1));
    for (Index layer = 0; layer < 2; ++layer) {
      ok = ok && step->write(layer, k, v).ok();
      ok = ok && heed::attend<Backend>(policy, q, step->keys(layer), out, workspace, executor, options, lse).ok();
    }
    ok = ok && step->commit().ok();
  };
  decode();  // warm-up: threads start, the C library makes what it makes once
  const long before = news.load();
  for (Index i = 1; i < tokens; ++i) decode();
  const long after = news.load();
  EXPECT_TRUE(ok);
  EXPECT_EQ(cache.seen(), tokens);
  EXPECT_EQ(cache.kept(), 699);
  EXPECT_EQ(after, before);
}

TEST(DirectAttend, DecodeAllocatesNothing) {
  ASSERT_TRUE(counts_news());
  heed::SerialExecutor serial;
  expect_no_allocation(serial);
  const auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  expect_no_allocation(*pool);
}

}  // namespace
}  // namespace heed_test::direct_test
