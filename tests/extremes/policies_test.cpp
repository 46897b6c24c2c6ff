// Sizes, positions and strides at the ends of 64 bits, for everything that attend() is given.
#include "extremes/numbers.hpp"

#include <vector>

namespace heed_test::policies_test {
namespace {

using Source = heed::StridedSource<heed::F32>;

/// Everything that asks a policy for its sizes, with no queries and with one number.
template <class P>
void use(const P& policy) {
  const heed::Status valid = policy.validate();
  expect_said(valid);
  const auto bytes = heed::workspace_bytes(policy, 1, 1, 1);
  EXPECT_TRUE(valid.ok() || !bytes.ok());
  if (bytes.ok()) {
    EXPECT_GT(*bytes, 0u);
  }
  const auto cache = heed::KvCache<P, heed::F32>::create(policy, {.memory = little_memory()});
  EXPECT_TRUE(valid.ok() || !cache.ok());
  expect_said(cache);
  heed::Workspace workspace(std::span<std::byte>{});
  heed::SerialExecutor executor;
  const Source none(0, {}, {});
  for (std::vector<float> numbers : {std::vector<float>(), std::vector<float>(1)}) {
    const heed::Status status =
        heed::attend<heed::Scalar>(policy, numbers, none, heed::Causal{}, numbers, workspace, executor);
    EXPECT_FALSE(status.ok());  // there is no workspace
  }
}

TEST(Extremes, GroupedPolicies) {
  for_extremes([](Index heads, Index dim, Index v_dim) {
    use(heed::Mha{.num_heads = heads, .head_dim = dim, .v_head_dim = v_dim, .scale = 1});
    use(heed::Mqa{.num_heads = heads, .head_dim = dim, .v_head_dim = v_dim, .scale = 1});
    use(heed::Gqa{.num_heads = heads, .num_kv_heads = v_dim, .head_dim = dim, .scale = 1});
    use(heed::SharedRow{.num_heads = heads, .num_kv_heads = 1, .head_dim = dim, .v_head_dim = v_dim, .scale = 1});
  });
}

TEST(Extremes, Mfa) {
  const std::vector<float> one(1);
  for_extremes([&](Index heads, Index dim) {
    use(heed::Mfa{.num_heads = heads, .head_dim = dim, .scale = 1});
    use(heed::MfaKr{.num_heads = heads, .head_dim = dim, .scale = 1});
    use(heed::MfaKr{.num_heads = heads, .head_dim = dim, .scale = 1, .value_map = one});
  });
  const heed::MfaKr wraps{.num_heads = 1, .head_dim = Index{1} << 32, .scale = 1, .value_map = {}};
  expect_refused(wraps.validate(), Index{1} << 32);
}

TEST(Extremes, Mla) {
  const std::vector<float> one(1);
  for_extremes([&](Index heads, Index rank, Index rope) {
    for (const Index nope : {Index{1}, rank, rope, largest}) {
      heed::Mla mla{.num_heads = heads,
                    .kv_lora_rank = rank,
                    .qk_rope_head_dim = rope,
                    .qk_nope_head_dim = nope,
                    .v_head_dim = rope,
                    .scale = 1};
      use(mla);
      std::ignore = heed::mla_expansion_is_cheaper(mla, rank, rope);
      std::ignore = heed::mla_expands(mla, nope, heads);
      expect_said(heed::PackedMlaWeights::create(mla, {one, rank, rope}));
      mla.weights = {one, one};
      use(mla);
      use(heed::MlaExpanded{mla});
    }
  });
}

// Against 128 bits, where they say the same in principle.
TEST(Extremes, TheCheaperFormOfMla) {
  __extension__ typedef unsigned __int128 Wide;
  const heed::Mla mla{
      .num_heads = 128, .kv_lora_rank = 512, .qk_rope_head_dim = 64, .qk_nope_head_dim = 128, .v_head_dim = 128};
  for (const Index queries : {0, 1, 2, 99, 130, 145, 146, 171, 172, 5000, 1 << 20, 1 << 30}) {
    for (const Index keys : {0, 1, 99, 171, 172, 5000, 1 << 20, 1 << 30}) {
      const Wide q = Wide(queries), all = Wide(std::max(keys, queries)), map = 512 * 256;
      const Wide pairs = q * (all - q) + q * (q + 1) / 2;
      EXPECT_EQ(heed::mla_expansion_is_cheaper(mla, queries, keys),
                all * map + pairs * (128 + 64 + 128) < q * map + pairs * (2 * 512 + 64))
          << queries << " queries, " << keys << " keys";
    }
  }
}

TEST(Extremes, WorkspaceBytes) {
  const heed::Gqa small{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .scale = 1};
  const heed::Gqa large{.num_heads = 1 << 24, .num_kv_heads = 1 << 16, .head_dim = 1 << 24, .scale = 1};
  ASSERT_TRUE(large.validate().ok());
  for_extremes([&](Index queries, Index keys, Index workers) {
    for (const Index stages : {Index{1}, queries, keys}) {
      const auto one = heed::workspace_bytes(small, queries, keys, workers, stages);
      if (std::max({queries, keys, stages}) > Index{1} << 48 || workers > 65536) {
        EXPECT_FALSE(one.ok());
      }
      if (std::min({queries, keys}) < 0 || std::min(workers, stages) < 1) {
        EXPECT_FALSE(one.ok());
      }
      expect_said(one);
      const auto other = heed::workspace_bytes(large, queries, keys, workers, stages);
      if (one.ok() && other.ok()) {
        EXPECT_GT(*other, *one);
      }
    }
  });
}

/// One query of one head over three keys.
struct Call {
  std::vector<float> rows = std::vector<float>(16, 0.5f);
  heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 0, 8};
  Index tokens = 3, first = 0;
  std::vector<Index> positions = {};
  heed::AttendOptions options = {};

