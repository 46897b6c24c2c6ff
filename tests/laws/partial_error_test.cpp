// What attend_partial() and attend_finish() refuse: by name and number, and nothing is written.
#include <heed/partial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/mla.hpp>

#include <limits>
#include <string>

#include "laws/problem.hpp"
#include "policy/backend.hpp"

namespace heed_test::partial_error_test {
namespace {

using heed::KeyRange;
using heed::PartialStates;
using heed::PartialView;
using Source32 = heed::StridedSource<heed::F32>;

const heed::Gqa gqa{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .v_head_dim = 6, .scale = 0.5f};
constexpr Index huge = std::numeric_limits<Index>::max(), tiny = std::numeric_limits<Index>::min();

Source32 source_of(const std::vector<float>& rows, Index keys, Index first_position = 0) {
  const auto* const data = reinterpret_cast<const std::byte*>(rows.data());
  return Source32(keys, {data, 2 * 8 * 4, 8 * 4, 8 * 4}, {data, 2 * 6 * 4, 6 * 4, 6 * 4}, first_position);
}

/// A correct partial call, as the second sequence of a batch, that a test makes wrong in one place.
struct PartialAttempt {
  heed::Gqa policy = gqa;
  std::vector<float> rows = std::vector<float>(16 * 600, 0.5f);
  Source32 source = source_of(rows, 600);
  const Source32* keys = &source;
  heed::MaskRef mask = heed::Causal{};
  std::vector<float> q = std::vector<float>(3 * 4 * 8, 1.0f);
  KeyRange range = {};
  std::vector<Index> positions = {};
  heed::AttendOptions options = {};
  PartialStates good_states, states;
  PartialStates* to = &states;

  PartialAttempt() = default;
  PartialAttempt(const PartialAttempt&) = delete;
  PartialAttempt& operator=(const PartialAttempt&) = delete;

  [[nodiscard]] heed::Status operator()() {
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    const std::vector<float> good_q(4 * 8);
    const heed::PartialSequence<Source32> sequences[] = {
        {.keys = &source, .mask = heed::Causal{}, .q = good_q, .states = &good_states},
        {keys, mask, q, range, to, positions}};
    return heed::attend_partial_batch<Backend>(policy, std::span<const heed::PartialSequence<Source32>>(sequences),
                                               workspace, executor, options);
  }
};

template <class Change>
void expect_partial(const Change& change, const std::string& message) {
  PartialAttempt call;
  ASSERT_TRUE(call().ok());
  const std::vector<std::byte> first(call.good_states.bytes().begin(), call.good_states.bytes().end());
  const std::vector<std::byte> second(call.states.bytes().begin(), call.states.bytes().end());
  change(call);
  const heed::Status status = call();
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), message);
  const auto same = [](std::span<const std::byte> a, const std::vector<std::byte>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  EXPECT_TRUE(same(call.good_states.bytes(), first) && same(call.states.bytes(), second)) << message;
}

TEST(PartialErrors, AsAttend) {
  const std::vector<float> three(3, 0.0f);
  expect_partial([](auto& a) { a.policy.num_kv_heads = 3; }, "num_kv_heads is 3, must divide num_heads 4");
  expect_partial([](auto& a) { a.options.soft_cap = -1; }, "soft_cap is -1, must be finite and at least 0");
  expect_partial([&](auto& a) { a.options.sink_logits = three; },
                 "sink_logits has 3 numbers, must have num_heads = 4 or none");
  expect_partial([](auto& a) { a.keys = nullptr; }, "sequence 1: keys is null");
  expect_partial([](auto& a) { a.q.push_back(0); },
                 "sequence 1: q has 97 numbers, must be a multiple of num_heads * head_dim = 32");
  expect_partial(
      [](auto& a) {
        a.positions = {1, 2};
      },
      "sequence 1: query_positions has 2 numbers, must have 3 or none");
  expect_partial(
      [](auto& a) { a.mask = {}; },
      "sequence 1: no mask is given and keys have none: give Causal{}, or Unmasked{} to see later keys, too");
}

TEST(PartialErrors, RangesAndStates) {
  expect_partial([](auto& a) { a.to = nullptr; }, "sequence 1: states is null");
  expect_partial([](auto& a) { a.to = &a.good_states; }, "sequence 1: states are those of an earlier sequence");
  expect_partial(
      [](auto& a) {
        a.range.near_chunks = {2, 1};
      },
      "sequence 1: range.near_chunks is 2 .. 1, must ascend within 0 .. 4294967296");
  expect_partial(
      [](auto& a) {
        a.range.far_chunks = {-1, 1};
      },
      "sequence 1: range.far_chunks is -1 .. 1, must ascend within 0 .. 4294967296");
  expect_partial(
      [](auto& a) {
        a.range.near_chunks = {0, KeyRange::all + 1};
      },
      "sequence 1: range.near_chunks is 0 .. 4294967297, must ascend within 0 .. 4294967296");
  expect_partial(
      [](auto& a) {
        a.range.near_chunks = {tiny, huge};
      },
      "sequence 1: range.near_chunks is -9223372036854775808 .. 9223372036854775807, must ascend within 0 .. "
      "4294967296");
  expect_partial([](auto& a) { a.range.first_near = -1; },
                 "sequence 1: range.first_near is -1, must be in 0 .. 4294967296");
  expect_partial([](auto& a) { a.range.first_far = huge; },
                 "sequence 1: range.first_far is 9223372036854775807, must be in 0 .. 4294967296");
  expect_partial([](auto& a) { a.range.first_near = KeyRange::all; },
                 "sequence 1: keys lie in chunks up to 4294967298, must be below 4294967296");
}

/// The mark of a call is taken away again: states can be used after they were refused.
TEST(PartialErrors, RefusedStatesCanBeUsed) {
  PartialAttempt call;
  call.to = &call.good_states;
  ASSERT_FALSE(call().ok());
  ASSERT_FALSE(call().ok());
  call.to = &call.states;
  EXPECT_TRUE(call().ok());
}

/// A correct finish of two parts, as the second sequence of a batch.
struct FinishAttempt {
  explicit FinishAttempt(KeyRange first = KeyRange::before(1), KeyRange second = KeyRange::from(1)) {
    for (const auto& [range, states] : {std::pair{first, &a}, {second, &b}}) {
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      const heed::Status status =
          heed::attend_partial<Backend>(gqa, std::vector<float>(3 * 4 * 8, 1.0f), source_of(rows, 600), heed::Causal{},
                                        range, *states, workspace, executor);
      EXPECT_TRUE(status.ok()) << status.message();
    }
    parts = {a, b};
  }
  FinishAttempt(const FinishAttempt&) = delete;
  FinishAttempt& operator=(const FinishAttempt&) = delete;

