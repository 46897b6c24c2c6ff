// Every wrong argument is refused by name and number, and nothing is written.
#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>

#include <limits>
#include <string>

#include "policy/backend.hpp"
#include "laws/problem.hpp"

namespace heed_test::error_test {
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
    heed::Status status = heed::attend_batch<Backend>(policy, std::span<const heed::Sequence<Source32>>(sequences),
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

/// The whole message: a word or a digit of it is in many another one.
template <class Change>
void expect_message(const Change& change, const std::string& message) {
  Attempt call;
  change(call);
  const heed::Status status = call();
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), message);
}

TEST(AttendErrors, Policy) {
  expect_message([](Attempt& a) { a.policy.num_heads = 0; }, "num_heads is 0, must be in 1 .. 16777216");
  expect_message([](Attempt& a) { a.policy.num_heads = -4; }, "num_heads is -4, must be in 1 .. 16777216");
  expect_message([](Attempt& a) { a.policy.num_kv_heads = 0; }, "num_kv_heads is 0, must divide num_heads 4");
  expect_message([](Attempt& a) { a.policy.num_kv_heads = 3; }, "num_kv_heads is 3, must divide num_heads 4");
  expect_message([](Attempt& a) { a.policy.head_dim = 0; }, "head_dim is 0, must be in 1 .. 16777216");
  expect_message([](Attempt& a) { a.policy.v_head_dim = -1; }, "v_head_dim is -1, must be in 1 .. 16777216");
  expect_message([](Attempt& a) { a.policy.scale = heed::unset_scale; },
                 "scale is nan, must be set to a finite number");
  expect_message([](Attempt& a) { a.policy.scale = infinity; }, "scale is inf, must be set to a finite number");
  const heed::SharedRow wide{.num_heads = 1, .head_dim = 4, .v_head_dim = 5, .scale = 1};
  EXPECT_EQ(wide.validate().message(), "v_head_dim is 5, must be at most head_dim 4");
  EXPECT_FALSE((heed::Mha{.num_heads = 1, .head_dim = 4}.validate().ok())) << "the scale was not set";
  EXPECT_FALSE((heed::Mqa{.num_heads = 0, .head_dim = 4, .scale = 1}.validate().ok()));
}

TEST(AttendErrors, Options) {
  const std::vector<float> three(3, 0.0f);
  expect_message([](Attempt& a) { a.options.soft_cap = -0.001f; }, "soft_cap is -0.001, must be finite and at least 0");
  expect_message([](Attempt& a) { a.options.soft_cap = nan; }, "soft_cap is nan, must be finite and at least 0");
  expect_message([](Attempt& a) { a.options.soft_cap = infinity; }, "soft_cap is inf, must be finite and at least 0");
  expect_message([&](Attempt& a) { a.options.alibi_slopes = three; },
                 "alibi_slopes has 3 numbers, must have num_heads = 4 or none");
  expect_message([&](Attempt& a) { a.options.sink_logits = three; },
                 "sink_logits has 3 numbers, must have num_heads = 4 or none");
}

TEST(AttendErrors, Sequence) {
  expect_message([](Attempt& a) { a.keys = nullptr; }, "sequence 1: keys is null");
  expect_message([](Attempt& a) { a.q.push_back(0); },
                 "sequence 1: q has 97 numbers, must be a multiple of num_heads * head_dim = 32");
  expect_message([](Attempt& a) { a.out.pop_back(); }, "sequence 1: out has 71 numbers, must have 72 for 3 queries");
  expect_message([](Attempt& a) { a.q.clear(); }, "sequence 1: out has 72 numbers, must have 0 for 0 queries");
  expect_message([](Attempt& a) { a.q.resize(32); }, "sequence 1: out has 72 numbers, must have 24 for 1 query");
  expect_message([](Attempt& a) { a.lse.push_back(nan); }, "sequence 1: lse has 13 numbers, must have 12 or none");
  expect_message(
      [](Attempt& a) {
        a.positions = {1, 2};
      },
      "sequence 1: query_positions has 2 numbers, must have 3 or none");
}

constexpr Index huge = std::numeric_limits<Index>::max(), tiny = std::numeric_limits<Index>::min();
constexpr Index two_to_32 = Index{1} << 32;