  template <class Mask>
  heed::Status operator()(const Mask& mask) const {
    const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 2, .scale = 1};
    const Source keys(tokens, stream, stream, first);
    const std::vector<float> q(2, 1.0f);
    std::vector<float> out(2, -1.0f);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    const heed::Status status =
        heed::attend<heed::Scalar>(policy, q, keys, mask, out, workspace, executor, options, {}, positions);
    if (!status.ok()) {
      EXPECT_EQ(out, std::vector<float>(2, -1.0f));
    }
    if (status.ok()) {
      EXPECT_TRUE(out == std::vector<float>(2, 0.5f) || out == std::vector<float>(2, 0.0f)) << out[0];
    }
    expect_said(status);
    return status;
  }
};

TEST(Extremes, PositionsAndMasks) {
  const std::vector<float> slope{0.5f};
  for_extremes([&](Index position, Index window) {
    for (const Index first : {Index{0}, window}) {
      for (const bool alibi : {false, true}) {
        Call call;
        call.positions = {position};
        call.first = first > largest - 2 ? largest - 2 : first;
        if (alibi) call.options.alibi_slopes = slope;
        const bool far = position > Index{1} << 48 || position < -(Index{1} << 48);
        EXPECT_TRUE(!far || !call(heed::Causal{}).ok());
        std::ignore = call(heed::Causal{});
        std::ignore = call(heed::Unmasked{});
        std::ignore = call(heed::SlidingWindow{window});
        std::ignore = call(heed::SuffixMask(window, {}, position));
        const std::uint64_t bits = 1;
        std::ignore = call(heed::SuffixMask(position, std::span(&bits, 1), window));
      }
    }
  });
}

TEST(Extremes, StridedSources) {
  for_extremes([](Index tokens, Index stride, Index row_bytes) {
    Call call;
    call.tokens = tokens;
    call.stream.row_bytes = row_bytes;
    call.stream.token_stride_bytes = tokens == 1 ? stride : 0;  // anything else must be real memory
    if (tokens > 1 && tokens <= Index{1} << 24) call.tokens = 3;
    if (tokens > Index{1} << 24 && tokens <= Index{1} << 48) return;  // the same row 2^31 times: right, but long
    const heed::Status status = call(heed::Causal{});
    EXPECT_EQ(status.ok(), call.tokens >= 0 && call.tokens <= Index{1} << 48 &&
                               (call.tokens == 0 || (row_bytes >= 8 && row_bytes < largest)));
    call.tokens = 3;
    call.stream = {call.stream.data, stride, stride, 8};
    const Source keys(3, call.stream, call.stream);
    const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 4, .head_dim = 2, .scale = 1};
    expect_said(keys.validate(policy.layout()));
    const bool fits = stride < largest / 8 && stride >= 0;
    if (fits) {
      EXPECT_TRUE(keys.validate(policy.layout()).ok());
    }
    if (stride > largest / 2 || stride == smallest) {
      EXPECT_FALSE(keys.validate(policy.layout()).ok());
    }
  });
}

TEST(Extremes, Rules) {
  const auto use_rule = [](const auto& rule) {
    expect_said(rule.validate());
    const heed::Mqa policy{.num_heads = 1, .head_dim = 2, .scale = 1};
    const std::vector<float> rows(2 * 20, 0.5f);
    for (const heed::Positions positions : {heed::Positions::absolute, heed::Positions::rank}) {
      auto made = heed::KvCache<heed::Mqa, heed::F32>::create(
          policy, {.positions = positions, .undo_tokens = 3, .memory = little_memory()}, rule);
      expect_said(made);
      if (!made.ok()) continue;
      EXPECT_TRUE(rule.validate().ok());
      for (int round = 0; round < 3; ++round) {
        const std::vector<std::int32_t> ids(20, round);
        auto step = made->begin(std::span(ids));
        ASSERT_TRUE(step.ok()) << step.status().message();
        ASSERT_TRUE(step->write(0, rows, rows).ok());
        ASSERT_TRUE(step->commit().ok());
        EXPECT_LE(made->size(), made->seen());
        expect_said(made->truncate(made->seen() - 2));
      }
      const std::vector<Index> keep{made->position(made->size() - 1)};
      expect_said(made->compact(keep));
      expect_said(made->truncate(std::max<Index>(made->rollback_floor(), 0)));
    }
  };
  const heed::TokenSet ids{1};
  for_extremes([&](Index a, Index b) {
    use_rule(heed::SlidingWindow{a});
    use_rule(heed::SinkWindow{a, b});
    use_rule(heed::SinkWindow{a, b, heed::SinkForm::evict_after_step});
    use_rule(heed::Separators{a, b, ids});
    use_rule(heed::FixedGrid{a, b, 3, 2});
    use_rule(heed::FixedGrid{2, 3, a, b});
    use_rule(heed::SeparatorStream{.initial = a, .separators = b, .local = 4, .capacity = 12, .ids = ids});
    use_rule(heed::SeparatorStream{.initial = 1, .separators = 2, .local = a, .capacity = b, .ids = ids});
    use_rule(heed::SeparatorStream{.initial = 1, .separators = 2, .local = 4, .capacity = 12, .ids = ids, .prompt = a});
    const heed::SinkWindow::Room room = heed::SinkWindow{4, 12}.room_for(a, b);
    EXPECT_GE(room.initial, 0);
    EXPECT_GE(room.recent, 0);
    EXPECT_LE((heed::Count(room.initial) + room.recent).value(), std::max<Index>(a, 0));
    std::ignore = heed::SinkWindow{a, b}.room_for(b, a);
  });
}

}  // namespace
}  // namespace heed_test::policies_test