  [[nodiscard]] heed::Status operator()() {
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    std::vector<float> good(3 * 4 * 6, nan);
    const PartialView both[] = {a, b};
    const heed::FinishSequence sequences[] = {{one_good ? std::span(both) : std::span(both, 1), good},
                                              {parts, out, lse}};
    const heed::Status status = heed::attend_finish_batch<Backend>(policy, sequences, workspace, executor, options);
    if (!status.ok()) {
      for (const auto* all : {&good, &out, &lse}) {
        EXPECT_TRUE(std::all_of(all->begin(), all->end(), [](float x) { return std::isnan(x); }));
      }
    }
    return status;
  }

  std::vector<float> rows = std::vector<float>(16 * 600, 0.5f);
  heed::Gqa policy = gqa;
  PartialStates a, b, other;
  std::vector<PartialView> parts;
  std::vector<float> out = std::vector<float>(3 * 4 * 6, nan), lse = std::vector<float>(3 * 4, nan);
  heed::AttendOptions options = {};
  bool one_good = true;
};

template <class Change>
void expect_finish(const Change& change, const std::string& message) {
  FinishAttempt call;
  change(call);
  const heed::Status status = call();
  EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), message);
}

TEST(PartialErrors, TheCorrectFinishWorks) {
  FinishAttempt call;
  const heed::Status status = call();
  ASSERT_TRUE(status.ok()) << status.message();
  for (const float x : call.out) EXPECT_EQ(x, 0.5f);
}

TEST(PartialErrors, Finish) {
  const std::vector<float> three(3, 0.0f);
  expect_finish([](auto& c) { c.policy.head_dim = 0; }, "head_dim is 0, must be in 1 .. 16777216");
  expect_finish([&](auto& c) { c.options.sink_logits = three; },
                "sink_logits has 3 numbers, must have num_heads = 4 or none");
  expect_finish([](auto& c) { c.out.pop_back(); },
                "sequence 1: out has 71 numbers, must be a multiple of num_heads * v_head_dim = 24");
  expect_finish([](auto& c) { c.lse.pop_back(); }, "sequence 1: lse has 11 numbers, must have 12 or none");
  expect_finish([](auto& c) { c.parts.clear(); }, "sequence 1: parts is empty");
  expect_finish([](auto& c) { c.parts[1] = {}; }, "sequence 1: part 1: states is null");
  expect_finish([](auto& c) { c.parts[0] = c.other; },
                "sequence 1: part 0: states are empty: attend_partial() did not write them");
  expect_finish([](auto& c) { c.out.resize(24), c.lse.resize(4); },
                "sequence 1: part 0: there are 3 queries, out has 1");
  expect_finish([](auto& c) { c.parts[1] = c.b.queries(1, 2); }, "sequence 1: part 1: there are 2 queries, out has 3");
  expect_finish([](auto& c) { c.parts[1] = c.b.queries(1, 3); },
                "sequence 1: part 1: queries 1 .. 4 are not within its 3 queries");
  expect_finish([](auto& c) { c.parts[1] = c.b.queries(-1, 3); },
                "sequence 1: part 1: queries -1 .. 2 are not within its 3 queries");
  expect_finish([](auto& c) { c.parts[1] = c.b.queries(3, huge); },
                "sequence 1: part 1: queries 3 .. 9223372036854775807 are not within its 3 queries");
  expect_finish([](auto& c) { c.parts[1] = c.b.queries(2, tiny); },
                "sequence 1: part 1: queries 2 .. -9223372036854775806 are not within its 3 queries");
  expect_finish([](auto& c) { c.parts[1] = c.a; }, "sequence 1: near chunk 0 is given twice, by part 0 and part 1");
}

