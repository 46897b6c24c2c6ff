// Every wrong argument is refused by name and number, and nothing is written.
#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>

#include "laws/kernels.hpp"
#include "laws/problem.hpp"

namespace heed_test {
namespace {

using Source32 = heed::StridedSource<heed::F32>;

/// A correct call that a test makes wrong in one place.
struct Attempt {
  heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .v_head_dim = 6, .scale = 0.5f};
  std::vector<float> rows = std::vector<float>(400, 0.5f);
  Source32 source{10,
                  {reinterpret_cast<const std::byte*>(rows.data()), 2 * 8 * 4, 8 * 4, 8 * 4},
                  {reinterpret_cast<const std::byte*>(rows.data()), 2 * 6 * 4, 6 * 4, 6 * 4}};
  const Source32* keys = &source;
  heed::Causal mask;
  std::vector<float> q = std::vector<float>(3 * 4 * 8, 1.0f);
  std::vector<float> out = std::vector<float>(3 * 4 * 6, nan);
  std::vector<float> lse = std::vector<float>(3 * 4, nan);
  std::vector<Index> positions = {};
  heed::AttendOptions options = {};

  Attempt() = default;
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  [[nodiscard]] heed::Status operator()() {
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    // As the second sequence of a batch, whose number the message must give; the first is good.
    std::vector<float> good_q(4 * 8), good_out(4 * 6, nan);
    const heed::Sequence<Source32> sequences[] = {{.keys = &source, .mask = mask, .q = good_q, .out = good_out},
                                                  {keys, mask, q, out, lse, positions}};
    heed::Status status = heed::attend_batch<TestBackend>(policy, std::span<const heed::Sequence<Source32>>(sequences),
                                                          workspace, executor, options);
    if (!status.ok()) {
      EXPECT_TRUE(std::all_of(good_out.begin(), good_out.end(), [](float x) { return std::isnan(x); }));
      EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float x) { return std::isnan(x); }));
      EXPECT_TRUE(std::all_of(lse.begin(), lse.end(), [](float x) { return std::isnan(x); }));
    }
    return status;
  }

  void expect_refused(std::initializer_list<const char*> words) {
    const heed::Status status = (*this)();
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    for (const char* word : words) EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
  }
};

TEST(AttendErrors, TheCorrectCallWorks) {
  Attempt call;
  EXPECT_TRUE(call().ok());
  for (const float x : call.out) EXPECT_EQ(x, 0.5f);
}

template <class Change>
void expect(const Change& change, std::initializer_list<const char*> words) {
  Attempt call;
  change(call);
  call.expect_refused(words);
}

TEST(AttendErrors, Policy) {
  expect([](Attempt& a) { a.policy.num_heads = 0; }, {"num_heads", "0"});
  expect([](Attempt& a) { a.policy.num_heads = -4; }, {"num_heads", "-4"});
  expect([](Attempt& a) { a.policy.num_kv_heads = 0; }, {"num_kv_heads", "0", "4"});
  expect([](Attempt& a) { a.policy.num_kv_heads = 3; }, {"num_kv_heads", "3", "4"});
  expect([](Attempt& a) { a.policy.head_dim = 0; }, {"head_dim", "0"});
  expect([](Attempt& a) { a.policy.v_head_dim = -1; }, {"v_head_dim", "-1"});
  expect([](Attempt& a) { a.policy.scale = heed::unset_scale; }, {"scale", "nan"});
  expect([](Attempt& a) { a.policy.scale = infinity; }, {"scale", "inf"});
  const heed::SharedRow wide{.num_heads = 1, .head_dim = 4, .v_head_dim = 5, .scale = 1};
  EXPECT_NE(wide.validate().message().find("v_head_dim is 5"), std::string::npos);
  EXPECT_FALSE((heed::Mha{.num_heads = 1, .head_dim = 4}.validate().ok())) << "the scale was not set";
  EXPECT_FALSE((heed::Mqa{.num_heads = 0, .head_dim = 4, .scale = 1}.validate().ok()));
}