// 2^32 heads of 2^32 numbers made a query of 0 numbers, and the call divided by that.
TEST(AttendErrors, SizesWhoseProductsOverflow) {
  for (const Index n : {Index{1} << 25, two_to_32, Index{1} << 62, huge, tiny}) {
    const std::string number = std::to_string(n);
    expect([&](Attempt& a) { a.policy.num_heads = a.policy.num_kv_heads = n; }, {"num_heads is ", number.c_str()});
    expect([&](Attempt& a) { a.policy.head_dim = n; }, {"head_dim is ", number.c_str()});
    expect([&](Attempt& a) { a.policy.v_head_dim = n; }, {"v_head_dim is ", number.c_str()});
    expect(
        [&](Attempt& a) {
          a.policy = {.num_heads = n, .num_kv_heads = n, .head_dim = n, .scale = 1};
          a.q.clear(), a.out.clear(), a.lse.clear();
        },
        {"num_heads is ", number.c_str()});
  }
}

TEST(AttendErrors, PositionsThatCannotBeSubtracted) {
  for (const Index n : {tiny, -(Index{1} << 49), Index{1} << 49, huge}) {
    const std::string number = std::to_string(n);
    expect([&](Attempt& a) { a.positions = {1, n, 3}; }, {"sequence 1", "query_positions has ", number.c_str()});
  }
  const auto moved = [](Index first) {
    Attempt a;
    a.source = Source32(10, {reinterpret_cast<const std::byte*>(a.rows.data()), 64, 32, 32},
                        {reinterpret_cast<const std::byte*>(a.rows.data()), 48, 24, 24}, first);
    return a().message();
  };
  EXPECT_NE(moved(tiny).find("a key has position -9223372036854775808"), std::string::npos) << moved(tiny);
  EXPECT_NE(moved(huge - 9).find("a key has position 9223372036854775798"), std::string::npos) << moved(huge - 9);
  EXPECT_EQ(moved(Index{1} << 47), "");
}

// A source of foreign memory says itself what is wrong with it.
TEST(AttendErrors, StridedRows) {
  const std::vector<float> rows(400, 0.5f);
  const auto* const data = reinterpret_cast<const std::byte*>(rows.data());
  const heed::StridedStream key{data, 64, 32, 32}, value{data, 48, 24, 24};
  const auto refused = [&](Index tokens, heed::StridedStream k, heed::StridedStream v) {
    Attempt call;
    call.source = Source32(tokens, k, v);
    return call().message();
  };
  const auto expect_words = [](const std::string& got, const std::string& words) {
    EXPECT_NE(got.find(words), std::string::npos) << got;
  };
  EXPECT_EQ(refused(10, key, value), "");
  expect_words(refused(10, {data, 64, 32, 31}, value),
               "keys: the key stream's row_bytes is 31, must be at least 32 for rows of 8 numbers");
  expect_words(refused(10, key, {data, 48, 24, 0}), "the value stream's row_bytes is 0, must be at least 24");
  expect_words(refused(10, {nullptr, 64, 32, 32}, value), "the key stream's data is null, with 10 tokens");
  expect_words(refused(10, {data, huge, 32, 32}, value), "the key stream's token_stride_bytes is 9223372036854775807");
  expect_words(refused(10, {data, tiny, 32, 32}, value), "the key stream's token_stride_bytes is -9223372036854775808");
  expect_words(refused(10, key, {data, 48, tiny, 24}), "the value stream's head_stride_bytes is -9223372036854775808");
  expect_words(refused(-1, key, value), "tokens is -1");
  expect_words(refused(huge, key, value), "tokens is 9223372036854775807");
}

TEST(AttendErrors, NumbersThatAreNone) {
  for (const float bad : {nan, infinity}) {
    const std::vector<float> numbers{1, 2, bad, 3};
    expect([&](Attempt& a) { a.options.sink_logits = numbers; }, {"sink_logits[2] is ", "or -inf for no sink"});
    expect([&](Attempt& a) { a.options.alibi_slopes = numbers; }, {"alibi_slopes[2] is "});
  }
  const std::vector<float> minus{1, -infinity, 2, 3};
  expect([&](Attempt& a) { a.options.alibi_slopes = minus; }, {"alibi_slopes[1] is -inf"});
}

