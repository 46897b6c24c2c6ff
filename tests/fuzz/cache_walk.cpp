// Everything an engine does to a cache, in any order, with memory that fails, under any two rules: what is held is the
// plain model's, and every step's attention is float64's over what the model says each query sees.
#include <heed/attend.hpp>
#include <heed/exec/serial.hpp>
#include <heed/simd/scalar.hpp>

#include "cache/walk.hpp"
#include "fuzz/bytes.hpp"
#include "oracle/attention.hpp"
#include "oracle/bound.hpp"

namespace {

using heed::Index;
using Cache = heed::KvCache<heed::Gqa, heed::F32>;
using Walk = heed_test::CacheWalk<Cache>;

/// The walk's tokens, then those of the step.
heed_test::Seeds all_tokens(const Walk::Walk& walk, const heed_test::Seeds& added) {
  heed_test::Seeds tokens = walk.tokens;
  tokens.insert(tokens.end(), added.begin(), added.end());
  return tokens;
}

/// Layer 0 of an open step.
void look(const Cache::Step& step, const Walk::Walk& walk, const heed_test::Seeds& added) {
  const heed::Gqa& policy = walk.cache.policy();
  const Index count = step.tokens(), first = Index(walk.tokens.size());
  std::vector<float> q;
  for (Index i = 0; i < count; ++i) {
    for (Index h = 0; h < policy.num_heads; ++h) {
      const auto one = heed_test::row(added[std::size_t(i)] + 7, 9, 9, h, policy.head_dim);
      for (const float x : one) q.push_back(x * 0.125f);
    }
  }
  std::vector<float> out(std::size_t(count * policy.num_heads * policy.v_head_dim), std::nanf(""));
  std::vector<float> lse(std::size_t(count * policy.num_heads), std::nanf(""));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const heed::Status status = heed::attend<heed::Scalar>(policy, q, step.keys(0), out, workspace, serial, {}, lse);
  FUZZ_CHECK(status.ok() || count == 0, status.message());

  const heed_test::Seeds tokens = all_tokens(walk, added);
  heed_test::RuleModel model = walk.groups[0];
  oracle::Tokens available = model.held(), ids;
  for (const heed_test::Seed seed : added) ids.push_back(oracle::Int(seed & 0x7fffffff));
  model.append(ids);
  for (Index i = 0; i < count; ++i) {
    available.push_back(first + i);
    const oracle::Tokens seen = model.seen_of(available, first + i);
    oracle::Problem problem{.heads = policy.num_heads,
                            .kv_heads = policy.num_kv_heads,
                            .key_dim = policy.head_dim,
                            .value_dim = policy.v_head_dim,
                            .scale = policy.scale,
                            .visible = [](oracle::Int, oracle::Int) { return true; }};
    const auto row_of = [](const std::vector<float>& all, Index at, Index numbers) {
      return std::span(all).subspan(std::size_t(at * numbers), std::size_t(numbers));
    };
    for (const float x : row_of(q, i, policy.num_heads * policy.head_dim)) problem.q.push_back(x);
    for (const oracle::Int position : seen) {
      const heed_test::Seed seed = tokens[std::size_t(position)];
      for (Index h = 0; h < policy.num_kv_heads; ++h) {
        for (const float x : heed_test::row(seed, 0, 0, h, policy.head_dim)) problem.k.push_back(x);
        for (const float x : heed_test::row(seed, 0, 1, h, policy.v_head_dim)) problem.v.push_back(x);
      }
    }
    const oracle::Answer answer = oracle::attention(problem);
    FUZZ_CHECK(oracle::worst_output(row_of(out, i, policy.num_heads * policy.v_head_dim), answer) <= 1);
    FUZZ_CHECK(oracle::worst_lse(row_of(lse, i, policy.num_heads), answer) <= 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  heed_test::finite_numbers = true;
  testing::GTEST_FLAG(break_on_failure) = true;
  heed_fuzz::Bytes in(data, size);
  Walk walk(in.number<std::uint16_t>());
  walk.choose = [&in](Index least, Index most) { return in.pick(least, most); };
  walk.look = look;
  const auto kind = [&in] {
    const Index last = Index(std::size(heed_test::rule_kinds)) - 1;
    return heed_test::rule_kinds[std::size_t(in.pick(0, last))];
  };
  const std::string first = kind(), other = kind();
  walk.walk(first, other, int(std::min<std::size_t>(in.size() / 4, 60)));
  return 0;
}