/// States of another policy or other options.
TEST(PartialErrors, FinishOfOtherStates) {
  const auto refused = [](const auto& change) {
    FinishAttempt call;
    change(call.policy, call.options);
    call.out.assign(std::size_t(3 * call.policy.num_heads * call.policy.v_head_dim), nan);
    call.lse.clear();
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    return heed::attend_finish<Backend>(call.policy, call.parts, call.out, workspace, executor, call.options).message();
  };
  EXPECT_EQ(refused([](auto& policy, auto&) { policy.num_heads = 8; }),
            "sequence 0: part 0: states have 4 heads, the policy has 8");
  EXPECT_EQ(refused([](auto& policy, auto&) { policy.v_head_dim = 7; }),
            "sequence 0: part 0: states have outputs of 6 numbers, the policy has 7");
  EXPECT_EQ(refused([](auto& policy, auto&) { policy.scale = 0.25f; }),
            "sequence 0: part 0: states have scale 0.5, the policy has 0.25");
  EXPECT_EQ(refused([](auto&, auto& options) { options.soft_cap = 3; }),
            "sequence 0: part 0: states have soft_cap 0, options has 3");
  const std::vector<float> slopes(4, 0.5f);
  EXPECT_EQ(refused([&](auto&, auto& options) { options.alibi_slopes = slopes; }),
            "sequence 0: part 0: states have other alibi_slopes than options");
}

/// Whatever the sizes of the nodes that hold the chunk, and in whatever order they come.
TEST(PartialErrors, ChunksGivenTwice) {
  struct {
    KeyRange first, second;
    const char* what;
  } const cases[] = {
      {{.near_chunks = {0, 2}}, {.near_chunks = {1, 3}}, "near chunk 1 is given twice, by part 0 and part 1"},
      {{.near_chunks = {2, 3}},
       {.near_chunks = {0, KeyRange::all}},
       "near chunk 2 is given twice, by part 1 and part 0"},
      {{.near_chunks = {1, 2}}, {.near_chunks = {1, 9}}, "near chunk 1 is given twice, by part 0 and part 1"},
  };
  for (const auto& c : cases) {
    FinishAttempt call(c.first, c.second);
    call.one_good = false;
    EXPECT_EQ(call().message(), std::string("sequence 1: ") + c.what);
  }
  FinishAttempt apart({.near_chunks = {2, 3}}, {.near_chunks = {0, 2}});
  EXPECT_TRUE(apart().ok());
}

/// Bytes that are no states are refused, and the states stay as they were.
TEST(PartialErrors, BytesThatAreNoStates) {
  FinishAttempt call({.near_chunks = {0, 3}}, KeyRange::from(3));
  std::vector<std::byte> bytes(call.a.bytes().begin(), call.a.bytes().end());
  PartialStates states;
  ASSERT_TRUE(states.assign(bytes).ok());
  const auto refused = [&](std::span<const std::byte> from) {
    const heed::Status status = states.assign(from);
    EXPECT_EQ(status.code(), heed::StatusCode::invalid_argument);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), states.bytes().begin(), states.bytes().end()));
    return status.message();
  };
  EXPECT_EQ(refused({}), "bytes are no partial states: there are 0, a header has 128");
  for (std::size_t n = 0; n < bytes.size(); ++n) (void)refused(std::span<const std::byte>(bytes).first(n));
  std::vector<std::byte> longer = bytes;
  longer.push_back({});
  EXPECT_EQ(refused(longer), "bytes are no partial states: there are " + std::to_string(bytes.size() + 1) +
                                 ", their sizes make " + std::to_string(bytes.size()));
  // Every 8 bytes of header and nodes, with numbers that overflow what is computed of them.
  for (std::size_t at = 0; at < 128 + 2 * 16; at += 8) {
    for (const Index number : {Index{-1}, Index{0}, Index{1} << 20, Index{1} << 40, Index{1} << 62, tiny, huge}) {
      std::vector<std::byte> wrong = bytes;
      if (std::memcmp(&wrong[at], &number, 8) == 0) continue;
      std::memcpy(&wrong[at], &number, 8);
      // Scale, soft_cap, the fingerprints of slopes and math, and the math's name up to its last letter may be anything.
      if (at >= 40 && at < 120) continue;
      if (at == 120 && number >> 56 == 0) continue;
      (void)refused(wrong);
    }
  }
}