TEST(AttendOptions, ASinkOfMinusInfinityIsNone) {
  Attempt none, absent, mixed;
  for (Attempt* a : {&none, &absent, &mixed}) {
    for (std::size_t i = 0; i < a->rows.size(); ++i) a->rows[i] = float(i % 17) - 8;
  }
  const std::vector<float> all(4, -infinity), one{-infinity, 3, -infinity, -infinity};
  absent.options.sink_logits = all;
  mixed.options.sink_logits = one;
  ASSERT_TRUE(none().ok());
  ASSERT_TRUE(absent().ok());
  ASSERT_TRUE(mixed().ok());
  EXPECT_EQ(none.out, absent.out);
  EXPECT_EQ(none.lse, absent.lse);
  for (std::size_t i = 0; i < none.out.size(); ++i) {
    if (i / 6 % 4 == 1) {
      EXPECT_TRUE(std::abs(mixed.out[i]) < std::abs(none.out[i]) || none.out[i] == 0) << i;
    } else {
      EXPECT_EQ(mixed.out[i], none.out[i]) << i;
    }
  }
}

TEST(AttendErrors, WorkspaceBytesOfHugeNumbers) {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1};
  const auto refused = [&](Index queries, Index keys, Index workers, Index stages) {
    const auto bytes = heed::workspace_bytes(policy, queries, keys, workers, stages);
    return bytes.ok() ? std::to_string(*bytes) : bytes.status().message();
  };
  for (const Index n : {Index{1} << 49, Index{1} << 62, huge}) {
    const std::string number = std::to_string(n);
    EXPECT_NE(refused(n, 1, 1, 1).find("num_queries is " + number), std::string::npos) << refused(n, 1, 1, 1);
    EXPECT_NE(refused(1, n, 1, 1).find("num_keys is " + number), std::string::npos) << refused(1, n, 1, 1);
    EXPECT_NE(refused(1, 1, n, 1).find("workers is " + number), std::string::npos) << refused(1, 1, n, 1);
    EXPECT_NE(refused(1, 1, 1, n).find("num_stages is " + number), std::string::npos) << refused(1, 1, 1, n);
  }
  const heed::Gqa wide{.num_heads = 1 << 24, .num_kv_heads = 1 << 16, .head_dim = 1 << 24, .scale = 1};
  EXPECT_FALSE(heed::workspace_bytes(wide, Index{1} << 48, 1, 1).ok());
  // The largest that is answered: no less than its queries alone would be.
  const auto most = heed::workspace_bytes(wide, 256, Index{1} << 48, 1 << 16);
  ASSERT_TRUE(most.ok()) << most.status().message();
  EXPECT_GT(*most, std::size_t{1} << 50);
}

TEST(AttendErrors, WorkspaceBytes) {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1};
  const auto refused = [&](Index queries, Index keys, Index workers) {
    return heed::workspace_bytes(policy, queries, keys, workers).status().message();
  };
  EXPECT_EQ(refused(1, 1, 1), "");
  EXPECT_EQ(refused(-1, 1, 1), "num_queries is -1, must be in 0 .. 281474976710656");
  EXPECT_EQ(refused(1, -2, 1), "num_keys is -2, must be in 0 .. 281474976710656");
  EXPECT_EQ(refused(1, 1, 0), "workers is 0, must be in 1 .. 65536");
  EXPECT_EQ(heed::workspace_bytes(policy, 1, 1, 1, 0).status().message(),
            "num_stages is 0, must be in 1 .. 281474976710656");
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
  const heed::Status status = heed::attend<Backend>(call.policy, q, keys, heed::Causal{}, out, workspace, executor);
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("another shape: stream 0 has 4 heads of 8, the policy's 2 of 8"), std::string::npos)
      << status.message();
}

/// Reading a cache with another policy than its own reads other memory. To be enabled when LayerKeys has a layout().
TEST(AttendErrors, CacheOfAnotherShape) {
  const heed::Gqa cached{.num_heads = 4, .num_kv_heads = 1, .head_dim = 8, .scale = 1};
  const auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, heed::F32>::create(cached, {}));
  const heed::Gqa other{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  std::vector<float> q(4 * 8), out(4 * 8);
  EXPECT_FALSE(heed::attend<Backend>(other, q, cache.keys(0), out, workspace, executor).ok());
  EXPECT_TRUE(heed::attend<Backend>(cached, q, cache.keys(0), out, workspace, executor).ok());
}

}  // namespace
}  // namespace heed_test::error_test