TEST(AttendErrors, Options) {
  const std::vector<float> three(3, 0.0f);
  expect([](Attempt& a) { a.options.soft_cap = -1; }, {"soft_cap", "-1"});
  expect([](Attempt& a) { a.options.soft_cap = nan; }, {"soft_cap", "nan"});
  expect([](Attempt& a) { a.options.soft_cap = infinity; }, {"soft_cap", "inf"});
  expect([&](Attempt& a) { a.options.alibi_slopes = three; }, {"alibi_slopes", "3", "4"});
  expect([&](Attempt& a) { a.options.sink_logits = three; }, {"sink_logits", "3", "4"});
}

TEST(AttendErrors, Sequence) {
  expect([](Attempt& a) { a.keys = nullptr; }, {"sequence 1", "keys", "null"});
  expect([](Attempt& a) { a.q.push_back(0); }, {"sequence 1", "q", "97", "32"});
  expect([](Attempt& a) { a.out.pop_back(); }, {"sequence 1", "out", "71", "72", "3"});
  expect([](Attempt& a) { a.q.clear(); }, {"sequence 1", "out", "72", "0"});
  expect([](Attempt& a) { a.lse.push_back(nan); }, {"sequence 1", "lse", "13", "12"});
  expect([](Attempt& a) { a.positions = {1, 2}; }, {"sequence 1", "query_positions", "2", "3"});
}

TEST(AttendErrors, WorkspaceBytes) {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1};
  const auto refused = [&](Index queries, Index keys, Index workers) {
    return heed::workspace_bytes(policy, queries, keys, workers).status().message();
  };
  EXPECT_EQ(refused(1, 1, 1), "");
  EXPECT_NE(refused(-1, 1, 1).find("num_queries is -1"), std::string::npos);
  EXPECT_NE(refused(1, -2, 1).find("num_keys is -2"), std::string::npos);
  EXPECT_NE(refused(1, 1, 0).find("workers is 0"), std::string::npos);
  EXPECT_NE(heed::workspace_bytes(policy, 1, 1, 1, 0).status().message().find("num_stages is 0"), std::string::npos);
  EXPECT_FALSE(heed::workspace_bytes(heed::Gqa{}, 1, 1, 1).ok());
}

/// A source that knows the shape of what it holds is compared with the policy.
struct Shaped : Source32 {
  using Source32::Source32;
  [[nodiscard]] heed::AttentionLayout layout() const {
    return heed::Gqa{.num_heads = 4, .num_kv_heads = 4, .head_dim = 8, .scale = 1}.layout();
  }
};

TEST(AttendErrors, KeysOfAnotherShape) {
  const Attempt call;
  const Shaped keys(0, {}, {});
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  std::vector<float> q(4 * 8), out(4 * 6);
  const heed::Status status = heed::attend<TestBackend>(call.policy, q, keys, heed::Causal{}, out, workspace, executor);
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("another shape: first stream 4 heads of 8, the policy's 2 of 8"), std::string::npos)
      << status.message();
}

/// Reading a cache with another policy than its own reads other memory. To be enabled when LayerView has a layout().
TEST(AttendErrors, CacheOfAnotherShape) {
  const heed::Gqa cached{.num_heads = 4, .num_kv_heads = 1, .head_dim = 8, .scale = 1};
  const auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, heed::F32>::create(cached, {}));
  const heed::Gqa other{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  std::vector<float> q(4 * 8), out(4 * 8);
  EXPECT_FALSE(heed::attend<TestBackend>(other, q, cache.keys(0), out, workspace, executor).ok());
  EXPECT_TRUE(heed::attend<TestBackend>(cached, q, cache.keys(0), out, workspace, executor).ok());
}

}  // namespace
}  // namespace heed_test
