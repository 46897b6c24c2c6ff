// Partial states as an engine uses them: over caches of every rule, and over forks that share a prefix. No allocation once
// the memory was reserved.
#include <heed/cache/kv_cache.hpp>
#include <heed/partial.hpp>
#include <heed/policy/grouped.hpp>

#include <deque>

#include "heap.hpp"
#include "laws/problem.hpp"
#include "lists/rules.hpp"
#include "policy/backend.hpp"

namespace heed_test::partial_cache_test {
namespace {

using heed::KeyRange;
using heed::PartialStates;
using heed::PartialView;
using Cache32 = heed::KvCache<heed::Gqa, heed::F32>;

constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .v_head_dim = 40, .scale = 0.2f};
constexpr Index k_row = 2 * 24, v_row = 2 * 40, q_row = 4 * 24, out_row = 4 * 40;

Output attend(const Cache32::Keys& keys, std::span<const float> q) {
  const Index queries = Index(q.size()) / q_row;
  Output all{std::vector<float>(std::size_t(queries * out_row), nan),
             std::vector<float>(std::size_t(queries * 4), nan)};
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const heed::Status status =
      heed::attend<Backend>(policy, q, keys, heed::MaskRef(), all.out, workspace, serial, {}, all.lse);
  EXPECT_TRUE(status.ok()) << status.message();
  return all;
}

Output in_parts(const Cache32::Keys& keys, std::span<const float> q, std::span<const KeyRange> ranges) {
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::deque<PartialStates> states;
  std::vector<PartialView> parts;
  for (const KeyRange& range : ranges) {
    const heed::Status status =
        heed::attend_partial<Backend>(policy, q, keys, range, states.emplace_back(), workspace, serial);
    EXPECT_TRUE(status.ok()) << status.message();
    parts.emplace_back(states.back());
  }
  const Index queries = Index(q.size()) / q_row;
  Output all{std::vector<float>(std::size_t(queries * out_row), nan),
             std::vector<float>(std::size_t(queries * 4), nan)};
  const heed::Status status = heed::attend_finish<Backend>(policy, parts, all.out, workspace, serial, {}, all.lse);
  EXPECT_TRUE(status.ok()) << status.message();
  return all;
}

/// The views of steps, under rules that are masks, with holes, and under one with a history, whose steps have stages.
TEST(PartialCache, EveryRule) {
  for (const heed::AnyRule& rule : heed_examples::every_rule({4, 600}, {.anchors = {1}, .separators = {1, 2}})) {
    oracle::Random random(1);
    auto cache = heed::value_or_throw(Cache32::create(policy, {}, rule));
    Index seen = 0;
    for (const Index queries : {1100, 1, 30, 1, 400, 1}) {
      std::vector<std::int32_t> ids;
      for (Index i = 0; i < queries; ++i) ids.push_back(std::int32_t(random.below(3)));
      const std::vector<float> q = random.gaussians(queries * q_row), k = random.gaussians(queries * k_row),
                               v = random.gaussians(queries * v_row);
      auto step = heed::value_or_throw(cache.begin(ids));
      ASSERT_TRUE(step.write(0, k, v).ok());
      const auto keys = step.keys(0);
      const KeyRange held = heed::key_chunks(keys);
      const Index at = held.near_chunks.begin + random.below(held.near_chunks.size() + 1);
      const Index far = random.below(held.far_chunks.size() + 1);
      const KeyRange cuts[][3] = {{{}, {{0, 0}, {0, 0}}, {{0, 0}, {0, 0}}},
                                  {KeyRange::before(at), KeyRange::from(at), {{0, 0}, {0, 0}}},
                                  {{{far, KeyRange::all}, {0, at}}, KeyRange::from(at), {{0, far}, {0, 0}}}};
      const Output whole = attend(keys, q);
      for (const auto& ranges : cuts) EXPECT_TRUE(whole == in_parts(keys, q, ranges)) << rule.name() << " " << seen;
      ASSERT_TRUE(step.commit().ok());
      seen += queries;
      if (seen == 1101) {
        const heed::Status removed = cache.remove(1000, 1010);
        EXPECT_TRUE(removed.ok() || rule.has_history()) << removed.message();
      }
    }
  }
}

/// Forks of a cache decode: each step reads the prefix once for all of them.
class Forks {
 public:
  static constexpr Index prefix_tokens = 768, forks = 3, tokens = 300, chunks = prefix_tokens / 256;