TEST(PartialErrors, BytesOfHugeNumbers) {
  const auto message = [](const auto& bytes) { return bytes.ok() ? std::to_string(*bytes) : bytes.status().message(); };
  for (const Index n : {Index{-1}, Index{1} << 49, huge, tiny}) {
    const std::string number = std::to_string(n);
    const auto expect = [&](const std::string& got, const std::string& name) {
      EXPECT_NE(got.find(name + " is " + number), std::string::npos) << got;
    };
    expect(message(heed::partial_states_bytes(gqa, n, 1)), "num_queries");
    expect(message(heed::partial_states_bytes(gqa, 1, n)), "num_keys");
    expect(message(heed::partial_workspace_bytes(gqa, n, 1, {}, 1)), "num_queries");
    expect(message(heed::partial_workspace_bytes(gqa, 1, n, {}, 1)), "num_keys");
    expect(message(heed::partial_workspace_bytes(gqa, 1, 1, {}, n)), "workers");
    expect(message(heed::partial_workspace_bytes(gqa, 1, 1, {}, 1, n)), "num_stages");
    expect(message(heed::finish_workspace_bytes(gqa, n, 1, 1)), "num_queries");
    expect(message(heed::finish_workspace_bytes(gqa, 1, n, 1)), "num_nodes");
    expect(message(heed::finish_workspace_bytes(gqa, 1, 1, n)), "workers");
    expect(message(heed::finish_workspace_bytes(gqa, 1, 1, 1, n)), "num_sequences");
  }
  EXPECT_FALSE(heed::partial_states_bytes(gqa, 1, 1, {.near_chunks = {3, 2}}).ok());
  EXPECT_FALSE(heed::partial_workspace_bytes(gqa, 1, 1, {.first_far = -1}, 1).ok());
  EXPECT_FALSE(heed::partial_states_bytes(heed::Gqa{}, 1, 1).ok());
  const heed::Gqa wide{.num_heads = 1 << 24, .num_kv_heads = 1 << 16, .head_dim = 1 << 24, .scale = 1};
  EXPECT_FALSE(heed::partial_states_bytes(wide, Index{1} << 48, 1).ok());
  EXPECT_FALSE(heed::finish_workspace_bytes(wide, Index{1} << 48, 1, 1).ok());
}

/// What the bytes of states are, in numbers.
TEST(PartialBytes, AreWhatTheFormulaSays) {
  const auto bytes = [](Index queries, Index keys, KeyRange range) {
    return Index(*heed::partial_states_bytes(gqa, queries, keys, range));
  };
  const auto formula = [](Index nodes, Index queries) {
    return 64 * (nodes + 8) + 16 * queries + nodes * queries * 4 * 4 * (6 + 2);
  };
  for (const Index keys : {1, 256, 5000, 1'000'000}) {
    EXPECT_LE(bytes(3, keys, {}), formula(2, 3));
    EXPECT_LE(bytes(3, keys, KeyRange::from(0)), formula(1, 3));
    EXPECT_LE(bytes(5, keys, KeyRange::from(7)),
              formula(2 * Index(std::bit_width(std::uint64_t(keys / 256 + 2))) + 2, 5));
  }
  EXPECT_LE(bytes(5, 1'000'000, {.far_chunks = {}, .near_chunks = {0, 7}}), formula(3, 5));
}

TEST(PartialChunks, OfAStridedSource) {
  const std::vector<float> rows(16 * 600, 0.5f);
  EXPECT_EQ(heed::key_chunks(source_of(rows, 600), heed::Causal{}), (KeyRange{{0, 0}, {0, 3}}));
  EXPECT_EQ(heed::key_chunks(source_of(rows, 512, 77), heed::Causal{}), (KeyRange{{0, 0}, {0, 2}}));
  EXPECT_EQ(heed::key_chunks(source_of(rows, 0), heed::Causal{}), (KeyRange{{0, 0}, {0, 0}}));
}

}  // namespace
}  // namespace heed_test::partial_error_test