  explicit Forks(Index workers) : pool_(heed::value_or_throw(heed::ThreadPool::create(workers))) {
    std::vector<float> k = random_.gaussians(prefix_tokens * k_row), v = random_.gaussians(prefix_tokens * v_row);
    auto step = heed::value_or_throw(prefix_.begin(heed::NumTokens(prefix_tokens)));
    heed::check(step.write(0, k, v));
    heed::check(step.commit());
    for (Index f = 0; f < forks; ++f) {
      caches_.push_back(heed::value_or_throw(prefix_.fork()));
      heed::check(own_[std::size_t(f)].reserve(
          heed::value_or_throw(heed::partial_states_bytes(policy, 1, prefix_tokens + tokens, KeyRange::from(chunks)))));
    }
    heed::check(shared_.reserve(
        heed::value_or_throw(heed::partial_states_bytes(policy, forks, prefix_tokens, KeyRange::before(chunks)))));
    std::size_t most = 0;
    const auto room = [&](const heed::Result<std::size_t>& bytes) {
      most = std::max(most, heed::value_or_throw(bytes));
    };
    room(heed::partial_workspace_bytes(policy, forks, prefix_tokens, KeyRange::before(chunks), workers));
    room(heed::partial_workspace_bytes(policy, forks, prefix_tokens + tokens, KeyRange::from(chunks), workers, forks));
    room(heed::finish_workspace_bytes(policy, forks, forks * 30, workers, forks));
    heed::check(workspace_.reserve(most));
  }

  /// One token of every fork. Returns how often operator new was called by attention.
  long decode() {
    const std::vector<float> q = random_.gaussians(forks * q_row), k = random_.gaussians(forks * k_row),
                             v = random_.gaussians(forks * v_row);
    std::vector<Cache32::Step> steps;
    std::vector<Cache32::Keys> keys;
    std::vector<Index> positions;
    std::vector<float> out(forks * out_row, nan), lse(forks * 4, nan);
    const auto part = [](auto& all, Index f, Index width) {
      return std::span(all).subspan(std::size_t(f * width), std::size_t(width));
    };
    for (Index f = 0; f < forks; ++f) {
      auto& cache = caches_[std::size_t(f)];
      positions.push_back(cache.size());
      steps.push_back(heed::value_or_throw(cache.begin(heed::NumTokens(1))));
      heed::check(steps.back().write(0, part(k, f, k_row), part(v, f, v_row)));
      keys.push_back(steps.back().keys(0));
    }
    std::vector<heed::PartialSequence<Cache32::Keys>> own;
    std::vector<std::array<PartialView, 2>> parts;
    std::vector<heed::FinishSequence> finish;
    for (Index f = 0; f < forks; ++f) {
      const std::size_t i = std::size_t(f);
      own.push_back({.keys = &keys[i], .q = part(q, f, q_row), .range = KeyRange::from(chunks), .states = &own_[i]});
      parts.push_back({shared_.queries(f, 1), own_[i]});
    }
    for (Index f = 0; f < forks; ++f) {
      finish.push_back({parts[std::size_t(f)], part(out, f, out_row), part(lse, f, 4)});
    }
    const auto prefix_keys = prefix_.keys(0);
    const long before = news.load();
    const heed::Status first = heed::attend_partial<Backend>(policy, q, prefix_keys, KeyRange::before(chunks), shared_,
                                                             workspace_, *pool_, {}, positions);
    const heed::Status second = heed::attend_partial_batch<Backend>(
        policy, std::span<const heed::PartialSequence<Cache32::Keys>>(own), workspace_, *pool_);
    const heed::Status third = heed::attend_finish_batch<Backend>(policy, finish, workspace_, *pool_);
    const long made = news.load() - before;
    EXPECT_TRUE(first.ok() && second.ok() && third.ok()) << first.message() << second.message() << third.message();
    for (Index f = 0; f < forks; ++f) {
      const auto mine = part(out, f, out_row), my_lse = part(lse, f, 4);
      const Output want = attend(keys[std::size_t(f)], part(q, f, q_row));
      const Output got{{mine.begin(), mine.end()}, {my_lse.begin(), my_lse.end()}};
      EXPECT_TRUE(got == want) << f << " at " << positions[std::size_t(f)];
      heed::check(steps[std::size_t(f)].commit());
    }
    return made;
  }

 private:
  oracle::Random random_{2};
  std::unique_ptr<heed::ThreadPool> pool_;
  Cache32 prefix_ = heed::value_or_throw(Cache32::create(policy, {}));
  std::vector<Cache32> caches_;
  PartialStates shared_, own_[forks];
  heed::Workspace workspace_;
};

TEST(PartialCache, ForksOfAPrefixDecodeWithoutAllocation) {
  ASSERT_TRUE(counts_news());
  for (const Index workers : {1, 3}) {
    Forks forks(workers);
    (void)forks.decode();  // warm-up: threads start, the C library makes what it makes once
    for (Index i = 1; i < Forks::tokens; ++i) ASSERT_EQ(forks.decode(), 0) << i;
  }
}

}  // namespace
}  // namespace heed_test::partial_cache_test
